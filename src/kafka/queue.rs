//! One partition's queue of fetched records, consumed by its worker through librdkafka's callback API.
//!
//! All `unsafe` of the path of a record lives here. Deliberately absent: what a record means, when a chunk is full,
//! and any decision about offsets: the sink that the worker passes decides and only says [`Flow`].
//!
//! The queue is taken from librdkafka and un-forwarded before its partition is assigned, so no record ever reaches
//! the consumer's main queue. Un-forwarding is sticky: a partition split once is read from its own queue for ever.

use std::any::Any;
use std::ffi::{CString, c_void};
use std::fmt;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka_sys as native;

use super::headers::{self, HeaderLimits, RecordHeaders};
use crate::words::{Offset, PartitionId};

/// A record as librdkafka holds it: valid only inside the callback, so what is kept must be copied.
#[derive(Clone, Copy)]
pub struct RawRecord<'a> {
    pub offset: Offset,
    /// Kafka's timestamp, ms since the epoch.
    pub timestamp_ms: Option<i64>,
    pub key: Option<&'a [u8]>,
    /// `None` is a null value, which is not an empty one.
    pub value: Option<&'a [u8]>,
    /// Where the headers can be read from; `None` for a record that was not made by librdkafka.
    message: Option<NonNull<native::rd_kafka_message_t>>,
    lifetime: PhantomData<&'a [u8]>,
}

impl<'a> RawRecord<'a> {
    /// A record without headers, for tests of what is done with one.
    pub fn new(offset: Offset, timestamp_ms: Option<i64>, key: Option<&'a [u8]>, value: Option<&'a [u8]>) -> Self {
        Self { offset, timestamp_ms, key, value, message: None, lifetime: PhantomData }
    }

    /// Hash of the header `dashstream.producer`, which names the producer instance; 0 without one. Parses the headers.
    pub fn producer(&self) -> u64 {
        // SAFETY: as in `headers`.
        self.message.and_then(|message| unsafe { headers::producer(message) }).unwrap_or(0)
    }

    /// The headers, parsed now and copied up to `limits`. Nothing is parsed for a record that nobody asks.
    pub fn headers(&self, limits: HeaderLimits) -> RecordHeaders {
        match self.message {
            // SAFETY: `message` was given to the callback that made `self` and is valid as long as it runs; the
            // record is `!Send` and cannot outlive the callback because its slices are borrowed from there.
            Some(message) => unsafe { RecordHeaders::of_message(message, limits) },
            None => RecordHeaders::default(),
        }
    }
}

impl fmt::Debug for RawRecord<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("RawRecord")
            .field("offset", &self.offset)
            .field("timestamp_ms", &self.timestamp_ms)
            .field("key_bytes", &self.key.map(<[u8]>::len))
            .field("value_bytes", &self.value.map(<[u8]>::len))
            .finish()
    }
}

/// What a partition queue hands over, in the partition's order.
#[derive(Debug)]
pub enum Arrival<'a> {
    Record(RawRecord<'a>),
    /// The reader stands at the end of what may be read; everything below `offset` was handed over or never was a
    /// record for us (transaction markers, aborted data, compaction). Told once per end.
    End {
        offset: Offset,
    },
    /// The partition cannot be read. `offset` is where the reader stood; `None` when librdkafka gave an invalid one.
    Error {
        code: RDKafkaErrorCode,
        offset: Option<Offset>,
    },
}

/// What the sink wants next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flow {
    More,
    /// Return to the caller after this arrival; what is left stays in the queue, in order.
    Yield,
}

#[derive(Debug, thiserror::Error)]
pub enum SplitError {
    #[error("the topic name {0:?} holds a zero byte: set kafka.topic to a Kafka topic name")]
    TopicName(String),
    #[error("librdkafka has no queue for partition {0}; this is a fault of the client library, restart the process")]
    NoQueue(PartitionId),
}

/// Owns the librdkafka queue of one partition in one assignment. Moves to the worker and back; while it exists the
/// consumer lives. The handle is destroyed when the queue and all its wakers are dropped.
pub struct PartitionQueue {
    pub partition: PartitionId,
    handle: Arc<Handle>,
}

