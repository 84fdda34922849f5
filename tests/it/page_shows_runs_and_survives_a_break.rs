//! The page of `dashstream demo`, in a real browser: it shows runs arriving live; after a break of the connection it
//! shows how many events were replayed and that none is missing; a reload continues where it was; pause stops the
//! picture but not the stream; one run can be followed alone, also over a reload, and left without loss; the stream can
//! be stopped at the gateway and goes on without loss; the gateway's clients are shown; nothing is wider than the screen at 1280 and at 390 pixels; and the browser has
//! nothing to complain about, above all not about the page's own content security policy.
//!
//! Method: Chromium over the DevTools protocol, against the shipped binary. What the page claims is compared with
//! what it counted before and after, and with offsets of its own continuity check.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::harness::broker::{die_with_parent, scratch};
use crate::harness::browser::Browser;
use crate::harness::{http, ports, wait};

/// The demo as a process, and the address that it printed.
struct Demo {
    process: Child,
    address: String,
}

impl Demo {
    fn start() -> Self {
        let port = ports::free();
        let mut command = Command::new(env!("CARGO_BIN_EXE_dashstream"));
        command
            .args(["demo", "--rate", "300", "--seed", "7", "--port", &port.to_string()])
            .args(["--set", &format!("admin.listen=127.0.0.1:{}", ports::free())])
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        die_with_parent(&mut command);
        let mut process = command.spawn().expect("the binary starts");
        let output = process.stdout.take().expect("piped");
        // Read to its end, so that the demo never waits for a reader.
        let lines = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
        let kept = lines.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let mut kept = kept.lock().expect("not poisoned");
                kept.push_str(&line);
                kept.push('\n');
            }
        });
        let prefix = "http://127.0.0.1:";
        let address = wait::until("a printed address", Duration::from_secs(60), || {
            let ended = process.try_wait().expect("a child can be waited for");
            let text = lines.lock().expect("not poisoned").clone();
            assert!(ended.is_none(), "the demo ended: {ended:?}\n{text}");
            let rest = text.split_once(prefix)?.1;
            Some(format!("{prefix}{}/", rest.chars().take_while(char::is_ascii_digit).collect::<String>()))
        });
        Self { process, address }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // It may have ended by itself, which is then what the test is about.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Where the pictures go: kept after the run if `DASHSTREAM_TEST_PICTURES` names a directory.
fn pictures() -> (PathBuf, bool) {
    match std::env::var_os("DASHSTREAM_TEST_PICTURES") {
        Some(directory) => (directory.into(), true),
        None => (scratch("pictures"), false),
    }
}

const LIVE: &str = "document.getElementById('link').dataset.state === 'live'";
/// A number that the page shows, without its separators.
fn shown(selector: &str) -> String {
    format!("Number(document.querySelector(\"{selector}\").textContent.replace(/[^0-9]/g, ''))")
}

fn number(browser: &mut Browser, selector: &str) -> u64 {
    browser.run(&shown(selector)).as_u64().unwrap_or_else(|| panic!("{selector} shows no number"))
}

const APPLIED: &str = "[data-key=records] dd";
const LOST: &str = "[data-key=lost] dd";
const REPEATED: &str = "[data-key=repeated] dd";

/// Waits for the receipt of a return, and checks what it claims. Returns the events that were replayed.
fn receipt(browser: &mut Browser, begins: &str) -> u64 {
    let expression = format!(
        "!document.getElementById('toast').hidden && document.getElementById('toast').innerText.includes('{begins}')"
    );
    browser.until(begins, &expression);
    assert_eq!(browser.run("document.getElementById('none-missing').textContent"), "none is missing");
    assert_eq!(browser.run("document.getElementById('none-missing').dataset.violations"), "0");
    assert_eq!(browser.run("document.getElementById('k-missing').textContent"), "0");
    assert_eq!((number(browser, LOST), number(browser, REPEATED)), (0, 0));
    let events = browser.run("Number(document.getElementById('replayed').dataset.events)").as_u64().expect("a count");
    browser.run("document.querySelector('#toast .close').click()");
    events
}

fn no_overflow(browser: &mut Browser, width: u32) {
    let wide = browser.run(
        // A telephone makes the page smaller instead of letting it stick out: what counts is the width of the screen.
        &format!(
            "document.documentElement.scrollWidth > {width} ? 'the page' : \
             [...document.querySelectorAll('body *')].filter((e) => e.checkVisibility() && !e.closest('.track, .axis, .visually-hidden, svg') \
             && e.getBoundingClientRect().right > {width} + 1).map((e) => e.tagName + '.' + e.className).slice(0, 5).join(' ')"
        ),
    );
    assert_eq!(wide, "", "wider than {width} pixels");
}

