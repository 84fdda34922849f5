//! Text from producers made fit for a line of a terminal: short, without control characters.
//!
//! What somebody wrote into an event must not move a cursor, clear a screen or turn the order of letters around.

/// At most `chars_max` characters on one line; blanks of any kind become one blank, a cut ends in `…`.
pub fn one_line(text: &str, chars_max: usize) -> String {
    let mut line = String::with_capacity(text.len().min(chars_max.saturating_mul(4)));
    let mut count = 0;
    let mut blank = false;
    for letter in text.chars() {
        if letter.is_whitespace() || letter.is_control() {
            blank = !line.is_empty();
            continue;
        }
        if is_unseen(letter) {
            continue;
        }
        if count + usize::from(blank) >= chars_max {
            if count >= chars_max {
                line.pop();
            }
            line.push('…');
            break;
        }
        if std::mem::take(&mut blank) {
            line.push(' ');
            count += 1;
        }
        line.push(letter);
        count += 1;
    }
    line
}

/// The same for the name of something: what is left empty is `(no name)`.
pub fn name(text: &str) -> String {
    let name = one_line(text, super::limits::NAME_CHARS_MAX);
    if name.is_empty() { "(no name)".to_owned() } else { name }
}

/// Marks that change the direction or hide in it, and the byte order mark.
fn is_unseen(letter: char) -> bool {
    matches!(letter, '\u{200b}' | '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A span of time as people say it: `850 µs`, `12.3 ms`, `4.20 s`, `3 m 12 s`, `2 h 05 m`.
pub fn duration(us: i64) -> String {
    let us = us.max(0);
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..1_000_000 => tenths(us, 1_000, 1, "ms"),
        1_000_000..60_000_000 => tenths(us, 1_000_000, 2, "s"),
        60_000_000..3_600_000_000 => format!("{} m {:02} s", us / 60_000_000, us / 1_000_000 % 60),
        _ => format!("{} h {:02} m", us / 3_600_000_000, us / 60_000_000 % 60),
    }
}

/// Cut, not rounded, so that nothing becomes `1000.0 ms`.
fn tenths(us: i64, unit: i64, digits: u32, name: &str) -> String {
    let scale = 10_i64.pow(digits);
    let part = us % unit * scale / unit;
    format!("{}.{part:0width$} {name}", us / unit, width = digits as usize)
}

/// `1234567` as `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 tool call`, `2 tool calls`.
pub fn counted(number: u64, what: &str) -> String {
    format!("{} {what}{}", count(number), if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_short_and_moves_no_cursor() {
        for (text, max, expected) in [
            ("plain", 10, "plain"),
            ("  two\r\n\twords  ", 20, "two words"),
            ("\u{1b}[2J\u{1b}]0;title\u{7}x", 40, "[2J ]0;title x"),
            ("a\u{202e}b\u{200b}c", 9, "abc"),
            ("0123456789", 10, "0123456789"),
            ("0123456789a", 10, "012345678…"),
            ("ééééé", 3, "éé…"),
            ("abc def", 4, "abc…"),
            ("", 3, ""),
            ("abc", 0, "…"),
        ] {
            assert_eq!(one_line(text, max), expected, "{text:?}");
        }
        assert_eq!(name("\u{7}"), "(no name)");
    }

    #[test]
    fn durations_and_counts_read_well() {
        for (us, expected) in [
            (-5, "0 µs"),
            (999, "999 µs"),
            (1_000, "1.0 ms"),
            (999_999, "999.9 ms"),
            (1_000_000, "1.00 s"),
            (59_999_999, "59.99 s"),
            (60_000_000, "1 m 00 s"),
            (3_599_999_999, "59 m 59 s"),
            (7_500_000_000, "2 h 05 m"),
            (i64::MAX, "2562047788 h 00 m"),
        ] {
            assert_eq!(duration(us), expected);
        }
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_000), "1,000");
        assert_eq!(count(u64::MAX), "18,446,744,073,709,551,615");
        assert_eq!(hex(&[0, 171]), "00ab");
        assert_eq!((counted(1, "call"), counted(1_000, "call")), ("1 call".to_owned(), "1,000 calls".to_owned()));
    }
}
