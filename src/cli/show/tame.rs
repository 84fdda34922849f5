//! JSON that no terminal obeys: what a reader of JSON cannot tell apart from the letter itself is written as an escape.
//! JSON asks this of the controls below U+0020 only; a terminal also obeys those from U+007F (U+009B begins its
//! commands), and signs that turn the direction of writing make a line look like another one.

/// A control, or a sign that turns the direction of writing around.
pub fn is_obeyed(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Takes valid JSON, from this place on. Beyond ASCII there are strings only, so nothing else can change; line breaks
/// stand between tokens only, and become spaces.
pub fn one_line(json: &mut Vec<u8>, from: usize) {
    rewrite(json, from, |letter, out| match letter {
        '\n' | '\r' => out.push(' '),
        letter => tamed(letter, out),
    });
}

/// The same for a document that may be pretty.
pub fn document(json: String) -> String {
    let mut json = json.into_bytes();
    rewrite(&mut json, 0, |letter, out| match letter {
        '\n' | '\r' | '\t' => out.push(letter),
        letter => tamed(letter, out),
    });
    String::from_utf8_lossy(&json).into_owned()
}

fn tamed(letter: char, out: &mut String) {
    match letter {
        '\t' => out.push(letter),
        letter if is_obeyed(letter) => out.push_str(&format!("\\u{:04x}", u32::from(letter))),
        letter => out.push(letter),
    }
}

fn rewrite(json: &mut Vec<u8>, from: usize, letter: impl Fn(char, &mut String)) {
    // What the letters in question begin with: most lines have none of these.
    let may_be = |byte: &u8| matches!(byte, b'\n' | b'\r' | 0x7f | 0xc2 | 0xd8 | 0xe2);
    if !json.get(from..).unwrap_or_default().iter().any(may_be) {
        return;
    }
    let raw = json.split_off(from);
    let text = String::from_utf8_lossy(&raw);
    let mut out = String::with_capacity(text.len() + 16);
    text.chars().for_each(|one| letter(one, &mut out));
    json.extend_from_slice(out.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_letter_comes_back_and_none_is_obeyed() {
        let letters: String = ('\0'..='\u{2100}').chain(['日', '\u{1f600}', '"', '\\']).collect();
        let value = serde_json::json!({ &letters: [letters, 1.5e300, 12_345_678_901_234_567_890_u64] });
        let mut line = b"before\x7f".to_vec();
        line.extend_from_slice(serde_json::to_string_pretty(&value).expect("JSON").as_bytes());
        one_line(&mut line, 7);
        let line = String::from_utf8(line).expect("UTF-8");
        let json = line.strip_prefix("before\u{7f}").expect("what was there stays");
        assert!(!json.contains(is_obeyed), "{json}");
        assert!(json.contains("\\u009b") && json.contains("\\u007f") && json.contains("\\u202e"), "{json}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(json).expect("JSON"), value);

        let pretty = document(serde_json::to_string_pretty(&value).expect("JSON"));
        assert!(pretty.lines().count() > 3 && !pretty.replace('\n', "").contains(is_obeyed), "{pretty}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&pretty).expect("JSON"), value);
    }

    #[test]
    fn what_harms_nobody_is_left_as_it_is() {
        let text = "{\"a\": \"Grüße “日本” ©\", \"n\": 1.0}";
        let mut line = text.as_bytes().to_vec();
        one_line(&mut line, 0);
        assert_eq!(String::from_utf8(line).expect("UTF-8"), text);
    }
}
