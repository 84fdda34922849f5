//! What defaults ask the host: its name and its cores.

use std::num::NonZero;

#[derive(Clone, Debug)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) cores: u32,
}

impl Host {
    pub(super) fn this() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        Host { name: name(), cores: u32::try_from(cores).unwrap_or(1) }
    }
}

/// The kernel bounds it to 64 bytes. Without one, all such hosts would share a place, so it is never empty by luck.
fn name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok().or_else(asked_from_libc).unwrap_or_default();
    let name: String = name.trim().chars().filter(|letter| !letter.is_control()).take(200).collect();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

fn asked_from_libc() -> Option<String> {
    let mut buffer = [0u8; 256];
    // SAFETY: the buffer is ours, and its true length is given.
    let answer = unsafe { libc::gethostname(buffer.as_mut_ptr().cast(), buffer.len()) };
    let end = buffer.iter().position(|byte| *byte == 0)?;
    (answer == 0).then(|| String::from_utf8_lossy(buffer.get(..end).unwrap_or_default()).into_owned())
}
