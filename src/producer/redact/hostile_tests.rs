//! No secret leaves by a way that somebody who wants it out would try: names said twice, quotes within quotes, escapes,
//! colours, other encodings, and the fields of an event in which nobody expects one.
//!
//! Each case is one that left once.

use std::time::{Duration, Instant};

use serde_json::json;

use super::*;
use crate::wire::proto::{DashStreamMessage, DiffOperation, ErrorRecord, EventBatch, MetricValue, NodeExecutionRecord};

const KEY: &str = "sk-abcdefghijklmnop1234";

#[track_caller]
fn check(from: &str, to: &str) {
    let clean = Redaction::default().text(from);
    assert_eq!(clean, to, "of {from}");
    assert_eq!(Redaction::default().text(&clean), clean, "what is clean stays as it is");
}

fn applied(payload: impl Into<Payload>) -> (Payload, u64) {
    let mut outgoing = Outgoing::new("t", payload);
    let count = Redaction::default().apply(&mut outgoing).expect("it can be looked into");
    (outgoing.payload().expect("a payload").clone(), count)
}

/// Through a field of bytes.
fn bytes(from: &[u8]) -> Vec<u8> {
    let (Payload::StateDiff(diff), _) = applied(StateDiff { full_state: from.to_vec(), ..StateDiff::default() }) else {
        panic!("a diff")
    };
    diff.full_state
}

