//! Bytes out of a file, a named pipe or standard input, without a wait that no signal ends: a read that could wait for
//! somebody to write is asked about first, for so long as the caller likes.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

#[derive(Debug)]
pub(in crate::cli) struct Tap {
    file: File,
    /// It is no regular file: there may be nothing for now.
    waits: bool,
    bytes: u64,
}

impl Tap {
    pub(in crate::cli) fn open(path: &Path) -> std::io::Result<Self> {
        // Otherwise opening a named pipe waits for whoever writes.
        Self::of(OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?)
    }

    pub(in crate::cli) fn stdin() -> std::io::Result<Self> {
        Self::of(File::from(std::io::stdin().as_fd().try_clone_to_owned()?))
    }

    fn of(file: File) -> std::io::Result<Self> {
        let found = file.metadata()?;
        Ok(Self { file, waits: !found.is_file(), bytes: found.len() })
    }

    /// As many as a file had when it was opened.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Reads; 0 at the end. `None`: nothing came in so long, or a signal did.
    pub(super) fn pour(&mut self, piece: &mut [u8], wait: Duration) -> std::io::Result<Option<usize>> {
        if self.waits && !self.has_some(wait)? {
            return Ok(None);
        }
        match self.file.read(piece) {
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => Ok(None),
            read => read.map(Some),
        }
    }

    fn has_some(&self, wait: Duration) -> std::io::Result<bool> {
        let mut asked = libc::pollfd { fd: self.file.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let wait_ms = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: one valid pollfd of a descriptor that is open; poll only fills it in.
        match unsafe { libc::poll(&raw mut asked, 1, wait_ms) } {
            0 => Ok(false),
            1.. => Ok(true),
            _ => match std::io::Error::last_os_error() {
                error if error.kind() == ErrorKind::Interrupted => Ok(false),
                error => Err(error),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::process::Command;

    const SHORT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn a_named_pipe_has_nothing_until_somebody_writes_and_ends_when_nobody_does_any_more() {
        let path = std::env::temp_dir().join(format!("dashstream-tap-{}", std::process::id()));
        assert!(Command::new("mkfifo").arg(&path).status().expect("mkfifo runs").success());
        let mut tap = Tap::open(&path).expect("nobody has to write");
        let mut piece = [0; 8];
        assert_eq!(tap.pour(&mut piece, SHORT).expect("read"), None, "not the end: nobody wrote yet");
        let mut writer = OpenOptions::new().write(true).open(&path).expect("it is read");
        assert_eq!(tap.pour(&mut piece, SHORT).expect("read"), None);
        writer.write_all(b"ab").expect("written");
        assert_eq!(tap.pour(&mut piece, LONG).expect("read"), Some(2));
        drop(writer);
        assert_eq!(tap.pour(&mut piece, LONG).expect("read"), Some(0));
        std::fs::remove_file(&path).expect("ours");
    }
}
