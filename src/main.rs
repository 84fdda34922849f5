//! Args to command to exit code; the only printer of errors, the only end of the process.
fn main() {}