/// Ends a wait in [`PartitionQueue::consume`], from any thread. A wake between two waits ends the next one.
#[derive(Clone)]
pub struct QueueWaker(Arc<Handle>);

struct Handle {
    queue: NonNull<native::rd_kafka_queue_t>,
    client: NonNull<native::rd_kafka_t>,
    /// Dropped after `queue` was destroyed in `drop`: the queue belongs to the client.
    _consumer: Arc<dyn Any + Send + Sync>,
}

// SAFETY: librdkafka queues and clients may be used from any thread; the pointers are valid while the handle lives.
unsafe impl Send for Handle {}
// SAFETY: as above; concurrent `rd_kafka_queue_yield` and consume calls are serialised by the queue's own lock.
unsafe impl Sync for Handle {}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the handle is the only owner of this reference, taken by `rd_kafka_queue_get_partition`.
        unsafe { native::rd_kafka_queue_destroy(self.queue.as_ptr()) }
    }
}

/// What the C callback works on.
struct Delivery<'a> {
    client: *mut native::rd_kafka_t,
    sink: &'a mut dyn FnMut(Arrival<'_>) -> Flow,
    panic: Option<Box<dyn Any + Send>>,
}

impl PartitionQueue {
    /// Takes the queue of a partition out of the consumer's main queue. To be called before the partition is
    /// assigned.
    pub fn split<C>(consumer: &Arc<BaseConsumer<C>>, topic: &str, partition: PartitionId) -> Result<Self, SplitError>
    where
        C: ConsumerContext + 'static,
    {
        let name = CString::new(topic).map_err(|_| SplitError::TopicName(topic.to_owned()))?;
        let client = NonNull::new(consumer.client().native_ptr()).ok_or(SplitError::NoQueue(partition))?;
        // SAFETY: the client is alive (borrowed consumer) and the name is a C string that outlives the call.
        let queue =
            unsafe { native::rd_kafka_queue_get_partition(client.as_ptr(), name.as_ptr(), partition.to_kafka()) };
        let queue = NonNull::new(queue).ok_or(SplitError::NoQueue(partition))?;
        // SAFETY: the queue was just given to us; a null destination ends forwarding to the main queue.
        unsafe { native::rd_kafka_queue_forward(queue.as_ptr(), std::ptr::null_mut()) }
        let handle = Handle { queue, client, _consumer: consumer.clone() };
        Ok(Self { partition, handle: Arc::new(handle) })
    }

    /// Waits at most `wait` for something to arrive, then hands everything that is queued to `sink` until it is
    /// empty or the sink yields. Returns without a call of the sink when nothing came or a waker was used.
    ///
    /// The sink runs inside librdkafka: it copies and decides, and neither blocks nor calls librdkafka. If it
    /// panics, the panic goes on from here, after librdkafka was left in order.
    pub fn consume(&mut self, wait: Duration, sink: &mut dyn FnMut(Arrival<'_>) -> Flow) {
        let mut delivery = Delivery { client: self.handle.client.as_ptr(), sink, panic: None };
        // SAFETY: queue and client live as long as the handle; `delivery` outlives the call, which is the only
        // user of the opaque pointer, and is touched by nobody else meanwhile. `&mut self` makes this the only
        // consume call on this queue.
        unsafe {
            // The return value counts barriers and stale entries too: it says nothing about records.
            native::rd_kafka_consume_callback_queue(
                self.handle.queue.as_ptr(),
                to_timeout(wait),
                Some(deliver),
                (&raw mut delivery).cast::<c_void>(),
            );
        }
        if let Some(panic) = delivery.panic {
            resume_unwind(panic);
        }
    }

    /// The same through librdkafka's call for single messages: the slower way, kept so that a bench can say by how
    /// much.
    pub fn consume_by_poll(&mut self, wait: Duration, sink: &mut dyn FnMut(Arrival<'_>) -> Flow) {
        let mut timeout = to_timeout(wait);
        loop {
            // SAFETY: the queue lives as long as the handle.
            let message = unsafe { native::rd_kafka_consume_queue(self.handle.queue.as_ptr(), timeout) };
            let Some(message) = NonNull::new(message) else { return };
            let message = Message(message);
            // SAFETY: the message is ours until `message` is dropped, after the sink returned.
            let flow = sink(unsafe { arrival(message.0) });
            if flow == Flow::Yield {
                return;
            }
            timeout = 0;
        }
    }

    pub fn waker(&self) -> QueueWaker {
        QueueWaker(self.handle.clone())
    }

    /// Throws away what is queued. An undrained queue survives the end of an assignment and would be read in the
    /// next one.
    pub fn discard(&mut self) {
        self.consume(Duration::ZERO, &mut |_| Flow::More);
    }
}

impl fmt::Debug for PartitionQueue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("PartitionQueue").field("partition", &self.partition).finish_non_exhaustive()
    }
}

