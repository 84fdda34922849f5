//! Every command of the README runs as it is written there, through `sh`, one after the other in one empty directory,
//! with `dashstream` on the PATH; where the README shows what a command answers, it answers that.
//!
//! Names of hosts, files and ports stand for those of the reader: [`PLACES`] says what they are here. A command that
//! goes on until somebody ends it gets Ctrl-C when it has shown something, and ends with 0. What cannot be run here
//! stands in [`NOT_RUN`] with its reason. An entry of either that the README does not need any more is a failure, as
//! is a command that is in neither and does not end well.

use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::harness::broker::{Broker, die_with_parent, scratch};
use crate::harness::gateway::{Gateway, Setup, signal};
use crate::harness::kafka::Kafka;
use crate::harness::pty::Pty;
use crate::harness::secured::{ADMIN, Secured};
use crate::harness::story::{Story, string};
use crate::harness::{http, ports, wait};

const LIMIT: Duration = Duration::from_secs(60);

const NOT_RUN: [(&str, &str); 2] = [
    ("cargo run --release -- demo", "builds; the_demo_runs_by_itself runs what it builds"),
    ("tests/run", "this test is a part of it"),
];

/// What goes on until somebody ends it.
const FOR_EVER: [&str; 4] = ["--follow", "dashstream serve", "dashstream simulate", "dashstream watch"];

