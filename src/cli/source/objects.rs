//! Events out of any stream of bytes that holds what `export` writes, one after the other, for whoever sends them on.
//!
//! Deliberately absent: filters, gaps and duplicates, which are for who reads a file as a source.

use std::io::Read;
use std::path::Path;

use super::SourceError;
use super::split::{SplitError, Splitter};
use super::thaw::{Thawed, thaw};
use crate::wire::proto::DashStreamMessage;

/// Read at once.
const PIECE_BYTES: usize = 64 << 10;

enum Failed<E> {
    Input(String),
    Handler(E),
}

impl<E> From<SplitError> for Failed<E> {
    fn from(error: SplitError) -> Self {
        Self::Input(error.to_string())
    }
}

/// Hands every event of `input` to `each`, with its number, until that fails or says that it is enough. What an export
/// has besides events (findings, records that could not be read) is passed over and counted in the return value.
///
/// # Errors
/// [`SourceError`] where `input` is no export or cannot be read, named by `path` and the number of the object; and
/// whatever `each` says.
pub(in crate::cli) fn each_event<E: From<SourceError>>(
    input: &mut dyn Read,
    path: &Path,
    mut each: impl FnMut(u64, DashStreamMessage) -> Result<bool, E>,
) -> Result<u64, E> {
    let (mut splitter, mut piece) = (Splitter::default(), vec![0; PIECE_BYTES]);
    let (mut objects, mut passed_over, mut enough) = (0u64, 0u64, false);
    let not_an_export = |what: String| SourceError::NotAnExport { path: path.to_owned(), what };
    while !enough {
        let length = match input.read(&mut piece) {
            Ok(length) => length,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(SourceError::File { path: path.to_owned(), source }.into()),
        };
        if length == 0 {
            splitter.end().map_err(|error| E::from(not_an_export(error.to_string())))?;
            break;
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
                Thawed::Bad(_) | Thawed::Gap(_) | Thawed::Missing(_) | Thawed::Duplicate => passed_over += 1,
            }
            Ok(())
        });
        match fed {
            Ok(()) => {}
            Err(Failed::Input(what)) => return Err(not_an_export(what).into()),
            Err(Failed::Handler(error)) => return Err(error),
        }
    }
    Ok(passed_over)
}
