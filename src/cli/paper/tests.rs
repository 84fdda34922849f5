//! Whatever stood under the name is replaced as a whole or not at all, and nothing is left beside it.

use std::io::Read as _;
use std::os::unix::fs::symlink;
use std::process::Command;

use super::*;

/// An empty folder, removed in the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("dashstream-paper-{}-{name}", std::process::id()));
        std::fs::remove_dir_all(&path).ok();
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).expect("the folder");
        let mut names: Vec<_> =
            entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

fn written(path: &Path, text: &str) -> Result<(), CliError> {
    let mut paper = Paper::open(path, &Stop::default())?;
    paper.write_all(text.as_bytes())?;
    paper.finish()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).expect("a file")
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("a file").mode() & 0o7777
}

#[test]
fn what_is_not_finished_leaves_what_was_there_and_nothing_else() {
    let folder = Folder::new("unfinished");
    let path = folder.path("runs.json");
    std::fs::write(&path, "old").expect("a file");
    let mut paper = Paper::open(&path, &Stop::default()).expect("it opens");
    paper.write_all(b"half").expect("it is written");
    assert_eq!(folder.names().len(), 2, "it is written beside its place: {:?}", folder.names());
    drop(paper);
    assert_eq!((read(&path).as_str(), folder.names()), ("old", vec!["runs.json".to_owned()]));
    written(&path, "new").expect("it is written");
    assert_eq!((read(&path).as_str(), folder.names()), ("new", vec!["runs.json".to_owned()]));
}

#[test]
fn two_at_once_do_not_mix() {
    let folder = Folder::new("two");
    let path = folder.path("a");
    let [mut one, mut other] = [(); 2].map(|()| Paper::open(&path, &Stop::default()).expect("it opens"));
    one.write_all(b"the longer one").expect("it is written");
    other.write_all(b"other").expect("it is written");
    one.finish().expect("moved");
    assert_eq!(read(&path), "the longer one");
    other.finish().expect("moved");
    assert_eq!((read(&path).as_str(), folder.names().len()), ("other", 1));
}

#[test]
fn folders_and_names_that_cannot_be_are_refused_without_a_trace() {
    let folder = Folder::new("refused");
    let is_refused = |path: &Path| written(path, "x").expect_err("refused").exit_code() == 1;
    assert!(is_refused(&folder.0) && is_refused(&folder.path("no/such/folder")) && is_refused(&folder.path("new/")));
    assert!(is_refused(Path::new("")) && is_refused(Path::new("..")));
    symlink("loop", folder.path("loop")).expect("a link");
    assert!(is_refused(&folder.path("loop")));
    assert_eq!(folder.names(), ["loop"]);
    // As long as a name may be.
    let long = "x".repeat(255);
    written(&folder.path(&long), "x").expect("it is written");
    assert_eq!(folder.names(), ["loop".to_owned(), long]);
}

#[test]
fn links_are_followed_and_permissions_kept() {
    let folder = Folder::new("links");
    std::fs::create_dir(folder.path("real")).expect("a folder");
    let real = folder.path("real/secret.json");
    std::fs::write(&real, "old").expect("a file");
    std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o600)).expect("ours");
    symlink("real/secret.json", folder.path("link")).expect("a link");
    symlink("link", folder.path("link to the link")).expect("a link");
    written(&folder.path("link to the link"), "new").expect("it is written");
    assert_eq!((read(&real).as_str(), mode(&real)), ("new", 0o600));
    assert!(std::fs::symlink_metadata(folder.path("link")).expect("there").is_symlink());
    std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o664)).expect("ours");
    written(&real, "newer").expect("it is written");
    assert_eq!((read(&real).as_str(), mode(&real)), ("newer", 0o664));
    // A link to what is not there yet.
    symlink("real/later", folder.path("later")).expect("a link");
    written(&folder.path("later"), "now").expect("it is written");
    assert_eq!(read(&folder.path("real/later")), "now");
    assert!(std::fs::symlink_metadata(folder.path("later")).expect("there").is_symlink());
}

#[test]
fn what_is_no_file_is_written_as_it_is() {
    written(Path::new("/dev/null"), "nobody reads it").expect("it is written");
    assert!(std::fs::metadata("/dev/null").expect("there").file_type().is_char_device());
    let folder = Folder::new("pipe");
    let pipe = folder.path("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
    let stop = Stop::default();
    stop.ask();
    let nobody = Paper::open(&pipe, &stop).expect_err("nobody reads it");
    assert_eq!((nobody.exit_code(), nobody.is_silent()), (1, false));
    let mut reader = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&pipe).expect("it opens");
    written(&pipe, "through it").expect("it is written");
    let mut text = String::new();
    reader.read_to_string(&mut text).expect("text");
    assert_eq!((text.as_str(), folder.names()), ("through it", vec!["pipe".to_owned()]));
    assert!(std::fs::metadata(&pipe).expect("there").file_type().is_fifo());
}
