//! Every command, in every form that it offers, prints what is committed in `tests/it/golden`, byte for byte: of one
//! topic with fixed ids and times, a hundred columns wide, in UTC. Nothing is left out: the forms are those that
//! `--help` offers, and each has its file.
//!
//! Where a value cannot be fixed (the name of a topic, how much was made up within a second), that value alone is
//! replaced by its name.

use std::collections::BTreeSet;

use crate::harness::broker::scratch;
use crate::harness::command::{Answer, answer, answer_with, of_topic};
use crate::harness::golden;
use crate::harness::kafka::Kafka;
use crate::harness::seeded;

/// Commands that read: which one, in which form, of what.
const READS: &[(&str, &str, &[&str])] = &[
    ("tail", "human", &["--from", "earliest"]),
    ("tail", "json", &["--from", "earliest", "--thread", "run-2"]),
    ("tail", "jsonl", &["--from", "earliest"]),
    ("tail", "csv", &["--from", "earliest"]),
    ("replay", "human", &["--thread", "run-1", "--speed", "0"]),
    ("replay", "json", &["--thread", "run-1", "--speed", "1000"]),
    ("replay", "jsonl", &["--thread", "run-3", "--speed", "0", "--stop-on-error"]),
    ("replay", "csv", &["--thread", "run-2", "--speed", "0"]),
    ("export", "json", &[]),
    ("export", "jsonl", &[]),
    ("export", "csv", &[]),
    ("export", "otlp", &[]),
    ("runs", "human", &[]),
    ("runs", "json", &[]),
    ("runs", "jsonl", &[]),
    ("runs", "csv", &[]),
    ("inspect", "human", &["--thread", "run-1", "--price", PRICE]),
    ("inspect", "json", &["--thread", "run-1", "--price", PRICE]),
    ("inspect", "otlp", &["--thread", "run-1"]),
    ("diff", "human", &["--thread", "run-1,run-3"]),
    ("diff", "json", &["--thread", "run-1,run-3"]),
    ("costs", "human", &["--by", "run", "--price", PRICE]),
    ("costs", "json", &["--by", "run", "--price", PRICE]),
    ("costs", "csv", &["--by", "run", "--price", PRICE]),
    ("profile", "human", &["--thread", "run-1", "--price", PRICE]),
    ("profile", "json", &["--thread", "run-1", "--price", PRICE]),
    ("flamegraph", "svg", &["--thread", "run-1"]),
    ("flamegraph", "folded", &["--thread", "run-1"]),
];
const PRICE: &str = "model-a=2.50/10";

/// What is more than one form of one command.
const ALSO: [(&str, &[&str]); 2] = [
    ("tail.color.txt", &["tail", "--from", "earliest", "--color", "always"]),
    ("tail.last.txt", &["tail", "--from", "-2"]),
];

fn file(command: &str, form: &str) -> String {
    let ending = match form {
        "human" | "text" | "folded" => "txt",
        "otlp" => "otlp.json",
        form => form,
    };
    format!("{}.{ending}", command.replace(' ', "_"))
}

/// What was shown, and what of it is not as committed.
#[derive(Default)]
struct Shown {
    forms: BTreeSet<(String, String)>,
    complaints: Vec<String>,
}

impl Shown {
    fn take(&mut self, command: &str, form: &str, text: &str) {
        self.forms.insert((command.to_owned(), form.to_owned()));
        self.complaints.extend(golden::complaint(&file(command, form), text));
    }
}

#[test]
fn every_form_of_every_command_is_as_committed() {
    let kafka = Kafka::shared();
    let topic = seeded::topic(&kafka);
    let mut shown = Shown::default();
    // What stands beside the output is committed too.
    let mut remarks = String::new();
    for (command, form, of) in READS {
        let arguments = [&[*command], *of, &["--output", form]].concat();
        let answer = of_topic(&kafka, &topic, &arguments).expect(command);
        shown.take(command, form, &answer.out);
        let line = arguments.join(" ");
        let said = answer.err.lines().map(|said| format!("  {said}\n")).collect::<String>();
        remarks.push_str(&format!("dashstream {line}\n{said}"));
    }
    shown.complaints.extend(golden::complaint("remarks.txt", &remarks));
    for (name, arguments) in ALSO {
        let answer = of_topic(&kafka, &topic, arguments).expect(name);
        shown.complaints.extend(golden::complaint(name, &answer.out));
    }
    topics(&kafka, &mut shown);
    produce(&kafka, &mut shown);
    simulate(&kafka, &mut shown);
    check_config(&mut shown);
    assert!(shown.complaints.is_empty(), "{}", shown.complaints.join("\n"));
    assert_eq!(shown.forms, offered(), "the forms that --help offers, on the right, are all shown");
    // A form that is shown has its file, and no file is a leftover of one that is not.
    let names: BTreeSet<String> = golden::names().into_iter().collect();
    let of_forms = shown.forms.iter().map(|(command, form)| file(command, form));
    let expected: BTreeSet<String> =
        of_forms.chain(ALSO.map(|(name, _)| name.to_owned())).chain(["remarks.txt".to_owned()]).collect();
    let leftover: Vec<_> = names.difference(&expected).filter(|name| !name.starts_with("told.")).collect();
    assert_eq!(leftover, [&""; 0], "what belongs to the runs that are told in another file begins with `told.`");
}

