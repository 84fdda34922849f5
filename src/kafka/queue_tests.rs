//! The queue against the mock cluster: order, yielding, the end, null and empty values, headers, waking, panics.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::*;
use crate::kafka::mock::{Mock, TOPIC, assign, until};

const WAIT: Duration = Duration::from_millis(50);

fn split(mock: &Mock) -> (Arc<BaseConsumer>, PartitionQueue) {
    let consumer = mock.consumer();
    let queue = PartitionQueue::split(&consumer, TOPIC, PartitionId(0)).expect("a queue");
    assign(&consumer, 0, 0);
    (consumer, queue)
}

type Consume = fn(&mut PartitionQueue, Duration, &mut dyn FnMut(Arrival<'_>) -> Flow);

fn numbers_come_in_order_and_yielding_keeps_the_rest(consume: Consume) {
    let mock = Mock::new(1);
    mock.produce_numbers(0, 0..300);
    let (consumer, mut queue) = split(&mock);
    let mut seen = Vec::new();
    let mut calls = 0;
    let end = until("300 records and the end", || {
        let mut end = None;
        let mut in_this_call = 0;
        calls += 1;
        consume(&mut queue, WAIT, &mut |arrival| match arrival {
            Arrival::Record(record) => {
                let value = record.value.expect("not null").try_into().expect("four bytes");
                seen.push((record.offset.0, u32::from_be_bytes(value)));
                in_this_call += 1;
                if in_this_call == 7 { Flow::Yield } else { Flow::More }
            }
            Arrival::End { offset } => {
                end = Some(offset);
                Flow::More
            }
            Arrival::Error { code, .. } => panic!("{code}"),
        });
        assert!(in_this_call <= 7, "the sink was called after it yielded");
        end
    });
    let expected: Vec<(u64, u32)> = (0..300).map(|number| (u64::from(number), number)).collect();
    assert_eq!(seen, expected);
    assert_eq!(end, Offset(300));
    assert!(calls >= 300 / 7);
    assert!(consumer.poll(Duration::ZERO).is_none(), "something leaked to the main queue");
}

#[test]
fn by_callback_records_come_in_order_and_yielding_keeps_the_rest() {
    numbers_come_in_order_and_yielding_keeps_the_rest(PartitionQueue::consume);
}

#[test]
fn by_poll_records_come_in_order_and_yielding_keeps_the_rest() {
    numbers_come_in_order_and_yielding_keeps_the_rest(PartitionQueue::consume_by_poll);
}

#[test]
fn null_is_not_empty_and_key_time_and_headers_are_there() {
    let mock = Mock::new(1);
    mock.produce(0, &[None, Some(b""), Some(b"x")]);
    let (_consumer, mut queue) = split(&mock);
    let mut values = Vec::new();
    until("three records", || {
        queue.consume(WAIT, &mut |arrival| {
            if let Arrival::Record(record) = arrival {
                assert_eq!(record.key, Some(b"key".as_slice()));
                assert!(record.timestamp_ms.is_some_and(|timestamp| timestamp > 1_600_000_000_000));
                let all = record.headers(HeaderLimits::default());
                assert_eq!(all.list, [("first".to_owned(), Some(Box::from(*b"one"))), ("second".to_owned(), None)]);
                let one = record.headers(HeaderLimits { count: 1, bytes: 100 });
                assert_eq!((one.list.len(), one.left_out), (1, 1));
                let none = record.headers(HeaderLimits { count: 9, bytes: 7 });
                assert_eq!((none.list.len(), none.left_out), (0, 2));
                values.push(record.value.map(<[u8]>::to_vec));
            }
            Flow::More
        });
        (values.len() == 3).then_some(())
    });
    assert_eq!(values, [None, Some(Vec::new()), Some(b"x".to_vec())]);
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a test needs a second thread to wake the first")]
fn a_waker_ends_a_wait_and_is_not_lost_before_one() {
    let mock = Mock::new(1);
    let (_consumer, mut queue) = split(&mock);
    let waker = queue.waker();
    let long = Duration::from_secs(60);
    let started = Instant::now();
    // Before the wait: the next one ends at once.
    waker.wake();
    let mut ends = 0;
    // The end of an empty partition may come first.
    while ends < 2 && started.elapsed() < long / 2 {
        queue.consume(long, &mut |_| {
            waker.wake();
            Flow::More
        });
        ends += 1;
    }
    // During the wait, from another thread that goes on until it was seen.
    let seen = Arc::new(AtomicBool::new(false));
    let other = std::thread::spawn({
        let (seen, waker) = (seen.clone(), queue.waker());
        move || {
            while !seen.load(Ordering::Acquire) {
                waker.wake();
                std::thread::yield_now();
            }
        }
    });
    queue.consume(long, &mut |_| Flow::More);
    seen.store(true, Ordering::Release);
    other.join().expect("the waking thread");
    assert!(started.elapsed() < long / 2, "a wait was not ended");
}

#[test]
fn a_panic_of_the_sink_passes_through_and_leaves_the_queue_usable() {
    let mock = Mock::new(1);
    mock.produce_numbers(0, 0..10);
    let (_consumer, mut queue) = split(&mock);
    let panic = until("a panic", || {
        catch_unwind(AssertUnwindSafe(|| {
            queue.consume(WAIT, &mut |arrival| match arrival {
                Arrival::Record(record) if record.offset == Offset(3) => resume_unwind(Box::new("three")),
                _ => Flow::More,
            })
        }))
        .err()
    });
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"three"));
    let mut rest = Vec::new();
    until("the rest", || {
        queue.consume(WAIT, &mut |arrival| {
            if let Arrival::Record(record) = arrival {
                rest.push(record.offset.0);
            }
            Flow::More
        });
        (rest.last() == Some(&9)).then_some(())
    });
    assert_eq!(rest, [4, 5, 6, 7, 8, 9]);
}

#[test]
fn what_was_queued_is_discarded() {
    let mock = Mock::new(1);
    mock.produce_numbers(0, 0..50);
    let (consumer, mut queue) = split(&mock);
    until("something read", || {
        let mut any = false;
        queue.consume(WAIT, &mut |_| {
            any = true;
            Flow::Yield
        });
        any.then_some(())
    });
    let mut list = rdkafka::TopicPartitionList::new();
    list.add_partition(TOPIC, 0);
    consumer.incremental_unassign(&list).expect("unassigned");
    queue.discard();
    queue.consume(Duration::ZERO, &mut |arrival| panic!("left over: {arrival:?}"));
    drop(queue);
    let mut queue = PartitionQueue::split(&consumer, TOPIC, PartitionId(0)).expect("a queue");
    assign(&consumer, 0, 40);
    let mut seen = Vec::new();
    until("the new assignment's records", || {
        queue.consume(WAIT, &mut |arrival| {
            if let Arrival::Record(record) = arrival {
                seen.push(record.offset.0);
            }
            Flow::More
        });
        (seen.last() == Some(&49)).then_some(())
    });
    assert_eq!(seen, (40..50).collect::<Vec<u64>>());
}
