//! The hand-over: bounded in bytes, woken by room and by stop, and honest about what it could not take.

#![allow(clippy::disallowed_methods, reason = "tests make their own channels and threads")]

use std::time::{Duration, Instant};

use crossbeam_channel::bounded;

use super::*;
use crate::dlq::envelope::tests::{letter, stream};
use crate::words::Offset;

const LIMIT: Duration = Duration::from_secs(20);

struct Rig {
    sender: DlqSender,
    letters: Receiver<Queued>,
    stats: Arc<Stats>,
    _stop: Sender<()>,
    stop: Receiver<()>,
}

/// Room for `count` letters in the channel and for `fitting` letters of the usual size in the budget.
fn rig(count: usize, fitting: u64, mode: DlqMode, patience: Duration) -> Rig {
    let (letters_in, letters) = bounded(count);
    let config = DlqConfig {
        topic: "t-dlq".to_owned(),
        mode,
        value_max_bytes: 1024,
        queue_max_bytes: letter().bytes() * fitting,
        ledger_max: 10,
        send_timeout: patience,
    };
    let stats = Arc::new(Stats::default());
    let inlet = DlqInlet::new(DlqChannels { letters: letters_in, room: bounded(1) }, &config, stats.clone());
    let (stopper, stop) = bounded(0);
    Rig { sender: inlet.for_stream(Arc::new(stream())), letters, stats, _stop: stopper, stop }
}

fn numbered(offset: u64) -> DeadLetter {
    let letter = DeadLetter { offset: Offset(offset), ..letter() };
    letter.ledger.open(letter.offset);
    letter
}

#[test]
fn a_letter_counts_until_it_is_dropped_not_until_it_is_received() {
    let rig = rig(100, 2, DlqMode::FailClosed, LIMIT);
    rig.sender.try_send(numbered(1)).expect("room for one");
    rig.sender.try_send(numbered(2)).expect("room for two");
    assert_eq!(rig.sender.try_send(numbered(3)).expect_err("no room").offset, Offset(3));
    assert_eq!(rig.stats.dlq.queue_bytes.get(), letter().bytes() * 2);
    let received = rig.letters.recv().expect("a letter");
    assert_eq!(rig.sender.try_send(numbered(3)).expect_err("still in hand").offset, Offset(3));
    drop(received);
    rig.sender.try_send(numbered(3)).expect("room again");
    drop(rig.letters.try_iter().collect::<Vec<_>>());
    assert_eq!(rig.stats.dlq.queue_bytes.get(), 0);
}

#[test]
fn a_letter_larger_than_the_budget_passes_alone() {
    let rig = rig(100, 1, DlqMode::FailClosed, LIMIT);
    let large = DeadLetter { value: vec![0; 100_000].into(), ..numbered(1) };
    rig.sender.try_send(large).expect("nothing else is there");
    rig.sender.try_send(numbered(2)).expect_err("not beside it");
}

#[test]
fn everybody_who_waits_gets_room_in_the_end() {
    for (count, fitting) in [(100, 1), (100, 3), (1, 1000), (2, 2)] {
        let rig = rig(count, fitting, DlqMode::FailClosed, LIMIT);
        let (done_in, done) = bounded(1000);
        let mut threads = Vec::new();
        for worker in 0..4u64 {
            let (sender, stop, done) = (rig.sender.clone(), rig.stop.clone(), done_in.clone());
            threads.push(std::thread::spawn(move || {
                for number in 0..50 {
                    sender.send_or_stop(numbered(worker * 50 + number), &stop).expect("not stopped");
                    done.send(()).expect("the test waits");
                }
            }));
        }
        let deadline = Instant::now() + LIMIT;
        let mut offsets = std::collections::BTreeSet::new();
        while offsets.len() < 200 {
            let queued = rig.letters.recv_deadline(deadline).expect("letters keep coming");
            assert!(rig.stats.dlq.queue_bytes.get() <= letter().bytes() * fitting);
            offsets.insert(queued.letter.offset);
        }
        for thread in threads {
            thread.join().expect("no panic");
        }
        assert_eq!(done.len(), 200);
        assert_eq!(rig.stats.dlq.queue_bytes.get(), 0);
    }
}

#[test]
fn stop_gives_the_letter_back_with_its_ledger_open() {
    for (count, fitting) in [(100, 1), (1, 100)] {
        let rig = rig(count, fitting, DlqMode::FailClosed, LIMIT);
        rig.sender.try_send(numbered(1)).expect("room");
        let (sender, stop) = (rig.sender.clone(), rig.stop.clone());
        let waiting = std::thread::spawn(move || sender.hand_over(numbered(2), &stop));
        drop(rig._stop);
        let HandedOver::Stopped(letter) = waiting.join().expect("no panic") else { panic!("not stopped") };
        assert_eq!(letter.ledger.first_open(), Some(Offset(2)));
        assert_eq!(rig.stats.dlq.lost.iter().map(crate::observe::stats::Counter::get).sum::<u64>(), 0);
    }
}

#[test]
fn a_thread_that_is_gone_is_noticed() {
    let rig = rig(1, 100, DlqMode::FailClosed, LIMIT);
    drop(rig.letters);
    rig.sender.send_or_stop(numbered(1), &rig.stop).expect_err("nobody takes letters");
    assert_eq!(rig.stats.dlq.queue_bytes.get(), 0);
}

#[test]
fn fail_open_loses_what_finds_no_room_and_says_so() {
    for (breaker_open, patience) in [(0, Duration::from_millis(1)), (1, Duration::from_secs(3600))] {
        let rig = rig(100, 1, DlqMode::FailOpen, patience);
        rig.stats.dlq.breaker_open.set(breaker_open);
        assert!(matches!(rig.sender.hand_over(numbered(1), &rig.stop), HandedOver::Queued));
        let letter = numbered(2);
        let ledger = letter.ledger.clone();
        assert!(matches!(rig.sender.hand_over(letter, &rig.stop), HandedOver::Lost));
        assert!(ledger.is_empty());
        assert_eq!(rig.stats.dlq.lost[DlqFailure::Backpressure as usize].get(), 1);
    }
}
