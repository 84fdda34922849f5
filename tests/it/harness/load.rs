//! Ordinary records, produced all the time at a steady pace while a test does something to the gateway.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::corpus;
use super::kafka::Kafka;
use super::wait;

pub const PARTITIONS: u32 = 4;

/// Shared by the producing thread and those who watch it.
#[derive(Default)]
pub struct Load {
    stop: AtomicBool,
    /// Records sent so far, all partitions.
    pub sent: AtomicU64,
    /// How many each partition got: known when everything is acknowledged.
    lengths: Mutex<Option<Vec<u64>>>,
}

impl Load {
    pub fn new() -> Self {
        Self::default()
    }

    /// Produces about `per_second` records until [`Load::stop`]. Runs in a thread of the caller.
    pub fn run(&self, kafka: &Kafka, topic: &str, per_second: u64) {
        let producer = kafka.producer(topic);
        let per_tick = (per_second / 100).max(1);
        let mut index = 0;
        while !self.stop.load(Ordering::Relaxed) {
            for _ in 0..per_tick {
                let partition = (index % u64::from(PARTITIONS)) as u32;
                producer.send(partition, &corpus::ordinary(partition, index / u64::from(PARTITIONS)));
                index += 1;
            }
            self.sent.store(index, Ordering::Relaxed);
            // The pace of the load, not a wait for anything.
            std::thread::sleep(Duration::from_millis(10));
        }
        producer.flush();
        let lengths = (0..u64::from(PARTITIONS)).map(|partition| (index + 3 - partition) / u64::from(PARTITIONS));
        *self.lengths.lock().expect("not poisoned") = Some(lengths.collect());
    }

    /// Waits until so many more records were sent.
    pub fn wait_more(&self, records: u64) {
        let target = self.sent.load(Ordering::Relaxed) + records;
        wait::until_true("more records to be produced", Duration::from_secs(120), || {
            self.sent.load(Ordering::Relaxed) >= target
        });
    }

    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Records per partition, once producing is over.
    pub fn lengths(&self) -> Option<Vec<u64>> {
        self.lengths.lock().expect("not poisoned").clone()
    }

    /// Checks the bytes of a record of this load.
    pub fn check(partition: u32, offset: u64, value: &[u8]) {
        assert!(value == corpus::ordinary(partition, offset), "partition {partition}, offset {offset}: bytes differ");
    }
}

/// Ends the load also when the test fails, so that its thread can be joined and the failure be seen.
pub struct StopOnDrop<'a>(pub &'a Load);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}
