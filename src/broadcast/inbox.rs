//! What a shard is told, and how it is woken without a wake per message.
//!
//! A sender puts its message into the channel first and rings then; it wakes the shard only if nobody rang since the
//! shard last looked. The shard clears the bell before it empties the channel, so a message that it misses was put
//! there after the clearing, and its sender rings again.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{SendTimeoutError, Sender, TrySendError};

use super::addresses::Seat;
use crate::log::Chunk;
use crate::words::{Offset, PartitionId, StreamIdentity};

/// The atomic under a bell, so that a model checker can stand in for it.
pub trait Flag {
    /// Sets the flag and says what it was.
    fn raise(&self) -> bool;
    fn lower(&self);
}

impl Flag for AtomicBool {
    fn raise(&self) -> bool {
        self.swap(true, Ordering::AcqRel)
    }

    fn lower(&self) {
        // A swap and not a store: what senders wrote before they raised must be seen after this.
        self.swap(false, Ordering::AcqRel);
    }
}

/// Rung by senders, cleared by the one reader.
#[derive(Debug, Default)]
pub struct Bell<F: Flag> {
    armed: F,
}

impl<F: Flag> Bell<F> {
    pub fn new(armed: F) -> Self {
        Self { armed }
    }

    /// Called after the message is in the channel. True: the reader has to be woken.
    pub fn ring(&self) -> bool {
        !self.armed.raise()
    }

    /// Called by the reader before it looks into the channel.
    pub fn clear(&self) {
        self.armed.lower();
    }
}

/// Everything that a shard is told by others. What flows per record is `Chunk` alone.
#[derive(Debug)]
pub enum ToShard {
    /// The partition is ours from this offset on.
    Open {
        partition: PartitionId,
        at: Offset,
    },
    Chunk(Arc<Chunk>),
    /// The partition is no longer ours.
    Close {
        partition: PartitionId,
    },
    /// Which stream this is and how many partitions it has. Before the first of these no client is let in.
    Topology {
        identity: Arc<StreamIdentity>,
        partition_count: u32,
    },
    /// The topic is another one: forget everything, close everyone.
    StreamChanged {
        reason: &'static str,
    },
    /// A connection, just accepted.
    Connection {
        stream: std::net::TcpStream,
        peer: IpAddr,
        seat: Seat,
    },
    /// New watermarks were published, or JSON forms were made: look again.
    LookAgain,
    /// Stop: say goodbye to everyone, at most until this monotonic ms.
    Drain {
        deadline_ms: u64,
    },
}

/// The sending end of a shard's inbox.
#[derive(Clone, Debug)]
pub struct ShardInbox {
    sender: Sender<ToShard>,
    bell: Arc<Bell<AtomicBool>>,
    waker: Arc<mio::Waker>,
}

impl ShardInbox {
    pub fn new(sender: Sender<ToShard>, bell: Arc<Bell<AtomicBool>>, waker: Arc<mio::Waker>) -> Self {
        Self { sender, bell, waker }
    }

    /// Waits for room for at most `limit`. A shard that is gone takes nothing and is not waited for: the process is
    /// on its way out then.
    pub fn send_timeout(&self, message: ToShard, limit: Duration) -> Result<(), SendTimeoutError<ToShard>> {
        let sent = self.sender.send_timeout(message, limit);
        self.wake();
        sent
    }

    /// Does not wait.
    pub fn try_send(&self, message: ToShard) -> Result<(), TrySendError<ToShard>> {
        let sent = self.sender.try_send(message);
        self.wake();
        sent
    }

    /// Makes the shard look at what it can see by itself.
    pub fn wake(&self) {
        if self.bell.ring()
            && let Err(error) = self.waker.wake()
        {
            tracing::error!(%error, "a shard cannot be woken");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// loom's atomics behind the same bell.
    struct Checked(loom::sync::atomic::AtomicBool);

    impl Flag for Checked {
        fn raise(&self) -> bool {
            self.0.swap(true, Ordering::AcqRel)
        }

        fn lower(&self) {
            self.0.swap(false, Ordering::AcqRel);
        }
    }

    /// Every interleaving of two senders and a reader that looks once more whenever it was woken: when all is quiet,
    /// nothing is left in the channel unless a wake is pending.
    #[test]
    fn no_message_is_left_without_a_wake() {
        use loom::sync::atomic::AtomicUsize;
        loom::model(|| {
            let bell = loom::sync::Arc::new(Bell::new(Checked(loom::sync::atomic::AtomicBool::new(false))));
            let channel = loom::sync::Arc::new(AtomicUsize::new(0));
            let wakes = loom::sync::Arc::new(AtomicUsize::new(0));
            let senders: Vec<_> = (0..2)
                .map(|_| {
                    let (bell, channel, wakes) = (bell.clone(), channel.clone(), wakes.clone());
                    loom::thread::spawn(move || {
                        channel.fetch_add(1, Ordering::Release);
                        if bell.ring() {
                            wakes.fetch_add(1, Ordering::Release);
                        }
                    })
                })
                .collect();
            // One turn of the reader, at any moment.
            let pending = wakes.swap(0, Ordering::Acquire);
            bell.clear();
            channel.swap(0, Ordering::Acquire);
            for sender in senders {
                sender.join().unwrap();
            }
            let left = channel.load(Ordering::Acquire);
            let woken = wakes.load(Ordering::Acquire) > 0;
            assert!(left == 0 || woken, "{left} messages and nobody will look (woken before: {pending})");
        });
    }
}
