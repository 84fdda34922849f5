//! One written value: its text, the kind of value that its key takes, and the typed value. Every kind says what it
//! allows in words, so that a refusal can name it. Which keys there are is the business of [`super::table`].

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// What a key takes. Bounds are inclusive.
#[derive(Clone, Copy)]
pub enum Kind {
    /// Free text with a check that may tidy it up; `shape` says in words what is allowed.
    Text {
        shape: &'static str,
        check: fn(&str) -> Option<String>,
    },
    /// One of a few words, compared without regard to case, each with the other spellings that mean the same.
    Choice(&'static [(&'static str, &'static [&'static str])]),
    Number {
        min: u64,
        max: u64,
    },
    /// Bytes, or with `KiB`, `MiB`, `GiB`.
    Size {
        min: u64,
        max: u64,
    },
    /// With `ms`, `s`, `m` or `h`; a bare number is in the unit `bare`.
    Time {
        bare: TimeUnit,
        min: Duration,
        max: Duration,
    },
    Switch,
    Ip,
    Socket,
    IpList {
        max: usize,
    },
    Path,
}

/// The unit of a duration that is written without one. Milliseconds exactly when the key's name ends in `_ms`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimeUnit {
    Milliseconds,
    Seconds,
}

/// What was meant.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Word(&'static str),
    Number(u64),
    Size(u64),
    Time(Duration),
    Switch(bool),
    Ip(IpAddr),
    Socket(SocketAddr),
    IpList(Vec<IpAddr>),
    Path(PathBuf),
}

impl Kind {
    /// `None` when the text is not allowed; [`Kind::allowed`] says what would be.
    pub(super) fn parse(self, text: &str) -> Option<Value> {
        match self {
            Kind::Text { check, .. } => check(text).map(Value::Text),
            Kind::Choice(words) => words
                .iter()
                .find(|(word, others)| {
                    word.eq_ignore_ascii_case(text) || others.iter().any(|other| other.eq_ignore_ascii_case(text))
                })
                .map(|(word, _)| Value::Word(word)),
            Kind::Number { min, max } => {
                text.parse().ok().filter(|number| (min..=max).contains(number)).map(Value::Number)
            }
            Kind::Size { min, max } => parse_size(text).filter(|size| (min..=max).contains(size)).map(Value::Size),
            Kind::Time { bare, min, max } => {
                parse_time(text, bare).filter(|time| (min..=max).contains(time)).map(Value::Time)
            }
            Kind::Switch => match text.to_ascii_lowercase().as_str() {
                "true" | "1" => Some(Value::Switch(true)),
                "false" | "0" => Some(Value::Switch(false)),
                _ => None,
            },
            Kind::Ip => parse_ip(text).map(Value::Ip),
            Kind::Socket => parse_socket(text).map(Value::Socket),
            Kind::IpList { max } => {
                let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
                let addresses = parts.map(parse_ip).collect::<Option<Vec<_>>>()?;
                (addresses.len() <= max).then_some(Value::IpList(addresses))
            }
            Kind::Path => (!text.is_empty() && !text.contains('\0')).then(|| Value::Path(PathBuf::from(text))),
        }
    }

    /// What is allowed, in words that fit behind "allowed: ".
    pub fn allowed(self) -> String {
        match self {
            Kind::Text { shape, .. } => shape.to_owned(),
            Kind::Choice(words) => words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(" | "),
            Kind::Number { min, max } => format!("a whole number, {min} to {max}"),
            Kind::Size { min, max } => {
                format!("bytes or a size such as 64KiB, {} to {}", Value::Size(min), Value::Size(max))
            }
            Kind::Time { bare, min, max } => format!(
                "a time such as 500ms, 5s or 10m (a bare number is {}), {} to {}",
                match bare {
                    TimeUnit::Milliseconds => "milliseconds",
                    TimeUnit::Seconds => "seconds",
                },
                Value::Time(min),
                Value::Time(max)
            ),
            Kind::Switch => "true | false (or 1 | 0)".to_owned(),
            Kind::Ip => "an IP address, or localhost".to_owned(),
            Kind::Socket => "an IP address (or localhost) and a port, such as 127.0.0.1:9464".to_owned(),
            Kind::IpList { max } => format!("at most {max} IP addresses, comma separated, no ranges"),
            Kind::Path => "a path".to_owned(),
        }
    }

