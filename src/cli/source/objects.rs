//! Events out of any stream of bytes that holds what `export` writes, one after the other, for whoever sends them on.
//!
//! Deliberately absent: filters, gaps and duplicates, which are for who reads a file as a source.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::path::Path;

use super::super::stop::Stop;
use super::SourceError;
use super::split::{SplitError, Splitter};
use super::thaw::{Thawed, thaw};
use crate::wire::proto::DashStreamMessage;

/// Read at once.
const PIECE_BYTES: usize = 64 << 10;
/// How fast a wish to stop is seen while a pipe is silent.
const LOOK_MS: i32 = 50;

/// How far it came.
#[derive(Clone, Copy, Default, Debug)]
pub(in crate::cli) struct Came {
    /// Findings, and records that could not be read.
    pub(in crate::cli) passed_over: u64,
    /// Nothing comes after what was handed over.
    pub(in crate::cli) to_the_end: bool,
}

enum Failed<E> {
    Input(String),
    Handler(E),
}

impl<E> From<SplitError> for Failed<E> {
    fn from(error: SplitError) -> Self {
        Self::Input(error.to_string())
    }
}

/// Hands every event of `input` to `each`, with its number, until that fails or says that it is enough, or somebody asks
/// to stop while nothing comes. What an export has besides events is passed over and counted.
///
/// # Errors
/// [`SourceError`] where `input` is no export or cannot be read, named by `path` and the number of the object; and
/// whatever `each` says.
pub(in crate::cli) fn each_event<E: From<SourceError>>(
    input: &mut File,
    path: &Path,
    stop: &Stop,
    mut each: impl FnMut(u64, DashStreamMessage) -> Result<bool, E>,
) -> Result<Came, E> {
    let (mut splitter, mut piece) = (Splitter::default(), vec![0; PIECE_BYTES]);
    let (mut objects, mut passed_over, mut enough) = (0u64, 0u64, false);
    let not_an_export = |what: String| SourceError::NotAnExport { path: path.to_owned(), what };
    while !enough {
        let length = match next_piece(input, &mut piece, stop) {
            Ok(Some(length)) => length,
            Ok(None) => break,
            Err(source) => return Err(SourceError::File { path: path.to_owned(), source }.into()),
        };
        if length == 0 {
            splitter.end().map_err(|error| E::from(not_an_export(error.to_string())))?;
            return Ok(Came { passed_over, to_the_end: true });
        }
        let fed = splitter.feed(piece.get(..length).unwrap_or_default(), |object| {
            objects += 1;
            if enough {
                return Ok(());
            }
            match thaw(object).map_err(|error| Failed::Input(format!("object {objects}: {error}")))? {
                Thawed::Event(seen) => {
                    enough = !each(objects, seen.message).map_err(Failed::Handler)?;
                }
                Thawed::Bad(_) | Thawed::Gap(_) | Thawed::Finding => passed_over += 1,
            }
            Ok(())
        });
        match fed {
            Ok(()) => {}
            Err(Failed::Input(what)) => return Err(not_an_export(what).into()),
            Err(Failed::Handler(error)) => return Err(error),
        }
    }
    Ok(Came { passed_over, to_the_end: false })
}

/// How many bytes there are, zero at the end. None: somebody asks to stop, and there is nothing yet.
fn next_piece(input: &mut File, piece: &mut [u8], stop: &Stop) -> io::Result<Option<usize>> {
    loop {
        let mut waiting = libc::pollfd { fd: input.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid pollfd, which poll only fills in, of a file that is open.
        let ready = unsafe { libc::poll(&raw mut waiting, 1, LOOK_MS) };
        // What poll cannot tell, reading does.
        let silent = ready == 0 || (ready < 0 && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted);
        if !silent {
            match input.read(piece) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read.map(Some),
            }
        }
        if silent && stop.is_asked() {
            return Ok(None);
        }
    }
}
