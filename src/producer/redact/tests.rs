//! What is taken out, what is left alone, and that nothing leaks through any nesting.

use serde_json::json;

use super::*;
use crate::wire::proto::{AttributeMap, AttributeValue, DiffOperation};

/// Each as its issuer makes them, and what of it must never be seen.
fn secrets() -> Vec<(String, &'static str)> {
    // Put together here, so that no scanner of repositories takes a test for a leak.
    let letters = "abcdEFGH1234ijklMNOP5678qrstUVWX90yz";
    vec![
        (format!("sk-{letters}"), "EFGH1234"),
        (format!("sk-ant-api03-{letters}"), "EFGH1234"),
        (format!("AKIA{}", "IOSFODNN7EXAMPLE"), "IOSFODNN7"),
        (format!("ghp_{letters}"), "EFGH1234"),
        (format!("github_pat_11AB_{letters}"), "EFGH1234"),
        (format!("Bearer {letters}"), "EFGH1234"),
        (format!("api_key={letters}"), "EFGH1234"),
        (format!("postgres://admin:{}@db:5432/x", "hunter2pass"), "hunter2"),
        (format!("-----BEGIN RSA PRIVATE KEY-----\nMIIE{letters}\nabc==\n-----END RSA PRIVATE KEY-----"), "EFGH1234"),
        (format!("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0xyz.{letters}"), "EFGH1234"),
        (format!("AIza{letters}"), "EFGH1234"),
        (format!("sk_live_{letters}"), "EFGH1234"),
        (format!("xoxb-123-{letters}"), "EFGH1234"),
        (format!("password: {letters}"), "EFGH1234"),
        (format!("OPENAI_API_KEY='{letters}'"), "EFGH1234"),
        (format!("Authorization: Basic {letters}\n"), "EFGH1234"),
        (
            format!("-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQdGBF{letters}\n-----END PGP PRIVATE KEY BLOCK-----"),
            "EFGH1234",
        ),
    ]
}

fn text(text: &str) -> String {
    Redaction::default().text(text)
}

#[test]
fn every_known_secret_goes_and_its_surroundings_stay() {
    for (secret, never) in secrets() {
        let clean = text(&format!("before {secret} after"));
        assert!(clean.starts_with("before ") && clean.contains(REDACTED) && !clean.contains(never), "{clean}");
        assert!(clean.ends_with(" after"), "{clean}");
        assert_eq!(text(&clean), clean, "what is clean stays as it is");
    }
}

#[test]
fn exact_forms() {
    let check = |from: &str, to: &str| assert_eq!(text(from), to);
    check("postgres://admin:hunter2@db/x", "postgres://admin:[REDACTED]@db/x");
    check("Bearer abcdefgh12345678", "Bearer [REDACTED]");
    check("Authorization: Bearer abc-123-def-456", "Authorization: Bearer [REDACTED]");
    check("a=1&api_key=xyz&b=2", "a=1&api_key=[REDACTED]&b=2");
    check("DB_PASSWORD='a b' x", "DB_PASSWORD='[REDACTED]' x");
    check("password=é🦀ü, x", "password=[REDACTED], x");
    check("-----BEGIN PRIVATE KEY-----\nMIIabc", REDACTED);
    check("broken {\"password\":\"x\\ny z\", \"b\": 1", "broken {\"password\":\"[REDACTED]\", \"b\": 1");
}

#[test]
fn what_is_no_secret_stays_as_it_is() {
    for harmless in [
        "",
        "task-oriented-dialogue-with-many-words",
        "the bearer instruments of the bank",
        "sk-1 and AKIA and ghp_ and eyJ.eyJ.x",
        "tokens: 1234, input_tokens=55, token: hello",
        "http://user@host/ and http://host:80/a@b and mailto:a@b.c",
        "-----BEGIN CERTIFICATE-----\nMIIabc\n-----END CERTIFICATE-----",
        "{\"a\": 1.0,   \"password\": null, \"has_secret\": true, \"secret\": \"\"}",
        "ключ: значение 🦀 :: = : ://",
        "password: null",
    ] {
        assert_eq!(text(harmless), harmless);
    }
}