    /// A short word for the value in a flag's usage line.
    pub fn placeholder(self) -> &'static str {
        match self {
            Kind::Text { .. } => "TEXT",
            Kind::Choice(_) => "WORD",
            Kind::Number { .. } => "NUMBER",
            Kind::Size { .. } => "SIZE",
            Kind::Time { .. } => "TIME",
            Kind::Switch => "BOOL",
            Kind::Ip => "IP",
            Kind::Socket => "IP:PORT",
            Kind::IpList { .. } => "IP,IP",
            Kind::Path => "FILE",
        }
    }
}

fn parse_size(text: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 4] = [("kib", 1 << 10), ("mib", 1 << 20), ("gib", 1 << 30), ("b", 1)];
    let lower = text.to_ascii_lowercase();
    let unit = UNITS.iter().find_map(|(unit, factor)| lower.strip_suffix(unit).map(|number| (number, *factor)));
    let (number, factor) = unit.unwrap_or((&lower, 1));
    number.trim_end().parse::<u64>().ok()?.checked_mul(factor)
}

fn parse_time(text: &str, bare: TimeUnit) -> Option<Duration> {
    // `ms` before `s`: the first suffix that fits is taken.
    const UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
    let unit = UNITS.iter().find_map(|(unit, factor)| text.strip_suffix(unit).map(|number| (number, *factor)));
    let (number, factor) = unit.unwrap_or((
        text,
        match bare {
            TimeUnit::Milliseconds => 1,
            TimeUnit::Seconds => 1_000,
        },
    ));
    number.trim_end().parse::<u64>().ok()?.checked_mul(factor).map(Duration::from_millis)
}

fn parse_ip(text: &str) -> Option<IpAddr> {
    match text {
        "localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        _ => text.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(text).parse().ok(),
    }
}

fn parse_socket(text: &str) -> Option<SocketAddr> {
    match text.strip_prefix("localhost:") {
        Some(port) => Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port.parse().ok()?)),
        None => text.parse().ok(),
    }
}