impl QueueWaker {
    pub fn wake(&self) {
        // SAFETY: the queue lives as long as the handle; the call is allowed from any thread.
        unsafe { native::rd_kafka_queue_yield(self.0.queue.as_ptr()) }
    }
}

impl fmt::Debug for QueueWaker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("QueueWaker")
    }
}

/// A message that we have to give back.
struct Message(NonNull<native::rd_kafka_message_t>);

impl Drop for Message {
    fn drop(&mut self) {
        // SAFETY: made by `rd_kafka_consume_queue` and destroyed once.
        unsafe { native::rd_kafka_message_destroy(self.0.as_ptr()) }
    }
}

/// Rounded up, so that a short wait does not become a busy loop.
fn to_timeout(wait: Duration) -> i32 {
    i32::try_from(wait.as_micros().div_ceil(1000)).unwrap_or(i32::MAX)
}

/// # Safety
/// Called by librdkafka with a message that is valid during the call and the `Delivery` given to the consume call.
unsafe extern "C" fn deliver(message: *mut native::rd_kafka_message_t, delivery: *mut c_void) {
    // SAFETY: see above; nothing else refers to the delivery while the consume call runs.
    let delivery = unsafe { &mut *delivery.cast::<Delivery<'_>>() };
    let Some(message) = NonNull::new(message) else { return };
    let sink = &mut delivery.sink;
    // SAFETY: the message is valid during this call and the arrival does not leave it.
    let flow = catch_unwind(AssertUnwindSafe(|| sink(unsafe { arrival(message) })));
    match flow {
        Ok(Flow::More) => return,
        Ok(Flow::Yield) => {}
        Err(panic) => delivery.panic = Some(panic),
    }
    // SAFETY: called from inside the callback, where it ends the dispatch of this thread and puts the rest back.
    unsafe { native::rd_kafka_yield(delivery.client) }
}

/// # Safety
/// `message` is valid for `'a`.
unsafe fn arrival<'a>(message: NonNull<native::rd_kafka_message_t>) -> Arrival<'a> {
    // SAFETY: valid by contract.
    let raw = unsafe { message.as_ref() };
    let offset = Offset::from_kafka(raw.offset);
    let code = RDKafkaErrorCode::from(raw.err);
    match (code, offset) {
        (RDKafkaErrorCode::NoError, Some(offset)) => {
            // SAFETY: a message without error; the type of the timestamp is not asked for.
            let timestamp = unsafe { native::rd_kafka_message_timestamp(raw, std::ptr::null_mut()) };
            Arrival::Record(RawRecord {
                offset,
                timestamp_ms: Some(timestamp).filter(|timestamp| *timestamp >= 0),
                // SAFETY: pointer and length belong together and are valid as long as the message.
                key: unsafe { bytes(raw.key, raw.key_len) },
                // SAFETY: as above.
                value: unsafe { bytes(raw.payload, raw.len) },
                message: Some(message),
                lifetime: PhantomData,
            })
        }
        (RDKafkaErrorCode::PartitionEOF, Some(offset)) => Arrival::End { offset },
        (code, offset) => Arrival::Error { code, offset },
    }
}

/// Null is `None`; an empty value has a pointer.
///
/// # Safety
/// `data` is null or points to `length` bytes that are valid for `'a`.
unsafe fn bytes<'a>(data: *const c_void, length: usize) -> Option<&'a [u8]> {
    if data.is_null() {
        return None;
    }
    // SAFETY: by contract.
    Some(unsafe { std::slice::from_raw_parts(data.cast::<u8>(), length) })
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
