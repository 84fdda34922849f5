//! The house rules that a machine can check. Each rule is a function from files to complaints; every test says how
//! many files it must have looked at, so that a rule that looks at nothing fails, and shows first that the rule bites.
//!
//! What clippy can say better is said in `.clippy.toml`.

use std::path::{Path, PathBuf};
use std::process::Command;

/// One file of the project.
struct Source {
    /// From the root of the project, with `/`.
    path: String,
    text: String,
}

/// Longer than this is a table (and stands here with its reason) or a knot.
const LINES_MAX: usize = 600;
const LONG_TABLES: [(&str, &str); 2] =
    [("src/config/table.rs", "one row per setting"), ("src/observe/stats.rs", "one counter per thing that is counted")];

/// Cores: they decide, and others do. Folders end in `/`.
const PURE: [&str; 37] = [
    "src/words/",
    "src/wire/framing.rs",
    "src/wire/scan/",
    "src/wire/scan.rs",
    "src/log/",
    "src/partition/core.rs",
    "src/partition/dispose.rs",
    "src/partition/sequence.rs",
    "src/partition/warm.rs",
    "src/broadcast/session.rs",
    "src/broadcast/session/",
    "src/broadcast/filter.rs",
    "src/broadcast/filter/",
    "src/lag/arithmetic.rs",
    "src/dlq/breaker.rs",
    "src/dlq/envelope.rs",
    "src/config/memory.rs",
    "src/config/value.rs",
    "src/client/conversation.rs",
    "src/client/plan.rs",
    "src/client/track.rs",
    "src/client/cursor.rs",
    "src/client/backoff.rs",
    "src/producer/sequence.rs",
    "src/producer/limiter/bucket.rs",
    "src/producer/redact/",
    "src/producer/state.rs",
    "src/producer/dead_letter.rs",
    "src/cli/source/merge.rs",
    "src/cli/source/order.rs",
    "src/cli/source/filter.rs",
    "src/cli/source/start.rs",
    "src/cli/source/split.rs",
    "src/cli/runs/table.rs",
    "src/analysis/",
    "src/wire/state_hash.rs",
    "src/cli/watch/model.rs",
];
const IMPURE: [&str; 8] =
    ["rdkafka", "mio::", "std::net::Tcp", "tungstenite", "redis::", "Instant::now", "SystemTime", "rand::"];

/// The gateway's metrics, and those of the producer library, which an application links without the gateway.
const METRIC_TABLES: [&str; 2] = ["src/observe/metrics.rs", "src/producer/metrics.rs"];

/// Rooms apart from the gateway's, which may make channels of their own, each with a reason.
const ROOMS_APART: [&str; 4] = ["src/producer/", "src/client/", "src/demo/", "src/cli/"];

#[test]
fn every_file_says_what_lives_there() {
    let rule = |file: &Source| complain(!file.text.starts_with("//!"), file, "does not open with //!");
    bites(rule, "src/a.rs", "use std::fmt;\n", "//! Words.\n");
    holds(rule, rust_files(), 60);
}

#[test]
fn cores_stay_pure() {
    let rule = |file: &Source| {
        let core = PURE.iter().any(|pure| file.path == *pure || (pure.ends_with('/') && file.path.starts_with(pure)));
        if !core || is_test_file(&file.path) {
            return Vec::new();
        }
        let found = IMPURE.iter().filter(|word| code(before_tests(&file.text)).any(|line| line.contains(*word)));
        found.map(|word| format!("{}: a core, and yet it uses {word}", file.path)).collect()
    };
    bites(rule, "src/log/a.rs", "//! A.\nlet now = Instant::now();\n", "//! No Instant::now() here.\nlet now = 3;\n");
    let cores: Vec<_> =
        rust_files().into_iter().filter(|file| PURE.iter().any(|pure| file.path.starts_with(pure))).collect();
    holds(rule, cores, 12);
}

#[test]
fn comments_name_symbols_not_lines() {
    let rule = |file: &Source| {
        let numbered = |line: &str| {
            line.split(concat!(".", "rs:")).skip(1).any(|rest| rest.starts_with(|letter: char| letter.is_ascii_digit()))
        };
        complain(file.text.lines().any(numbered), file, "names a line of a file; name the symbol")
    };
    bites(rule, "src/a.rs", concat!("//! See b.", "rs:12.\n"), "//! See b.rs: twelve of them.\n");
    holds(rule, rust_files(), 60);
}

#[test]
fn metric_names_stand_in_one_table() {
    let rule = |file: &Source| {
        let elsewhere =
            file.path.starts_with("src/") && !METRIC_TABLES.contains(&file.path.as_str()) && !is_test_file(&file.path);
        let named =
            elsewhere && code(before_tests(&file.text)).any(|line| line.split('"').skip(1).step_by(2).any(is_metric));
        complain(named, file, "names a metric; metrics stand in src/observe/metrics.rs and src/producer/metrics.rs")
    };
    bites(rule, "src/a.rs", "//! A.\ncount(\"dashstream_things_total\");\n", "//! A.\nname(\"dashstream.v1\");\n");
    holds(rule, rust_files(), 60);
}

