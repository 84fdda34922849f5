//! Secrets in free text. One pass, linear in the length, no regular expressions. Pure.
//!
//! Every pattern is ASCII, so that what is cut out begins and ends between characters.

use super::REDACTED;
use super::names::Names;

/// The text without its secrets and how many there were; None if there were none.
pub(super) fn without_secrets(text: &str, names: &Names) -> Option<(String, u64)> {
    let bytes = text.as_bytes();
    let mut output = String::new();
    let (mut copied, mut at, mut count) = (0, 0, 0);
    while at < bytes.len() {
        if !LOOK[usize::from(bytes[at])] {
            at += 1;
            continue;
        }
        let Some((from, to)) = secret_at(bytes, at, copied, names) else {
            at += 1;
            continue;
        };
        output.push_str(&text[copied..from]);
        output.push_str(REDACTED);
        (copied, at) = (to, to);
        count += 1;
    }
    (count > 0).then(|| {
        output.push_str(&text[copied..]);
        (output, count)
    })
}

/// Bytes at which something may begin.
const LOOK: [bool; 256] = {
    let mut look = [false; 256];
    let starts = b"=:-srAghxewbBnd";
    let mut index = 0;
    while index < starts.len() {
        look[starts[index] as usize] = true;
        index += 1;
    }
    look
};

/// What to cut out at `at`, if anything. Nothing before `floor` may be cut: it is gone already.
fn secret_at(bytes: &[u8], at: usize, floor: usize, names: &Names) -> Option<(usize, usize)> {
    match bytes[at] {
        b':' if bytes[at..].starts_with(b"://") => credentials_of_url(bytes, at + 3),
        b'=' | b':' => value_of_name(bytes, at, floor, names),
        b'-' => private_key(bytes, at).map(|to| (at, to)),
        _ if begins_word(bytes, at) => token(bytes, at),
        _ => None,
    }
}

/// A letter or digit before it would make it the inside of a word; of `\n` in JSON that is not unescaped, the letter
/// is no part of a word.
fn begins_word(bytes: &[u8], at: usize) -> bool {
    match bytes[..at] {
        [] => true,
        [.., b'\\', letter] if b"nrtbf".contains(&letter) => true,
        [.., before] => !before.is_ascii_alphanumeric(),
    }
}

/// Prefix, which characters follow, and how many at least.
type Shape = (&'static [u8], fn(u8) -> bool, usize);

fn word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

fn plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn upper(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit()
}

/// By first letter. OpenAI and Anthropic, Stripe, AWS, Google, GitHub, GitLab, Slack, Hugging Face, npm, DigitalOcean.
fn shapes(first: u8) -> &'static [Shape] {
    const S: [Shape; 3] = [(b"sk-", word, 16), (b"sk_live_", plain, 10), (b"sk_test_", plain, 10)];
    const R: [Shape; 2] = [(b"rk_live_", plain, 10), (b"rk_test_", plain, 10)];
    const W: [Shape; 1] = [(b"whsec_", plain, 16)];
    const A: [Shape; 3] = [(b"AKIA", upper, 16), (b"ASIA", upper, 16), (b"AIza", word, 30)];
    const G: [Shape; 7] = [
        (b"ghp_", plain, 20),
        (b"gho_", plain, 20),
        (b"ghu_", plain, 20),
        (b"ghs_", plain, 20),
        (b"ghr_", plain, 20),
        (b"github_pat_", plain, 20),
        (b"glpat-", word, 16),
    ];
    const X: [Shape; 6] = [
        (b"xoxb-", word, 10),
        (b"xoxa-", word, 10),
        (b"xoxp-", word, 10),
        (b"xoxr-", word, 10),
        (b"xoxs-", word, 10),
        (b"xapp-", word, 10),
    ];
    const H: [Shape; 1] = [(b"hf_", plain, 24)];
    const N: [Shape; 1] = [(b"npm_", plain, 30)];
    const D: [Shape; 1] = [(b"dop_v1_", plain, 30)];
    match first {
        b's' => &S,
        b'r' => &R,
        b'w' => &W,
        b'A' => &A,
        b'g' => &G,
        b'x' => &X,
        b'h' => &H,
        b'n' => &N,
        b'd' => &D,
        _ => &[],
    }
}

fn token(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let rest = &bytes[at..];
    let [first, second, ..] = rest else { return None };
    for (prefix, follows, least) in shapes(*first) {
        // Most words of prose differ in their second letter, which spares a comparison of texts.
        if *second == prefix[1] && rest.starts_with(prefix) {
            let length = run(&rest[prefix.len()..], follows);
            if length >= *least {
                return Some((at, at + prefix.len() + length));
            }
        }
    }
    if rest.starts_with(b"eyJ") {
        return jwt(rest).map(|length| (at, at + length));
    }
    let bears = first.eq_ignore_ascii_case(&b'b') && second.eq_ignore_ascii_case(&b'e');
    bears.then(|| bearer(rest)).flatten().map(|(from, to)| (at + from, at + to))
}

/// Three parts of base64url, of which the first begins a JSON object.
fn jwt(rest: &[u8]) -> Option<usize> {
    // Bounded, so that a text of nothing but beginnings is not gone through from each.
    let header = run(&rest[..rest.len().min(512)], word);
    let claims = rest.get(header..)?.strip_prefix(b".")?;
    let claims_length = run(claims, word);
    let signature = claims.get(claims_length..)?.strip_prefix(b".")?;
    let enough = header >= 10 && claims_length >= 10;
    enough.then(|| header + 1 + claims_length + 1 + run(signature, word))
}

