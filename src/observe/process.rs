//! What the kernel says about this process, read from `/proc/self`. What cannot be read is unknown, not zero.

use std::fs;

#[derive(Clone, Default, PartialEq, Debug)]
pub struct Process {
    pub resident_bytes: Option<u64>,
    pub open_fds: Option<u64>,
    pub max_fds: Option<u64>,
    pub threads: Option<u64>,
    pub cpu_seconds: Option<f64>,
}

/// Clock ticks per second in `/proc/self/stat`: part of the kernel's user interface, always this on Linux.
const TICKS_PER_SECOND: f64 = 100.0;

impl Process {
    /// Four small reads; asked once a second.
    pub fn read() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        Self {
            resident_bytes: number_after(&status, "VmRSS:").map(|kib| kib.saturating_mul(1024)),
            open_fds: open_fds(),
            max_fds: number_after(&limits, "Max open files"),
            threads: number_after(&status, "Threads:"),
            cpu_seconds: cpu_seconds(&stat),
        }
    }
}

/// The first number after a word at the start of a line.
fn number_after(text: &str, word: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(word))?;
    line.split_whitespace().next()?.parse().ok()
}

/// User and system time: fields 14 and 15, counted after the last parenthesis because a name may hold anything.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user.saturating_add(system) as f64 / TICKS_PER_SECOND)
}

/// Newer kernels give the count as the folder's size; older ones have to be counted.
fn open_fds() -> Option<u64> {
    let size = fs::metadata("/proc/self/fd").ok()?.len();
    if size > 0 {
        return Some(size);
    }
    Some(fs::read_dir("/proc/self/fd").ok()?.count() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_or_unknown() {
        let status = "Name:\tx\nVmRSS:\t    2048 kB\nThreads:\t7\n";
        for (word, expected) in [("VmRSS:", Some(2048)), ("Threads:", Some(7)), ("VmSwap:", None), ("Name:", None)] {
            assert_eq!(number_after(status, word), expected, "{word}");
        }
        assert_eq!(number_after("Max open files            1024      4096      files\n", "Max open files"), Some(1024));
        assert_eq!(number_after("Max open files            unlimited      4096      files\n", "Max open files"), None);
    }

    #[test]
    fn cpu_time_survives_a_strange_name() {
        let stat = "1 (a) b) S 1 1 1 0 -1 4194560 1 2 3 4 250 150 0 0 20 0 1 0 5 6 7";
        assert_eq!(cpu_seconds(stat), Some(4.0));
        assert_eq!(cpu_seconds("nonsense"), None);
    }

    #[test]
    fn this_process_is_known() {
        let process = Process::read();
        assert!(process.resident_bytes.is_some_and(|bytes| bytes > 1024 * 1024), "{process:?}");
        assert!(process.open_fds.is_some_and(|fds| fds >= 3), "{process:?}");
        assert!(process.threads.is_some_and(|threads| threads >= 1), "{process:?}");
        assert!(process.cpu_seconds.is_some(), "{process:?}");
    }
}
