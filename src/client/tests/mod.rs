//! The whole client against a scripted gateway: sockets, reconnects, stores.

#![allow(clippy::disallowed_methods, reason = "the fences are the gateway's; a scripted gateway is a thread")]

mod fake;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fake::{FakeGateway, answer, batch, peer};
use tungstenite::Message;

use super::*;
use crate::wire::gateway::{self as wire, answer::Answer, client_frame, server_frame::Frame};

const EARLIEST: &str = "s earliest";

fn builder(gateway: &FakeGateway) -> Builder {
    let quick = Reconnect { min: Duration::from_millis(1), max: Duration::from_secs(2), attempts_max: Some(5) };
    Client::builder(&gateway.url()).start(Start::Earliest).reconnect(quick)
}

/// Where others can look at it.
#[derive(Clone, Default)]
struct SharedStore(Arc<Mutex<Option<Cursor>>>);

impl CursorStore for SharedStore {
    fn load(&mut self) -> Result<Option<Cursor>, StoreError> {
        Ok(self.0.lock().expect("not poisoned").clone())
    }

    fn save(&mut self, cursor: &Cursor) -> Result<(), StoreError> {
        *self.0.lock().expect("not poisoned") = Some(cursor.clone());
        Ok(())
    }
}

impl SharedStore {
    fn next(&self) -> Option<u64> {
        self.0.lock().expect("not poisoned").as_ref()?.next.get(&0).copied()
    }
}

/// Runs until the record with offset `last`; everything that was told but Hello, in short.
fn run_until(client: &mut Client, last: u64) -> Result<Vec<String>, RunError<String>> {
    let mut told = Vec::new();
    client.run(|event| {
        let stop = matches!(&event, Event::Record(record) if record.offset == last);
        told.extend(shown(event));
        Ok(if stop { Flow::Stop } else { Flow::Continue })
    })?;
    Ok(told)
}

fn shown(event: Event) -> Option<String> {
    Some(match event {
        Event::Hello(_) => return None,
        Event::Record(record) => {
            assert_eq!(record.value, record.offset.to_be_bytes());
            record.offset.to_string()
        }
        Event::Resumed { from, .. } => format!("from {from}"),
        Event::Gap { first, last, reason, .. } => format!("gap {first}-{last} {reason}"),
        Event::Truncated { wanted, oldest, reason, .. } => format!("truncated {wanted}-{oldest} {reason}"),
        Event::StreamChanged { was, .. } => format!("changed {was}"),
        Event::Disconnected { why: Why::Lost(_), .. } => "lost".to_owned(),
        Event::Disconnected { why, .. } => why.to_string(),
        other => format!("{other:?}"),
    })
}

#[test]
fn a_connection_that_breaks_inside_a_batch_is_resumed_without_loss_or_repeat() {
    let gateway = FakeGateway::new(vec![
        peer(|peer| {
            peer.greet("s", 9, EARLIEST);
            peer.resumed(0);
            peer.batch(0, 3);
            peer.half_a_frame();
        }),
        peer(|peer| {
            peer.greet("s", 9, "s after 2");
            peer.resumed(3);
            peer.batch(3, 5);
            peer.until_gone();
        }),
    ]);
    let mut client = builder(&gateway).build().expect("a client");
    let told = run_until(&mut client, 4).expect("it stopped");
    assert_eq!(told, ["from 0", "0", "1", "2", "lost", "from 3", "3", "4"]);
    gateway.join();
}

#[test]
fn a_handler_that_fails_leaves_the_cursor_before_the_record() {
    let gateway = FakeGateway::new(vec![
        peer(|peer| {
            peer.greet("s", 9, EARLIEST);
            peer.resumed(0);
            peer.batch(0, 4);
            peer.until_gone();
        }),
        peer(|peer| {
            peer.greet("s", 9, "s after 1");
            peer.resumed(2);
            peer.batch(2, 4);
            peer.until_gone();
        }),
    ]);
    let store = SharedStore::default();
    let mut client = builder(&gateway).store(store.clone()).build().expect("a client");
    let failed = client.run(|event| match event {
        Event::Record(record) if record.offset == 2 => Err("no"),
        _ => Ok(Flow::Continue),
    });
    assert!(matches!(failed, Err(RunError::Handler("no"))), "{failed:?}");
    assert_eq!((store.next(), client.cursor().next[&0]), (Some(2), 2));
    assert_eq!(run_until(&mut client, 3).expect("it stopped"), ["from 2", "2", "3"]);
    assert_eq!(store.next(), Some(4));
    gateway.join();
}

