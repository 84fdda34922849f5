//! A cursor in a file: written beside it, synced, and renamed over it, so that a crash leaves the old one or the new.
//!
//! The file is text for people who look at it: the stream, then one line per partition with the next offset wanted,
//! then the number of those lines, by which a cut file is known.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::cursor::Cursor;
use super::error::StoreError;
use super::store::CursorStore;

const HEAD: &str = "dashstream cursor 1";
/// Far more than the most partitions that a topic may have here. What is longer is no cursor.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// One client, one file: two that share one overwrite each other's place.
#[derive(Clone, Debug)]
pub struct FileStore {
    path: PathBuf,
}

impl FileStore {
    /// The folder must exist; the file need not.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    fn failed(&self, source: io::Error) -> StoreError {
        StoreError::Io { path: self.path.display().to_string(), source }
    }

    fn write(&self, text: &str) -> io::Result<()> {
        let mut name = self.path.file_name().map(OsString::from).ok_or(io::ErrorKind::InvalidInput)?;
        name.push(".new");
        let beside = self.path.with_file_name(name);
        let mut file = File::create(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, &self.path)?;
        // The rename itself is durable only with its folder.
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()
    }
}

impl CursorStore for FileStore {
    fn load(&mut self) -> Result<Option<Cursor>, StoreError> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.failed(error)),
        };
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| self.failed(error))?;
        let damaged = |what| StoreError::Damaged { path: self.path.display().to_string(), what };
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(damaged("too long"));
        }
        let text = String::from_utf8(bytes).map_err(|_| damaged("not text"))?;
        read(&text).map(Some).map_err(damaged)
    }

    fn save(&mut self, cursor: &Cursor) -> Result<(), StoreError> {
        self.write(&written(cursor)).map_err(|error| self.failed(error))
    }
}

fn written(cursor: &Cursor) -> String {
    let mut text = format!("{HEAD}\nstream {}\n", cursor.stream);
    for (partition, next) in &cursor.next {
        text.push_str(&format!("{partition} {next}\n"));
    }
    text.push_str(&format!("end {}\n", cursor.next.len()));
    text
}

fn read(text: &str) -> Result<Cursor, &'static str> {
    let mut lines = text.lines();
    if lines.next() != Some(HEAD) {
        return Err("it does not begin as one");
    }
    let stream = lines.next().and_then(|line| line.strip_prefix("stream ")).ok_or("it names no stream")?;
    let mut next = BTreeMap::new();
    for line in &mut lines {
        let (name, number) = line.split_once(' ').ok_or("a line is not two numbers")?;
        let number: u64 = number.parse().map_err(|_| "a line is not two numbers")?;
        if name == "end" {
            let whole = number == next.len() as u64 && lines.next().is_none() && text.ends_with('\n');
            return if whole { Ok(Cursor { stream: stream.to_owned(), next }) } else { Err("lines are missing") };
        }
        let partition = name.parse().map_err(|_| "a line is not two numbers")?;
        if next.insert(partition, number).is_some() {
            return Err("a partition stands there twice");
        }
    }
    Err("its end is missing")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor() -> Cursor {
        Cursor { stream: "v3_a".to_owned(), next: BTreeMap::from([(0, 39), (7, u64::MAX), (12, 0)]) }
    }

    #[test]
    fn what_was_written_is_read_and_what_was_cut_is_refused() {
        let whole = written(&cursor());
        assert_eq!(read(&whole), Ok(cursor()));
        for length in 0..whole.len() {
            assert!(read(&whole[..length]).is_err(), "cut to {length} bytes: {:?}", &whole[..length]);
        }
        for bad in ["", "{}", &whole.replace("7 ", "0 "), &whole.replace("39", "-1"), &format!("{whole}9 9\n")] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_crash_while_writing_leaves_the_cursor_from_before() {
        let folder = std::env::temp_dir().join(format!("dashstream-file-store-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join("a.cursor");
        let mut store = FileStore::new(&path);
        assert_eq!(store.load().expect("no file is no cursor"), None);
        store.save(&cursor()).expect("saved");
        // What a crash before the rename leaves behind.
        fs::write(folder.join("a.cursor.new"), "dashstream cur").expect("written");
        assert_eq!(store.load().expect("whole"), Some(cursor()));
        let later = Cursor { next: BTreeMap::from([(0, 40)]), ..cursor() };
        store.save(&later).expect("saved over it");
        assert_eq!(store.load().expect("whole"), Some(later));
        assert!(!folder.join("a.cursor.new").exists());

        fs::write(&path, "dashstream cur").expect("written");
        assert!(matches!(store.load(), Err(StoreError::Damaged { .. })));
        assert!(matches!(FileStore::new(folder.join("no/such")).save(&cursor()), Err(StoreError::Io { .. })));
        fs::remove_dir_all(&folder).expect("removed");
    }
}
