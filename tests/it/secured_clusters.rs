//! `serve` and `topics` work with a cluster that asks who they are, through every protocol and mechanism; and when they,
//! or the commands that read and send, are not let in, one line names the setting to look at, with the documented exit
//! code or as the reason in `/ready`, and nobody knocks in a storm.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::harness::command::Answer;
use crate::harness::corpus;
use crate::harness::gateway::Setup;
use crate::harness::http;
use crate::harness::ledger::Ledger;
use crate::harness::load::Load;
use crate::harness::secured::{ADMIN, BOB, Counter, Door, Secured};
use crate::harness::v1::V1Client;
use crate::harness::wait;

const LIMIT: Duration = Duration::from_secs(60);

/// `topics describe` of a topic: exit code, standard output, standard error.
fn describe(setup: &Setup, topic: &str) -> (Option<i32>, String, String) {
    let output = setup.command(&["topics", "describe", topic]).output().expect("the binary runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// `topics`, a command that reads and one that sends end with this code and one line that has these parts, soon, and
/// without knocking again and again.
fn refused(door: &Door, code: i32, parts: &[&str]) {
    static EVENT: OnceLock<String> = OnceLock::new();
    let event = EVENT.get_or_init(|| {
        let file = Secured::shared().file("event.jsonl");
        std::fs::write(&file, "{\"kind\":\"event\",\"thread_id\":\"t\",\"event_type\":\"NODE_START\"}\n")
            .expect("a file");
        file
    });
    let door = door.clone().set("DASHSTREAM_TOPICS_TIMEOUT", "8s");
    let commands = [&["topics", "describe", "any"][..], &["tail"], &["produce", event]];
    std::thread::scope(|scope| {
        for arguments in commands {
            let door = &door;
            scope.spawn(move || refuses(door, arguments, code, parts));
        }
    });
}

fn refuses(door: &Door, arguments: &[&str], code: i32, parts: &[&str]) {
    let counter = Counter::before(&door.brokers);
    let door = Door { brokers: format!("localhost:{}", counter.port), ..door.clone() };
    let began = Instant::now();
    let Answer { code: ended, out, err } = door.answer("any", arguments);
    let (took, came) = (began.elapsed(), counter.came());
    eprintln!("{arguments:?} {took:.1?} {came} connections: {err}");
    assert_eq!((ended, out.as_str()), (Some(code), ""), "{arguments:?} {door:?}: {err}");
    for part in parts {
        assert!(err.contains(part), "{arguments:?}: {part:?} is missing in: {err}");
    }
    // Mistakes in settings have a headline.
    assert_eq!(err.lines().count(), if code == 2 { 2 } else { 1 }, "{arguments:?}: {err}");
    assert!(!err.contains("-secret") && !err.contains("wrong word"), "a secret is told: {err}");
    assert!(took < Duration::from_secs(20), "{arguments:?} took {took:?}: {err}");
    // About once a second, and a look at a certificate is a connection of its own.
    let at_most = if code == 2 { 0 } else { 3 + 2 * took.as_secs() };
    assert!(came <= at_most, "{arguments:?}: {came} connections in {took:?}: {err}");
}

#[test]
fn every_protocol_and_mechanism_lets_us_in() {
    let secured = Secured::shared();
    for (what, door) in secured.open_doors() {
        let topic = secured.kafka.topic("secured", 2);
        let setup = door.setup(&secured.kafka, &topic);
        let (code, output, errors) = describe(&setup, &topic);
        assert_eq!(code, Some(0), "{what}: {errors}");
        assert!(output.contains(&format!("{topic}: partitions = 2, replication_factor = 1")), "{what}: {output}");
        let producer = secured.kafka.producer(&topic);
        let send = |range: std::ops::Range<u64>| {
            range.for_each(|n| (0..2).for_each(|partition| producer.send(partition, &corpus::ordinary(partition, n))));
            producer.flush();
        };
        send(0..20);
        let mut gateway = setup.start();
        let mut client = V1Client::connect(gateway.ws());
        client.resume_from("earliest");
        let mut ledger = Ledger::new();
        let followed = client.follow(&mut ledger, LIMIT, Load::check, |ledger| ledger.reached(&[20, 20]));
        assert!(!followed.timed_out, "{what}: what was there: {followed:?}");
        send(20..40);
        let followed = client.follow(&mut ledger, LIMIT, Load::check, |ledger| ledger.reached(&[40, 40]));
        assert!(!followed.timed_out, "{what}: what came: {followed:?}");
        ledger.assert_all(what, &[40, 40]);
        // One that nobody can decode: its dead letter goes through the same door.
        producer.send(0, b"\xff no event");
        producer.flush();
        let dlq = format!("{topic}-dlq");
        wait::until_true("the dead letter", LIMIT, || secured.kafka.watermarks(&dlq, 0).1 == 1);
        wait::until_true("a commit through the door", LIMIT, || {
            (0..2).all(|partition| {
                secured.kafka.committed(&setup.group, &topic, partition).is_some_and(|(next, _)| next >= 40)
            })
        });
        gateway.stop();
    }
}

#[test]
fn who_is_not_let_in_reads_which_setting_to_look_at() {
    let secured = Secured::shared();
    let wrong = (ADMIN.0, "wrong word");
    let credentials = ["kafka.sasl_username, kafka.sasl_password", "refuses"];
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        refused(&secured.sasl_ssl(mechanism, wrong), 1, &credentials);
        refused(&secured.sasl_ssl(mechanism, ("nobody", "wrong word")), 1, &credentials);
    }
    refused(&secured.sasl_plaintext("PLAIN", wrong), 1, &credentials);
    refused(&secured.sasl_plaintext("SCRAM-SHA-512", ADMIN), 1, &["kafka.sasl_mechanism", "PLAIN,SCRAM-SHA-256"]);
    let stranger = secured.file("stranger.pem");
    let unknown =
        ["kafka.ssl_ca_location", "no authority in", &stranger, "has signed the certificate of broker localhost:"];
    refused(&secured.ssl().set("KAFKA_SSL_CA_LOCATION", &stranger), 1, &unknown);
    refused(&secured.sasl_ssl("PLAIN", ADMIN).set("KAFKA_SSL_CA_LOCATION", &stranger), 1, &unknown);
    refused(&secured.other_name(), 1, &["kafka.ssl_endpoint_algorithm", "is for another name: kafka.example"]);
    refused(&secured.expired(), 1, &["kafka.brokers", "the certificate of broker localhost:", "has expired"]);
    let ours = ["kafka.ssl_certificate_location, kafka.ssl_key_location", "wants a certificate of ours"];
    let without = secured.mutual().without("KAFKA_SSL_CERTIFICATE_LOCATION").without("KAFKA_SSL_KEY_LOCATION");
    refused(&without, 1, &ours);
    // A door of another kind.
    let hangs_up = ["kafka.security_protocol", "hangs up at our first words"];
    let no_security = |door: Door| Door { environment: Vec::new(), ..door };
    refused(&no_security(secured.ssl()), 1, &hangs_up);
    refused(&no_security(secured.sasl_plaintext("PLAIN", ADMIN)), 1, &hangs_up);
    let plain = ["kafka.security_protocol", "the broker speaks another one at this port"];
    refused(&Door { brokers: secured.kafka.brokers.clone(), ..secured.ssl() }, 1, &plain);
}

#[test]
fn settings_that_cannot_work_are_refused_before_anybody_is_asked() {
    let secured = Secured::shared();
    let plain = || secured.sasl_ssl("PLAIN", ADMIN);
    let together = ["kafka.sasl_username, kafka.sasl_password", "together"];
    refused(&plain().without("KAFKA_SASL_PASSWORD"), 2, &together);
    refused(&plain().without("KAFKA_SASL_USERNAME"), 2, &together);
    let pair = ["kafka.ssl_certificate_location, kafka.ssl_key_location", "together"];
    refused(&secured.mutual().without("KAFKA_SSL_KEY_LOCATION"), 2, &pair);
    refused(&secured.mutual().without("KAFKA_SSL_CERTIFICATE_LOCATION"), 2, &pair);
    refused(&plain().without("KAFKA_SASL_MECHANISM"), 2, &["kafka.sasl_mechanism", "needs a mechanism"]);
    refused(
        &plain().set("KAFKA_SASL_MECHANISM", "GSSAPI"),
        2,
        &["kafka.sasl_mechanism", "GSSAPI (Kerberos) is not built in"],
    );
    refused(&plain().set("KAFKA_SECURITY_PROTOCOL", "tls"), 2, &["kafka.security_protocol", "\"tls\"", "sasl_ssl"]);
    refused(
        &secured.ssl().set("KAFKA_SSL_CA_LOCATION", secured.file("nowhere.pem")),
        2,
        &["kafka.ssl_ca_location", "nowhere.pem", "No such file"],
    );
    refused(
        &secured.ssl().set("KAFKA_SSL_CA_LOCATION", secured.file("empty.pem")),
        2,
        &["kafka.ssl_ca_location", "empty.pem", "BEGIN CERTIFICATE"],
    );
    let token = "DASHSTREAM_KAFKA_SASL_OAUTHBEARER_CONFIG";
    refused(
        &secured.sasl_ssl("OAUTHBEARER", ADMIN).set(token, "principle=admin"),
        2,
        &["kafka.sasl_oauthbearer_config", "principal=NAME"],
    );
    refused(&secured.sasl_ssl("OAUTHBEARER", ADMIN).without(token), 2, &["kafka.sasl_oauthbearer_config"]);
    // `serve` is as strict.
    let setup = plain().set("KAFKA_SASL_MECHANISM", "GSSAPI").setup(&secured.kafka, "any");
    let output = setup.command(&["serve"]).output().expect("the binary runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("not built in"));
}

/// `serve` is not let in: what `/ready` says, and what the log says over a while.
fn serve_refused(door: &Door, parts: &[&str]) {
    const WHILE: Duration = Duration::from_secs(12);
    let secured = Secured::shared();
    let counter = Counter::before(&door.brokers);
    let door = Door { brokers: format!("localhost:{}", counter.port), ..door.clone() };
    let topic = secured.kafka.topic("refused", 1);
    let setup = door.setup(&secured.kafka, &topic);
    let mut gateway = setup.spawn();
    let reason = |text: &str| parts.iter().all(|part| text.contains(part));
    wait::until_true(&format!("/ready to say {parts:?}"), LIMIT, || {
        http::try_get(setup.admin, "/ready").is_some_and(|ready| ready.status == 503 && reason(&ready.text()))
    });
    let (began, came) = (Instant::now(), counter.came());
    wait::until_true("a while", LIMIT, || began.elapsed() >= WHILE);
    let came = counter.came() - came;
    gateway.assert_alive();
    assert_eq!((gateway.get("/live").status, gateway.get("/health").status), (200, 200));
    let log = gateway.output();
    let lines = |level: &str| log.lines().filter(|line| line.contains(level)).count();
    assert_eq!(log.lines().filter(|line| reason(line)).count(), 1, "one line says it:\n{log}");
    assert!(lines(" ERROR ") + lines(" WARN ") <= 4, "a storm of lines:\n{log}");
    assert!(!log.contains("-secret") && !log.contains("wrong word"), "a secret is told:\n{log}");
    // Those who must know (probe, lag, dead letters) each try once or twice a second.
    let at_most = 6 * WHILE.as_secs();
    eprintln!("{parts:?}: {came} connections in {WHILE:?}");
    assert!((1..=at_most).contains(&came), "{came} connections in {WHILE:?}");
    gateway.stop();
}

#[test]
fn serve_says_in_ready_and_once_in_the_log_why_it_is_not_let_in() {
    let secured = Secured::shared();
    serve_refused(
        &secured.sasl_ssl("SCRAM-SHA-256", (ADMIN.0, "wrong word")),
        &["kafka.sasl_username, kafka.sasl_password: the broker refuses them"],
    );
    let stranger = secured.file("stranger.pem");
    serve_refused(
        &secured.ssl().set("KAFKA_SSL_CA_LOCATION", &stranger),
        &["kafka.ssl_ca_location: no authority in ", &stranger],
    );
    serve_refused(&secured.other_name(), &["kafka.ssl_endpoint_algorithm: the certificate of broker localhost:"]);
    serve_refused(&secured.expired(), &["kafka.brokers: the certificate of broker localhost:", "has expired"]);
}

#[test]
fn serve_says_which_right_is_missing_and_begins_when_it_is_given() {
    let secured = Secured::shared();
    let topic = secured.kafka.topic("rights", 1);
    let setup = secured.sasl_ssl("PLAIN", BOB).setup(&secured.kafka, &topic);
    let mut gateway = setup.spawn();
    let ready_says = |part: &str| {
        wait::until_true(&format!("/ready to say {part:?}"), LIMIT, || {
            http::try_get(setup.admin, "/ready").is_some_and(|ready| ready.status == 503 && ready.text().contains(part))
        });
    };
    ready_says("needs Describe and Read on kafka.topic");
    secured.allow(&["--topic", &topic], &["Describe", "Read"]);
    ready_says("kafka.group_id: the user of kafka.sasl_username needs Describe and Read on this group");
    secured.allow(&["--group", &setup.group], &["Describe", "Read"]);
    secured.allow(&["--topic", &format!("{topic}-dlq")], &["Describe", "Write"]);
    gateway.wait_ready();
    let log = gateway.output();
    let errors = log.lines().filter(|line| line.contains(" ERROR ")).count();
    assert!(errors <= 4, "a storm of lines:\n{log}");
    gateway.stop();
}