#[test]
fn a_handler_that_panics_leaves_the_cursor_before_the_record() {
    let gateway = FakeGateway::new(vec![peer(|peer| {
        peer.greet("s", 9, EARLIEST);
        peer.resumed(0);
        peer.batch(0, 4);
        peer.until_gone();
    })]);
    let store = SharedStore::default();
    let client = builder(&gateway).store(store.clone()).build().expect("a client");
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let mut client = client;
        client.run(|event| match event {
            Event::Record(record) if record.offset == 2 => panic!("a bug of the handler"),
            _ => Ok::<_, String>(Flow::Continue),
        })
    }));
    assert!(panicked.is_err());
    assert_eq!(store.next(), Some(2));
    gateway.join();
}

#[test]
fn a_server_that_repeats_goes_back_or_talks_nonsense_is_refused() {
    let check = |act: fn(&mut fake::Peer), expected: &str| {
        let gateway = FakeGateway::new(vec![peer(move |peer| {
            peer.greet("s", 9, EARLIEST);
            peer.resumed(0);
            peer.batch(0, 3);
            act(peer);
            peer.until_gone();
        })]);
        let store = SharedStore::default();
        let mut client = builder(&gateway).store(store.clone()).frame_max_bytes(1 << 10).build().expect("a client");
        let error = run_until(&mut client, 99).expect_err("refused");
        let RunError::Client(ClientError::Protocol(error)) = error else { panic!("{error}") };
        assert_eq!(format!("{error:?}").split([' ', '(']).next(), Some(expected));
        assert_eq!(store.next(), Some(3), "what was right stays applied");
        gateway.join();
    };
    check(|peer| peer.batch(0, 3), "Backwards");
    check(|peer| peer.batch(2, 4), "Backwards");
    check(|peer| peer.batch(4, 5), "Unexplained");
    check(|peer| peer.inner.send(Message::text("{}")).expect("sent"), "Undecodable");
    check(|peer| peer.inner.send(Message::binary(vec![0x0A, 0xFF])).expect("sent"), "Undecodable");
    check(|peer| peer.inner.send(Message::binary(vec![0; 2_000])).expect("sent"), "TooLarge");
}

#[test]
fn gaps_and_what_was_truncated_are_told() {
    let gateway = FakeGateway::new(vec![
        peer(|peer| {
            peer.greet("s", 9, EARLIEST);
            peer.resumed(0);
            peer.batch(0, 2);
            peer.send(Frame::Gap(wire::Gap { partition: 0, first: 2, last: 4, reason: "slow_client".to_owned() }));
            peer.close(4003, "fell_behind");
        }),
        peer(|peer| {
            peer.greet("s", 20, "s after 4");
            let truncated = wire::Truncated { requested: 4, oldest: 8, reason: "retention".to_owned() };
            peer.answer(Answer::Truncated(truncated));
            peer.batch(8, 9);
            peer.until_gone();
        }),
    ]);
    let told = run_until(&mut builder(&gateway).build().expect("a client"), 8).expect("it stopped");
    let expected =
        ["from 0", "0", "1", "gap 2-4 slow_client", "closed with 4003 fell_behind", "truncated 5-8 retention", "8"];
    assert_eq!(told, expected);
    gateway.join();
}

#[test]
fn a_stream_that_changes_is_begun_anew() {
    let gateway = FakeGateway::new(vec![
        peer(|peer| {
            peer.greet("s", 9, EARLIEST);
            peer.resumed(0);
            peer.batch(0, 3);
            peer.close(4004, "stream_changed");
        }),
        // The same name, where the broker has no topic ids: the old cursor is of no use all the same.
        peer(|peer| {
            peer.greet("s", 9, EARLIEST);
            peer.resumed(0);
            peer.batch(0, 1);
        }),
        // Another name at once, without a goodbye.
        peer(|peer| {
            peer.greet("t", 9, "t earliest");
            peer.resumed(0);
            peer.batch(0, 8);
            peer.until_gone();
        }),
    ]);
    let store = SharedStore::default();
    let mut client = builder(&gateway).store(store.clone()).build().expect("a client");
    let told = run_until(&mut client, 7).expect("it stopped").join(" ");
    let expected =
        "from 0 0 1 2 changed s closed with 4004 stream_changed from 0 0 lost changed s from 0 0 1 2 3 4 5 6 7";
    assert_eq!(told, expected);
    assert_eq!(
        store.0.lock().expect("not poisoned").as_ref().map(|cursor| cursor.stream.clone()),
        Some("t".to_owned())
    );
    gateway.join();
}

