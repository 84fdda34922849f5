//! The headers of a record, copied within bounds. Read only when a record is dead-lettered, or when its sequence is
//! not the expected one, so nothing is parsed on the path of a good one.

use std::ffi::{CStr, c_void};
use std::ptr::NonNull;

use rdkafka_sys as native;

use crate::words::header;

/// What is copied of the headers at most; the rest is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeaderLimits {
    pub count: usize,
    /// Names and values together.
    pub bytes: usize,
}

impl Default for HeaderLimits {
    /// Room for tracing and routing headers; a dead letter is not an archive of headers.
    fn default() -> Self {
        Self { count: 64, bytes: 16 * 1024 }
    }
}

#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct RecordHeaders {
    /// In the record's order; names may repeat. `None` is a null value. Names that are not UTF-8 are made so.
    pub list: Vec<(String, Option<Box<[u8]>>)>,
    /// Headers that did not fit.
    pub left_out: usize,
}

impl RecordHeaders {
    /// # Safety
    /// `message` is a valid message of librdkafka, and nobody else uses it during the call.
    pub(super) unsafe fn of_message(message: NonNull<native::rd_kafka_message_t>, limits: HeaderLimits) -> Self {
        let mut headers = std::ptr::null_mut();
        // SAFETY: the message is valid; librdkafka parses its headers and keeps them with the message.
        let error = unsafe { native::rd_kafka_message_headers(message.as_ptr(), &raw mut headers) };
        if error != native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR || headers.is_null() {
            return Self::default();
        }
        // SAFETY: `headers` belongs to the message, which is valid.
        let count = unsafe { native::rd_kafka_header_cnt(headers) };
        let mut read = Self::default();
        let mut bytes = 0usize;
        for index in 0..count {
            let mut name = std::ptr::null();
            let mut value: *const c_void = std::ptr::null();
            let mut length = 0usize;
            // SAFETY: the index is below the count; the out-pointers are ours.
            let error = unsafe {
                native::rd_kafka_header_get_all(headers, index, &raw mut name, &raw mut value, &raw mut length)
            };
            if error != native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR || name.is_null() {
                break;
            }
            // SAFETY: librdkafka's header names end with a zero byte and live as long as the message.
            let name = unsafe { CStr::from_ptr(name) }.to_bytes();
            let size = name.len() + length;
            if read.list.len() == limits.count || bytes + size > limits.bytes {
                read.left_out = count - index;
                break;
            }
            bytes += size;
            let value = (!value.is_null()).then(|| {
                // SAFETY: pointer and length belong together and live as long as the message.
                Box::from(unsafe { std::slice::from_raw_parts(value.cast::<u8>(), length) })
            });
            read.list.push((String::from_utf8_lossy(name).into_owned(), value));
        }
        read
    }
}

/// Hash of the producer instance that the headers name.
///
/// # Safety
/// `message` is a valid message of librdkafka, and nobody else uses it during the call.
pub(super) unsafe fn producer(message: NonNull<native::rd_kafka_message_t>) -> Option<u64> {
    let mut headers = std::ptr::null_mut();
    // SAFETY: the message is valid; librdkafka parses its headers and keeps them with the message.
    let error = unsafe { native::rd_kafka_message_headers(message.as_ptr(), &raw mut headers) };
    if error != native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR || headers.is_null() {
        return None;
    }
    let mut value: *const c_void = std::ptr::null();
    let mut length = 0usize;
    // SAFETY: the headers belong to the message, the name is a C string, the out-pointers are ours.
    let error = unsafe {
        native::rd_kafka_header_get_last(headers, header::PRODUCER.as_ptr(), &raw mut value, &raw mut length)
    };
    if error != native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR || value.is_null() {
        return None;
    }
    // SAFETY: pointer and length belong together and live as long as the message.
    let value = unsafe { std::slice::from_raw_parts(value.cast::<u8>(), length) };
    Some(instance(value))
}

/// Hash of a producer instance's name, never 0: FNV-1a, 64 bit.
pub fn instance(name: &[u8]) -> u64 {
    let fnv = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    name.iter().fold(0xcbf2_9ce4_8422_2325, fnv).max(1)
}