#[test]
fn page_shows_runs_and_survives_a_break() {
    let demo = Demo::start();
    let (folder, keep) = pictures();
    let mut browser = Browser::start("page");
    browser.resize(1280, 800);
    browser.prefer("dark");
    browser.open(&demo.address);

    // Runs arrive, with nodes, words and tool calls.
    browser.until("live", LIVE);
    browser.until("three runs", "document.querySelectorAll('.run-row').length >= 3");
    browser.until(
        "nodes with durations",
        "[...document.querySelectorAll('.lane .took')].some((e) => /\\d/.test(e.textContent))",
    );
    browser
        .until("words of a model", "[...document.querySelectorAll('.words')].some((e) => e.textContent.length > 20)");
    browser.until("a tool call", "document.querySelectorAll('.tools li').length > 0");
    browser.until("a finished run", &format!("{} > 0", shown("#k-done")));
    browser.until(
        "every partition at its position",
        "[...document.querySelectorAll('.partition code')].filter((e) => /\\d/.test(e.textContent)).length === 4",
    );
    browser.until("events per second", &format!("{} > 0", shown("#k-rate")));
    no_overflow(&mut browser, 1280);
    browser.picture(&folder.join("page-1280-dark.png"));
    browser.prefer("light");
    browser.picture(&folder.join("page-1280-light.png"));

    // Broken by the button for three seconds.
    let before = number(&mut browser, APPLIED);
    browser.run("document.getElementById('break-for').value = '3000'; document.getElementById('break').click()");
    browser.until("broken", "document.getElementById('link').dataset.state === 'broken'");
    browser.until("live again", LIVE);
    let replayed = receipt(&mut browser, "Back after a break");
    assert!(replayed > 0, "three seconds at 300 events per second went by");
    browser.until("replayed events are applied", &format!("{} > {before} + 100", shown(APPLIED)));
    browser.prefer("dark");
    browser.picture(&folder.join("page-1280-after-a-break.png"));

    // A reload continues: what was applied is still there, and nothing comes twice.
    let runs = number(&mut browser, "#runs-count");
    let names = browser.run(ROW_NAMES);
    browser.until("something saved", &format!("{} > {before}", shown(APPLIED)));
    let kept = number(&mut browser, APPLIED);
    wait::until_true("a save after that", Duration::from_secs(30), || saved(&mut browser) > kept);
    browser.reload();
    browser.until("live after the reload", LIVE);
    receipt(&mut browser, "Continued after a reload");
    browser.until("records go on", &format!("{} > {kept}", shown(APPLIED)));
    browser.until("runs are still there", &format!("{} >= {}", shown("#runs-count"), runs.min(100)));
    // The same ones; the oldest may have made room for newer ones meanwhile.
    let lost = format!("{names}.slice(0, 50).filter((name) => !{ROW_NAMES}.includes(name)).join(' ')");
    assert_eq!(browser.run(&lost), "", "runs that were there before the reload");
    browser.until(
        "the browser's own runs",
        "document.getElementById('stream').innerText.includes('came from this browser')",
    );

    one_run_alone(&mut browser);
    stopped_at_the_gateway(&mut browser);
    clients_are_shown(&mut browser);

    // Pause stops the picture; the stream goes on and is caught up with. What is compared is all that was painted: the
    // inner text leaves out rows that the browser has not laid out yet.
    browser.run("document.activeElement.blur()");
    browser.press("p");
    browser.until("paused", "document.getElementById('pause').getAttribute('aria-pressed') === 'true'");
    let frozen =
        browser.run("document.getElementById('run').textContent + document.getElementById('runs').textContent");
    let applied = number(&mut browser, APPLIED);
    browser.until("the stream goes on", &format!("{} > {applied} + 100", shown(APPLIED)));
    let still = browser.run("document.getElementById('run').textContent + document.getElementById('runs').textContent");
    assert_eq!(still, frozen, "the picture moved while it was paused");
    browser.press("p");
    browser.until(
        "it moves again",
        &format!(
            "document.getElementById('run').textContent + document.getElementById('runs').textContent !== {frozen}"
        ),
    );

    // A run that is chosen stays, and everything can be reached without a mouse.
    browser.run("document.querySelector('.run-row').focus()");
    browser.press("ArrowDown");
    browser.until("the second run is chosen by key", "document.activeElement.getAttribute('aria-current') === 'true'");

    // A telephone.
    browser.resize(390, 844);
    for (index, panel) in ["runs", "run", "stream", "clients"].into_iter().enumerate() {
        browser.run(&format!("document.querySelectorAll('.tabs button')[{index}].click()"));
        let visible = format!("document.querySelector('.columns').dataset.panel === '{panel}'");
        browser.until(panel, &visible);
        no_overflow(&mut browser, 390);
        browser.picture(&folder.join(format!("page-390-{panel}.png")));
    }

    assert!(browser.complaints.is_empty(), "the browser complains: {:#?}", browser.complaints);
    let page =
        http::get(demo.address.trim_start_matches("http://").trim_end_matches('/').parse().expect("an address"), "/");
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    if !keep {
        // What cannot be removed is in the ignored scratch directory and goes with the next run.
        drop(std::fs::remove_dir_all(folder));
    }
}

