//! Secrets in free text. One pass, linear in the length, no regular expressions. Pure.
//!
//! Every pattern is ASCII, so that what is cut out begins and ends between characters, and text of another encoding
//! is gone through as UTF-8 is. Where it is not clear how far a secret goes, rather too much is cut than too little.
//! What a name gives away is looked at in `value`.

use super::REDACTED;
use super::names::Names;
use super::value::value_of_name;

/// What was cut may be the word in front of another secret, which is seen then. Bounded, so that time is linear.
const LOOKS_MAX: u32 = 8;

/// The text without its secrets and how many there were; None if there were none.
pub(super) fn without_secrets(bytes: &[u8], names: &Names) -> Option<(Vec<u8>, u64)> {
    let (mut output, mut count) = looked_at_once(bytes, names)?;
    for _ in 1..LOOKS_MAX {
        let Some((cleaner, more)) = looked_at_once(&output, names) else { break };
        output = cleaner;
        count += more;
    }
    Some((output, count))
}

fn looked_at_once(bytes: &[u8], names: &Names) -> Option<(Vec<u8>, u64)> {
    let mut output = Vec::new();
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
        output.extend_from_slice(&bytes[copied..from]);
        output.extend_from_slice(REDACTED.as_bytes());
        (copied, at) = (to, to);
        count += 1;
    }
    (count > 0).then(|| {
        output.extend_from_slice(&bytes[copied..]);
        (output, count)
    })
}

/// Bytes at which something may begin.
const LOOK: [bool; 256] = {
    let mut look = [false; 256];
    let mut byte = 0;
    while byte < look.len() {
        look[byte] = SECOND[byte] != 0 || byte == b'=' as usize || byte == b':' as usize || byte == b'-' as usize;
        byte += 1;
    }
    look
};

/// By the first letter of a token, the letters that may be its second: one bit each, the same for both cases.
const SECOND: [u32; 256] = {
    let mut second = [0; 256];
    // JWT and Bearer have forms of their own.
    let others = [b"ey", b"be", b"Be"];
    let mut index = 0;
    while index < others.len() {
        let [first, then] = *others[index];
        second[first as usize] |= 1 << (then & 31);
        index += 1;
    }
    index = 0;
    while index < SHAPES.len() {
        let prefix = SHAPES[index].0;
        second[prefix[0] as usize] |= 1 << (prefix[1] & 31);
        index += 1;
    }
    second
};

/// What to cut out at `at`, if anything. Nothing before `floor` may be cut: it is gone already.
fn secret_at(bytes: &[u8], at: usize, floor: usize, names: &Names) -> Option<(usize, usize)> {
    match bytes[at] {
        b'=' => value_of_name(bytes, at, floor, names),
        b':' => value_of_name(bytes, at, floor, names).or_else(|| credentials_of_url(bytes, at + 1)),
        b'-' => private_key(bytes, at).map(|to| (at, to)),
        _ => token(bytes, at),
    }
}

/// A letter or digit before it would make it the inside of a word, unless that is the end of an escape: of JSON that
/// is not unescaped, of a URL, or of a terminal's colours, with or without the ESC before them.
fn begins_word(before: &[u8]) -> bool {
    let hex = |digits: &[u8]| digits.iter().all(u8::is_ascii_hexdigit);
    match *before {
        [] => return true,
        [.., last] if !last.is_ascii_alphanumeric() => return true,
        [.., b'\\', letter] if b"nrtbfvae0".contains(&letter) => return true,
        [.., b'%', a, b] | [.., b'\\', b'x', a, b] if hex(&[a, b]) => return true,
        [.., b'\\', b'u', a, b, c, d] if hex(&[a, b, c, d]) => return true,
        [.., 0x1b, b'(', _] => return true,
        _ => {}
    }
    let [parameters @ .., last] = before else { return true };
    let colours = |byte: &u8| byte.is_ascii_digit() || b";:?".contains(byte);
    let length = parameters.iter().rev().take(32).take_while(|byte| colours(byte)).count();
    let begins = match parameters[..parameters.len() - length] {
        [.., 0x1b, b'['] | [.., 0x9b] => true,
        [.., b'['] => length > 0,
        _ => false,
    };
    begins && last.is_ascii_alphabetic()
}

