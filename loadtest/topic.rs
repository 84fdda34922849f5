//! Topics of a measurement: made before it, filled, deleted after it.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::events::Template;
use crate::{Outcome, PATIENCE, Setting};

/// Deleted when dropped.
pub struct Topic {
    pub name: String,
    brokers: String,
    partitions: i32,
    /// Made where topics are not deleted but end with their broker.
    embedded: bool,
}

impl Topic {
    pub fn make(setting: &Setting) -> Outcome<Self> {
        let name = format!("loadtest-{}-{}", std::process::id(), crate::process::clock_ns() / 1_000_000);
        let topic = Self {
            name,
            brokers: setting.brokers.clone(),
            partitions: setting.partitions,
            embedded: setting.embedded.is_some(),
        };
        if let Some(cluster) = &setting.embedded {
            cluster.create_topic(&topic.name, topic.partitions, 1)?;
            cluster.create_topic(&format!("{}-dlq", topic.name), 1, 1)?;
            return Ok(topic);
        }
        let admin = topic.admin()?;
        // The dead-letter topic too, so that the gateway has nothing to complain about.
        for (name, partitions) in [(topic.name.clone(), topic.partitions), (format!("{}-dlq", topic.name), 1)] {
            let new = NewTopic::new(&name, partitions, TopicReplication::Fixed(1))
                .set("retention.bytes", "8589934592")
                .set("max.message.bytes", "1048588");
            for made in block_on(admin.create_topics([&new], &options()))? {
                made.map_err(|(name, code)| format!("cannot make the topic {name}: {code}"))?;
            }
        }
        topic.wait_for_leaders()?;
        Ok(topic)
    }

    fn admin(&self) -> Outcome<AdminClient<DefaultClientContext>> {
        Ok(ClientConfig::new().set("bootstrap.servers", &self.brokers).create()?)
    }

    fn wait_for_leaders(&self) -> Outcome<()> {
        let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", &self.brokers).create()?;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let metadata = consumer.fetch_metadata(Some(&self.name), Duration::from_secs(5))?;
            let led = metadata.topics().iter().flat_map(|topic| topic.partitions()).filter(|part| part.leader() >= 0);
            if led.count() == self.partitions as usize {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err("the new topic has no leaders".into())
    }

    /// Writes `records` records as fast as it goes, spread evenly.
    pub fn fill(&self, template: &mut Template, records: u64) -> Outcome<()> {
        let producer = self.producer("50")?;
        for number in 0..records {
            self.send(&producer, template, number, 0)?;
        }
        producer.flush(PATIENCE)?;
        Ok(())
    }

    pub fn producer(&self, linger_ms: &str) -> Outcome<BaseProducer> {
        Ok(ClientConfig::new()
            .set("bootstrap.servers", &self.brokers)
            .set("linger.ms", linger_ms)
            .set("batch.size", "500000")
            .set("queue.buffering.max.messages", "200000")
            .create()?)
    }

    /// Waits for room if there is none.
    pub fn send(&self, producer: &BaseProducer, template: &mut Template, number: u64, stamp_ns: u64) -> Outcome<()> {
        let partition = (number % self.partitions as u64) as i32;
        let (key, value) = template.stamped(number, stamp_ns);
        let mut record = BaseRecord::to(&self.name).partition(partition).key(key).payload(value);
        let deadline = Instant::now() + PATIENCE;
        loop {
            match producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back))
                    if Instant::now() < deadline =>
                {
                    record = back;
                    producer.poll(Duration::from_millis(1));
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
        if number.is_multiple_of(64) {
            producer.poll(Duration::ZERO);
        }
        Ok(())
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        if let (false, Ok(admin)) = (self.embedded, self.admin()) {
            let names = [self.name.as_str(), &format!("{}-dlq", self.name)];
            block_on(admin.delete_topics(&names, &options())).ok();
        }
    }
}

/// Without them a broker that does not answer would be waited for a minute.
fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(PATIENCE / 2)).operation_timeout(Some(PATIENCE / 2))
}

/// The admin client speaks in futures; one thread that sleeps until it is woken is all they need.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}
