//! Clients that break every rule are closed with the right code, or parked, and a healthy client that is there all the
//! time receives every record. Descriptors return.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::harness::gateway::{Gateway, Setup};
use crate::harness::hostile::{End, Hostile, announced, masked, text};
use crate::harness::kafka::Kafka;
use crate::harness::ledger::Ledger;
use crate::harness::load::{Load, PARTITIONS, StopOnDrop};
use crate::harness::socket::{Refused, Socket};
use crate::harness::v1::V1Client;
use crate::harness::{http, wait};

const LIMIT: Duration = Duration::from_secs(30);
const PROTOCOL_ERROR: (u16, &str) = (1002, "protocol_error");
const INVALID_UTF8: (u16, &str) = (1007, "invalid_utf8");
const TOO_BIG: (u16, &str) = (1009, "message_too_big");
/// The limit that these gateways are given.
const MESSAGE_MAX: usize = 64 << 10;

fn setup(kafka: &Kafka, what: &str) -> (String, Setup) {
    let topic = kafka.topic(what, PARTITIONS as i32);
    let setup = Setup::new(kafka, &topic).set("DASHSTREAM_CLIENT_MESSAGE_MAX_BYTES", MESSAGE_MAX);
    (topic, setup)
}

/// Does `attack` while a healthy client reads a steady stream; then the healthy one must have every record.
fn while_a_healthy_client_reads(what: &str, attack: impl FnOnce(&Gateway)) {
    let kafka = Kafka::shared();
    let (topic, setup) = setup(&kafka, what);
    let mut gateway = setup.start();
    let load = Load::new();
    std::thread::scope(|scope| {
        let _stop = StopOnDrop(&load);
        let (load, address) = (&load, gateway.ws());
        scope.spawn(|| load.run(&kafka, &topic, 1_000));
        let healthy = scope.spawn(move || {
            let mut client = V1Client::connect(address);
            client.resume_from("earliest");
            let mut ledger = Ledger::new();
            let followed = client.follow(&mut ledger, Duration::from_secs(240), Load::check, |ledger| {
                load.lengths().is_some_and(|lengths| ledger.reached(&lengths))
            });
            (ledger, followed)
        });
        load.wait_more(500);
        attack(&gateway);
        load.wait_more(500);
        load.stop();
        let (ledger, followed) = healthy.join().expect("the healthy client ends");
        assert_eq!(followed.closed, None, "the healthy client was closed");
        ledger.assert_all("the healthy client", &load.lengths().expect("producing is over"));
    });
    gateway.assert_alive();
    assert_eq!(gateway.get_admin("/health").status, 200);
    gateway.stop();
}

/// Sends `bytes` on a fresh connection and expects this end.
fn check_close(address: SocketAddr, what: &str, bytes: &[u8], expected: &[(u16, &str)]) {
    let mut client = Hostile::connect(address);
    client.send(bytes);
    let end = client.end(LIMIT);
    let fits = expected.iter().any(|(code, reason)| end == End::Close(*code, (*reason).to_owned()));
    assert!(fits, "{what}: {end:?}, expected one of {expected:?}");
}