/// Prefix, which characters follow, and how many at least.
type Shape = (&'static [u8], fn(u8) -> bool, usize);

pub(super) fn word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

fn plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn upper(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit()
}

/// OpenAI and Anthropic, Stripe, AWS, Google, GitHub, GitLab, Slack, Hugging Face, npm, DigitalOcean.
const SHAPES: [Shape; 25] = [
    (b"sk-", word, 16),
    (b"sk_live_", plain, 10),
    (b"sk_test_", plain, 10),
    (b"rk_live_", plain, 10),
    (b"rk_test_", plain, 10),
    (b"whsec_", plain, 16),
    (b"AKIA", upper, 16),
    (b"ASIA", upper, 16),
    (b"AIza", word, 30),
    (b"ghp_", plain, 20),
    (b"gho_", plain, 20),
    (b"ghu_", plain, 20),
    (b"ghs_", plain, 20),
    (b"ghr_", plain, 20),
    (b"github_pat_", plain, 20),
    (b"glpat-", word, 16),
    (b"xoxb-", word, 10),
    (b"xoxa-", word, 10),
    (b"xoxp-", word, 10),
    (b"xoxr-", word, 10),
    (b"xoxs-", word, 10),
    (b"xapp-", word, 10),
    (b"hf_", plain, 24),
    (b"npm_", plain, 30),
    (b"dop_v1_", plain, 30),
];

/// By first letter, where its shapes stand in [`SHAPES`]: from, to. They stand together.
const PLACES: [(usize, usize); 256] = {
    let mut places = [(0, 0); 256];
    let mut index = 0;
    while index < SHAPES.len() {
        let first = SHAPES[index].0[0] as usize;
        let (from, to) = places[first];
        assert!(to == 0 || to == index, "shapes with one first letter stand together");
        places[first] = (if to == 0 { index } else { from }, index + 1);
        index += 1;
    }
    places
};

fn token(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let rest = &bytes[at..];
    let [first, second, ..] = *rest else { return None };
    // Most words of prose differ in their second letter, which spares all that follows.
    if SECOND[usize::from(first)] & (1 << (second & 31)) == 0 || !begins_word(&bytes[..at]) {
        return None;
    }
    let (from, to) = PLACES[usize::from(first)];
    for (prefix, follows, least) in &SHAPES[from..to] {
        if rest.starts_with(prefix) {
            let length = run(&rest[prefix.len()..], follows);
            if length >= *least {
                return Some((at, at + prefix.len() + length));
            }
        }
    }
    if rest.starts_with(b"eyJ") {
        return jwt(rest).map(|length| (at, at + length));
    }
    bearer(rest).map(|(from, to)| (at + from, at + to))
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

/// `user:password@` behind the `://` of a URL, whose slashes JSON may have escaped; the name stays.
fn credentials_of_url(bytes: &[u8], mut from: usize) -> Option<(usize, usize)> {
    for _ in 0..2 {
        from += run(&bytes[from..], |byte| byte == b'\\');
        from += bytes[from..].starts_with(b"/").then_some(1)?;
    }
    let rest = &bytes[from..];
    let length = run(rest, |byte| !byte.is_ascii_whitespace() && !b"/?#\"'<>\\".contains(&byte));
    let at = rest[..length].iter().rposition(|byte| *byte == b'@')?;
    let colon = rest[..at].iter().position(|byte| *byte == b':')?;
    let secret = &rest[colon + 1..at];
    (!secret.is_empty() && secret != REDACTED.as_bytes()).then_some((from + colon + 1, from + at))
}

/// A PEM or PGP block of a private key, up to its end or the end of the text.
fn private_key(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = &bytes[at..];
    let label = rest.strip_prefix(b"-----BEGIN ")?;
    let length =
        run(&label[..label.len().min(64)], |byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b' ');
    let private = label[..length].ends_with(b"PRIVATE KEY") || label[..length].ends_with(b"PRIVATE KEY BLOCK");
    if !private || !label[length..].starts_with(b"-----") {
        return None;
    }
    let end = find(rest, b"-----END ").and_then(|end| {
        let after = &rest[end + 9..];
        find(&after[..after.len().min(96)], b"-----").map(|dashes| at + end + 9 + dashes + 5)
    });
    Some(end.unwrap_or(bytes.len()))
}

pub(super) fn run(bytes: &[u8], follows: impl Fn(u8) -> bool) -> usize {
    bytes.iter().position(|byte| !follows(*byte)).unwrap_or(bytes.len())
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
