//! `dashstream demo` needs nothing: it prints an address, runs arrive there without a gap or a repeat, what is broken
//! on purpose is in the books, and Ctrl-C ends it with 0.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::broker::die_with_parent;
use crate::harness::command::answer;
use crate::harness::gateway::signal;
use crate::harness::http::{self, Metrics};
use crate::harness::json::JsonClient;
use crate::harness::ledger::Ledger;
use crate::harness::v1::V1Client;
use crate::harness::wait;

const LIMIT: Duration = Duration::from_secs(120);

struct Demo {
    process: Child,
    output: BufReader<ChildStdout>,
    service: SocketAddr,
    admin: SocketAddr,
}

impl Demo {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dashstream"));
        command.arg("demo").args(["--port", "0"]).args(arguments).env_clear();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        die_with_parent(&mut command);
        let mut process = command.spawn().expect("the binary starts");
        let mut output = BufReader::new(process.stdout.take().expect("piped"));
        let mut said = String::new();
        for _ in 0..2 {
            output.read_line(&mut said).expect("two lines of text");
        }
        let address = |before: &str| {
            let (_, rest) = said.split_once(before).unwrap_or_else(|| panic!("no {before} in {said:?}"));
            let (address, _) = rest.split_once('/').expect("a path");
            address.parse().unwrap_or_else(|error| panic!("{error}: {said:?}"))
        };
        let (service, admin) = (address("Open http://"), address("metrics are at http://"));
        Self { process, output, service, admin }
    }

    fn metrics(&self) -> Metrics {
        Metrics::parse(http::get(self.admin, "/metrics").text())
    }

    /// Ctrl-C.
    fn interrupt(mut self) {
        signal(self.process.id(), libc::SIGINT);
        let deadline = Instant::now() + Duration::from_secs(10);
        let status = loop {
            if let Some(status) = self.process.try_wait().expect("a child can be waited for") {
                break status;
            }
            assert!(Instant::now() < deadline, "not ended in ten seconds");
            std::thread::sleep(Duration::from_millis(5));
        };
        assert_eq!(status.code(), Some(0));
        let mut rest = String::new();
        self.output.read_line(&mut rest).expect("the end");
        assert_eq!(rest, "", "nothing but the two lines is on standard output");
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // Only a failed test leaves it running.
        if matches!(self.process.try_wait(), Ok(None)) {
            self.process.kill().expect("a running process can be killed");
            self.process.wait().expect("a killed process ends");
        }
    }
}

#[test]
fn the_demo_runs_by_itself() {
    let demo = Demo::start(&["--rate", "3000", "--seed", "7"]);
    let page = http::get(demo.service, "/");
    assert!(page.status == 200 && page.text().contains("<html"), "{}", page.text());

    let mut json = JsonClient::connect(demo.service);
    let mut seen = Ledger::new();
    json.resume_from("earliest");
    let (_, closed) = json.follow(&mut seen, LIMIT, |ledger, _| ledger.records >= 5_000 && !ledger.gaps.is_empty());
    assert_eq!(closed, None);
    let told = seen.gaps.len();
    assert!(seen.gaps.iter().all(|(.., reason)| reason == "dead_lettered" || reason == "null"), "{:?}", seen.gaps);
    for (partition, last) in seen.cursor() {
        assert_eq!(seen.missing(partition, 0, last + 1), [0; 0], "partition {partition}");
    }

    // By time too, which the embedded broker looks nothing up by.
    let url = format!("ws://{}", demo.service);
    for (from, expected) in [("1h", 5), ("2999-01-01T00:00:00Z", 0)] {
        let tail = ["tail", "--gateway", &url, "--from", from, "--limit", "5", "--output", "jsonl"];
        let shown = answer(&tail).expect(from);
        let events = shown.objects().into_iter().filter(|object| object.get("message_id").is_some());
        assert_eq!(events.count(), expected, "{from}: {shown:?}");
    }

    let mut v1 = V1Client::connect(demo.service);
    let mut seen = Ledger::new();
    v1.resume_from("earliest");
    let followed = v1.follow(&mut seen, LIMIT, |_, _, _| {}, |ledger| ledger.records >= 5_000);
    assert_eq!((followed.closed, followed.timed_out), (None, false));
    assert_eq!(seen.cursor().keys().copied().collect::<Vec<_>>(), [0, 1, 2, 3]);

    // `/metrics` is written once a second.
    let metrics = wait::until("the books to name what clients were told", LIMIT, || {
        let metrics = demo.metrics();
        let refused = metrics.sum("dashstream_partition_dead_lettered_records_total", &[])
            + metrics.sum("dashstream_partition_skipped_records_total", &[]);
        (refused >= told as f64).then_some(metrics)
    });
    assert_eq!(metrics.sum("dashstream_partition_books_difference_records", &[]), 0.0);
    demo.interrupt();
}

#[test]
fn a_port_in_use_is_said_and_ends_the_demo() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_dashstream"))
        .args(["demo", "--port", &port, "--set", "admin.listen=127.0.0.1:0"])
        .output()
        .expect("the binary starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&port), "{said}");
}