type Place = (&'static str, fn(&World) -> String);

/// What stands in the README for something of the reader's own, and what it is here.
const PLACES: [Place; 5] = [
    ("kafka-1:9092,kafka-2:9092", |world| world.kafka().brokers.clone()),
    ("kafka-1:9094", |_| Secured::shared().sasl_ssl("SCRAM-SHA-512", ADMIN).brokers),
    ("KAFKA_SASL_USERNAME=dashstream KAFKA_SASL_PASSWORD=...", |_| {
        format!("KAFKA_SASL_USERNAME={} KAFKA_SASL_PASSWORD={}", ADMIN.0, ADMIN.1)
    }),
    ("/etc/dashstream/ca.pem", |_| Secured::shared().file("ca.pem")),
    ("ws://127.0.0.1:3002", |world| format!("ws://{}", world.gateway.ws())),
];

/// A command, and what it is said to answer.
#[derive(Debug)]
struct Written {
    line: usize,
    script: String,
    answer: Option<Vec<String>>,
}

/// Those of the README's `sh` blocks, and what stands behind `$` in its `text` blocks. Lines with `export` belong to the
/// command that follows them.
fn written(readme: &str) -> Vec<Written> {
    let mut commands: Vec<Written> = Vec::new();
    let (mut block, mut before) = (None, String::new());
    for (line, text) in readme.lines().enumerate().map(|(index, text)| (index + 1, text)) {
        let script = match (block, text.strip_prefix("```")) {
            (None, Some(language)) => {
                block = Some(language);
                continue;
            }
            (Some(_), Some(_)) => {
                assert_eq!(before, "", "line {line}: a block ends in the middle of a command");
                block = None;
                continue;
            }
            (Some("sh"), None) if !text.trim().is_empty() && !text.starts_with('#') => text,
            (Some("text"), None) => match text.strip_prefix("$ ") {
                Some(script) => script,
                None => {
                    if let Some(answer) = commands.last_mut().and_then(|command| command.answer.as_mut()) {
                        answer.push(text.to_owned());
                    }
                    continue;
                }
            },
            _ => continue,
        };
        before.push_str(script);
        if script.ends_with('\\') || script.starts_with("export ") {
            before.push('\n');
            continue;
        }
        let answer = (block == Some("text")).then(Vec::new);
        commands.push(Written { line, script: std::mem::take(&mut before), answer });
    }
    commands
}

/// The text of the block that begins with this line.
fn block_of(readme: &str, first: &str) -> String {
    let (_, rest) = readme.split_once(&format!("\n{first}\n")).unwrap_or_else(|| panic!("no block of {first:?}"));
    rest.split_once("\n```").expect("a block ends").0.to_owned()
}

struct World {
    /// Three, since the README asks for three copies.
    brokers: Vec<Broker>,
    gateway: Gateway,
    folder: PathBuf,
}

impl World {
    fn kafka(&self) -> &Kafka {
        &self.brokers[0].kafka
    }

    fn new(readme: &str) -> Self {
        let brokers = Broker::cluster("readme", 3);
        let kafka = brokers[0].kafka.clone();
        // As `recommended` makes it, before somebody wanted to keep more.
        let settings = [
            ("retention.ms", "604800000"),
            ("segment.bytes", "1073741824"),
            ("compression.type", "zstd"),
            ("min.insync.replicas", "2"),
        ];
        kafka.create_replicated(TOPIC, 10, 3, &settings);
        kafka.create("agents-test", 1, &[]);
        let secured = &Secured::shared().kafka;
        secured.create(TOPIC, 1, &[]);
        secured.create(&format!("{TOPIC}-dlq"), 1, &[]);
        let producer = kafka.producer(TOPIC);
        runs().iter().zip(0..).for_each(|(run, partition)| run.send(&producer, partition));
        // Not ready before the README has made the topic of dead letters.
        let gateway = Setup::new(&kafka, TOPIC).spawn();
        let folder = scratch("readme");
        symlink(env!("CARGO_BIN_EXE_dashstream"), folder.join("dashstream")).expect("a link to the binary");
        let declared = block_of(readme, "# dashstream.toml");
        std::fs::write(folder.join("dashstream.toml"), declared).expect("the file is written");
        Self { brokers, gateway, folder }
    }

    /// The script through `sh`, and where it would serve.
    fn shell(&self, script: &str) -> (Command, std::net::SocketAddr) {
        let (service, admin) = (ports::free_address(), ports::free_address());
        let path = std::env::var("PATH").expect("a PATH");
        let mut command = Command::new("sh");
        command
            .args(["-c", script])
            .current_dir(&self.folder)
            .env_clear()
            .env("PATH", format!("{}:{path}", self.folder.display()))
            .env("TZ", "UTC")
            .env("COLUMNS", "100")
            .env("KAFKA_BROKERS", &self.kafka().brokers)
            .env("WEBSOCKET_PORT", service.port().to_string())
            .env("DASHSTREAM_ADMIN_LISTEN", admin.to_string());
        (command, service)
    }

    /// Runs it to its end, with Ctrl-C if it has none of its own.
    fn run(&self, written: &Written, script: &str) {
        let Written { line, script: shown, answer } = written;
        let what = format!("line {line}: {shown}");
        let for_ever = FOR_EVER.iter().any(|part| shown.contains(part));
        if shown.contains("dashstream watch") {
            return self.watch(script);
        }
        let (mut command, service) = self.shell(script);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        die_with_parent(&mut command);
        let mut process = command.spawn().expect("sh starts");
        let said = collect(process.stdout.take().expect("piped"));
        let errors = collect(process.stderr.take().expect("piped"));
        let text = |of: &Arc<Mutex<Vec<u8>>>| String::from_utf8_lossy(&of.lock().expect("not poisoned")).into_owned();
        if for_ever {
            let serves = shown.contains("dashstream serve");
            wait::until_true(&format!("something of {what}: {}{}", text(&said), text(&errors)), LIMIT, || {
                let ended = process.try_wait().expect("a child can be waited for");
                assert_eq!(ended, None, "{what}: {}{}", text(&said), text(&errors));
                let is_live = || http::try_get(service, "/live").is_some_and(|answer| answer.status == 200);
                if serves { is_live() } else { text(&said).contains('\n') }
            });
            signal(binary_below(process.id()).expect("it runs"), libc::SIGINT);
        }
        let status = wait::until(&format!("the end of {what}"), LIMIT, || process.try_wait().expect("waited for"));
        // What it wrote last may still be in the pipe.
        wait::until_true("the end of its output", LIMIT, || {
            [&said, &errors].iter().all(|of| Arc::strong_count(of) == 1)
        });
        let (said, errors) = (text(&said), text(&errors));
        assert_eq!(status.code(), Some(0), "{what}: {said}{errors}");
        match answer {
            Some(answer) => same(&what, answer, &said),
            // A reader sees that something happened.
            None => assert!(!said.is_empty() || self.has_written(script) || for_ever, "{what} says nothing: {errors}"),
        }
    }

    fn has_written(&self, script: &str) -> bool {
        let mut words = script.split_whitespace().skip_while(|word| *word != "--to");
        let file = words.nth(1).map(|file| self.folder.join(file));
        file.is_some_and(|file| std::fs::metadata(file).is_ok_and(|found| found.len() > 0))
    }

    fn watch(&self, script: &str) {
        let mut pty = Pty::start(self.shell(script).0, 24, 100);
        pty.until("a run on the screen", |lines| lines.iter().any(|line| line.contains("acme/run-1")));
        signal(binary_below(pty.pid()).expect("it runs"), libc::SIGINT);
        assert_eq!(pty.wait_exit().code(), Some(0));
    }
}

/// `...` at the end of a line stands for the rest of it.
fn same(what: &str, answer: &[String], said: &str) {
    let lines: Vec<&str> = said.lines().collect();
    let fits = |(shown, line): (&String, &&str)| match shown.strip_suffix("...") {
        Some(begin) => line.starts_with(begin),
        None => shown == line,
    };
    assert!(lines.len() == answer.len() && answer.iter().zip(&lines).all(fits), "{what}: {answer:#?} is not\n{said}");
}

fn collect(mut from: impl Read + Send + 'static) -> Arc<Mutex<Vec<u8>>> {
    let all = Arc::new(Mutex::new(Vec::new()));
    let into = all.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            into.lock().expect("not poisoned").extend_from_slice(&buffer[..length]);
        }
    });
    all
}

