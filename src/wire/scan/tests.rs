//! The scan against prost: the same verdict and the same values for typed messages, for bytes grown from the field
//! table with every liberty that the wire format allows, for mutations of both, and for noise.

use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::wire::proto::dash_stream_message::Message as Payload;
use crate::wire::proto::{DashStreamMessage, Event, EventBatch, Header};

mod grow;
pub(super) mod typed;

/// What the scan should find, in owned form.
#[derive(PartialEq, Debug)]
struct Found {
    kind: Kind,
    event_type: i32,
    timestamp_us: i64,
    sequence: u64,
    schema_version: u32,
    tenant: String,
    thread: String,
    node: String,
    message_id: Vec<u8>,
}

fn expected(kind: Kind, header: Option<Header>, event_type: i32, node: String) -> Found {
    let header = header.unwrap_or_default();
    Found {
        kind,
        event_type,
        timestamp_us: header.timestamp_us,
        sequence: header.sequence,
        schema_version: header.schema_version,
        tenant: header.tenant_id,
        thread: header.thread_id,
        node,
        message_id: header.message_id,
    }
}

fn expected_event(event: Event) -> Found {
    expected(Kind::Event, event.header, event.event_type, event.node_id)
}

/// Kind, outer and events as prost sees them.
fn by_prost(message: DashStreamMessage) -> Option<(Found, Vec<Found>)> {
    let of = |kind, header: Option<Header>| {
        let one = |header| expected(kind, header, 0, String::new());
        (one(header.clone()), vec![one(header)])
    };
    Some(match message.message? {
        Payload::Event(event) => (expected_event(event.clone()), vec![expected_event(event)]),
        Payload::StateDiff(payload) => of(Kind::StateDiff, payload.header),
        Payload::TokenChunk(payload) => of(Kind::TokenChunk, payload.header),
        Payload::ToolExecution(payload) => of(Kind::ToolExecution, payload.header),
        Payload::Checkpoint(payload) => of(Kind::Checkpoint, payload.header),
        Payload::Metrics(payload) => of(Kind::Metrics, payload.header),
        Payload::Error(payload) => of(Kind::Error, payload.header),
        Payload::ExecutionTrace(payload) => of(Kind::ExecutionTrace, payload.header),
        Payload::EventBatch(EventBatch { header, events }) => {
            let outer = expected(Kind::EventBatch, header, 0, String::new());
            (outer, events.into_iter().map(expected_event).collect())
        }
    })
}

fn by_scan(body: &[u8], scan: &Scan) -> Option<(Found, Vec<Found>)> {
    let found = |meta: &EventMeta| Found {
        kind: meta.kind,
        event_type: meta.event_type,
        timestamp_us: meta.timestamp_us,
        sequence: meta.sequence,
        schema_version: meta.schema_version,
        tenant: meta.tenant.str_of(body).to_owned(),
        thread: meta.thread.str_of(body).to_owned(),
        node: meta.node.str_of(body).to_owned(),
        message_id: meta.message_id.of(body).to_vec(),
    };
    let kind = scan.kind?;
    assert_eq!(kind, scan.outer.kind);
    Some((found(&scan.outer), scan.events.iter().map(found).collect()))
}

/// The one place that compares. True if both accept.
fn check(body: &[u8], scan: &mut Scan) -> bool {
    let verdict = super::scan(body, scan);
    let by_prost_message = DashStreamMessage::decode(body);
    assert_eq!(verdict.is_ok(), by_prost_message.is_ok(), "{verdict:?} {by_prost_message:?} {body:02x?}");
    assert_eq!(validate(body).is_ok(), verdict.is_ok(), "{body:02x?}");
    match by_prost_message {
        Ok(message) => {
            assert_eq!(by_scan(body, scan), by_prost(message), "{body:02x?}");
            true
        }
        Err(_) => {
            assert!(scan.kind.is_none() && scan.events.is_empty() && scan.outer == EventMeta::default());
            false
        }
    }
}

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

