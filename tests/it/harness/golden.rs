//! What is committed in `tests/it/golden`, compared byte for byte. `DASHSTREAM_GOLDEN=write` writes it anew, for a
//! person to look at before it is committed.

use std::path::PathBuf;

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/golden").join(name)
}

pub fn read(name: &str) -> String {
    let path = path(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What differs from the committed file, if anything does.
pub fn complaint(name: &str, text: &str) -> Option<String> {
    if std::env::var("DASHSTREAM_GOLDEN").is_ok_and(|wish| wish == "write") {
        std::fs::write(path(name), text).expect("a golden file can be written");
    }
    let expected = std::fs::read_to_string(path(name)).unwrap_or_default();
    if expected == text {
        return None;
    }
    // Line by line, and the missing end of one side as an empty line.
    let count = expected.lines().count().max(text.lines().count());
    let line = |of: &str, number: usize| of.lines().nth(number).unwrap_or_default().to_owned();
    let number = (0..count).find(|number| line(&expected, *number) != line(text, *number)).unwrap_or(count);
    let (committed, now) = (line(&expected, number), line(text, number));
    Some(format!("{name} is not as committed, from line {}:\n- {committed}\n+ {now}", number + 1))
}

pub fn check(name: &str, text: &str) {
    if let Some(complaint) = complaint(name, text) {
        panic!("{complaint}\n{text}");
    }
}

/// The names of all that is committed.
pub fn names() -> Vec<String> {
    let entries = std::fs::read_dir(path("")).expect("golden files");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
