//! The codec: what is written is read back, and whatever is not exactly that is refused without a panic.

use proptest::prelude::*;

use super::*;

const STREAM: &str = "v3_6d1f6d0e-5b0a-5c52-9e0c-646173687374";

fn place(partition: u32) -> Place<'static> {
    Place { stream: STREAM, partition: PartitionId(partition) }
}

fn written(span: &Span) -> impl Iterator<Item = Written<'_>> {
    span.records.iter().map(|record| Written {
        offset: record.offset,
        timestamp_ms: record.timestamp_ms.unwrap_or(i64::MIN),
        outcome: record.outcome,
        value: &record.value,
    })
}

fn bytes_of(partition: u32, span: &Span) -> Vec<u8> {
    encode(place(partition), (span.from, span.next), span.lost, written(span), u64::MAX).expect("it fits")
}

fn outcomes() -> Vec<Outcome> {
    let dropped = DropReason::ALL.map(Outcome::DeadLettered);
    let skipped = SkipReason::ALL.map(Outcome::Skipped);
    [Outcome::Delivered].into_iter().chain(dropped).chain(skipped).collect()
}

fn span() -> impl Strategy<Value = Span> {
    let value = proptest::collection::vec(any::<u8>(), 0..40);
    let record = (0u64..4, any::<i64>(), 0..outcomes().len(), value);
    (0u64..1 << 60, proptest::collection::vec(record, 0..12), 1u64..5).prop_map(|(from, records, more)| {
        let mut at = from;
        let mut kept = Vec::new();
        for (hole, stamp, outcome, value) in records {
            at += hole;
            let outcome = outcomes()[outcome];
            let value = if outcome == Outcome::Delivered { value } else { Vec::new() };
            let timestamp_ms = Some(stamp).filter(|stamp| *stamp != i64::MIN);
            kept.push(SpanRecord { offset: Offset(at), timestamp_ms, outcome, value });
            at += 1;
        }
        Span { from: Offset(from), next: Offset(at + more), lost: None, records: kept }
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(span in span(), partition in 0u32..2_000) {
        let bytes = bytes_of(partition, &span);
        prop_assert_eq!(decode(&bytes, place(partition), span.from), Ok(span.clone()));
        let head = Head::read(&bytes[..HEAD_BYTES]).expect("the head stands alone");
        prop_assert_eq!((head.partition, head.from, head.next), (PartitionId(partition), span.from, span.next));
        prop_assert_eq!((head.records as usize, head.bytes as usize), (span.records.len(), bytes.len()));
    }

    #[test]
    fn a_damaged_entry_is_refused(span in span(), at in any::<prop::sample::Index>(), flip in 1u8..=255) {
        let mut bytes = bytes_of(7, &span);
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        prop_assert!(decode(&bytes, place(7), span.from).is_err());
    }

    #[test]
    fn a_cut_or_grown_entry_is_refused(span in span(), cut in any::<prop::sample::Index>(), more in 1usize..9) {
        let mut bytes = bytes_of(7, &span);
        prop_assert!(decode(&bytes[..cut.index(bytes.len())], place(7), span.from).is_err());
        bytes.resize(bytes.len() + more, 0);
        prop_assert!(decode(&bytes, place(7), span.from).is_err());
    }

    /// Also with a right checksum, which whoever can write to Redis can make.
    #[test]
    fn nothing_from_outside_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), known in any::<bool>()) {
        if known && bytes.len() > HEAD_BYTES + 8 {
            bytes[..3].copy_from_slice(b"DS\x01");
            bytes[3] = 0;
            let length = bytes.len() as u32;
            bytes[28..32].copy_from_slice(&length.to_be_bytes());
            let end = bytes.len() - 4;
            let checksum = crc32fast::hash(&bytes[..end]);
            bytes[end..].copy_from_slice(&checksum.to_be_bytes());
        }
        let head = Head::read(&bytes);
        prop_assert!(head.is_ok() || decode(&bytes, place(0), Offset(0)).is_err(), "what has no head is no entry");
    }

    #[test]
    fn a_changed_entry_with_a_right_checksum_keeps_the_rules(span in span(), at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let mut bytes = bytes_of(7, &span);
        let end = bytes.len() - 4;
        bytes[at.index(end)] = to;
        let checksum = crc32fast::hash(&bytes[..end]);
        bytes[end..].copy_from_slice(&checksum.to_be_bytes());
        if let Ok(read) = decode(&bytes, place(7), span.from) {
            prop_assert!(read.from < read.next);
            prop_assert!(read.records.iter().all(|record| read.from <= record.offset && record.offset < read.next));
            prop_assert!(read.records.windows(2).all(|pair| pair[0].offset < pair[1].offset));
        }
    }
}

