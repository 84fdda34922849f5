//! What `--to` names: a file that appears under its name when it is complete, and not before.
//!
//! It is written beside its place under a name of this process and moved there at the end; whatever goes wrong before,
//! what stood there stays, and nothing is left beside it. A link is followed, the permissions of a file that is replaced
//! are kept, and what is no file (a named pipe, a device) is written as it is.

use std::ffi::{OsStr, OsString};
use std::fs::{File, FileType, Metadata, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Arg;
use clap::builder::PathBufValueParser;

use super::CliError;
use super::stop::Stop;

/// As many as the system follows.
const LINKS_MAX: u32 = 40;
/// Of a name so much is kept beside its place, so that what is added has room in the 255 bytes that a name may have.
const NAME_BYTES_MAX: usize = 200;
/// A process that was killed may have left its draft, and its number comes again: in a container it is always the same.
const NAMES_MAX: u32 = 1_000;
/// How often it is looked whether somebody reads a named pipe.
const LOOK: Duration = Duration::from_millis(50);

/// `--to`.
pub(super) fn to_file(heading: &'static str) -> Arg {
    Arg::new("to")
        .long("to")
        .value_name("FILE")
        .value_parser(PathBufValueParser::new())
        .help(
            "Write to this file instead of standard output; it appears when it is complete: after Ctrl-C or a failure \
             what stood there stays (exit code 1)",
        )
        .help_heading(heading)
}

/// Dropped before [`Paper::finish`], it leaves nothing.
#[derive(Debug)]
pub(super) struct Paper {
    file: File,
    /// As the person named it.
    named: PathBuf,
    /// `None`: it is no file, and is written as it is.
    draft: Option<Draft>,
}

/// Removed when it is dropped, unless it was moved to its place.
#[derive(Debug)]
struct Draft {
    path: PathBuf,
    place: PathBuf,
    moved: bool,
}

impl Paper {
    pub(super) fn open(named: &Path, stop: &Stop) -> Result<Self, CliError> {
        let failed = |source| CliError::File { path: named.to_owned(), source };
        let found = match std::fs::metadata(named) {
            Ok(found) => Some(found),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(failed(error)),
        };
        match &found {
            Some(found) if found.is_dir() => Err(failed(ErrorKind::IsADirectory.into())),
            Some(found) if !found.is_file() => match opened(named, found.file_type(), stop).map_err(failed)? {
                Some(file) => Ok(Self { file, named: named.to_owned(), draft: None }),
                None => Err(CliError::CutShort(named.to_owned())),
            },
            _ => {
                let (file, draft) = Draft::beside(place(named).map_err(failed)?, found.as_ref()).map_err(failed)?;
                Ok(Self { file, named: named.to_owned(), draft: Some(draft) })
            }
        }
    }

    /// All was written: it appears under its name.
    pub(super) fn finish(self) -> Result<(), CliError> {
        let Self { file, named, draft } = self;
        let Some(mut draft) = draft else { return Ok(()) };
        // Or a name could stand after a crash for a file without its contents.
        let moved = file.sync_all().and_then(|()| std::fs::rename(&draft.path, &draft.place));
        draft.moved = moved.is_ok();
        moved.map_err(|source| CliError::File { path: named, source })
    }

    /// Somebody asked to end before all was there.
    pub(super) fn cut_short(&self) -> CliError {
        match self.draft {
            Some(_) => CliError::Unmade(self.named.clone()),
            None => CliError::CutShort(self.named.clone()),
        }
    }

    /// What went wrong, with the name of the file where it is about writing it.
    pub(super) fn named(&self, error: CliError) -> CliError {
        match error {
            CliError::Output(source) if source.kind() != ErrorKind::BrokenPipe => {
                CliError::File { path: self.named.clone(), source }
            }
            CliError::Stopped => self.cut_short(),
            error => error,
        }
    }
}

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl Draft {
    /// A new file in the folder of `place`, with the permissions of what it will replace.
    fn beside(place: PathBuf, replaced: Option<&Metadata>) -> std::io::Result<(File, Self)> {
        let name = place.file_name().ok_or(ErrorKind::InvalidInput)?;
        let folder = place.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        if replaced.is_some() {
            // Nobody reads it before it has the permissions of the old one.
            options.mode(0o600);
        }
        let mut number = 0;
        let (file, path) = loop {
            let path = folder.join(draft_name(name, number));
            match options.open(&path) {
                Ok(file) => break (file, path),
                Err(error) if error.kind() == ErrorKind::AlreadyExists && number < NAMES_MAX => number += 1,
                Err(error) => return Err(error),
            }
        };
        let draft = Self { path, place, moved: false };
        if let Some(replaced) = replaced {
            // Only root may give a file away; who may not has it as its own, which is what replacing means.
            std::os::unix::fs::fchown(&file, Some(replaced.uid()), Some(replaced.gid())).ok();
            file.set_permissions(std::fs::Permissions::from_mode(replaced.mode() & 0o7777))?;
        }
        Ok((file, draft))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.moved {
            // What failed is the news; what is left of the file helps nobody.
            std::fs::remove_file(&self.path).ok();
        }
    }
}

fn draft_name(name: &OsStr, number: u32) -> OsString {
    let kept = name.as_bytes().get(..NAME_BYTES_MAX).map_or(name, OsStr::from_bytes);
    let mut draft = OsString::from(".");
    draft.push(kept);
    draft.push(format!(".{}", std::process::id()));
    if number > 0 {
        draft.push(format!("-{number}"));
    }
    draft.push(".partial");
    draft
}

/// Where a file of this name really stands, or will.
fn place(named: &Path) -> std::io::Result<PathBuf> {
    let mut place = named.to_owned();
    for _ in 0..LINKS_MAX {
        match std::fs::symlink_metadata(&place) {
            Ok(found) if found.is_symlink() => {
                let target = std::fs::read_link(&place)?;
                place = place.parent().unwrap_or(Path::new("")).join(target);
            }
            Ok(_) => return Ok(place),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(place),
            Err(error) => return Err(error),
        }
    }
    Err(std::io::Error::from_raw_os_error(libc::ELOOP))
}

/// What is no file, to be written as it is. `None`: somebody asked to end before anybody read the named pipe.
fn opened(path: &Path, kind: FileType, stop: &Stop) -> std::io::Result<Option<File>> {
    if !kind.is_fifo() {
        return OpenOptions::new().write(true).open(path).map(Some);
    }
    while !stop.is_asked() {
        // Otherwise opening it waits for a reader, and no signal ends that.
        match OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(path) {
            Ok(file) => return wait_for_room(&file).map(|()| Some(file)),
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => stop.wait(LOOK),
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// From here on a write waits until its reader has room.
fn wait_for_room(file: &File) -> std::io::Result<()> {
    // SAFETY: a descriptor that is open; both calls only read and set its flags.
    let done = unsafe {
        let flags = libc::fcntl(file.as_raw_fd(), libc::F_GETFL);
        flags >= 0 && libc::fcntl(file.as_raw_fd(), libc::F_SETFL, flags & !libc::O_NONBLOCK) == 0
    };
    if done { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests;