#[test]
fn a_cursor_in_a_file_survives_the_process_and_is_not_used_for_another_stream() {
    let path = std::env::temp_dir().join(format!("dashstream-client-{}.cursor", std::process::id()));
    let gateway = FakeGateway::new(vec![
        peer(|peer| {
            peer.greet("s", 9, EARLIEST);
            peer.resumed(0);
            peer.batch(0, 3);
            peer.until_gone();
        }),
        peer(|peer| {
            peer.greet("s", 9, "s after 1");
            peer.resumed(2);
            peer.batch(2, 3);
            peer.until_gone();
        }),
        peer(|peer| {
            peer.greet("t", 9, "t earliest");
            peer.resumed(0);
            peer.batch(0, 1);
            peer.until_gone();
        }),
    ]);
    let run = |last| {
        let mut client = builder(&gateway).store(FileStore::new(&path)).build().expect("a client");
        run_until(&mut client, last).expect("it stopped")
    };
    assert_eq!(run(1), ["from 0", "0", "1"]);
    assert_eq!(run(2), ["from 2", "2"]);
    assert_eq!(run(0), ["changed s", "from 0", "0"]);
    std::fs::write(&path, "not a cursor").expect("written");
    let refused = builder(&gateway).store(FileStore::new(&path)).build();
    assert!(matches!(refused, Err(ConfigError::Store(StoreError::Damaged { .. }))));
    std::fs::remove_file(&path).expect("removed");
    gateway.join();
}

#[test]
fn the_wait_honours_what_the_gateway_asks_for() {
    let times = Arc::new(Mutex::new(Vec::new()));
    let note = |times: &Arc<Mutex<Vec<Instant>>>| times.lock().expect("not poisoned").push(Instant::now());
    let (first, second, third) = (times.clone(), times.clone(), times.clone());
    let gateway = FakeGateway::new(vec![
        peer(move |peer| {
            peer.greet("s", 9, EARLIEST);
            peer.resumed(0);
            let bye = wire::Bye { reason: "shutting_down".to_owned(), cursor: Vec::new(), reconnect_after_ms: 300 };
            peer.send(Frame::Bye(bye));
            peer.until_gone();
            note(&first);
        }),
        Box::new(move |stream| {
            note(&second);
            answer("HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n")(stream);
        }),
        peer(move |peer| {
            note(&third);
            peer.greet("s", 9, EARLIEST);
            peer.resumed(0);
            peer.batch(0, 1);
            peer.until_gone();
        }),
    ]);
    let told = run_until(&mut builder(&gateway).build().expect("a client"), 0).expect("it stopped");
    let expected = ["from 0", "the gateway said goodbye: shutting_down", "refused with HTTP status 503", "from 0", "0"];
    assert_eq!(told, expected);
    gateway.join();
    let times = times.lock().expect("not poisoned");
    // Not before; how much later is the machine's affair. The goodbye was read a little before it was noted here.
    assert!(times[1] - times[0] >= Duration::from_millis(200), "{:?}", times[1] - times[0]);
    assert!(times[2] - times[1] >= Duration::from_millis(1_000), "{:?}", times[2] - times[1]);
}

#[test]
fn a_peer_that_is_dead_is_noticed() {
    let (done, wait) = std::sync::mpsc::channel::<()>();
    let gateway = FakeGateway::new(vec![
        peer(move |peer| {
            peer.greet("s", 9, EARLIEST);
            peer.resumed(0);
            peer.batch(0, 1);
            // It neither reads nor writes any more, nor does it close.
            let _until_noticed = wait.recv();
        }),
        peer(|peer| {
            peer.greet("s", 9, "s after 0");
            peer.resumed(1);
            peer.batch(1, 2);
            peer.until_gone();
        }),
    ]);
    let silence = Duration::from_millis(150);
    let mut client = builder(&gateway).ping_interval(silence).pong_timeout(silence).build().expect("a client");
    let mut told = Vec::new();
    let mut done = Some(done);
    client
        .run(|event| {
            if matches!(event, Event::Disconnected { why: Why::DeadPeer, .. }) {
                drop(done.take());
            }
            let stop = matches!(&event, Event::Record(record) if record.offset == 1);
            told.extend(shown(event));
            Ok::<_, String>(if stop { Flow::Stop } else { Flow::Continue })
        })
        .expect("it stopped");
    assert_eq!(told, ["from 0", "0", "no sign of life", "from 1", "1"]);
    gateway.join();
}

#[test]
fn an_idle_peer_that_answers_pings_is_not_dead() {
    let gateway = FakeGateway::new(vec![peer(|peer| {
        peer.greet("s", 9, EARLIEST);
        peer.resumed(0);
        let mut pings = 0;
        while pings < 4 {
            if let Ok(Message::Ping(_)) = peer.inner.read() {
                pings += 1;
            }
        }
        peer.batch(0, 1);
        peer.until_gone();
    })]);
    let mut client = builder(&gateway).ping_interval(Duration::from_millis(50)).build().expect("a client");
    assert_eq!(run_until(&mut client, 0).expect("it stopped"), ["from 0", "0"]);
    gateway.join();
}