/// `Bearer` and what it bears.
fn bearer(rest: &[u8]) -> Option<(usize, usize)> {
    let name = rest.get(..6)?;
    if !name.eq_ignore_ascii_case(b"bearer") {
        return None;
    }
    let space = run(&rest[6..], |byte| byte == b' ' || byte == b'\t');
    let token = run(&rest[6 + space..], |byte| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte));
    // A word of prose has no digit: "bearer instruments".
    let secret = &rest[6 + space..][..token];
    let likely = token >= 8 && (token >= 20 || secret.iter().any(u8::is_ascii_digit));
    (space > 0 && likely).then_some((6 + space, 6 + space + token))
}

/// `user:password@` behind the `://` of a URL; the name stays.
fn credentials_of_url(bytes: &[u8], from: usize) -> Option<(usize, usize)> {
    let rest = &bytes[from..];
    let length = run(rest, |byte| !byte.is_ascii_whitespace() && !b"/?#\"'<>\\".contains(&byte));
    let at = rest[..length].iter().rposition(|byte| *byte == b'@')?;
    let colon = rest[..at].iter().position(|byte| *byte == b':')?;
    let secret = &rest[colon + 1..at];
    (!secret.is_empty() && secret != REDACTED.as_bytes()).then_some((from + colon + 1, from + at))
}

/// A PEM block of a private key, up to its end or the end of the text.
fn private_key(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = &bytes[at..];
    let label = rest.strip_prefix(b"-----BEGIN ")?;
    let length =
        run(&label[..label.len().min(64)], |byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b' ');
    if !label[..length].ends_with(b"PRIVATE KEY") || !label[length..].starts_with(b"-----") {
        return None;
    }
    let end = find(rest, b"-----END ").and_then(|end| {
        let after = &rest[end + 9..];
        find(&after[..after.len().min(96)], b"-----").map(|dashes| at + end + 9 + dashes + 5)
    });
    Some(end.unwrap_or(bytes.len()))
}

/// The value behind `name=`, `name: ` or `"name":`, if the name is one of a secret.
fn value_of_name(bytes: &[u8], at: usize, floor: usize, names: &Names) -> Option<(usize, usize)> {
    let mut end = at;
    let quote = |byte: u8| byte == b'"' || byte == b'\'' || byte == b'\\';
    while end > floor && bytes[end - 1] == b' ' {
        end -= 1;
    }
    while end > floor && quote(bytes[end - 1]) {
        end -= 1;
    }
    let mut start = end;
    while start > floor && end - start < 96 && (word(bytes[start - 1]) || bytes[start - 1] == b'.') {
        start -= 1;
    }
    let name = std::str::from_utf8(&bytes[start..end]).ok()?;
    if name.is_empty() || !names.is_secret(name) {
        return None;
    }
    let mut from = at + 1;
    from += run(&bytes[from..], |byte| byte == b' ' || byte == b'\t');
    let opening = run(&bytes[from..], quote);
    let quoted = opening > 0;
    from += opening;
    let mut to = from + value(&bytes[from..], quoted);
    // "Authorization: Basic dXNlcjpwYXNz": the scheme stays.
    for scheme in [&b"bearer"[..], b"basic", b"token", b"digest", b"apikey"] {
        if !quoted && bytes[from..to].eq_ignore_ascii_case(scheme) && bytes.get(to) == Some(&b' ') {
            from = to + 1;
            to = from + value(&bytes[from..], false);
        }
    }
    let secret = &bytes[from..to];
    let harmless: [&[u8]; 6] = [b"", b"null", b"true", b"false", b"none", REDACTED.as_bytes()];
    (!harmless.iter().any(|word| secret.eq_ignore_ascii_case(word))).then_some((from, to))
}

/// How long a value is: to the closing quote, to what ends a word, or a structure as a whole.
fn value(rest: &[u8], quoted: bool) -> usize {
    if !quoted {
        if rest.starts_with(REDACTED.as_bytes()) {
            return REDACTED.len();
        }
        if let Some(b'[' | b'{') = rest.first() {
            return structure(rest);
        }
        return run(rest, |byte| !byte.is_ascii_whitespace() && !b",;&\"'<>(){}[]\\".contains(&byte));
    }
    let mut length = 0;
    while let Some(byte) = rest.get(length) {
        match byte {
            b'"' | b'\'' | b'\n' => break,
            // An escaped quote ends it too if the opening one was escaped; what is cut short of that is only the
            // backslash, and what is cut beyond is still within the value.
            b'\\' if matches!(rest.get(length + 1), Some(b'"' | b'\'')) => break,
            b'\\' => length += 2,
            _ => length += 1,
        }
    }
    let mut length = length.min(rest.len());
    // The second byte of an escape may be the first of a longer character.
    while length < rest.len() && (rest[length] & 0xC0) == 0x80 {
        length += 1;
    }
    length
}

/// To the bracket that closes the first one, or to the end. Brackets in texts count too: rather too much than too little.
fn structure(rest: &[u8]) -> usize {
    let mut open = 0u32;
    for (index, byte) in rest.iter().enumerate() {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' if open == 1 => return index + 1,
            b']' | b'}' => open -= 1,
            _ => {}
        }
    }
    rest.len()
}

fn run(bytes: &[u8], follows: impl Fn(u8) -> bool) -> usize {
    bytes.iter().position(|byte| !follows(*byte)).unwrap_or(bytes.len())
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