/// A map keeps the last of two equal keys; if that one was clean, all of the text left as it was.
#[test]
fn a_key_that_is_said_twice_is_looked_at_twice() {
    check(r#"{"k":"sk-abcdefghijklmnop1234","k":"x"}"#, r#"{"k":"[REDACTED]","k":"x"}"#);
    check(r#"{"password":"hunter2","password":null}"#, r#"{"password":"[REDACTED]","password":null}"#);
    check(r#"{"Set-Cookie":"sid=deadbeefcafe","Set-Cookie":""}"#, r#"{"Set-Cookie":"[REDACTED]","Set-Cookie":""}"#);
    check(r#"[{"a":{"pwd":{"b":[1]}},"a":1}]"#, r#"[{"a":{"pwd":"[REDACTED]"},"a":1}]"#);
}

#[test]
fn beside_a_secret_json_keeps_its_bytes() {
    check(
        r#"{ "n": 12345678901234567890123,  "f":1.50, "password" :  7 ,"z":"\u00e9", "a": [ ] }"#,
        r#"{ "n": 12345678901234567890123,  "f":1.50, "password" :  "[REDACTED]" ,"z":"\u00e9", "a": [ ] }"#,
    );
    check(r#"{"password":"\ud800","x":"\ud800"}"#, r#"{"password":"[REDACTED]","x":"\ud800"}"#);
}

#[test]
fn two_names_that_look_the_same_without_their_secrets_stay_two() {
    check(
        r#"{"sk-abcdefghijklmnop1234":1,"sk-abcdefghijklmnop1235":2,"[REDACTED] 2":3,"b":4}"#,
        r#"{"[REDACTED]":1,"[REDACTED] 2":2,"[REDACTED] 2 3":3,"b":4}"#,
    );
    let mut value = json!({ KEY: 1, "sk-abcdefghijklmnop1235": 2, "[REDACTED]": 3 });
    assert_eq!(Redaction::default().json(&mut value), 2);
    assert_eq!(value, json!({ "[REDACTED]": 3, "[REDACTED] 2": 1, "[REDACTED] 3": 2 }));
}

#[test]
fn escapes_of_json_hide_nothing() {
    check(r#"{"a":"\u0073k-abcdefghijklmnop1234"}"#, r#"{"a":"[REDACTED]"}"#);
    check(r#"{"pass\u0077ord":"x"}"#, r#"{"pass\u0077ord":"[REDACTED]"}"#);
    check(r#"{"secrets":["x",{"y":"]}"}],"b":1}"#, r#"{"secrets":"[REDACTED]","b":1}"#);
    check(r#"{"client_secret":{"v":"}\"","w":[]}}"#, r#"{"client_secret":"[REDACTED]"}"#);
    check(r#""postgres:\/\/admin:pw@db""#, r#""postgres://admin:[REDACTED]@db""#);
    check(r#"broken postgres:\/\/admin:pw@db"#, r#"broken postgres:\/\/admin:[REDACTED]@db"#);
    check(r#""{\"a\":\"\\u0073k-abcdefghijklmnop1234\"}""#, r#""{\"a\":\"[REDACTED]\"}""#);
    check("\"a\\n\\t\\u0001\\\\ 🦀 \\ud83e\\udd80 password=x\"", "\"a\\n\\t\\u0001\\\\ 🦀 🦀 password=[REDACTED]\"");
}

/// Any quote ended it, and what was behind an apostrophe left.
#[test]
fn a_quoted_value_ends_where_its_own_quote_does() {
    check(r#"DB_PASSWORD="it's-a-hunter2-secret" x"#, r#"DB_PASSWORD="[REDACTED]" x"#);
    check(r#"x "password": "O'Brien-1", "b""#, r#"x "password": "[REDACTED]", "b""#);
    check(r#"x 'password': 'O'Brien "1"', 'b'"#, r#"x 'password': '[REDACTED]', 'b'"#);
    check(r#"x {"password":"a\"b'c\\","b":"#, r#"x {"password":"[REDACTED]","b":"#);
    check(r#"x {\"password\":\"a\\\"b'c\\\\\",\"b\":"#, r#"x {\"password\":\"[REDACTED]\",\"b\":"#);
    check(r#"x "{\"password\":\"cut short" b"#, r#"x "{\"password\":\"[REDACTED]" b"#);
    check(r#"password="""a b""" c"#, r#"password="""[REDACTED]""" c"#);
    check(r#"x password="", b"#, r#"x password="", b"#);
    check("password=it's-hers, b", "password=[REDACTED], b");
    check("password=b'x y', c", "password=b'[REDACTED]', c");
    check(r#"token: 1, password: Some("x y"), c"#, "token: 1, password: [REDACTED], c");
    check(r#"passwords: ["a] b", "c"], d"#, "passwords: [REDACTED], d");
    check(r#"password => "x y", c"#, r#"password => "[REDACTED]", c"#);
    check(r"password=hun\ter, c\nd", r"password=[REDACTED]\ter, c\nd");
    check(r"password=hun\der, c\nd", r"password=[REDACTED], c\nd");
}

/// All but `Bearer` and `Basic` left their token, and all but the first of a browser's cookies left.
#[test]
fn of_a_header_the_whole_line_goes() {
    check("Authorization: Bot MTk4.abc-def x\nHost: a", "Authorization: Bot [REDACTED]\nHost: a");
    check("authorization: Negotiate YIIabc==\r\nHost: a", "authorization: Negotiate [REDACTED]\r\nHost: a");
    check("Proxy-Authorization: Hawk id=\"a\", mac=\"b\"", "Proxy-Authorization: [REDACTED]");
    check("Authorization: Digest username=\"a\", response=\"b\"", "Authorization: Digest [REDACTED]");
    check("Cookie: theme=dark; sessionid=38af\nX: y", "Cookie: [REDACTED]\nX: y");
    check("curl -H 'Cookie: a=b; c=d' http://h/", "curl -H 'Cookie: [REDACTED]' http://h/");
    check(r#"x ["Authorization: NTLM TlRM a", "y""#, r#"x ["Authorization: NTLM [REDACTED]", "y""#);
    check(r#"x {"h":"Cookie: a=b; c=d\nHost: y"#, r#"x {"h":"Cookie: [REDACTED]\nHost: y"#);
    check(r#"x {"cookie": null, "b": 1"#, r#"x {"cookie": null, "b": 1"#);
    check(r#"x {"cookie": {"a": "b; c"}"#, r#"x {"cookie": [REDACTED]"#);
    check("cookies={'a':\n 'b'}, x\ny", "cookies=[REDACTED]\ny");
    check("Cookie: [REDACTED]; b=c", "Cookie: [REDACTED]");
}

#[test]
fn a_word_begins_behind_an_escape() {
    for before in [
        "\x1b[32m",
        "\x1b[m",
        "\x1b[1;38;5;12m",
        "[0m",
        r"\x1b[32m",
        r"\u001b[0m",
        "\x1b(B",
        "%20",
        "t%3D",
        r"\u003c",
        r"\n",
        r"\x3c",
    ] {
        check(&format!("{before}{KEY} x"), &format!("{before}[REDACTED] x"));
    }
    for harmless in ["task-oriented-dialogue-with", "a[1]desk-oriented-dialogue-with", "20sk-abcdefghijklmnop1234"] {
        check(harmless, harmless);
    }
}

#[test]
fn plurals_are_names_of_secrets_and_counts_of_tokens_are_not() {
    check(
        "api_keys=a, passwords: b, access_tokens: c",
        "api_keys=[REDACTED], passwords: [REDACTED], access_tokens: [REDACTED]",
    );
    check(r#"{"secrets":{"a":"b"},"cookies":["c"]}"#, r#"{"secrets":"[REDACTED]","cookies":"[REDACTED]"}"#);
    let counts = r#"{"tokens":1,"input_tokens":"2","max_tokens":3,"passwords_seen":4,"password_length":5}"#;
    check(counts, counts);
}

/// One byte of Latin-1 turned everything off.
#[test]
fn text_of_another_encoding_is_gone_through() {
    let log = format!("password=hunt\u{0}er2 caf {KEY} x").into_bytes();
    let latin: Vec<u8> = log.into_iter().map(|byte| if byte == 0 { 0xe9 } else { byte }).collect();
    assert_eq!(bytes(&latin), b"password=[REDACTED] caf [REDACTED] x");
    assert_eq!(
        bytes(b"{\"pass\\u0077ord\": \"caf\xe9\", \"b\": \"\xff\"}"),
        b"{\"pass\\u0077ord\": \"[REDACTED]\", \"b\": \"\xff\"}"
    );
    let binary: Vec<u8> = (0..=255).cycle().take(4096).collect();
    assert_eq!(bytes(&binary), binary);
}

#[test]
fn what_is_within_a_secret_is_one() {
    let paths = ["/config/api_key/0", "/password/-", "/credentials/value", "/a/api~1key/b", "/passwords_seen/0"];
    let operation = |path: &str| DiffOperation {
        path: path.to_owned(),
        value: br#" "hunter2""#.to_vec(),
        ..DiffOperation::default()
    };
    let diff = StateDiff { operations: paths.map(operation).into(), ..StateDiff::default() };
    let (Payload::StateDiff(diff), 4) = applied(diff) else { panic!("a diff") };
    for operation in &diff.operations[..4] {
        assert_eq!(operation.value, br#""[REDACTED]""#, "{}", operation.path);
    }
    assert_eq!(diff.operations[4].value, br#" "hunter2""#);
}

/// Every text that is no id of tenant, thread or message, and every name in a map.
#[test]
fn every_field_is_gone_through() {
    let key = || KEY.to_owned();
    let map = || [(key(), key())].into();
    let event = || Event { node_id: key(), llm_request_id: key(), ..Event::default() };
    let error = || Error {
        error_code: key(),
        message: key(),
        stack_trace: key(),
        context: map(),
        exception_type: key(),
        suggestions: vec![key()],
        ..Error::default()
    };
    let node = NodeExecutionRecord {
        node: key(),
        started_at: key(),
        ended_at: key(),
        input: key().into(),
        output: key().into(),
        metadata: map(),
        ..NodeExecutionRecord::default()
    };
    let record = ErrorRecord {
        node: key(),
        message: key(),
        error_code: key(),
        timestamp: key(),
        stack_trace: key(),
        ..ErrorRecord::default()
    };
    let value = metric_value::Value::StringValue(key());
    let metric = MetricValue { unit: key(), value: Some(value), ..MetricValue::default() };
    let payloads: [(Payload, u64); 8] = [
        (event().into(), 2),
        (Payload::EventBatch(EventBatch { events: vec![event(), event()], ..EventBatch::default() }), 4),
        (TokenChunk { request_id: key(), text: key(), model: key(), ..TokenChunk::default() }.into(), 3),
        (
            ToolExecution {
                call_id: key(),
                tool_name: key(),
                arguments: key().into(),
                result: key().into(),
                error: key(),
                error_details: Some(error()),
                ..ToolExecution::default()
            }
            .into(),
            12,
        ),
        (
            Checkpoint {
                state: key().into(),
                state_type: key(),
                storage_uri: key(),
                metadata: map(),
                ..Checkpoint::default()
            }
            .into(),
            5,
        ),
        (
            Metrics {
                scope: key(),
                scope_id: key(),
                metrics: [(key(), metric)].into(),
                tags: map(),
                ..Metrics::default()
            }
            .into(),
            7,
        ),
        (error().into(), 7),
        (
            ExecutionTrace {
                execution_id: key(),
                nodes_executed: vec![node],
                errors: vec![record],
                started_at: key(),
                ended_at: key(),
                final_state: key().into(),
                metadata: [(key(), key().into())].into(),
                ..ExecutionTrace::default()
            }
            .into(),
            18,
        ),
    ];
    for (payload, secrets) in payloads {
        let (clean, count) = applied(payload);
        let text = format!("{clean:?}");
        let bytes = prost::Message::encode_to_vec(&DashStreamMessage { message: Some(clean) });
        assert!(!String::from_utf8_lossy(&bytes).contains("abcdefghijklmnop"), "{text}");
        assert_eq!(count, secrets, "{text}");
    }
}

/// Those by which readers pair events change only for a secret, and then everywhere alike.
#[test]
fn ids_stay_what_pairs_events() {
    let call = |id: &str| ToolExecution { call_id: id.to_owned(), tool_name: "search".into(), ..Default::default() };
    for id in ["call_0a1b2c", "toolu_01A09q90qw90lq917835lq9", "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT", "run:7/node=2"]
    {
        assert_eq!(applied(call(id)).1, 0, "{id}");
    }
    assert_eq!(applied(call(KEY)).0, applied(call(KEY)).0);
}

/// Nothing but pieces that mean something here: what is clean stays clean, JSON stays JSON, a key goes whatever is
/// around it, and there is no panic.
#[test]
fn redacting_twice_is_redacting_once() {
    use proptest::prelude::*;
    let pieces = prop::sample::select(vec![
        "sk-",
        KEY,
        "password",
        "cookie",
        "Authorization",
        "=",
        ":",
        ": ",
        "\"",
        "'",
        "\\",
        "\\\"",
        "\\n",
        "\n",
        " ",
        "://",
        ":\\/\\/",
        "@",
        "(",
        ")",
        "{",
        "}",
        "[",
        "]",
        ",",
        ";",
        "%20",
        "\x1b[32m",
        "\\u0073",
        "é",
        "x",
        "null",
        "Bearer ",
        "Bot ",
        "[REDACTED]",
        "b'",
        "=>",
        "-----BEGIN PGP PRIVATE KEY BLOCK-----",
        "-----END ",
    ]);
    let json = prop::sample::select(vec![
        r#""password""#,
        r#""a""#,
        r#""[REDACTED]""#,
        r#""sk-abcdefghijklmnop1234""#,
        ":",
        ",",
        "{",
        "}",
        "[",
        "]",
        "1",
        "null",
    ]);
    let config = ProptestConfig::with_cases(1500);
    proptest!(config, |(parts in prop::collection::vec(pieces, 0..24), tokens in prop::collection::vec(json, 0..12))| {
        for from in [parts.concat(), tokens.concat(), json!({ "a": parts.concat(), tokens.concat(): [1.5] }).to_string()] {
            let once = Redaction::default().text(&from);
            let parses = |text: &str| serde_json::from_str::<serde_json::Value>(text).is_ok();
            prop_assert!(parses(&once) || !parses(&from), "{from} became {once}");
            prop_assert_eq!(Redaction::default().text(&once), once, "of {}", from);
        }
        let (before, behind) = parts.split_at(parts.len() / 2);
        let around = format!("{} sk-zyxwvutsrqponm98765{}", before.concat(), behind.concat());
        for from in [json!([{ "a": &around }]).to_string(), around] {
            prop_assert!(!Redaction::default().text(&from).contains("zyxwvut"), "{}", from);
        }
        // A value of JSON that was cut, as it is and within another text.
        let cut = json!({ "password": format!("{}zyxwvut{}", before.concat(), behind.concat()) }).to_string();
        let cut = format!("x {}", cut.trim_end_matches('}'));
        let within = json!(&cut).to_string();
        for from in [&cut, &format!("x {within}"), &json!(within).to_string()[1..]] {
            prop_assert!(!Redaction::default().text(from).contains("zyxwvut"), "{}", from);
        }
    });
    proptest!(|(harmless in "[acefijklmopqtuvyzCDEF .,;0-9é🦀{}\\[\\]'\"]{0,200}")| {
        prop_assert_eq!(Redaction::default().text(&harmless), harmless);
    });
}

/// How deep JSON is nested decides nothing, and nothing is called as deep as that.
#[test]
fn the_deepest_json_is_looked_into() {
    let nested = |inner: &str| format!("{}{inner}{}", "[{\"a\":".repeat(100_000), "}]".repeat(100_000));
    check(&nested(r#"{"pass\u0077ord":"x"}"#), &nested(r#"{"pass\u0077ord":"[REDACTED]"}"#));
}

/// Four times the length takes about four times as long, and not sixteen times.
#[test]
fn the_worst_takes_time_in_proportion_to_its_length() {
    for piece in [
        "password='",
        "password=\"a\\",
        "cookie: [REDACTED]\n",
        "'cookie: ",
        "password=a(",
        "password=[",
        "secrets: {\"",
        "password=\\",
        "[",
        "{\"a\":[",
        "\"",
        "\\u0041",
        "\x1b[1",
        "[1",
        ":\\/\\/a:",
        "Authorization: Bot ",
        "=     ",
    ] {
        let took = |bytes: usize| {
            let text = piece.repeat(bytes / piece.len());
            let begun = Instant::now();
            drop(Redaction::default().text(&text));
            begun.elapsed()
        };
        let (short, long) = (took(1 << 18), took(1 << 20));
        assert!(long < short * 10 + Duration::from_secs(2), "{piece}: {short:?}, {long:?}");
    }
    let keys = |number: usize| {
        let members: Vec<String> = (0..number).map(|index| format!("\"{KEY}{index}\":1")).collect();
        let begun = Instant::now();
        drop(Redaction::default().text(&format!("{{{}}}", members.join(","))));
        begun.elapsed()
    };
    let (short, long) = (keys(2_000), keys(8_000));
    assert!(long < short * 10 + Duration::from_secs(2), "{short:?}, {long:?}");
}
