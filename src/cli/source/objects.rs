//! Events out of any stream of bytes that holds what `export` writes, one after the other, for whoever sends them on.
//!
//! Deliberately absent: filters, gaps and duplicates, which are for who reads a file as a source.

use std::path::Path;
use std::time::Duration;

use super::SourceError;
use super::split::{SplitError, Splitter};
use super::tap::Tap;
use super::thaw::{Thawed, thaw};
use crate::cli::stop::Stop;
use crate::wire::proto::DashStreamMessage;

/// Read at once.
const PIECE_BYTES: usize = 64 << 10;
/// How often it is looked whether somebody asked to end, while nothing comes.
const LOOK: Duration = Duration::from_millis(100);

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
/// to stop while nothing comes. What an export has besides events (findings, records that could not be read) is passed
/// over and counted.
///
/// # Errors
/// [`SourceError`] where `input` is no export or cannot be read, named by `path` and the number of the object; and
/// whatever `each` says.
pub(in crate::cli) fn each_event<E: From<SourceError>>(
    input: &mut Tap,
    path: &Path,
    stop: &Stop,
    mut each: impl FnMut(u64, DashStreamMessage) -> Result<bool, E>,
) -> Result<Came, E> {
    let (mut splitter, mut piece) = (Splitter::default(), vec![0; PIECE_BYTES]);
    let (mut objects, mut passed_over, mut enough) = (0u64, 0u64, false);
    let not_an_export = |what: String| SourceError::NotAnExport { path: path.to_owned(), what };
    while !enough {
        let length = match input.pour(&mut piece, LOOK) {
            Ok(Some(length)) => length,
            Ok(None) if stop.is_asked() => break,
            Ok(None) => continue,
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
                Thawed::Bad(_) | Thawed::Gap(_) | Thawed::StreamChanged | Thawed::Missing(_) | Thawed::Duplicate => {
                    passed_over += 1
                }
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
