//! The command line as a user meets it: what is understood, what is refused, and with which exit code.

use super::*;
use crate::demo::DemoOptions;
use crate::words::CloseReason;

fn answer(arguments: &[&str]) -> Result<String, CliError> {
    let arguments = std::iter::once("dashstream").chain(arguments.iter().copied()).map(OsString::from);
    let mut output = Vec::new();
    run(arguments, &mut output)?;
    Ok(String::from_utf8(output).expect("answers are UTF-8"))
}

fn refused(arguments: &[&str], exit_code: u8, parts: &[&str]) {
    let error = answer(arguments).err().unwrap_or_else(|| panic!("accepted: {arguments:?}"));
    assert_eq!(error.exit_code(), exit_code, "{arguments:?}: {error}");
    for part in parts {
        assert!(error.to_string().contains(part), "{part:?} is missing in: {error}");
    }
}

#[test]
fn the_command_line_holds_together() {
    command().debug_assert();
}

#[test]
fn every_setting_that_is_no_secret_is_a_flag_and_no_secret_is() {
    for name in ["serve", "check-config"] {
        let command = command();
        let command = command.find_subcommand(name).expect("the command exists");
        let flags: Vec<_> = command.get_arguments().filter_map(|arg| arg.get_long()).collect();
        for key in &crate::config::table::KEYS {
            assert_eq!(flags.contains(&key.flag_name().as_str()), !key.secret, "{name}: {}", key.full_name());
        }
    }
}

/// Every command, with the words that lead to it.
fn all_commands() -> Vec<(Vec<String>, Command)> {
    let mut program = command();
    program.build();
    let mut all = Vec::new();
    let mut next = vec![(vec!["dashstream".to_owned()], program)];
    while let Some((words, command)) = next.pop() {
        for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
            next.push(([&words[..], &[inner.get_name().to_owned()]].concat(), inner.clone()));
        }
        all.push((words, command));
    }
    assert!(all.len() > 20, "they were found");
    all
}

#[test]
fn help_teaches_with_an_example() {
    for (words, mut command) in all_commands() {
        let (short, long) = (command.render_help().to_string(), command.render_long_help().to_string());
        let words = words.join(" ");
        for text in [short, long] {
            let example = text.split_once("Example").map_or("", |(_, example)| example);
            assert!(example.contains(&words), "{words} has no example of its own in: {text}");
        }
    }
    let serve = answer(&["serve", "--help"]).expect_err("help comes as an error").to_string();
    for part in ["DASHSTREAM_KAFKA_BROKERS or KAFKA_BROKERS", "256MiB", "Where events come from", "kafka.sasl_password"]
    {
        assert!(serve.contains(part), "{part:?} is missing in: {serve}");
    }
}

/// The part of a help that is about one flag.
fn about_flag(help: &str, flag: &str) -> String {
    let is_flag = |line: &&str| line.starts_with("  ") && line.trim_start().starts_with('-');
    let named = |line: &&str| line.split([' ', ',', '[']).any(|word| word == flag);
    let mut lines = help.lines().skip_while(|line| !(is_flag(line) && named(line)));
    let first = lines.next().unwrap_or_else(|| panic!("{flag} is not in: {help}"));
    let rest = lines.take_while(|line| !is_flag(line) && (line.is_empty() || line.starts_with("   ")));
    std::iter::once(first).chain(rest).flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ")
}

/// Environment names of flags that are no settings.
const ENVIRONMENT: [(&str, &[&str]); 3] =
    [("config", &["DASHSTREAM_CONFIG"]), ("color", &["NO_COLOR", "COLUMNS"]), ("price", &["DASHSTREAM_COSTS_PRICES"])];