/// The binary among this process and those that it started: what a terminal's Ctrl-C is meant for.
fn binary_below(pid: u32) -> Option<u32> {
    let status = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |text: &str, name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim).unwrap_or_default().to_owned()
    };
    if field(&status(pid), "Name:") == "dashstream" {
        return Some(pid);
    }
    let all = std::fs::read_dir("/proc")
        .expect("processes")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let children: Vec<u32> = all.filter(|child| field(&status(*child), "PPid:") == pid.to_string()).collect();
    children.into_iter().find_map(binary_below)
}

const TOPIC: &str = "dashstream-quality";

/// The runs that the README asks about, a moment ago: long enough, with a failure, and with the checkpoints by name.
fn runs() -> [Story; 2] {
    let now_us = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_micros();
    let begin_us = u64::try_from(now_us).expect("before the year 500000") - 600_000_000;
    let id = |begin: [u8; 2]| {
        let mut id = [7; 16];
        id[..2].copy_from_slice(&begin);
        id
    };
    let (before, after) = (r#"{"n":0}"#, r#"{"n":1}"#);
    let mut one = Story::new("acme", "run-1", begin_us);
    one.graph_start("research", before).wait(5);
    one.checkpoint_as(id([0x3f, 0x2a]), before);
    for step in 0..10 {
        let node = format!("step-{step}");
        one.node(&node, |story| _ = story.model(&node, &format!("request-{step}"), "gpt-4o", 40, 100, 20));
    }
    one.diff("/n", "1", after).checkpoint_as(id([0x9b, 0x01]), after);
    one.event(2, "", 405, &[]);
    let mut two = Story::new("acme", "run-2", begin_us);
    two.graph_start("research", before);
    two.event(10, "search", 0, &[]).wait(30).event(12, "search", 30, &[("error", string("the net is gone"))]);
    two.event(3, "", 30, &[("error", string("search failed"))]);
    [one, two]
}

#[test]
fn every_command_of_the_readme_runs_as_written() {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("a README");
    let commands = written(&readme);
    assert!(commands.len() > 20, "they were found: {commands:#?}");
    for (script, reason) in NOT_RUN {
        assert!(commands.iter().any(|command| command.script == script), "{script} ({reason}) is not in the README");
    }
    for part in FOR_EVER.iter().chain(PLACES.iter().map(|(part, _)| part)) {
        assert!(commands.iter().any(|command| command.script.contains(part)), "{part:?} is not in the README");
    }
    let mut world = World::new(&readme);
    for command in &commands {
        if NOT_RUN.iter().any(|(script, _)| command.script == *script) {
            continue;
        }
        if command.script.contains("--gateway") {
            world.gateway.wait_ready();
        }
        let here = |script: String, (part, place): &Place| match script.contains(part) {
            true => script.replace(part, &place(&world)),
            false => script,
        };
        world.run(command, &PLACES.iter().fold(command.script.clone(), here));
    }
    world.gateway.stop();
    std::fs::remove_dir_all(&world.folder).expect("ours");
}

#[test]
fn commands_are_taken_from_blocks_and_nowhere_else() {
    let readme = "a\n```sh\none    # first\n\nexport A=1\nexport B=2\ntwo \\\n  more\n```\nthree\n```text\nno\n$ four\nx ...\n\
                  $ five\n```\n```toml\nsix\n```\n";
    let found: Vec<_> = written(readme).into_iter().map(|one| (one.line, one.script, one.answer)).collect();
    let texts = |lines: &[&str]| Some(lines.iter().map(|line| (*line).to_owned()).collect());
    assert_eq!(
        found,
        [
            (3, "one    # first".to_owned(), None),
            (8, "export A=1\nexport B=2\ntwo \\\n  more".to_owned(), None),
            (13, "four".to_owned(), texts(&["x ..."])),
            (15, "five".to_owned(), texts(&[])),
        ]
    );
}