/// One topic that differs, one that is not there, one that is as declared.
fn topics(kafka: &Kafka, shown: &mut Shown) {
    let folder = scratch("golden");
    let file = folder.join("dashstream.toml");
    for form in ["text", "json"] {
        let [differs, absent, equal] = ["agents", "agents-dlq", "tools"].map(|name| (kafka.fresh_name(name), name));
        kafka.create(&differs.0, 2, &[("retention.ms", "3600000"), ("compression.type", "gzip")]);
        kafka.create(&equal.0, 1, &[("retention.ms", "86400000")]);
        let declared = format!(
            "[topics.{}]\npartitions = 4\nreplication_factor = 1\nretention = \"7d\"\ncompression_type = \"zstd\"\n\
             max_message_bytes = \"1MiB\"\n[topics.{}]\npreset = \"dlq\"\n\
             [topics.{}]\npartitions = 1\nreplication_factor = 1\nretention = \"1d\"\n",
            differs.0, absent.0, equal.0
        );
        std::fs::write(&file, declared).expect("the file is written");
        let path = file.to_str().expect("UTF-8");
        let environment = [("KAFKA_BROKERS", kafka.brokers.as_str())];
        // In this order: the last two see what `apply` did.
        for (command, code) in [("plan", 0), ("apply", 3), ("check", 3), ("describe", 0)] {
            let mut arguments = vec!["topics", command, "--config", path, "--output", form];
            if command == "describe" {
                arguments.extend([differs.0.as_str(), absent.0.as_str(), equal.0.as_str()]);
            }
            let answer = answer_with(&arguments, &environment);
            assert_eq!(answer.code, Some(code), "{command}: {answer:?}");
            // The longest name first: the others are no part of it.
            let text = [&absent, &differs, &equal]
                .into_iter()
                .fold(answer.out, |text, (name, shown)| text.replace(name.as_str(), shown));
            shown.take(&format!("topics {command}"), form, &text);
        }
    }
    std::fs::remove_dir_all(folder).expect("ours");
}

/// What was exported, sent again.
fn produce(kafka: &Kafka, shown: &mut Shown) {
    let path = format!("{}/tests/it/golden/export.jsonl", env!("CARGO_MANIFEST_DIR"));
    for form in ["text", "json"] {
        let topic = kafka.topic("golden", 1);
        let answer = of_topic(kafka, &topic, &["produce", &path, "--output", form]).expect("produce");
        shown.take("produce", form, &answer.out);
    }
}

/// How much is sent within a second is not known before; that all of it is there is.
fn simulate(kafka: &Kafka, shown: &mut Shown) {
    for form in ["text", "json"] {
        let topic = kafka.topic("golden", 2);
        let arguments = ["simulate", "--rate", "500", "--seconds", "1", "--seed", "7", "--output", form];
        let answer = of_topic(kafka, &topic, &arguments).expect("simulate");
        let events = of_topic(kafka, &topic, &["export", "--output", "jsonl"]).expect("export").objects().len();
        let records = kafka.read(&topic).len();
        assert!(events > records && records > 20, "{events} events in {records} records");
        // Where they stand, and nowhere else: a rate may be the same number.
        let counted = [
            (format!("{events} events in {records} records: {records} "), "EVENTS events in RECORDS records: RECORDS "),
            (format!("\"acknowledged\":{records},\"events\":{events},"), "\"acknowledged\":RECORDS,\"events\":EVENTS,"),
            (format!("\"records\":{records},"), "\"records\":RECORDS,"),
        ];
        let text = answer.out.replace(&topic, "agents");
        let text = counted.iter().fold(text, |text, (numbers, names)| text.replace(numbers, names));
        shown.take("simulate", form, &text);
    }
}

/// Everything that is of this machine is set: its name and its cores.
fn check_config(shown: &mut Shown) {
    let fixed = [("KAFKA_GROUP_ID", "dashstream-here"), ("DASHSTREAM_SERVER_SHARDS", "2"), ("KAFKA_SASL_USERNAME", "")];
    for form in ["text", "json"] {
        let answer = answer_with(&["check-config", "--partitions", "64", "--output", form], &fixed);
        shown.take("check-config", form, &answer.expect("check-config").out);
    }
}

/// Every form of every command, as `--help` offers them.
fn offered() -> BTreeSet<(String, String)> {
    let mut offered = BTreeSet::new();
    let mut commands = vec![Vec::new()];
    while let Some(command) = commands.pop() {
        let help = help(&command);
        for name in subcommands(&help.out) {
            commands.push([&command[..], &[name]].concat());
        }
        let forms = forms(&help.out);
        offered.extend(forms.into_iter().map(|form| (command.join(" "), form)));
    }
    assert!(offered.len() > 30, "they were found: {offered:?}");
    offered
}

fn help(command: &[String]) -> Answer {
    let arguments: Vec<&str> = command.iter().map(String::as_str).chain(["--help"]).collect();
    answer(&arguments).expect("help")
}

fn subcommands(help: &str) -> Vec<String> {
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names = listed.take_while(|line| !line.is_empty()).filter(|line| !line.starts_with("   "));
    names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").map(str::to_owned).collect()
}

/// The possible values of `--output`.
fn forms(help: &str) -> Vec<String> {
    let is_flag = |line: &&str| line.trim_start().starts_with('-');
    let from = help.lines().skip_while(|line| !(is_flag(line) && line.contains("--output <FORM>")));
    let mut block = from.skip(1).take_while(|line| !is_flag(line));
    let values = block.find_map(|line| line.trim().strip_prefix("[possible values: ")?.strip_suffix(']'));
    values.map(|values| values.split(", ").map(str::to_owned).collect()).unwrap_or_default()
}
