//! Where a cursor is kept between two runs.

use super::cursor::Cursor;
use super::error::StoreError;

/// Keeps one cursor of one client. Called from the thread that runs the client, at most once per
/// [`super::Builder::save_interval`] and at the end of a run.
pub trait CursorStore {
    /// `None`: nothing was saved yet.
    ///
    /// # Errors
    /// When it cannot be known whether there is one. The client then does not start: beginning anew by mistake would
    /// repeat or lose records.
    fn load(&mut self) -> Result<Option<Cursor>, StoreError>;

    /// Replaces what was saved, all or nothing: a crash must leave the old cursor or the new one.
    ///
    /// # Errors
    /// End the run; the store still has what it had.
    fn save(&mut self, cursor: &Cursor) -> Result<(), StoreError>;
}

impl<S: CursorStore + ?Sized> CursorStore for Box<S> {
    fn load(&mut self) -> Result<Option<Cursor>, StoreError> {
        (**self).load()
    }

    fn save(&mut self, cursor: &Cursor) -> Result<(), StoreError> {
        (**self).save(cursor)
    }
}

/// Forgets with the process: for viewers, and for those who keep the cursor with their own data.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    pub cursor: Option<Cursor>,
}

impl CursorStore for MemoryStore {
    fn load(&mut self) -> Result<Option<Cursor>, StoreError> {
        Ok(self.cursor.clone())
    }

    fn save(&mut self, cursor: &Cursor) -> Result<(), StoreError> {
        self.cursor = Some(cursor.clone());
        Ok(())
    }
}
