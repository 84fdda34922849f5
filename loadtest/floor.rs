//! The floors: what the kernel and librdkafka do when nothing of ours is in the way. Each is a child process, so
//! that its CPU time is its own.

use std::collections::VecDeque;
use std::io::{BufRead, ErrorKind, Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka_sys as native;
use serde_json::json;

use crate::frames::filled;
use crate::process::{fine_timers, own_cpu_seconds};
use crate::{Outcome, PATIENCE};

/// Takes `count` connections, then for each line `bytes frame seconds rounds` sends buffers of `bytes` bytes to all
/// of them in turn, so many rounds per second (0: as fast as they take them), and says what that cost.
pub fn send(count: usize) -> Outcome<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    println!("{}", json!({ "port": listener.local_addr()?.port() }));
    let mut sender = Sender { poll: Poll::new()?, events: Events::with_capacity(1024), targets: Vec::new() };
    for number in 0..count {
        let (mut stream, _) = listener.accept()?;
        answer_handshake(&mut stream)?;
        stream.set_nodelay(true)?;
        // As the gateway's.
        socket2::SockRef::from(&stream).set_send_buffer_size(64 * 1024)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        sender.poll.registry().register(&mut stream, Token(number), Interest::WRITABLE)?;
        sender.targets.push(Target { stream, sent: 0, ready: false });
    }
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let numbers: Vec<usize> = line.split_whitespace().filter_map(|part| part.parse().ok()).collect();
        let [bytes, frame, seconds, rounds] = numbers[..] else {
            return Err("wanted: bytes frame seconds rounds".into());
        };
        let length = Duration::from_secs(seconds as u64);
        let buffer = filled(bytes, frame);
        let answer = if rounds == 0 { sender.saturate(&buffer, length) } else { sender.pace(&buffer, length, rounds) };
        println!("{}", answer?);
    }
    Ok(())
}

struct Target {
    stream: TcpStream,
    /// Bytes of the current buffer that it took.
    sent: usize,
    /// In the list of those to be written to.
    ready: bool,
}

struct Sender {
    poll: Poll,
    events: Events,
    targets: Vec<Target>,
}

impl Sender {
    fn pace(&mut self, buffer: &[u8], length: Duration, rounds: usize) -> Outcome<serde_json::Value> {
        fine_timers();
        for target in &mut self.targets {
            target.sent %= buffer.len();
        }
        let (start, cpu) = (Instant::now(), own_cpu_seconds());
        let (mut writes, mut bytes) = (0u64, 0u64);
        for round in 1.. {
            for target in &mut self.targets {
                match target.stream.write(&buffer[target.sent..]) {
                    Ok(written) => {
                        writes += 1;
                        bytes += written as u64;
                        target.sent = (target.sent + written) % buffer.len();
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error.into()),
                }
            }
            if start.elapsed() >= length {
                break;
            }
            let due = Duration::from_secs_f64(round as f64 / rounds as f64);
            std::thread::sleep(due.saturating_sub(start.elapsed()));
        }
        let (seconds, cpu) = (start.elapsed().as_secs_f64(), own_cpu_seconds() - cpu);
        Ok(json!({ "writes": writes, "bytes": bytes, "cpu": cpu, "seconds": seconds }))
    }

    fn saturate(&mut self, buffer: &[u8], length: Duration) -> Outcome<serde_json::Value> {
        let mut ready: VecDeque<usize> = (0..self.targets.len()).collect();
        for target in &mut self.targets {
            (target.ready, target.sent) = (true, target.sent % buffer.len());
        }
        let (start, cpu) = (Instant::now(), own_cpu_seconds());
        let (mut writes, mut bytes) = (0u64, 0u64);
        while start.elapsed() < length {
            for _ in 0..ready.len().min(256) {
                let Some(index) = ready.pop_front() else { break };
                let target = &mut self.targets[index];
                match target.stream.write(&buffer[target.sent..]) {
                    Ok(written) => {
                        writes += 1;
                        bytes += written as u64;
                        target.sent = (target.sent + written) % buffer.len();
                        ready.push_back(index);
                    }
                    // It comes back when it is writable again.
                    Err(error) if error.kind() == ErrorKind::WouldBlock => target.ready = false,
                    Err(error) => return Err(error.into()),
                }
            }
            let limit = if ready.is_empty() { Duration::from_millis(100) } else { Duration::ZERO };
            self.poll.poll(&mut self.events, Some(limit)).or_else(|error| match error.kind() {
                ErrorKind::Interrupted => Ok(()),
                _ => Err(error),
            })?;
            for index in self.events.iter().map(|event| event.token().0) {
                if !std::mem::replace(&mut self.targets[index].ready, true) {
                    ready.push_back(index);
                }
            }
        }
        let (seconds, cpu) = (start.elapsed().as_secs_f64(), own_cpu_seconds() - cpu);
        Ok(json!({ "writes": writes, "bytes": bytes, "cpu": cpu, "seconds": seconds }))
    }
}

pub fn answer_handshake(stream: &mut std::net::TcpStream) -> Outcome<()> {
    let mut head = Vec::new();
    let mut part = [0; 1024];
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        let length = stream.read(&mut part)?;
        if length == 0 {
            return Err("a client went away during the handshake".into());
        }
        head.extend_from_slice(&part[..length]);
    }
    // Our own clients do not look at the key.
    stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")?;
    Ok(())
}

/// Drains `records` records with librdkafka's batch call and says what that cost from the start of the process.
pub fn drain(brokers: &str, topic: &str, records: u64) -> Outcome<()> {
    const BATCH: usize = 1000;
    let start = Instant::now();
    // As the gateway's client, as far as it matters for speed.
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", format!("{topic}-floor"))
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("check.crcs", "true")
        .set("fetch.queue.backoff.ms", "10")
        .set("queued.max.messages.kbytes", "32768")
        .create()?;
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE)?;
    let partitions = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition as i32, Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    // SAFETY: the client lives until the end of this function; the queue is given back before that.
    let queue = unsafe { native::rd_kafka_queue_get_consumer(consumer.client().native_ptr()) };
    let mut batch = vec![std::ptr::null_mut(); BATCH];
    let (mut read, mut bytes) = (0u64, 0u64);
    let mut first = None;
    let deadline = Instant::now() + PATIENCE;
    while read < records && Instant::now() < deadline {
        // SAFETY: the queue is live, and `batch` has room for as many pointers as are asked for.
        let count = unsafe { native::rd_kafka_consume_batch_queue(queue, 200, batch.as_mut_ptr(), BATCH) };
        for message in &batch[..usize::try_from(count).unwrap_or(0)] {
            // SAFETY: librdkafka filled in so many messages, each ours until it is destroyed here.
            unsafe {
                if (**message).err == native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                    read += 1;
                    bytes += (**message).len as u64;
                }
                native::rd_kafka_message_destroy(*message);
            }
            first.get_or_insert_with(Instant::now);
        }
    }
    // SAFETY: ours since rd_kafka_queue_get_consumer, and not used again.
    unsafe { native::rd_kafka_queue_destroy(queue) };
    let busy = first.map_or(f64::NAN, |first| first.elapsed().as_secs_f64());
    println!(
        "{}",
        json!({ "records": read, "bytes": bytes, "cpu": own_cpu_seconds(), "busy": busy, "seconds": start.elapsed().as_secs_f64() })
    );
    Ok(())
}