#[test]
fn broken_frames_are_closed_with_the_right_code() {
    while_a_healthy_client_reads("frames", |gateway| {
        let check =
            |what: &str, bytes: &[u8], expected: (u16, &str)| check_close(gateway.ws(), what, bytes, &[expected]);
        for opcode in [0x3, 0x4, 0x5, 0x6, 0x7, 0xb, 0xc, 0xd, 0xe, 0xf] {
            check(&format!("reserved opcode {opcode:x}"), &masked(0x80 | opcode, b"x"), PROTOCOL_ERROR);
        }
        for rsv in [0x40, 0x20, 0x10] {
            check(&format!("reserved bit {rsv:x}"), &masked(0x81 | rsv, b"x"), PROTOCOL_ERROR);
        }
        check("garbage", &[0xff; 4096], PROTOCOL_ERROR);
        check("unmasked text", b"\x81\x05hello", PROTOCOL_ERROR);
        check("unmasked ping", b"\x89\x00", PROTOCOL_ERROR);
        check("ping of 126 bytes", &masked(0x89, &[b'x'; 126]), PROTOCOL_ERROR);
        check("ping in fragments", &masked(0x09, b"x"), PROTOCOL_ERROR);
        check("continuation of nothing", &masked(0x80, b"x"), PROTOCOL_ERROR);
        check("a new message inside another", &[masked(0x01, b"{"), masked(0x81, b"}")].concat(), PROTOCOL_ERROR);
        check("close with half a code", &masked(0x88, b"\x03"), PROTOCOL_ERROR);
        for code in [0u16, 999, 1004, 1005, 1006, 1015, 2999, 5000] {
            check(&format!("close with code {code}"), &masked(0x88, &code.to_be_bytes()), PROTOCOL_ERROR);
        }
        check("close reason that is not UTF-8", &masked(0x88, b"\x03\xe8\xff\xfe"), INVALID_UTF8);
        check("text that is not UTF-8", &text(b"{\"type\":\"\xff\xfe\"}"), INVALID_UTF8);
        check("text that ends inside a character", &text(b"\xe2\x82"), INVALID_UTF8);
        let halves = [masked(0x01, b"\xe2\x82"), masked(0x80, b"\x28")].concat();
        check("fragments that are not UTF-8 together", &halves, INVALID_UTF8);
        check("one byte too many", &text(&vec![b' '; MESSAGE_MAX + 1]), TOO_BIG);
        check("announced too many", &announced(0x81, 1 << 40), TOO_BIG);
        check_close(gateway.ws(), "a negative length", &announced(0x82, u64::MAX), &[TOO_BIG, PROTOCOL_ERROR]);
        let mut fragments = masked(0x01, &[b' '; 30_000]);
        (0..3).for_each(|_| fragments.extend(masked(0x00, &[b' '; 30_000])));
        check("fragments too large together", &fragments, TOO_BIG);
    });
}