/// The runs that are listed, by thread.
const ROW_NAMES: &str = "[...document.querySelectorAll('.run-row .thread')].map((e) => e.textContent)";

/// One run is asked for alone: from its beginning, also after a reload, and nothing of the stream is lost by it.
fn one_run_alone(browser: &mut Browser) {
    let before = number(browser, APPLIED);
    browser.run("document.querySelector('.run-row').click()");
    let thread = browser.run("document.querySelector('.run-row .thread').textContent");
    browser.until("that run", &format!("document.querySelector('.run-head .thread').textContent.endsWith({thread})"));
    browser.run("document.getElementById('only-this').click()");
    let alone = format!(
        "{LIVE} && !document.getElementById('only-bar').hidden && JSON.stringify({ROW_NAMES}) === JSON.stringify([{thread}])"
    );
    browser.until("that run alone", &alone);
    browser.until(
        "how much was looked through",
        "document.getElementById('only-text').textContent.includes('Looked through')",
    );
    let told = browser.run("document.getElementById('none-missing').textContent");
    assert_eq!(told, "in order, none twice");
    assert_eq!(browser.run("document.querySelector('.note').hidden"), true, "it is shown from its beginning");
    browser.until("only its own records", &format!("{} < {before}", shown(APPLIED)));
    browser.reload();
    browser.until("the same run alone after a reload", &alone);
    assert_eq!((number(browser, LOST), number(browser, REPEATED)), (0, 0));
    browser.run("document.getElementById('only-clear').click()");
    receipt(browser, "Back to the whole stream");
    browser.until("the whole stream", &format!("{LIVE} && {} > {before}", shown(APPLIED)));
    assert_eq!(browser.run("location.hash"), "");
}

/// The gateway sends nothing while it was asked to, and then goes on where it stopped.
fn stopped_at_the_gateway(browser: &mut Browser) {
    browser.run("document.getElementById('stop').click()");
    browser.until("stopped", "document.getElementById('link').dataset.state === 'held'");
    // What was painted last may be older than what was applied last.
    let quiet = "new Promise((done) => setTimeout(done, 700))";
    browser.run(quiet);
    let applied = number(browser, APPLIED);
    browser.run(quiet);
    browser.run(quiet);
    assert_eq!(number(browser, APPLIED), applied, "something came while the stream was stopped");
    browser.run("document.getElementById('stop').click()");
    browser.until("on again", &format!("{LIVE} && {} > {applied} + 300", shown(APPLIED)));
    assert_eq!((number(browser, LOST), number(browser, REPEATED)), (0, 0));
}

/// The page is a client itself, and there are the connections that it closed before.
fn clients_are_shown(browser: &mut Browser) {
    browser.run("document.activeElement.blur()");
    browser.press("c");
    browser.until("a live client", "document.querySelector('#clients tr[data-state=live]') !== null");
    browser.until("why one was closed", "document.getElementById('clients').innerText.includes('client closed')");
    no_overflow(browser, 1280);
    browser.press("c");
    browser.until("the runs again", "document.querySelector('.columns').dataset.panel !== 'clients'");
}

/// Records applied when the page last saved its state.
fn saved(browser: &mut Browser) -> u64 {
    let expression = "new Promise((done) => { const open = indexedDB.open('dashstream /', 2); \
         open.onsuccess = () => { const get = open.result.transaction('meta').objectStore('meta').get('state'); \
         get.onsuccess = () => { open.result.close(); done(get.result ? JSON.parse(get.result.text).ledger.records : 0); }; }; })";
    browser.run(expression).as_u64().expect("a count")
}