#[test]
fn every_flag_says_what_it_does_its_default_and_its_environment() {
    let mut settings = 0;
    for (words, mut command) in all_commands() {
        let help = command.render_long_help().to_string();
        for arg in command.get_arguments() {
            let Some(flag) = arg.get_long().map(|long| format!("--{long}")) else { continue };
            let about = about_flag(&help, &flag);
            let says = |part: &str| assert!(about.contains(part), "{words:?}: {part:?} is missing in: {about}");
            assert!(about.len() > flag.len() + 10, "{words:?} says nothing about {flag}");
            for value in arg.get_default_values().iter().filter(|_| arg.get_action().takes_values()) {
                says(&format!("[default: {}]", value.display()));
            }
            if let Some(key) = crate::config::table::KEYS.iter().find(|key| key.full_name() == arg.get_id().as_str()) {
                settings += 1;
                let default = key.default_shown();
                says(&format!("[default: {}]", default.split_whitespace().collect::<Vec<_>>().join(" ")));
                says(&key.environment_name());
                crate::config::predecessor::names_of(&key.full_name()).for_each(&says);
            }
            let names = ENVIRONMENT.iter().filter(|(name, _)| arg.get_id() == *name).flat_map(|(_, names)| *names);
            names.for_each(|name| says(name));
        }
    }
    assert!(settings > 200, "{settings} were looked at");
}

#[test]
fn every_command_has_a_manual_page_that_names_its_flags() {
    for (words, command) in all_commands() {
        let arguments: Vec<&str> = std::iter::once("man").chain(words.iter().skip(1).map(String::as_str)).collect();
        let page = answer(&arguments).expect("there is a page").replace("\\-", "-");
        assert!(page.contains(&format!(".TH {} 1", words.join("-"))), "{page}");
        for flag in command.get_arguments().filter_map(|arg| arg.get_long()) {
            assert!(page.contains(&format!("--{flag}")), "{words:?}: --{flag}");
        }
        // What it refers to is there as well.
        for inner in page.lines().filter_map(|line| line.strip_suffix("(1)")) {
            assert!(all_commands().iter().any(|(words, _)| words.join("-") == inner), "{inner}");
        }
    }
}

#[test]
fn commands_that_read_know_kafka_as_serve_does_and_say_their_defaults() {
    for name in ["tail", "runs", "replay", "export"] {
        let text = answer(&[name, "--help"]).expect_err("help comes as an error").to_string();
        for part in [
            "DASHSTREAM_KAFKA_BROKERS or KAFKA_BROKERS",
            "--kafka-topic",
            "--kafka-ssl-ca-location",
            "[env: NO_COLOR, COLUMNS]",
            "[env: DASHSTREAM_GATEWAY]",
            "[default: auto]",
            "-N (the last N of each partition)",
            "Exit codes",
        ] {
            assert!(text.contains(part), "{name}: {part:?} is missing in: {text}");
        }
        assert!(!text.contains("--server-port"), "{name} serves nobody");
    }
}

#[test]
fn wrong_arguments_and_settings_end_with_two() {
    refused(&[], 2, &["Usage"]);
    refused(&["stream"], 2, &["stream"]);
    refused(&["serve", "--no-such-flag"], 2, &["--no-such-flag"]);
    refused(&["serve", "--log-max-bytes", "lots"], 2, &["log.max_bytes", "lots", "--log-max-bytes"]);
    refused(&["serve", "--server-host", "0.0.0.0"], 2, &["server.allow_unauthenticated"]);
    refused(&["check-config", "--config", "does/not/exist.toml"], 2, &["does/not/exist.toml"]);
    refused(&["check-config", "--lag-check-interval", "-1"], 2, &["lag.check_interval", "-1"]);
    refused(&["check-config", "--kafka-sasl-password", "p"], 2, &["--kafka-sasl-password"]);
    refused(&["demo", "--rate", "19"], 2, &["19", "20"]);
    refused(&["demo", "--rate", "20001"], 2, &["20001"]);
    refused(&["demo", "--port", "65536"], 2, &["65536"]);
    refused(&["demo", "--set", "log.max_bytes"], 2, &["SECTION.KEY=VALUE"]);
    refused(&["demo", "--set", "log.max_byte=1"], 2, &["log.max_byte", "did you mean log.max_bytes?"]);
    refused(&["docs", "everything"], 2, &["everything", "close-codes"]);
    refused(&["tail", "--from", "soon"], 2, &["--from", "soon", "earliest"]);
    refused(&["tail", "--kind", "batch"], 2, &["--kind", "token_chunk"]);
    refused(&["tail", "--limit", "0"], 2, &["--limit"]);
    refused(&["tail", "--gateway", "ws://a", "--file", "b"], 2, &["--gateway", "--file"]);
    refused(&["replay"], 2, &["--thread"]);
    refused(&["replay", "--thread", "a", "--speed", "-1"], 2, &["--speed"]);
    refused(&["export", "--output", "human"], 2, &["jsonl"]);
    refused(&["man", "coffee"], 2, &["coffee", "tail"]);
    refused(&["completions", "tcsh"], 2, &["bash", "zsh", "fish"]);
}

