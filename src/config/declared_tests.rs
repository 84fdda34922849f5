//! Declared topics as the file holds them: read beside the settings, printed as they are meant, refused by name.

use super::tests::{TestFile, refused};
use super::*;

#[test]
fn topics_are_declared_in_the_file_and_printed_as_they_are_meant() {
    let text = "[topics]\ncheck_at_start = true\n[topics.dashstream-quality]\npreset = \"recommended\"\n\
                [topics.\"a.b\"]\npartitions = 1\nreplication_factor = 1\nretention = \"36h\"\n";
    let file = TestFile::new("topics.toml", text);
    let first = load(&Inputs { file: Some(file.0.clone()), ..Inputs::default() }).expect("all is allowed");
    assert!(first.config.topics.check_at_start);
    let names: Vec<_> = first.config.topics.declared.iter().map(|topic| topic.name.as_str()).collect();
    assert_eq!(names, ["a.b", "dashstream-quality"]);
    let printed = TestFile::new("topics-printed.toml", &first.to_text());
    let second = load(&Inputs { file: Some(printed.0.clone()), ..Inputs::default() }).expect("it was printed by us");
    let meant = |loaded: &Loaded| loaded.config.topics.declared.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(meant(&second)[0], meant(&first)[0]);
    assert!(first.to_json(None)["topics"][1]["settings"]["min.insync.replicas"] == "2");

    let refused_in = |text: &str, parts: &[&str]| {
        let file = TestFile::new("topics-wrong.toml", text);
        refused(&Inputs { file: Some(file.0.clone()), ..Inputs::default() }, parts);
    };
    refused_in("[topics.x]\npreset = \"dve\"\n", &["topics.x", "\"dve\"", "recommended"]);
    refused_in("[topics.a.b]\npreset = \"dev\"\n[topics.a]\npreset = \"dev\"\n", &["topics.a", "[topics.\"a.b\"]"]);
    refused_in(
        "[kafka]\npartitions_max = 8\n[topics.dashstream-quality]\npreset = \"dev\"\npartitions = 9\n",
        &["topics.dashstream-quality", "partitions = 9", "kafka.partitions_max = 8"],
    );
    refused_in("[topics]\ntimeuot = 3\n", &["topics.timeuot", "did you mean topics.timeout?"]);
}