/// The one way in which a value is written out; parsing it again gives the same value.
impl fmt::Display for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Text(text) => formatter.write_str(text),
            Value::Word(word) => formatter.write_str(word),
            Value::Number(number) => number.fmt(formatter),
            Value::Size(size) => match size {
                0 => formatter.write_str("0"),
                _ if size % (1 << 30) == 0 => write!(formatter, "{}GiB", size >> 30),
                _ if size % (1 << 20) == 0 => write!(formatter, "{}MiB", size >> 20),
                _ if size % (1 << 10) == 0 => write!(formatter, "{}KiB", size >> 10),
                _ => size.fmt(formatter),
            },
            Value::Time(time) => match time.as_millis() {
                millis if millis == 0 || millis % 1_000 != 0 => write!(formatter, "{millis}ms"),
                millis if millis % 3_600_000 == 0 => write!(formatter, "{}h", millis / 3_600_000),
                millis if millis % 60_000 == 0 => write!(formatter, "{}m", millis / 60_000),
                millis => write!(formatter, "{}s", millis / 1_000),
            },
            Value::Switch(on) => on.fmt(formatter),
            Value::Ip(address) => address.fmt(formatter),
            Value::Socket(address) => address.fmt(formatter),
            Value::IpList(addresses) => {
                let texts: Vec<_> = addresses.iter().map(IpAddr::to_string).collect();
                formatter.write_str(&texts.join(","))
            }
            Value::Path(path) => path.display().fmt(formatter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Kind = Kind::Size { min: 0, max: u64::MAX };
    const SECONDS: Kind = Kind::Time { bare: TimeUnit::Seconds, min: Duration::ZERO, max: Duration::from_secs(36_000) };
    const MILLIS: Kind =
        Kind::Time { bare: TimeUnit::Milliseconds, min: Duration::ZERO, max: Duration::from_secs(36_000) };
    const WORDS: Kind = Kind::Choice(&[("earliest", &["smallest"]), ("latest", &[])]);
    const PROXIES: Kind = Kind::IpList { max: 2 };

    /// The value as it is written out again, or `-` for a refusal.
    fn check(kind: Kind, text: &str, expected: &str) {
        let parsed = kind.parse(text);
        let shown = parsed.as_ref().map_or("-".to_owned(), Value::to_string);
        assert_eq!(shown, expected, "{text:?}");
        if let Some(value) = parsed {
            assert!(kind.parse(&shown) == Some(value), "{shown:?} does not read back as it was written");
        }
    }

    #[test]
    fn texts_become_values_and_values_become_texts() {
        check(SIZE, "0", "0");
        check(SIZE, "65536", "64KiB");
        check(SIZE, "64KiB", "64KiB");
        check(SIZE, "64 kib", "64KiB");
        check(SIZE, "1024MiB", "1GiB");
        check(SIZE, "1000", "1000");
        check(SIZE, "1000B", "1000");
        check(SIZE, "64KB", "-");
        check(SIZE, "1.5MiB", "-");
        check(SIZE, "-1", "-");
        check(SIZE, "", "-");
        check(SIZE, "99999999999999GiB", "-");
        check(Kind::Size { min: 10, max: 20 }, "9", "-");
        check(Kind::Size { min: 10, max: 20 }, "10", "10");
        check(Kind::Size { min: 10, max: 20 }, "20", "20");
        check(Kind::Size { min: 10, max: 20 }, "21", "-");
        check(SECONDS, "60", "1m");
        check(SECONDS, "60s", "1m");
        check(SECONDS, "500ms", "500ms");
        check(SECONDS, "90", "90s");
        check(SECONDS, "2h", "2h");
        check(SECONDS, "0", "0ms");
        check(SECONDS, "36001", "-");
        check(SECONDS, "s", "-");
        check(SECONDS, "-5", "-");
        check(SECONDS, "5 seconds", "-");
        check(MILLIS, "60", "60ms");
        check(MILLIS, "5s", "5s");
        check(WORDS, "Earliest", "earliest");
        check(WORDS, "smallest", "earliest");
        check(WORDS, "newest", "-");
        check(Kind::Number { min: 1, max: 5 }, "5", "5");
        check(Kind::Number { min: 1, max: 5 }, "6", "-");
        check(Kind::Number { min: 1, max: 5 }, "0", "-");
        check(Kind::Number { min: 1, max: 5 }, "+", "-");
        check(Kind::Switch, "true", "true");
        check(Kind::Switch, "1", "true");
        check(Kind::Switch, "0", "false");
        check(Kind::Switch, "yes", "-");
        check(Kind::Ip, "localhost", "127.0.0.1");
        check(Kind::Ip, "[::1]", "::1");
        check(Kind::Ip, "gateway.example", "-");
        check(Kind::Socket, "localhost:9464", "127.0.0.1:9464");
        check(Kind::Socket, "[::1]:1", "[::1]:1");
        check(Kind::Socket, "127.0.0.1", "-");
        check(Kind::Socket, "127.0.0.1:65536", "-");
        check(PROXIES, "", "");
        check(PROXIES, " 10.0.0.1 , ::1 ", "10.0.0.1,::1");
        check(PROXIES, "10.0.0.0/8", "-");
        check(PROXIES, "10.0.0.1,10.0.0.2,10.0.0.3", "-");
        check(Kind::Path, "", "-");
        check(Kind::Path, "ca.pem", "ca.pem");
    }
}