/// A number that nobody writes is exported as 0 for ever, which looks like good news.
#[test]
fn every_number_is_written_by_somebody() {
    const KINDS: [&str; 4] = ["Counter", "Gauge", "MaybeGauge", "Histogram"];
    let written_in = |text: &str, name: &str| {
        text.match_indices(&format!(".{name}")).any(|(at, found)| {
            let rest = text[at + found.len()..].trim_start();
            let rest = if rest.starts_with('[') { rest.split_once(']').map_or("", |(_, rest)| rest) } else { rest };
            // The last: a family written in one loop.
            [".add(", ".set(", ".sub(", ".observe(", ".iter().zip(tally."].iter().any(|call| rest.starts_with(call))
        })
    };
    assert!(written_in("self.stats.taken[reason as usize].add(1)", "taken"));
    assert!(!written_in("self.taken += stats.taken.get(); stats.taken_too.add(1)", "taken"));
    let files = rust_files();
    let stats = files.iter().find(|file| file.path == "src/observe/stats.rs").expect("the table of numbers");
    let writers: Vec<&str> = files
        .iter()
        .filter(|file| file.path.starts_with("src/") && !is_test_file(&file.path))
        .map(|file| before_tests(&file.text))
        .collect();
    let fields = before_tests(&stats.text).lines().filter_map(|line| {
        let (name, kind) = line.trim().strip_prefix("pub ")?.split_once(": ")?;
        let kind = kind.trim_start_matches('[').split([',', ';']).next()?;
        KINDS.contains(&kind).then_some(name)
    });
    let fields: Vec<&str> = fields.collect();
    assert!(fields.len() > 60, "the numbers were found: {fields:?}");
    let idle: Vec<_> = fields.iter().filter(|name| !writers.iter().any(|text| written_in(text, name))).collect();
    assert!(idle.is_empty(), "nobody writes {idle:?}");
}

#[test]
fn channels_are_made_in_the_wiring() {
    let rule = |file: &Source| {
        let room_apart =
            ROOMS_APART.iter().any(|room| file.path.starts_with(room)) && file.text.contains("reason = \"");
        let exempt = file.path == "src/gateway/wiring.rs" || room_apart || is_test_file(&file.path);
        let makes =
            |line: &str| ["bounded", "unbounded", "sync_channel", "mpsc::channel"].iter().any(|name| calls(line, name));
        let knows = file.text.contains("crossbeam_channel") || file.text.contains("mpsc");
        let made = file.path.starts_with("src/") && knows && !exempt && code(before_tests(&file.text)).any(makes);
        complain(made, file, "makes a channel; channels are made in src/gateway/wiring.rs")
    };
    bites(
        rule,
        "src/a.rs",
        "//! A.\nuse crossbeam_channel as channel;\nlet (tx, rx) = channel::bounded(1);\n",
        "//! A.\nuse crossbeam_channel::Sender;\nlet text = read_bounded(1);\n",
    );
    holds(rule, rust_files(), 60);
}

#[test]
fn the_environment_is_read_in_one_place() {
    let rule = |file: &Source| {
        let elsewhere = file.path.starts_with("src/") && file.path != "src/config/raw.rs" && !is_test_file(&file.path);
        let read = elsewhere && code(before_tests(&file.text)).any(|line| line.contains(concat!("env::", "var")));
        complain(read, file, "reads the environment; src/config/raw.rs does that")
    };
    bites(rule, "src/a.rs", concat!("//! A.\nstd::env::", "vars_os();\n"), "//! A.\nenv!(\"CARGO_PKG_VERSION\");\n");
    holds(rule, rust_files(), 60);
}

#[test]
fn every_test_runs_and_nothing_is_left_for_later() {
    let words = [
        concat!("#[ign", "ore"),
        concat!("#[should", "_panic"),
        concat!("unimpl", "emented!("),
        concat!("to", "do!("),
        concat!("db", "g!("),
    ];
    let rule = |file: &Source| {
        let found = words.iter().filter(|word| file.text.contains(*word));
        found.map(|word| format!("{}: {word}", file.path)).collect()
    };
    bites(rule, "tests/a.rs", concat!("//! A.\n#[ign", "ore]\n"), "//! A.\n#[test]\n");
    holds(rule, rust_files(), 60);
}

#[test]
fn files_stay_short() {
    let rule = |file: &Source| {
        let lines = file.text.lines().count();
        let table = LONG_TABLES.iter().any(|(path, _)| file.path == *path);
        complain(
            lines > LINES_MAX && !table,
            file,
            &format!("has {lines} lines, more than {LINES_MAX}; whose state is in it?"),
        )
    };
    bites(rule, "src/a.rs", &"//! A.\n".repeat(LINES_MAX + 1), &"//! A.\n".repeat(LINES_MAX));
    let files = rust_files();
    for (path, reason) in LONG_TABLES {
        assert!(files.iter().any(|file| file.path == path), "{path} ({reason}) does not exist");
    }
    holds(rule, files, 60);
}

