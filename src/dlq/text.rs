//! Cutting and cleaning text that goes into a dead letter: bounds are in bytes, cuts fall on character boundaries.
//!
//! Deliberately absent: where a text goes (`envelope`, `headers`).

/// The longest start of `text` that has at most `limit` bytes.
pub(super) fn cut(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}

/// Cut, and with every control character replaced by a space: what a header may show on somebody's terminal.
pub(super) fn plain(text: &str, limit: usize) -> String {
    cut(text, limit).chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)] as char);
        text.push(DIGITS[usize::from(byte & 15)] as char);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_between_characters() {
        let check = |text: &str, limit: usize, expected: &str| assert_eq!(cut(text, limit), expected, "{text} {limit}");
        check("abc", 5, "abc");
        check("abc", 2, "ab");
        check("aé", 2, "a");
        check("é", 0, "");
        check("🦀🦀", 7, "🦀");
    }

    #[test]
    fn control_characters_do_not_reach_a_terminal() {
        assert_eq!(plain("a\u{1b}[2J\r\nb", 100), "a [2J  b");
        assert_eq!(hex(&[0, 0x1f, 0xff]), "001fff");
    }
}
