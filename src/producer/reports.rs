//! Waiting for what librdkafka has to say. The binding's `poll` turns in circles for the last fraction of a millisecond
//! of each wait; here librdkafka wakes the producer's thread when its queue is no longer empty, and the thread polls
//! without waiting.

use std::ffi::c_void;
use std::ptr::NonNull;
use std::thread::Thread;
use std::time::Duration;

use rdkafka::client::{Client, ClientContext};
use rdkafka_sys as native;

/// The queue of one client's reports, as the thread that serves it sees it. Must be dropped before the client.
pub(super) struct Reports {
    queue: NonNull<native::rd_kafka_queue_t>,
    /// What librdkafka was told to wake. Boxed, since it holds the address.
    _thread: Box<Thread>,
}

impl Reports {
    /// For the calling thread; it alone may call [`Self::wait`].
    pub(super) fn of<C: ClientContext>(client: &Client<C>) -> Self {
        // SAFETY: the client is alive.
        let queue = unsafe { native::rd_kafka_queue_get_main(client.native_ptr()) };
        let queue = NonNull::new(queue).expect("every client has a main queue");
        let thread = Box::new(std::thread::current());
        let opaque = std::ptr::from_ref::<Thread>(&thread).cast_mut().cast::<c_void>();
        // SAFETY: the queue is alive; what `opaque` points to lives until the callback is taken away in `drop`.
        unsafe { native::rd_kafka_queue_cb_event_enable(queue.as_ptr(), Some(wake), opaque) };
        Self { queue, _thread: thread }
    }

    /// Until there is something, or `timeout`, or somebody wakes the thread.
    pub(super) fn wait(&self, timeout: Duration) {
        if self.is_empty() {
            std::thread::park_timeout(timeout);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        // SAFETY: the queue is alive.
        unsafe { native::rd_kafka_queue_length(self.queue.as_ptr()) == 0 }
    }
}

impl Drop for Reports {
    fn drop(&mut self) {
        // SAFETY: the queue is alive and given back once. Taking the callback away waits for one that runs.
        unsafe {
            native::rd_kafka_queue_cb_event_enable(self.queue.as_ptr(), None, std::ptr::null_mut());
            native::rd_kafka_queue_destroy(self.queue.as_ptr());
        }
    }
}

/// Called on a thread of librdkafka with the queue locked, when it is no longer empty.
unsafe extern "C" fn wake(_client: *mut native::rd_kafka_t, thread: *mut c_void) {
    // SAFETY: `Reports::of` gave a `Thread` that outlives this call.
    let thread = unsafe { &*thread.cast::<Thread>().cast_const() };
    thread.unpark();
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use rdkafka::ClientConfig;
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

    use super::*;

    /// Far more than anything here takes.
    const LIMIT: Duration = Duration::from_secs(60);

    #[test]
    fn a_report_ends_the_wait() {
        let cluster = MockCluster::new(1).expect("a mock cluster");
        cluster.create_topic("t", 1, 1).expect("a topic");
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", cluster.bootstrap_servers())
            .set("linger.ms", "20")
            .create()
            .expect("a producer");
        let reports = Reports::of(producer.client());
        for _ in 0..3 {
            producer.send(BaseRecord::<[u8], [u8]>::to("t").payload(b"x")).map_err(|(error, _)| error).expect("room");
            let deadline = Instant::now() + LIMIT;
            // Whoever unparks the thread may do so for nothing.
            while reports.is_empty() && Instant::now() < deadline {
                reports.wait(LIMIT);
            }
            assert!(!reports.is_empty());
            while !reports.is_empty() {
                producer.poll(Duration::ZERO);
            }
        }
    }
}
