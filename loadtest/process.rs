//! Child processes: started, asked, measured and always ended. And what the kernel knows of a process.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Outcome;

/// Killed when dropped, and by the kernel when this process dies.
pub struct Process(Child);

impl Process {
    pub fn start(command: &mut Command) -> Outcome<Self> {
        // SAFETY: prctl only sets a flag of the new process; it neither allocates nor takes a lock.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let program = command.get_program().to_string_lossy().into_owned();
        Ok(Self(command.spawn().map_err(|error| format!("cannot start {program}: {error}"))?))
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    pub fn signal(&self, number: i32) {
        if let Ok(id) = i32::try_from(self.0.id()) {
            // SAFETY: a plain system call; the child is not waited for yet, so the id is its own.
            unsafe { libc::kill(id, number) };
        }
    }

    pub fn has_ended(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }

    /// Asks it to end, and says whether it did so by itself, with success.
    pub fn terminate(&mut self, limit: Duration) -> bool {
        self.signal(libc::SIGTERM);
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if let Ok(Some(status)) = self.0.try_wait() {
                return status.success();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    /// User and system time of all its threads.
    pub fn cpu_seconds(&self) -> Outcome<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id()))?;
        // The name, in parentheses, may hold anything.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks: u64 = fields.get(11).ok_or("no user time")?.parse::<u64>()?
            + fields.get(12).ok_or("no system time")?.parse::<u64>()?;
        // SAFETY: a plain query.
        let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
        Ok(ticks as f64 / per_second.max(1) as f64)
    }

    pub fn resident_bytes(&self) -> Outcome<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        Ok(line.trim().trim_end_matches("kB").trim().parse::<u64>()? * 1024)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// This program again, as a child that answers one line of JSON to each line it is sent.
pub struct Helper {
    /// Ends with this.
    pub process: Process,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Helper {
    pub fn start(arguments: &[String]) -> Outcome<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Process::start(&mut command)?;
        let input = process.0.stdin.take().ok_or("no pipe to the child")?;
        let output = BufReader::new(process.0.stdout.take().ok_or("no pipe from the child")?);
        Ok(Self { process, input, output })
    }

    pub fn ask(&mut self, question: &str) -> Outcome<serde_json::Value> {
        writeln!(self.input, "{question}")?;
        self.answer()
    }

    pub fn answer(&mut self) -> Outcome<serde_json::Value> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            return Err("a helper process ended early; its error is printed above".into());
        }
        Ok(serde_json::from_str(&line)?)
    }
}

/// CPU time of this process.
pub fn own_cpu_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec to a place that is one.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Nanoseconds of the clock that all processes of this machine share.
pub fn clock_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: as above.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Thousands of connections need thousands of descriptors.
pub fn raise_descriptor_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel reads and writes one rlimit.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}

/// This process yields to others: clients that stand for those of other machines take what is left.
pub fn yield_to_others() {
    // SAFETY: sets a number of the calling process.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 10) };
}

/// Timers of this thread may be late by a microsecond instead of fifty.
pub fn fine_timers() {
    // SAFETY: sets a number of the calling thread.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1000) };
}
