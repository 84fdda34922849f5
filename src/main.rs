//! Args to command to exit code; the only printer of errors, the only end of the process.

use std::error::Error;
use std::process::ExitCode;

use dashstream::cli::{self, CliError};

/// librdkafka allocates on its threads and frees on ours; the override covers its C code as well.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc.h.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// How long freed memory is kept for the next to ask. Chunks and fetches are freed and asked for again within moments;
/// giving them back to the system in between costs a cleared page for each, up to half of the process' time.
const PURGE_DELAY_MS: std::ffi::c_long = 5_000;

fn main() -> ExitCode {
    // SAFETY: sets a number that the allocator reads; nothing runs beside us yet.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, PURGE_DELAY_MS) };
    match cli::run(std::env::args_os(), &mut std::io::stdout()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

#[allow(clippy::print_stderr, reason = "the one place that tells a person what went wrong")]
fn print(error: &CliError) {
    if let CliError::Usage(usage) = error {
        // Help goes to standard output and mistakes to standard error; a closed one leaves nobody to tell.
        usage.print().ok();
        return;
    }
    if error.is_silent() {
        return;
    }
    eprintln!("dashstream: {error}");
    let mut cause = error.source();
    while let Some(source) = cause {
        eprintln!("  because: {source}");
        cause = source.source();
    }
}