#[test]
fn a_handle_pauses_filters_and_stops() {
    let gateway = FakeGateway::new(vec![peer(|peer| {
        peer.greet("s", 9, EARLIEST);
        peer.resumed(0);
        peer.live();
        assert!(matches!(peer.next(), Some(client_frame::Frame::Pause(_))));
        peer.send(Frame::Applied(wire::Applied { what: "pause".to_owned(), cursor: Vec::new() }));
        assert!(matches!(peer.next(), Some(client_frame::Frame::Continue(_))));
        peer.send(Frame::Applied(wire::Applied { what: "continue".to_owned(), cursor: Vec::new() }));
        let Some(client_frame::Frame::Subscribe(filter)) = peer.next() else { panic!("no filter") };
        assert_eq!(filter.nodes, ["n"]);
        peer.send(Frame::Applied(wire::Applied { what: "subscribe".to_owned(), cursor: Vec::new() }));
        peer.send(batch(5, 6));
        peer.until_gone();
    })]);
    let mut client = builder(&gateway).build().expect("a client");
    let handle = client.handle();
    let mut told = Vec::new();
    client
        .run(|event| {
            match &event {
                Event::Live { .. } => handle.pause(),
                Event::Applied { what } if what == "pause" => handle.unpause(),
                Event::Applied { what } if what == "continue" => {
                    handle.set_filter(Filter { nodes: vec!["n".to_owned()], ..Filter::default() });
                }
                Event::Record(_) => {
                    let handle = handle.clone();
                    std::thread::spawn(move || handle.stop());
                }
                _ => {}
            }
            told.extend(shown(event));
            Ok::<_, String>(Flow::Continue)
        })
        .expect("it was stopped");
    assert_eq!(told.last().map(String::as_str), Some("5"));
    assert_eq!(client.cursor().next[&0], 6);
    assert_eq!(client.next_event().expect("nothing failed"), None, "a stopped client stays so");
    gateway.join();
}

#[test]
fn events_taken_one_by_one_move_the_cursor_when_they_are_acknowledged() {
    let gateway = FakeGateway::new(vec![
        peer(|peer| {
            peer.greet("s", 9, EARLIEST);
            peer.resumed(0);
            peer.batch(0, 2);
        }),
        // Behind what was handed out, not behind what was acknowledged.
        peer(|peer| {
            peer.greet("s", 9, "s after 1");
            peer.resumed(2);
            peer.batch(2, 3);
            peer.until_gone();
        }),
    ]);
    let store = SharedStore::default();
    let mut client = builder(&gateway).store(store.clone()).save_interval(Duration::ZERO).build().expect("a client");
    let mut next = |acknowledge: bool| {
        loop {
            let event = client.next_event().expect("nothing failed").expect("not stopped");
            if acknowledge {
                client.acknowledge();
            }
            if let Event::Record(record) = event {
                return (record.offset, client.cursor().next.get(&0).copied());
            }
        }
    };
    assert_eq!(next(false), (0, None));
    assert_eq!(next(false), (1, None));
    assert_eq!(next(false), (2, None));
    drop(client);
    assert_eq!(store.next(), None, "nothing was acknowledged");
    gateway.join();
}

#[test]
fn it_gives_up_when_told_to_and_where_coming_back_does_not_help() {
    let check = |script: Vec<_>, expected: &str| {
        let gateway = FakeGateway::new(script);
        let error = run_until(&mut builder(&gateway).build().expect("a client"), 99).expect_err("it ends");
        assert!(error.to_string().contains(expected), "{error}");
        gateway.join();
    };
    let busy = || answer("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
    check((0..5).map(|_| busy()).collect(), "gave up after 5 attempts: refused with HTTP status 503");
    check(vec![answer("HTTP/1.1 404 Not Found\r\nContent-Length: 7\r\n\r\nnothing")], "404 Not Found: nothing");
    check(vec![peer(|peer| peer.close(1008, "resume_too_large"))], "1008 resume_too_large");
    let refusing = |peer: &mut fake::Peer| {
        peer.greet("s", 9, EARLIEST);
        peer.send(Frame::Refused(wire::Refused { what: "resume".to_owned(), why: "unsupported".to_owned() }));
        peer.until_gone();
    };
    check(vec![peer(refusing)], "refuses resume: unsupported");
}

/// The module's example is compiled as a doc test.
#[test]
fn the_readme_shows_the_example_that_compiles() {
    let code = |text: &str, skip: &str| -> Vec<String> {
        let lines = text.lines().map(|line| line.strip_prefix(skip).unwrap_or(line).trim_end().to_owned());
        let lines = lines.skip_while(|line| !line.starts_with("let mut client = Client::builder"));
        lines.take_while(|line| !line.starts_with("```") && !line.starts_with('#')).collect()
    };
    let shown = code(include_str!("../../../README.md"), "");
    assert!(shown.len() > 10, "{shown:?}");
    assert_eq!(shown, code(include_str!("../mod.rs"), "//! "));
}
