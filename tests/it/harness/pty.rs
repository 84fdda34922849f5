//! A terminal for a program: a pseudo-terminal of any size, keys into it, and what its screen shows, as a real
//! terminal would draw it.

use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZero;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use super::wait;

pub struct Pty {
    process: Child,
    master: File,
    screen: Arc<Mutex<vt100::Parser>>,
}

enum Out {
    Terminal,
    Pipe,
}

fn size(rows: u16, columns: u16) -> libc::winsize {
    libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

fn cells(count: u16) -> NonZero<u16> {
    NonZero::new(count).expect("a screen has cells")
}

impl Pty {
    /// Starts the command with the terminal as its standard input, output and error, and as the one that controls it.
    pub fn start(command: Command, rows: u16, columns: u16) -> Self {
        Self::open(command, rows, columns, Out::Terminal)
    }

    /// The same with a pipe as standard output, as in `dashstream ... | less`.
    pub fn start_in_a_pipe(command: Command, rows: u16, columns: u16) -> (Self, ChildStdout) {
        let mut pty = Self::open(command, rows, columns, Out::Pipe);
        let output = pty.process.stdout.take().expect("piped");
        (pty, output)
    }

    fn open(mut command: Command, rows: u16, columns: u16, out: Out) -> Self {
        let (mut master, mut slave) = (-1, -1);
        let mut wanted = size(rows, columns);
        // SAFETY: the pointers are to live integers and a live winsize; name and termios may be null.
        let opened = unsafe {
            libc::openpty(&raw mut master, &raw mut slave, std::ptr::null_mut(), std::ptr::null_mut(), &raw mut wanted)
        };
        assert_eq!(opened, 0, "a pseudo-terminal: {}", std::io::Error::last_os_error());
        // SAFETY: openpty gave both, and nobody else owns them.
        let (master, slave) = unsafe { (File::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) };
        // SAFETY: sets a flag of a descriptor that we own: the program must not inherit our end.
        assert_eq!(unsafe { libc::fcntl(master.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) }, 0);
        let copy = || Stdio::from(slave.try_clone().expect("a descriptor can be copied"));
        let output = match out {
            Out::Terminal => copy(),
            Out::Pipe => Stdio::piped(),
        };
        command.stdin(copy()).stdout(output).stderr(copy()).env("TERM", "xterm-256color");
        // SAFETY: both calls are async-signal-safe and concern the new process only.
        unsafe {
            command.pre_exec(|| {
                if libc::setsid() == -1 || libc::ioctl(0, libc::TIOCSCTTY, 0) == -1 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let process = command.spawn().expect("the binary starts");
        drop(slave);
        let screen = Arc::new(Mutex::new(vt100::Parser::new(cells(rows), cells(columns), 0)));
        let (mut from, into) = (master.try_clone().expect("a descriptor can be copied"), screen.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 8192];
            // Reading fails when the program has gone.
            while let Ok(length @ 1..) = from.read(&mut buffer) {
                into.lock().expect("not poisoned").process(&buffer[..length]);
            }
        });
        Self { process, master, screen }
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    pub fn resize(&self, rows: u16, columns: u16) {
        self.screen.lock().expect("not poisoned").screen_mut().set_size(cells(rows), cells(columns));
        let wanted = size(rows, columns);
        // SAFETY: the argument is a live winsize. The kernel tells the program by SIGWINCH.
        let set = unsafe { libc::ioctl(self.master.as_raw_fd(), libc::TIOCSWINSZ, &raw const wanted) };
        assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
    }

    pub fn press(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).expect("the program listens");
    }

    /// The screen, line by line, without blanks at the end.
    pub fn lines(&self) -> Vec<String> {
        let screen = self.screen.lock().expect("not poisoned");
        let (_, columns) = screen.screen().size();
        screen.screen().rows(0, columns.get()).map(|line| line.trim_end().to_owned()).collect()
    }

    /// Whether the program has the screen for itself.
    pub fn is_alternate(&self) -> bool {
        self.screen.lock().expect("not poisoned").screen().alternate_screen()
    }

    /// Waits until the screen is as wanted.
    pub fn until(&self, what: &str, holds: impl Fn(&[String]) -> bool) -> Vec<String> {
        let mut last = Vec::new();
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait::until(what, wait::SOON, || {
                last = self.lines();
                holds(&last).then(|| last.clone())
            })
        }));
        found.unwrap_or_else(|_| panic!("waited in vain for: {what}; the screen is\n{}", last.join("\n")))
    }

    pub fn wait_exit(&mut self) -> ExitStatus {
        wait::until("the program to end", wait::SOON, || self.process.try_wait().expect("a child can be waited for"))
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        // What has ended already cannot be killed, which is as well.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
