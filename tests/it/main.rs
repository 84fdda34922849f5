//! The promises to a user, each a file named after it, against the shipped binary and a real Kafka.
//!
//! Run by `tests/run`, which starts the shared broker. Deliberately absent: any use of the crate's own code.

#![allow(clippy::disallowed_methods, reason = "the fences are the gateway's; a test is not the gateway")]
#![allow(clippy::print_stderr, reason = "what a failed test prints is its output")]
#![allow(unreachable_pub, reason = "a test binary has no users")]

mod harness;

mod every_byte_reaches_twenty_v1_clients;
