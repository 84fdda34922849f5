//! Where reading begins: what `--from` understands, and which offset of a partition that is. Pure: the clock is given.

use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::words::Offset;

/// What `--from` says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum From {
    Earliest,
    /// Behind everything that there is.
    Latest,
    /// This offset, in every partition that is read.
    Offset(Offset),
    /// So many offsets before the end of each partition.
    Last(u64),
    /// The first record of each partition whose Kafka timestamp is not earlier, ms since the epoch.
    Time(i64),
}

/// What may be written, for people.
pub const ALLOWED: &str = "earliest, latest, an OFFSET, -N (the last N of each partition), an age such as 2h, or a time such as \
     2026-01-31T12:00:00Z";

impl From {
    /// `now_ms` is what an age is counted from.
    pub fn parse(text: &str, now_ms: i64) -> Result<Self, String> {
        let text = text.trim();
        let refused = || format!("{ALLOWED} is meant");
        match text.to_ascii_lowercase().as_str() {
            "earliest" | "beginning" => return Ok(Self::Earliest),
            "latest" | "end" => return Ok(Self::Latest),
            _ => {}
        }
        if let Some(count) = text.strip_prefix('-') {
            return count.parse().map(Self::Last).map_err(|_| refused());
        }
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            let offset: u64 = text.parse().map_err(|_| refused())?;
            return match i64::try_from(offset) {
                Ok(_) => Ok(Self::Offset(Offset(offset))),
                Err(_) => Err(refused()),
            };
        }
        if let Some(age) = age(text.strip_suffix("ago").unwrap_or(text)) {
            return Ok(Self::Time(now_ms.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX)).max(0)));
        }
        time_ms(text).map(Self::Time).ok_or_else(refused)
    }

    /// The offset in a partition that holds `[low, end)`; `at_time` is Kafka's answer for [`From::Time`]. It may lie
    /// below `low`: then what is between is gone.
    pub fn offset(self, low: Offset, end: Offset, at_time: Option<Offset>) -> Offset {
        match self {
            Self::Earliest => low,
            Self::Latest => end,
            Self::Offset(offset) => offset.min(end),
            Self::Last(count) => Offset(end.0.saturating_sub(count)).max(low),
            Self::Time(_) => at_time.unwrap_or(end).max(low),
        }
    }
}

/// An RFC 3339 time as ms since the epoch.
pub fn time_ms(text: &str) -> Option<i64> {
    let time = OffsetDateTime::parse(text.trim(), &Rfc3339).ok()?;
    i64::try_from(time.unix_timestamp_nanos().div_euclid(1_000_000)).ok()
}

/// `90s`, `15m`, `2h`, `3d`; also several after each other, such as `1h30m`.
fn age(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit())?;
        let (number, after) = rest.split_at(digits);
        let number: u64 = number.parse().ok()?;
        let letters = after.find(|letter: char| !letter.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let seconds = match unit {
            "s" | "sec" => 1,
            "m" | "min" => 60,
            "h" => 3_600,
            "d" => 86_400,
            _ => return None,
        };
        total = total.checked_add(Duration::from_secs(number.checked_mul(seconds)?))?;
        rest = after.trim_start();
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_790_000_000_000;

    #[test]
    fn everything_that_the_help_promises_is_understood() {
        let check = |text: &str, expected: From| assert_eq!(From::parse(text, NOW), Ok(expected), "{text}");
        check("earliest", From::Earliest);
        check("Latest", From::Latest);
        check("0", From::Offset(Offset(0)));
        check("9223372036854775807", From::Offset(Offset(i64::MAX as u64)));
        check("-10", From::Last(10));
        check("2h", From::Time(NOW - 7_200_000));
        check("2h ago", From::Time(NOW - 7_200_000));
        check("1h30m", From::Time(NOW - 5_400_000));
        check("1d 2h ago", From::Time(NOW - 93_600_000));
        check("2026-09-21T14:13:20Z", From::Time(NOW));
        check("2026-09-21T16:13:20.001+02:00", From::Time(NOW + 1));
        // Older than the epoch: all there is.
        check("999999999d", From::Time(0));
    }

    #[test]
    fn the_rest_is_refused_in_words() {
        for text in ["", "-", "--1", "-1.5", "yesterday", "2", "2x", "h", "2h3", "2026-09-21", "9223372036854775808"] {
            let found = From::parse(text, NOW);
            match text {
                // An offset, and not an age without its unit.
                "2" => assert_eq!(found, Ok(From::Offset(Offset(2)))),
                _ => assert!(found.is_err_and(|why| why.contains("earliest, latest")), "{text:?}"),
            }
        }
    }

    #[test]
    fn an_offset_is_found_within_what_there_is() {
        let offset = |from: From, at_time| from.offset(Offset(100), Offset(200), at_time).0;
        assert_eq!(offset(From::Earliest, None), 100);
        assert_eq!(offset(From::Latest, None), 200);
        assert_eq!(offset(From::Offset(Offset(150)), None), 150);
        assert_eq!(offset(From::Offset(Offset(50)), None), 50, "below: whoever asks is told what is gone");
        assert_eq!(offset(From::Offset(Offset(250)), None), 200);
        assert_eq!(offset(From::Last(10), None), 190);
        assert_eq!(offset(From::Last(1_000), None), 100);
        assert_eq!(offset(From::Time(0), Some(Offset(120))), 120);
        assert_eq!(offset(From::Time(0), None), 200, "no record is that late");
    }
}