/// In JSON within text within JSON, to the depth that is parsed and beyond it: no part of a secret is left.
#[test]
fn nothing_leaks_through_nested_json() {
    for (secret, never) in secrets() {
        let mut nested =
            json!({ "note": format!("x {secret} y"), "api_key": "EFGH1234", "list": [[{ "password": ["EFGH1234"] }]] })
                .to_string();
        for level in 0..8 {
            let clean = text(&nested);
            assert!(!clean.contains(never) && !clean.contains("EFGH1234"), "{level}: {clean}");
            nested = json!({ "inner": nested, "more": [1, "two"] }).to_string();
        }
    }
}

#[test]
fn json_keeps_its_shape() {
    let mut value = json!({
        "user": "ann", "password": 12345, "nested": { "apiKey": { "id": "a", "value": "b" }, "n": 1.5 },
        "list": ["fine", "sk-abcdefghijklmnop1234"], "has_secret": true, "secret": null,
    });
    let count = Redaction::default().json(&mut value);
    assert_eq!(
        value,
        json!({
            "user": "ann", "password": "[REDACTED]", "nested": { "apiKey": "[REDACTED]", "n": 1.5 },
            "list": ["fine", "[REDACTED]"], "has_secret": true, "secret": null,
        })
    );
    assert_eq!(count, 3);
    assert_eq!(Redaction::default().json(&mut value), 0);
    let own = Redaction::On(Secrets::default().name("PIN"));
    let mut value = json!({ "card_pin": 1234 });
    assert_eq!((own.json(&mut value), Redaction::Off.text("password=x")), (1, "password=x".to_owned()));
}

fn apply(payload: impl Into<Payload>) -> (Payload, u64) {
    let mut outgoing = Outgoing::new("t", payload);
    let count = Redaction::default().apply(&mut outgoing).expect("it can be looked into");
    (outgoing.payload().expect("a payload").clone(), count)
}

#[test]
fn attributes_are_gone_through_at_every_depth() {
    let key = || AttributeValue::from("sk-abcdefghijklmnop1234");
    let mut deep = AttributeValue::from(vec![key()]);
    for _ in 0..100 {
        deep = AttributeValue::from(AttributeMap { values: [("a".to_owned(), deep)].into() });
    }
    let inner = AttributeMap { values: [("k".to_owned(), AttributeValue::from(vec![key(), "fine".into()]))].into() };
    let event = Event::of(crate::wire::proto::EventType::NodeEnd, "plan")
        .with("note", "fine")
        .with("api_key", 7)
        .with("inner", inner)
        .with("deep", deep)
        .with("raw", b"\xff\xfe".to_vec())
        .with("ghp_abcdefghijklmnopqrst", "by key");
    let (Payload::Event(event), count) = apply(event) else { panic!("an event") };
    assert_eq!(count, 4);
    assert_eq!(event.attributes["note"], "fine".into());
    assert_eq!(event.attributes["api_key"], REDACTED.into());
    assert_eq!(event.attributes["raw"], b"\xff\xfe".to_vec().into());
    assert_eq!(event.attributes[REDACTED], "by key".into());
    let list: Vec<AttributeValue> = vec![REDACTED.into(), "fine".into()];
    let expected = AttributeMap { values: [("k".to_owned(), AttributeValue::from(list))].into() };
    assert_eq!(event.attributes["inner"], expected.into());
    let text = format!("{event:?}");
    assert!(!text.contains("abcdefghijklmnop") && text.contains("nested too deep"));
}