#[test]
fn the_version_is_that_of_the_package() {
    refused(&["--version"], 0, &[env!("CARGO_PKG_VERSION")]);
}

#[test]
fn the_demo_understands_its_options() {
    let check = |arguments: &[&str], expected: DemoOptions| {
        let matches = demo::command().try_get_matches_from(std::iter::once("demo").chain(arguments.iter().copied()));
        assert_eq!(demo::options(&matches.expect("the options are allowed")), Some(expected));
    };
    let plain = DemoOptions { rate: 200, seed: None, port: 3002, poison: true, settings: Vec::new() };
    check(&[], plain.clone());
    check(
        &["--rate", "20000", "--seed", "7", "--port", "0", "--no-poison", "--set", "log.max_bytes=64MiB"],
        DemoOptions {
            rate: 20_000,
            seed: Some(7),
            port: 0,
            poison: false,
            settings: vec![("log.max_bytes".to_owned(), "64MiB".to_owned())],
        },
    );
    check(
        &["--set=a.b=c=d", "--set", "e.f="],
        DemoOptions {
            settings: vec![("a.b".to_owned(), "c=d".to_owned()), ("e.f".to_owned(), String::new())],
            ..plain
        },
    );
}

#[test]
fn check_config_shows_values_sources_and_memory() {
    let text =
        answer(&["check-config", "--kafka-topic", "agents", "--server-allow-unauthenticated", "--partitions", "64"])
            .expect("the settings are allowed");
    let line =
        |start: &str| text.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start}: {text}"));
    assert!(line("topic = \"agents\"").ends_with("# flag --kafka-topic"));
    assert!(line("allow_unauthenticated = true").ends_with("# flag --server-allow-unauthenticated"));
    assert!(text.contains("# Memory, at most, with 64 partitions") && text.contains("with 1024 partitions"), "{text}");
    assert!(text.parse::<toml::Table>().is_ok(), "all of it is a file that can be loaded: {text}");

    let json = answer(&["check-config", "--output", "json", "--partitions", "64"]).expect("the settings are allowed");
    let json: serde_json::Value = serde_json::from_str(&json).expect("it is JSON");
    let sums: Vec<_> = json["memory"].as_array().into_iter().flatten().map(|sum| &sum["partitions"]).collect();
    assert_eq!(sums, [64, 1_024]);
}

#[test]
fn every_table_of_the_documentation_is_printed() {
    for (name, rows_min) in [
        ("producer-metrics", 20),
        ("config", 60),
        ("retired", 30),
        ("metrics", 40),
        ("close-codes", CloseReason::ALL.len()),
    ] {
        let text = answer(&["docs", name]).expect("the table exists");
        let rows = text.lines().filter(|line| line.starts_with("| ")).count();
        assert!(rows >= rows_min, "{name} has {rows} rows");
    }
    assert!(docs::close_codes().contains("| 1001 | `shutting_down` |"));
}

#[test]
fn the_readme_shows_what_the_code_prints() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).expect("there is a README");
    for (name, print) in docs::TABLES {
        assert!(
            readme.contains(print().trim_end()),
            "the table {name:?} is not as printed: dashstream docs --write README.md"
        );
    }
    assert_eq!(docs::renewed(&readme), readme);
}

#[test]
fn marked_tables_are_renewed_and_the_rest_is_left_alone() {
    let text = "# A\n<!-- printed by: dashstream docs close-codes -->\nold\n<!-- end of print -->\nB\n";
    let renewed = docs::renewed(text);
    assert!(renewed.starts_with("# A\n<!-- printed by: dashstream docs close-codes -->\n\n| code |"), "{renewed}");
    assert!(renewed.ends_with("|\n<!-- end of print -->\nB\n") && !renewed.contains("old"), "{renewed}");
    let unmarked = "# A\n<!-- printed by: dashstream docs close-codes -->\nno end\n";
    assert_eq!(docs::renewed(unmarked), unmarked);
}
