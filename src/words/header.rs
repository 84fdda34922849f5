//! Names of the record headers that producers write and readers look at.
//!
//! Deliberately absent: writing and reading them.

use std::ffi::CStr;

/// Names the producer's instance: any bytes, new with each start of the producer. A consumer that sees a thread's
/// sequence begin again under another instance knows a restart from a repetition.
pub const PRODUCER: &CStr = c"dashstream.producer";
/// The message id, as the text of a UUID: equal ids are one message, however often it is on the topic.
pub const MESSAGE_ID: &CStr = c"message_id";
/// W3C trace context.
pub const TRACEPARENT: &CStr = c"traceparent";
/// W3C trace context.
pub const TRACESTATE: &CStr = c"tracestate";