#[test]
fn typed_messages_and_their_mutations() {
    let mut scan = Scan::default();
    let input = (typed::message(), prop::collection::vec(any::<u64>(), 0..4));
    let (mut accepted, mut refused) = (0, 0);
    let mut runner = proptest::test_runner::TestRunner::new(cases(6_000));
    let result = runner.run(&input, |(message, mutations)| {
        // The runner wants a function without state of its own.
        let mut body = message.encode_to_vec();
        assert!(check(&body, &mut Scan::default()));
        for mutation in mutations {
            grow::mutate(&mut body, mutation);
            check(&body, &mut Scan::default());
        }
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));

    // The same with one `Scan` for all, which must not remember anything.
    for seed in 0..2_000 {
        let mut body = grow::body(seed);
        grow::mutate(&mut body, seed);
        match check(&body, &mut scan) {
            true => accepted += 1,
            false => refused += 1,
        }
    }
    assert!(accepted > 200 && refused > 200, "{accepted} accepted, {refused} refused");
}

#[test]
fn bytes_grown_from_the_field_table() {
    let mut scan = Scan::default();
    let (mut accepted, mut refused) = (0, 0);
    for seed in 0..40_000_u64 {
        let body = grow::body(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        match check(&body, &mut scan) {
            true => accepted += 1,
            false => refused += 1,
        }
    }
    assert!(accepted > 10_000 && refused > 5_000, "{accepted} accepted, {refused} refused");
}

#[test]
fn grown_bytes_mutated() {
    let mut scan = Scan::default();
    let (mut accepted, mut refused) = (0, 0);
    for seed in 0..40_000_u64 {
        let mut body = grow::body(!seed.wrapping_mul(0xD1B5_4A32_D192_ED03));
        for step in 0..1 + seed % 3 {
            grow::mutate(&mut body, seed.wrapping_mul(31).wrapping_add(step));
        }
        match check(&body, &mut scan) {
            true => accepted += 1,
            false => refused += 1,
        }
    }
    assert!(accepted > 2_000 && refused > 5_000, "{accepted} accepted, {refused} refused");
}

proptest! {
    #![proptest_config(cases(20_000))]

    #[test]
    fn noise(body in prop::collection::vec(any::<u8>(), 0..48)) {
        check(&body, &mut Scan::default());
    }

    /// Bytes that mean something on the wire, in any order.
    #[test]
    fn fragments(parts in prop::collection::vec(grow::fragment(), 0..24)) {
        check(&parts.concat(), &mut Scan::default());
    }
}

/// Every way of nesting, to around the limit, with every kind of bottom.
#[test]
fn the_depth_limit_is_that_of_prost() {
    // How one level wraps an inside; the name says where it may be repeated.
    let array = |inside: Vec<u8>| grow::field(6, &grow::field(1, &inside));
    let map = |inside: Vec<u8>| grow::field(7, &grow::field(1, &grow::field(2, &inside)));
    let group = |inside: Vec<u8>| [&[(13 << 3) | 3][..], &inside, &[(13 << 3) | 4]].concat();
    let top = |value: Vec<u8>| grow::field(1, &grow::field(4, &grow::field(2, &value)));
    let bottoms: [&[u8]; 6] = [&[], &[0x10, 1], &[0x78, 1], &[0x6B, 0x6C], &[0x32, 0], &[0x3A, 0]];

    let mut scan = Scan::default();
    let (mut accepted, mut refused) = (0, 0);
    for levels in 0..110 {
        for bottom in bottoms {
            let mut inside = [bottom.to_vec(), bottom.to_vec(), bottom.to_vec(), bottom.to_vec()];
            for level in 0..levels {
                let [arrays, maps, mixed, groups] = inside;
                let mixed = if level % 2 == 0 { array(mixed) } else { map(mixed) };
                inside = [array(arrays), map(maps), mixed, group(groups)];
            }
            let [arrays, maps, mixed, groups] = inside;
            for body in [top(arrays), top(maps), top(mixed), top(groups.clone()), groups] {
                match check(&body, &mut scan) {
                    true => accepted += 1,
                    false => refused += 1,
                }
            }
        }
    }
    assert!(accepted > 500 && refused > 500, "{accepted} accepted, {refused} refused");
}

#[test]
fn merging_switching_and_appending() {
    let header = |bytes: &[u8]| grow::field(1, bytes);
    let thread = |name: &str| grow::field(4, name.as_bytes());
    let sequence = |value: u8| vec![5 << 3, value];
    let node = |name: &str| grow::field(3, name.as_bytes());
    let event = |inside: &[Vec<u8>]| grow::field(1, &inside.concat());
    let batch = |inside: &[Vec<u8>]| grow::field(8, &inside.concat());
    let inner = |inside: &[Vec<u8>]| grow::field(2, &inside.concat());
    let mut scan = Scan::default();

    // Two headers and two events merge; the last value wins.
    let body =
        [event(&[header(&thread("a")), header(&sequence(3)), node("n")]), event(&[header(&thread("b")), node("")])]
            .concat();
    assert!(check(&body, &mut scan));
    assert_eq!((scan.events[0].thread.str_of(&body), scan.events[0].sequence), ("b", 3));
    assert!(scan.events[0].node.is_empty());

    // Another payload in between replaces it.
    let body = [event(&[header(&thread("a"))]), grow::field(3, &[]), event(&[header(&sequence(9))])].concat();
    assert!(check(&body, &mut scan));
    assert_eq!((scan.events[0].thread.str_of(&body), scan.events[0].sequence), ("", 9));

    // Batches append and switch.
    let body =
        [batch(&[inner(&[node("x")])]), batch(&[header(&thread("t")), inner(&[]), inner(&[node("y")])])].concat();
    assert!(check(&body, &mut scan));
    let nodes: Vec<_> = scan.events.iter().map(|event| event.node.str_of(&body)).collect();
    assert_eq!((nodes.as_slice(), scan.outer.thread.str_of(&body)), (&["x", "", "y"][..], "t"));
    let body = [body, grow::field(7, &[]), batch(&[inner(&[node("z")])])].concat();
    assert!(check(&body, &mut scan));
    assert_eq!((scan.events.len(), scan.outer.thread), (1, Span::default()));

    // No content.
    for body in [&[][..], &[0x78, 1]] {
        assert!(check(body, &mut scan));
        assert_eq!((scan.kind, scan.events.len()), (None, 0));
    }
}

#[test]
fn more_events_than_the_limit_are_refused_and_their_room_is_given_back() {
    let mut scan = Scan::default();
    let full = grow::field(8, &[0x12, 0x00].repeat(EVENTS_MAX));
    assert_eq!(super::scan(&full, &mut scan), Ok(()));
    assert_eq!(scan.events.len(), EVENTS_MAX);
    let beyond = grow::field(8, &[0x12, 0x00].repeat(EVENTS_MAX + 1));
    assert_eq!(super::scan(&beyond, &mut scan), Err(ScanError::TooManyEvents));
    assert_eq!(DropReason::from(ScanError::TooManyEvents), DropReason::PayloadTooLarge);
    assert_eq!(super::scan(&[], &mut scan), Ok(()));
    assert!(scan.events.capacity() <= EVENTS_KEPT);
}

#[test]
fn kinds_stand_at_their_field_numbers_and_have_one_bit_each() {
    let mut bits = 0;
    for (index, kind) in Kind::ALL.into_iter().enumerate() {
        let body = grow::field(index as u32 + 1, &[]);
        let mut scan = Scan::default();
        assert!(check(&body, &mut scan));
        assert_eq!(scan.kind, Some(kind));
        bits |= kind.bit();
    }
    assert_eq!(bits, 0x1FF);
}
