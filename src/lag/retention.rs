//! How long what is unread will still be there: the topic's retention by time against the age of the next unread
//! record. Pure decisions.
//!
//! Deliberately absent: retention by size, since nobody says how fast it comes near.

use std::collections::BTreeMap;

/// Kafka's `retention.ms` out of the settings in force, if the topic deletes by time. `None`: it does not, or that was
/// not to be read.
pub fn by_time_ms(settings: &BTreeMap<String, String>) -> Option<u64> {
    let deletes = settings.get("cleanup.policy")?.split(',').any(|policy| policy.trim() == "delete");
    // -1 is for ever.
    settings.get("retention.ms")?.parse().ok().filter(|_| deletes)
}

/// Time until retention may take the next unread record: at least what is left for the last one that was read, since
/// timestamps of a partition mostly go up. 0: it may be gone already. `None` while nothing is unread, or one of the
/// facts is unknown.
pub fn margin_ms(
    retention_ms: Option<u64>,
    lag_records: u64,
    last_record_timestamp_ms: Option<u64>,
    wall_clock_ms: u64,
) -> Option<u64> {
    let (retention_ms, timestamp_ms) = (retention_ms?, last_record_timestamp_ms?);
    (lag_records > 0).then(|| timestamp_ms.saturating_add(retention_ms).saturating_sub(wall_clock_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_topic_that_deletes_by_time_has_it() {
        let check = |policy: Option<&str>, retention: Option<&str>, expected| {
            let settings = [("cleanup.policy", policy), ("retention.ms", retention)];
            let settings = settings.iter().filter_map(|(name, value)| Some(((*name).to_owned(), (*value)?.to_owned())));
            assert_eq!(by_time_ms(&settings.collect()), expected, "{policy:?} {retention:?}");
        };
        check(Some("delete"), Some("604800000"), Some(604_800_000));
        check(Some("compact,delete"), Some("1000"), Some(1_000));
        check(Some("compact"), Some("1000"), None);
        check(Some("delete"), Some("-1"), None);
        check(Some("delete"), None, None);
        check(None, Some("1000"), None);
    }

    #[test]
    fn what_is_unread_has_a_margin_and_nothing_else_has() {
        assert_eq!(margin_ms(Some(10_000), 5, Some(100_000), 104_000), Some(6_000));
        assert_eq!(margin_ms(Some(10_000), 5, Some(100_000), 200_000), Some(0));
        assert_eq!(margin_ms(Some(10_000), 0, Some(100_000), 104_000), None);
        assert_eq!(margin_ms(None, 5, Some(100_000), 104_000), None);
        assert_eq!(margin_ms(Some(10_000), 5, None, 104_000), None);
    }
}
