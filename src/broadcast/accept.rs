//! The accept thread: takes connections, sets their socket options, gives them a seat and a shard.
//!
//! It survives running out of descriptors: one is kept in reserve, with which the next in line is told 503 instead of
//! being left in the backlog. Deliberately absent: reading anything from a connection.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{FromRawFd, IntoRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};
use socket2::SockRef;

use super::addresses::Addresses;
use super::inbox::{ShardInbox, ToShard};
use crate::observe::stats::{Heartbeat, Rejection, Stats};

/// Kernel send buffer of a client: with [`NOT_SENT_LOW`] it bounds what a stalled reader pins.
pub const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// The socket is writable again when less than this is unsent.
pub const NOT_SENT_LOW: u32 = 16 * 1024;

/// How often an idle accept thread shows that it lives.
const IDLE: Duration = Duration::from_millis(250);

/// Pause after an accept error that does not go away by itself, so that it is no spin.
const BACK_OFF: Duration = Duration::from_millis(50);

const LISTENER: Token = Token(0);

/// See the module.
#[derive(Debug)]
pub struct Acceptor {
    pub listener: TcpListener,
    pub shards: Vec<ShardInbox>,
    pub addresses: Arc<Addresses>,
    pub stats: Arc<Stats>,
    pub user_timeout: Duration,
    pub heartbeat: Arc<Heartbeat>,
}

impl Acceptor {
    /// Runs until told to stop; the listener is closed then.
    pub fn run(mut self, stop: &AtomicBool) -> io::Result<()> {
        let mut poll = Poll::new()?;
        let mut events = Events::with_capacity(4);
        poll.registry().register(&mut self.listener, LISTENER, Interest::READABLE)?;
        let mut reserve = File::open("/dev/null").ok();
        let mut next_shard = 0;
        while !stop.load(Ordering::Acquire) {
            self.heartbeat.beat();
            match poll.poll(&mut events, Some(IDLE)) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            self.accept_all(stop, &mut next_shard, &mut reserve);
        }
        Ok(())
    }

    /// Accepts until nobody waits (the listener is edge-triggered).
    fn accept_all(&self, stop: &AtomicBool, next_shard: &mut usize, reserve: &mut Option<File>) {
        while !stop.load(Ordering::Acquire) {
            match self.listener.accept() {
                Ok((stream, peer)) => {
                    self.stats.connections_accepted.add(1);
                    self.seat(stream, peer, next_shard);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                    self.refuse_one(reserve);
                }
                // The peer was gone before we took it.
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {}
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    std::thread::park_timeout(BACK_OFF);
                }
            }
            self.heartbeat.beat();
        }
    }

    fn seat(&self, stream: mio::net::TcpStream, peer: SocketAddr, next_shard: &mut usize) {
        // SAFETY: the descriptor was just released by `stream` and nobody else has it.
        let stream = unsafe { TcpStream::from_raw_fd(stream.into_raw_fd()) };
        let Some(seat) = self.addresses.sit() else {
            self.reject(&stream, Rejection::Full, "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\n");
            return;
        };
        if let Err(error) = self.prepare(&stream) {
            tracing::debug!(%error, "socket options");
        }
        // The next shard in turn; if it has no room just now, any other.
        let mut message = ToShard::Connection { stream, peer: peer.ip(), seat };
        for _ in 0..self.shards.len() {
            *next_shard = (*next_shard + 1) % self.shards.len();
            match self.shards[*next_shard].try_send(message) {
                Ok(()) => return,
                Err(
                    crossbeam_channel::TrySendError::Full(back) | crossbeam_channel::TrySendError::Disconnected(back),
                ) => {
                    message = back;
                }
            }
        }
        if let ToShard::Connection { stream, .. } = message {
            self.reject(&stream, Rejection::Full, "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n");
        }
    }

    fn prepare(&self, stream: &TcpStream) -> io::Result<()> {
        let socket = SockRef::from(stream);
        socket.set_tcp_nodelay(true)?;
        socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
        socket.set_tcp_user_timeout(Some(self.user_timeout))?;
        socket.set_keepalive(true)?;
        set_not_sent_low(stream)
    }

    fn reject(&self, stream: &TcpStream, rejection: Rejection, head: &str) {
        self.stats.rejections[rejection as usize].add(1);
        let answer = format!("{head}Content-Length: 0\r\nConnection: close\r\n\r\n");
        // Whoever cannot take these few bytes at once does not get them.
        if let Err(error) = (&*stream).write(answer.as_bytes()) {
            tracing::debug!(%error, "a rejected connection did not take its answer");
        }
    }

    /// Out of descriptors: gives the reserve up for a moment to tell one of those who wait.
    fn refuse_one(&self, reserve: &mut Option<File>) {
        drop(reserve.take());
        if let Ok((stream, _)) = self.listener.accept() {
            // SAFETY: the descriptor was just released by `stream` and nobody else has it.
            let stream = unsafe { TcpStream::from_raw_fd(stream.into_raw_fd()) };
            self.reject(&stream, Rejection::NoDescriptors, "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\n");
        }
        *reserve = File::open("/dev/null").ok();
        std::thread::park_timeout(BACK_OFF);
    }
}

fn set_not_sent_low(stream: &TcpStream) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let value = NOT_SENT_LOW;
    // SAFETY: the option takes an int-sized value, which lives across the call.
    let result = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_NOTSENT_LOWAT,
            (&raw const value).cast(),
            size_of::<u32>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
