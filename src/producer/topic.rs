//! Records into librdkafka's queue, without what the binding does for each: copies of names, and a search for the topic.

use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr::NonNull;

use rdkafka::client::{Client, ClientContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::util::IntoOpaque as _;
use rdkafka_sys as native;

use super::flight::Flight;

/// Librdkafka's partitioner decides.
const ANY_PARTITION: i32 = -1;

/// The topic of one client. Must be dropped before the client.
pub(super) struct Topic(NonNull<native::rd_kafka_topic_t>);

// SAFETY: librdkafka's topics may be used from any thread.
unsafe impl Send for Topic {}
// SAFETY: as above.
unsafe impl Sync for Topic {}

impl Topic {
    /// With the client's default settings of topics. Asks no broker whether it exists.
    pub(super) fn of<C: ClientContext>(client: &Client<C>, name: &str) -> Result<Self, KafkaError> {
        let name = CString::new(name)?;
        // SAFETY: client and name are alive; without settings the client's own are taken.
        let topic = unsafe { native::rd_kafka_topic_new(client.native_ptr(), name.as_ptr(), std::ptr::null_mut()) };
        NonNull::new(topic).map(Self).ok_or_else(|| {
            // SAFETY: reads the error that this thread's last call left.
            let code = unsafe { native::rd_kafka_last_error() };
            KafkaError::ClientCreation(RDKafkaErrorCode::from(code).to_string())
        })
    }

    /// Puts a copy of the record into the queue of the topic's client. Never waits. What is not taken comes back.
    pub(super) fn send<C: ClientContext>(
        &self,
        client: &Client<C>,
        key: &[u8],
        value: &[u8],
        headers: Headers,
        flight: Box<Flight>,
    ) -> Result<(), (RDKafkaErrorCode, Box<Flight>)> {
        let flight = flight.into_ptr();
        // SAFETY: client and topic are alive; key and value are copied; the variadic arguments are as librdkafka's
        // `rd_kafka_vtype_t` describes them. Headers and opaque are librdkafka's if there is no error, and ours if there is.
        let error = unsafe {
            native::rd_kafka_producev(
                client.native_ptr(),
                native::rd_kafka_vtype_t::RD_KAFKA_VTYPE_RKT,
                self.0.as_ptr(),
                native::rd_kafka_vtype_t::RD_KAFKA_VTYPE_PARTITION,
                ANY_PARTITION,
                native::rd_kafka_vtype_t::RD_KAFKA_VTYPE_MSGFLAGS,
                native::RD_KAFKA_MSG_F_COPY,
                native::rd_kafka_vtype_t::RD_KAFKA_VTYPE_VALUE,
                value.as_ptr().cast::<c_void>(),
                value.len(),
                native::rd_kafka_vtype_t::RD_KAFKA_VTYPE_KEY,
                key.as_ptr().cast::<c_void>(),
                key.len(),
                native::rd_kafka_vtype_t::RD_KAFKA_VTYPE_OPAQUE,
                flight,
                native::rd_kafka_vtype_t::RD_KAFKA_VTYPE_HEADERS,
                headers.0.as_ptr(),
                native::rd_kafka_vtype_t::RD_KAFKA_VTYPE_END,
            )
        };
        match RDKafkaErrorCode::from(error) {
            RDKafkaErrorCode::NoError => {
                std::mem::forget(headers);
                Ok(())
            }
            // SAFETY: it is the pointer from above, which librdkafka did not take.
            code => Err((code, unsafe { Box::from_ptr(flight) })),
        }
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        // SAFETY: made by `rd_kafka_topic_new`, given back once, before the client.
        unsafe { native::rd_kafka_topic_destroy(self.0.as_ptr()) }
    }
}

/// Headers of one record, in order.
pub(super) struct Headers(NonNull<native::rd_kafka_headers_t>);

impl Headers {
    pub(super) fn with_capacity(count: usize) -> Self {
        // SAFETY: no preconditions.
        let headers = unsafe { native::rd_kafka_headers_new(count) };
        Self(NonNull::new(headers).expect("librdkafka ends the process when there is no memory"))
    }

    /// Name and value are copied.
    pub(super) fn add(&mut self, name: &CStr, value: &str) {
        let bytes = name.to_bytes();
        // SAFETY: the headers are alive and not librdkafka's yet; lengths are those of the slices, which fit.
        let error = unsafe {
            native::rd_kafka_header_add(
                self.0.as_ptr(),
                bytes.as_ptr().cast::<c_char>(),
                bytes.len() as isize,
                value.as_ptr().cast::<c_void>(),
                value.len() as isize,
            )
        };
        debug_assert_eq!(RDKafkaErrorCode::from(error), RDKafkaErrorCode::NoError, "headers can always be added");
    }
}

impl Drop for Headers {
    fn drop(&mut self) {
        // SAFETY: made by `rd_kafka_headers_new` and not given to librdkafka.
        unsafe { native::rd_kafka_headers_destroy(self.0.as_ptr()) }
    }
}