#[test]
fn states_lose_their_secrets_and_never_look_corrupt() {
    let operation = |path: &str, value: &str| DiffOperation {
        path: path.to_owned(),
        value: value.as_bytes().to_vec(),
        ..DiffOperation::default()
    };
    let diff = StateDiff {
        operations: vec![operation("/config/api_key", "\"x\""), operation("/a", "[1, 2]")],
        state_hash: vec![1; 32],
        ..StateDiff::default()
    };
    let (Payload::StateDiff(diff), count) = apply(diff) else { panic!("a diff") };
    assert_eq!((count, diff.state_hash.len()), (1, 0));
    assert_eq!(diff.operations[0].value, b"\"[REDACTED]\"");
    assert_eq!(diff.operations[1].value, b"[1, 2]", "what has no secret keeps its bytes");

    let state = br#"{"password": "x"}"#.to_vec();
    let checkpoint = Checkpoint { checksum: Sha256::digest(&state).to_vec(), state, ..Checkpoint::default() };
    let (Payload::Checkpoint(checkpoint), 1) = apply(checkpoint) else { panic!("a checkpoint") };
    assert_eq!(checkpoint.state, br#"{"password": "[REDACTED]"}"#);
    assert_eq!(checkpoint.checksum, Sha256::digest(&checkpoint.state).to_vec());

    let sealed = crate::wire::proto::CompressionInfo { r#type: 1, ..Default::default() };
    let checkpoint = Checkpoint { compression_info: Some(sealed), ..Checkpoint::default() };
    assert!(Redaction::default().apply(&mut Outgoing::new("t", checkpoint)).is_err());
}

#[test]
fn every_kind_of_message_is_gone_through() {
    const KEY: &str = "sk-abcdefghijklmnop1234";
    let text = KEY.to_owned();
    let map = || [("k".to_owned(), KEY.to_owned()), ("password".to_owned(), "pass-abcdefghijklmnop".to_owned())].into();
    let error = || Error {
        message: text.clone(),
        stack_trace: text.clone(),
        context: map(),
        suggestions: vec![text.clone()],
        ..Error::default()
    };
    let payloads: Vec<Payload> = vec![
        TokenChunk { text: text.clone(), ..TokenChunk::default() }.into(),
        ToolExecution {
            arguments: format!("{{\"x\": \"{KEY}\"}}").into_bytes(),
            result: text.clone().into_bytes(),
            error: text.clone(),
            error_details: Some(error()),
            ..ToolExecution::default()
        }
        .into(),
        Metrics { tags: map(), ..Metrics::default() }.into(),
        error().into(),
        ExecutionTrace {
            final_state: text.clone().into_bytes(),
            metadata: [("k".to_owned(), text.clone().into_bytes())].into(),
            ..ExecutionTrace::default()
        }
        .into(),
    ];
    for payload in payloads {
        let (clean, count) = apply(payload);
        let bytes = prost::Message::encode_to_vec(&crate::wire::proto::DashStreamMessage { message: Some(clean) });
        assert!(count > 0 && !String::from_utf8_lossy(&bytes).contains("abcdefghijklmnop"), "{count}");
    }
}

/// Whatever the text: no panic, what is clean stays clean, and time is linear enough for a megabyte of the worst.
#[test]
fn any_text_is_survived() {
    use proptest::prelude::*;
    let pieces = prop::sample::select(vec![
        "sk-",
        "password",
        "=",
        ":",
        "\"",
        "'",
        "\\",
        "://",
        "@",
        "eyJ",
        ".",
        "-----BEGIN ",
        "PRIVATE KEY-----",
        "-----END ",
        "é",
        "🦀",
        " ",
        "\n",
        "abcdefghijklmnopqrstuvwx1",
        "{",
        "}",
        "[",
        "]",
        "Bearer ",
        ",",
        "[REDACTED]",
    ]);
    proptest!(|(parts in prop::collection::vec(pieces, 0..40))| {
        let once = text(&parts.concat());
        prop_assert_eq!(text(&once), once);
    });
    for piece in ["password=", "-----BEGIN ", "://a:", "eyJaaaaaaaaaa.", "sk-", "\\\"", "{\"a\":"] {
        drop(text(&piece.repeat((1 << 20) / piece.len())));
    }
}