#[test]
fn nothing_names_the_machine_it_was_made_on() {
    let places = [
        concat!("/ho", "me/"),
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("/Us", "ers/"),
        concat!("index.cra", "tes.io"),
        concat!("static.cra", "tes.io"),
        concat!("registry.np", "mjs.org"),
        concat!("py", "pi.org"),
        concat!("python", "hosted.org"),
        concat!("repo.maven.ap", "ache.org"),
        concat!("repo1.ma", "ven.org"),
        concat!("proxy.gol", "ang.org"),
        concat!("deb.deb", "ian.org"),
    ];
    let rule = |file: &Source| {
        let found = places.iter().filter(|place| file.text.contains(*place));
        found.map(|place| format!("{}: names {place}", file.path)).collect()
    };
    bites(rule, "README.md", concat!("cd /ho", "me/me"), "cd ~");
    holds(rule, tracked_files(), 80);
}

/// The rule complains about the first text and not about the second.
fn bites(rule: impl Fn(&Source) -> Vec<String>, path: &str, wrong: &str, right: &str) {
    let file = |text: &str| Source { path: path.to_owned(), text: text.to_owned() };
    assert!(!rule(&file(wrong)).is_empty(), "the rule does not bite");
    assert_eq!(rule(&file(right)), Vec::<String>::new(), "the rule bites the innocent");
}

/// No file of them breaks the rule, and there were files to look at.
fn holds(rule: impl Fn(&Source) -> Vec<String>, files: Vec<Source>, count_min: usize) {
    assert!(files.len() >= count_min, "only {} files were looked at", files.len());
    let complaints: Vec<_> = files.iter().flat_map(rule).collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

fn complain(broken: bool, file: &Source, what: &str) -> Vec<String> {
    if broken { vec![format!("{}: {what}", file.path)] } else { Vec::new() }
}

/// Rust that people write: generated files follow their generator.
fn rust_files() -> Vec<Source> {
    let mine =
        |path: &str| ["src/", "tests/", "benches/", "loadtest/", "examples/"].iter().any(|room| path.starts_with(room));
    let files = tracked_files().into_iter();
    files.filter(|file| file.path.ends_with(".rs") && mine(&file.path) && !file.path.contains("/generated/")).collect()
}

/// Every text file that belongs to the project: what git knows or would take, else all that is there.
fn tracked_files() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let arguments = ["ls-files", "--cached", "--others", "--exclude-standard", "-z", "--", ".", ":!:.cargo"];
    let listed =
        Command::new("git").args(arguments).current_dir(root).output().ok().filter(|output| output.status.success());
    let paths = match listed {
        Some(output) => String::from_utf8_lossy(&output.stdout).split('\0').map(str::to_owned).collect(),
        None => walk(root),
    };
    let read = |path: String| {
        let text = std::fs::read_to_string(root.join(&path)).ok()?;
        Some(Source { path, text })
    };
    paths.into_iter().filter(|path| !path.is_empty()).filter_map(read).collect()
}

/// A copy without git: all but what builds and tests leave behind.
fn walk(root: &Path) -> Vec<String> {
    let mut paths = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(root.join(&folder)).into_iter().flatten().flatten() {
            let path = folder.join(entry.file_name());
            let left_behind =
                ["target", ".git", ".cargo", "tests/.tools", "tests/.run"].iter().any(|left| path == Path::new(left));
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && !left_behind => folders.push(path),
                Ok(kind) if kind.is_file() && !left_behind => paths.push(path.to_string_lossy().into_owned()),
                _ => {}
            }
        }
    }
    paths
}

fn is_test_file(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name == "tests.rs" || name == "fixture.rs" || name.ends_with("_tests.rs") || path.contains("/tests/")
}

/// A file up to its tests.
fn before_tests(text: &str) -> &str {
    let end = text.find("\n#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    text.get(..end).unwrap_or(text)
}

/// Lines that are not comments.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.trim_start().starts_with("//"))
}

/// `name(` as a word of its own, and not its definition.
fn calls(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(start, _)| {
        let before = line.get(..start).unwrap_or_default();
        let after = line.get(start + name.len()..).unwrap_or_default();
        let whole = !before.ends_with(|letter: char| letter.is_ascii_alphanumeric() || letter == '_');
        whole && !before.trim_end().ends_with("fn") && (after.starts_with('(') || after.starts_with("::<"))
    })
}

/// Keys of `/health` that only look like metrics.
const HEALTH_KEYS: [&str; 1] = ["websocket_status"];

fn is_metric(literal: &str) -> bool {
    if HEALTH_KEYS.contains(&literal) {
        return false;
    }
    let ours = ["websocket_", "dashstream_", "replay_buffer_"].iter().any(|prefix| literal.starts_with(prefix));
    ours && literal.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}