/// These bytes are in somebody's Redis: another meaning needs another version.
#[test]
fn the_bytes_do_not_change() {
    let span = Span {
        from: Offset(5),
        next: Offset(9),
        lost: None,
        records: vec![
            SpanRecord { offset: Offset(5), timestamp_ms: Some(1), outcome: Outcome::Delivered, value: b"ab".to_vec() },
            SpanRecord {
                offset: Offset(7),
                timestamp_ms: None,
                outcome: Outcome::DeadLettered(DropReason::InvalidProtobuf),
                value: Vec::new(),
            },
        ],
    };
    let bytes = encode(
        Place { stream: "s", partition: PartitionId(3) },
        (span.from, span.next),
        None,
        written(&span),
        u64::MAX,
    );
    let bytes = bytes.expect("it fits");
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = [
        "4453",
        "01",
        "00",
        "00000003",
        "0000000000000005",
        "0000000000000009",
        "00000002",
        "00000052",
        "01",
        "73",
        "0000000000000005",
        "0000000000000001",
        "01",
        "00000002",
        "6162",
        "0000000000000007",
        "8000000000000000",
        "13",
        "00000000",
    ]
    .concat();
    assert_eq!(hex[..hex.len() - 8], expected);
    let codes: Vec<u8> = outcomes().into_iter().map(outcome_code).collect();
    assert_eq!(codes, [1, 16, 17, 18, 19, 20, 48]);
    assert_eq!(GapReason::ALL.map(code_of), [3, 16, 17, 18, 19, 20, 48, 2]);
}

#[test]
fn every_code_is_read_back_and_none_is_guessed() {
    for outcome in outcomes() {
        assert_eq!(outcome_of(outcome_code(outcome)), Some(outcome));
    }
    for reason in GapReason::ALL {
        assert_eq!(reason_of(code_of(reason)), Some(reason));
        let lost = Span { from: Offset(1), next: Offset(9), lost: Some(reason), records: Vec::new() };
        assert_eq!(decode(&bytes_of(0, &lost), place(0), Offset(1)), Ok(lost));
    }
    assert_eq!((outcome_of(0), outcome_of(2), outcome_of(255)), (None, None, None));
}

#[test]
fn an_entry_that_is_somewhere_else_is_refused() {
    let span = Span { from: Offset(5), next: Offset(9), lost: None, records: Vec::new() };
    let bytes = bytes_of(3, &span);
    let check = |stream: &str, partition, from, expected: Result<Span, EntryError>| {
        assert_eq!(decode(&bytes, Place { stream, partition: PartitionId(partition) }, Offset(from)), expected);
    };
    check(STREAM, 3, 5, Ok(span));
    check("v3_another", 3, 5, Err(EntryError::Elsewhere));
    check(STREAM, 4, 5, Err(EntryError::Elsewhere));
    check(STREAM, 3, 6, Err(EntryError::Elsewhere));
    let mut newer = bytes.clone();
    newer[2] = 2;
    assert_eq!(decode(&newer, place(3), Offset(5)), Err(EntryError::Version));
}

#[test]
fn what_is_too_long_is_not_written() {
    let record = || {
        let value = &[1u8; 100][..];
        std::iter::once(Written { offset: Offset(1), timestamp_ms: 0, outcome: Outcome::Delivered, value })
    };
    let bytes = encode(place(0), (Offset(1), Offset(2)), None, record(), 1_000).expect("it fits");
    let exactly = bytes.len() as u64;
    assert!(encode(place(0), (Offset(1), Offset(2)), None, record(), exactly).is_some());
    assert!(encode(place(0), (Offset(1), Offset(2)), None, record(), exactly - 1).is_none());
}