#[test]
fn what_is_allowed_is_not_punished() {
    while_a_healthy_client_reads("allowed", |gateway| {
        let mut client = Hostile::connect(gateway.ws());
        // A message of exactly the limit, one in fragments with a ping between, a character cut in two.
        client.send(&text(&vec![b' '; MESSAGE_MAX]));
        client.send(
            &[masked(0x01, b"{\"type\":\"\xe2\x82"), masked(0x89, b"between"), masked(0x80, b"\xac\"}")].concat(),
        );
        client.send(&masked(0x82, b"binary is ignored in v1"));
        client.send(&masked(0x8a, b"a pong that nobody asked for"));
        let nested = vec![b'['; 60_000];
        let wrong: [&[u8]; 14] = [
            b"", b"{", b"null", b"[]", b"17", b"\"text\"", b"{}", b"{\"type\":5}", b"{\"type\":\"unheard of\"}", &nested,
            br#"{"type":"resume","lastOffsetsByPartition":[1,2]}"#,
            br#"{"type":"resume","lastOffsetsByPartition":{"0":-5,"-1":"3","0x1":"1","99999999999":"1","1":"99999999999999999999999","2":1.5,"3":null}}"#,
            br#"{"type":"resume","lastOffsetsByPartition":{"0":"9223372036854775807","1":9223372036854775807}}"#,
            "{\"type\":\"\u{20ac}\u{20ac}\u{20ac}\u{20ac}\u{20ac}\u{20ac}\u{20ac}\u{20ac}\u{20ac}\u{20ac}\u{20ac}\u{20ac}\u{20ac}\u{20ac}\u{20ac}\u{20ac}\u{20ac}\u{20ac}\u{20ac}\u{20ac}\u{20ac}\u{20ac}\u{20ac}\u{20ac}\u{20ac}\u{20ac}\u{20ac}\u{20ac}\u{20ac}\u{20ac}\u{20ac}\u{20ac}\u{20ac}\u{20ac}\u{20ac}\u{20ac}".as_bytes(),
        ];
        wrong.iter().for_each(|bytes| assert!(client.send(&text(bytes))));
        client.send(&text(br#"{"type":"ping"}"#));
        let (mut pong, mut between, mut completed) = (false, false, 0);
        let deadline = Instant::now() + LIMIT;
        while !(pong && between && completed == 3) {
            match client.frame(deadline).expect("merely wrong JSON is survived") {
                Some((1, payload)) => {
                    let frame: serde_json::Value = serde_json::from_slice(&payload).expect("JSON");
                    pong |= frame["type"] == "pong";
                    completed += u32::from(frame["type"] == "replay_complete");
                }
                Some((10, payload)) => between |= payload == b"between",
                Some((8, payload)) => panic!("closed: {:?}", String::from_utf8_lossy(&payload)),
                Some(_) => {}
                None => panic!("pong {pong}, ping between fragments {between}, {completed} of 3 replay_complete"),
            }
        }
        client.send(&masked(0x88, &1000u16.to_be_bytes()));
        assert!(matches!(client.end(LIMIT), End::Close(1000, _)), "a close is answered with its code");
    });
}

#[test]
fn deep_json_is_survived() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("deep-json", 1);
    let mut gateway = Setup::new(&kafka, &topic).set("DASHSTREAM_CLIENT_MESSAGE_MAX_BYTES", 1 << 20).start();
    for protocol in [None, Some("dashstream.json")] {
        for bytes in
            [b"[".repeat(100_000), b"{\"type\":".repeat(100_000), [b"[".repeat(100_000), b"]".repeat(100_000)].concat()]
        {
            let header = protocol.map(|name| format!("Sec-WebSocket-Protocol: {name}\r\n")).unwrap_or_default();
            let mut client = Hostile::connect_with(gateway.ws(), &header);
            client.send(&text(&bytes));
            client.send(&text(br#"{"type":"ping","nonce":"x"}"#));
            let deadline = Instant::now() + LIMIT;
            loop {
                let (opcode, payload) = client.frame(deadline).expect("it is survived").expect("a pong in time");
                assert_ne!(opcode, 8, "closed: {:?}", String::from_utf8_lossy(&payload));
                if String::from_utf8_lossy(&payload).contains("\"pong\"") {
                    break;
                }
            }
            gateway.assert_alive();
        }
    }
}

#[test]
fn handshakes_that_lead_nowhere() {
    while_a_healthy_client_reads("handshakes", |gateway| {
        let address = gateway.ws();
        let head = |extra: &str| {
            format!("GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{extra}\r\n")
        };
        let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let status = |what: &str, head: &str, expected: &[u16]| {
            let response = http::request(address, head).unwrap_or_else(|| panic!("{what}: no answer"));
            assert!(expected.contains(&response.status), "{what}: {}, expected {expected:?}", response.status);
        };
        status("no key", &head("Sec-WebSocket-Version: 13\r\n"), &[400]);
        status("a bad key", &head("Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: short\r\n"), &[400]);
        status("an old version", &head(&format!("Sec-WebSocket-Version: 8\r\n{key}")), &[400, 426]);
        status("no upgrade", "GET /ws HTTP/1.1\r\nHost: x\r\n\r\n", &[400, 426]);
        status("POST", &head(&format!("Sec-WebSocket-Version: 13\r\n{key}")).replacen("GET", "POST", 1), &[400, 405]);
        status("not HTTP", "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n", &[400]);
        let huge = format!("X-Huge: {}\r\n", "x".repeat(1 << 20));
        if let Some(response) = http::request(address, &head(&huge)) {
            assert_eq!(response.status, 431, "a huge header");
        }
        let many: String = (0..20_000).map(|number| format!("X-{number}: y\r\n")).collect();
        if let Some(response) = http::request(address, &head(&many)) {
            assert_eq!(response.status, 431, "many headers");
        }
        // Half a request, and then nothing: it is not waited for without end.
        let mut half = TcpStream::connect(address).expect("it listens");
        half.write_all(b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgr").expect("sent");
        half.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket option");
        let mut answer = Vec::new();
        half.read_to_end(&mut answer).expect("it is closed in time");
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 408"), "{:?}", String::from_utf8_lossy(&answer));
    });
}

#[test]
fn readers_that_do_not_read() {
    while_a_healthy_client_reads("readers", |gateway| {
        let resume = text(br#"{"type":"resume","from":"earliest","lastOffsetsByPartition":{}}"#);
        // Never read a byte; one of them also writes all the time.
        let mut stalled: Vec<Hostile> = (0..20).map(|_| Hostile::connect(gateway.ws())).collect();
        stalled.iter_mut().for_each(|client| assert!(client.send(&resume)));
        // Reads a byte now and then.
        let mut slow = Hostile::connect(gateway.ws());
        slow.send(&resume);
        let before = gateway.resident();
        let mut byte = [0];
        let chatty = &mut stalled[0];
        chatty.stream.set_write_timeout(Some(Duration::from_millis(200))).expect("a socket option");
        let mut taken = true;
        for _ in 0..200 {
            let _nothing_yet = slow.stream.read(&mut byte);
            taken = taken && chatty.send(&masked(0x82, &[0; 16 << 10]));
        }
        let grown = gateway.resident().saturating_sub(before);
        assert!(grown < 128 << 20, "{} MiB more resident memory", grown >> 20);
    });
}

#[test]
fn a_flood_of_pings_is_no_reason_to_close() {
    while_a_healthy_client_reads("pings", |gateway| {
        let mut client = Hostile::connect(gateway.ws());
        let flood: Vec<u8> = (0..1_000u32).flat_map(|number| masked(0x89, &number.to_be_bytes())).collect();
        let before = gateway.resident();
        for _ in 0..50 {
            // A client that floods and does not read may find its own socket full: then it has to read.
            client.stream.set_nonblocking(true).expect("a socket option");
            let mut rest = flood.as_slice();
            let deadline = Instant::now() + LIMIT;
            while !rest.is_empty() {
                assert!(Instant::now() < deadline, "the flood is throttled, not stopped for ever");
                match client.stream.write(rest) {
                    Ok(written) => rest = &rest[written..],
                    Err(_) => drop(client.frame(Instant::now() + Duration::from_millis(5)).expect("it is not closed")),
                }
            }
        }
        client.stream.set_nonblocking(false).expect("a socket option");
        client.send(&masked(0x89, b"the last one"));
        let deadline = Instant::now() + LIMIT;
        loop {
            match client.frame(deadline).expect("it is not closed").expect("the last ping is answered") {
                (10, payload) if payload == b"the last one" => break,
                (8, payload) => panic!("closed: {payload:?}"),
                _ => {}
            }
        }
        let grown = gateway.resident().saturating_sub(before);
        assert!(grown < 64 << 20, "{} MiB more resident memory", grown >> 20);
    });
}

#[test]
fn empty_fragments_without_end_cost_nothing() {
    while_a_healthy_client_reads("fragments", |gateway| {
        let mut client = Hostile::connect(gateway.ws());
        let before = gateway.resident();
        client.send(&masked(0x01, b""));
        let flood: Vec<u8> = (0..10_000).flat_map(|_| masked(0x00, b"")).collect();
        let mut taken = true;
        for _ in 0..50 {
            taken = taken && client.send(&flood);
        }
        let grown = gateway.resident().saturating_sub(before);
        assert!(grown < 64 << 20, "{} MiB more resident memory", grown >> 20);
    });
}

#[test]
fn five_thousand_who_connect_and_vanish() {
    while_a_healthy_client_reads("vanish", |gateway| {
        let address = gateway.ws();
        let before = gateway.descriptors();
        for number in 0..5_000 {
            match number % 5 {
                // Before, during and after the handshake; with FIN and with RST.
                0 => drop(TcpStream::connect(address).expect("it listens")),
                1 => {
                    let mut stream = TcpStream::connect(address).expect("it listens");
                    stream.write_all(b"GET /ws HTTP/1.1\r\nHo").expect("sent");
                }
                2 => {
                    let client = Hostile::connect(address);
                    client.stream.shutdown(Shutdown::Both).expect("it was open");
                }
                3 => reset(Hostile::connect(address).stream),
                _ => {
                    let mut client = Hostile::connect(address);
                    client.send(&text(br#"{"type":"resume","from":"earliest","lastOffsetsByPartition":{}}"#));
                    reset(client.stream);
                }
            }
        }
        wait::until_true("the descriptors to return", Duration::from_secs(60), || gateway.descriptors() <= before + 4);
        let sessions = || gateway.metrics().sum("websocket_connected_clients", &[]);
        wait::until_true("the sessions to be gone", LIMIT, || sessions() <= 1.0);
    });
}

/// Ends a connection with RST instead of FIN.
fn reset(stream: TcpStream) {
    let stream = socket2::Socket::from(stream);
    stream.set_linger(Some(Duration::ZERO)).expect("a socket option");
}

#[test]
fn one_address_gets_so_many_connections() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("per-ip", 1);
    let gateway = Setup::new(&kafka, &topic).set("WEBSOCKET_MAX_CONNECTIONS_PER_IP", 3).start();
    let mut held: Vec<Socket> = (0..3).map(|_| Socket::connect(gateway.ws(), None)).collect();
    assert_eq!(Socket::try_connect(gateway.ws(), None).err(), Some(Refused::Status(429)));
    held.pop();
    wait::until_true("the place to be free again", LIMIT, || Socket::try_connect(gateway.ws(), None).is_ok());
    // A look at /health is not a client.
    assert_eq!(gateway.get("/health").status, 200);
}
