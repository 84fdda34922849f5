//! The client itself: connects, hands frames to the conversation and events to the user, keeps the cursor.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};

use tungstenite::http::Uri;

use super::backoff::Backoff;
use super::conversation::{Conversation, Delivery, Heard};
use super::cursor::{Cursor, Unacknowledged};
use super::error::{ClientError, RunError, Why};
use super::event::{Event, Flow};
use super::handle::Handle;
use super::options::{Builder, Filter, Settings, Start};
use super::plan::Wanted;
use super::socket::{Got, NoSocket, Socket, TICK};
use super::store::CursorStore;
use crate::words::CloseReason;

/// Follows one stream. See the module for what it promises.
pub struct Client {
    url: Uri,
    settings: Settings,
    wanted: Wanted,
    store: Box<dyn CursorStore + Send>,
    handle: Handle,
    /// What the user has applied: what is saved.
    applied: Cursor,
    /// What was handed out: where a new connection goes on.
    returned: Cursor,
    /// Between the two.
    unacknowledged: Unacknowledged,
    queue: VecDeque<Delivery>,
    link: Link,
    backoff: Backoff,
    began: Instant,
    /// `applied` is newer than what the store has.
    unsaved: bool,
    saved_at: Instant,
}

enum Link {
    Down { until: Instant },
    Up(Box<Up>),
}

struct Up {
    socket: Socket,
    conversation: Conversation,
    tick_at: Instant,
}

impl Client {
    /// `url`: `ws://host:port/ws`.
    pub fn builder(url: &str) -> Builder {
        Builder::new(url)
    }

    pub(super) fn new(
        url: Uri,
        settings: Settings,
        start: Start,
        filter: Filter,
        store: Box<dyn CursorStore + Send>,
        cursor: Cursor,
    ) -> Self {
        let now = Instant::now();
        Self {
            url,
            settings,
            wanted: Wanted { start, filter },
            store,
            handle: Handle::default(),
            applied: cursor.clone(),
            returned: cursor,
            unacknowledged: Unacknowledged::default(),
            queue: VecDeque::new(),
            link: Link::Down { until: now },
            backoff: Backoff::new(settings.reconnect),
            began: now,
            unsaved: false,
            saved_at: now,
        }
    }

    /// To stop, pause or re-filter this client from another thread.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// The place up to which everything is applied.
    pub fn cursor(&self) -> &Cursor {
        &self.applied
    }

    /// Hands every event to `handler` until it says [`Flow::Stop`] or fails, [`Handle::stop`] is called, or nothing
    /// more can be done. Begins at the cursor; may be called again. A handler that takes long holds up nothing but
    /// this client: the gateway keeps its place, or closes it, and it comes back.
    ///
    /// # Errors
    /// [`RunError::Handler`] with the cursor before the event that failed; [`RunError::Client`] with the cursor behind
    /// the last event that was handled. The cursor was saved before.
    pub fn run<E>(&mut self, mut handler: impl FnMut(Event) -> Result<Flow, E>) -> Result<(), RunError<E>> {
        self.rewind();
        while let Some(event) = self.next_event()? {
            match handler(event) {
                Ok(flow) => {
                    self.acknowledge();
                    if flow == Flow::Stop {
                        self.rewind();
                        self.save().map_err(RunError::Client)?;
                        break;
                    }
                }
                Err(error) => {
                    self.rewind();
                    // What failed first is the news; the store still has the cursor from before.
                    let _second_failure = self.save();
                    return Err(RunError::Handler(error));
                }
            }
        }
        Ok(())
    }

    /// The next event; `None` after [`Handle::stop`]. For loops of one's own: what is returned here moves the cursor
    /// only with [`Client::acknowledge`]. A new connection goes on behind what was returned.
    ///
    /// # Errors
    /// When connecting again would not help. The connection is closed.
    pub fn next_event(&mut self) -> Result<Option<Event>, ClientError> {
        let event = self.advance();
        if !matches!(event, Ok(Some(_))) {
            self.hang_up();
            let saved = self.save();
            // An error that ended the client is the news, not that the store failed after it.
            return event.and_then(|event| saved.map(|()| event));
        }
        event
    }

    /// Everything returned so far is applied: the cursor moves there, and is saved when it is time.
    pub fn acknowledge(&mut self) {
        self.unsaved |= self.unacknowledged.acknowledge(&mut self.applied);
    }

    fn advance(&mut self) -> Result<Option<Event>, ClientError> {
        loop {
            if self.unsaved && self.saved_at.elapsed() >= self.settings.save_interval {
                self.save()?;
            }
            if self.handle.is_stopped() {
                return Ok(None);
            }
            if let Some(Delivery { event, moved }) = self.queue.pop_front() {
                self.returned.apply(&moved);
                if event.is_none() && !self.unacknowledged.events {
                    self.applied.apply(&moved);
                    self.unsaved = true;
                    continue;
                }
                self.unacknowledged.note(&moved);
                if let Some(event) = event {
                    self.unacknowledged.events = true;
                    if matches!(event, Event::Record(_) | Event::Live { .. }) {
                        self.backoff.succeeded();
                    }
                    return Ok(Some(event));
                }
                continue;
            }
            match &self.link {
                Link::Up(_) => self.turn()?,
                Link::Down { until } => {
                    let wait = until.saturating_duration_since(Instant::now());
                    if wait.is_zero() {
                        self.connect()?;
                    } else {
                        // Not in one go: what was applied is saved when it is time.
                        self.handle.rest(wait.min(self.settings.save_interval.max(TICK)));
                    }
                }
            }
        }
    }

    fn connect(&mut self) -> Result<(), ClientError> {
        if let Some(filter) = self.handle.take_filter() {
            self.wanted.set_filter(filter);
        }
        match Socket::connect(&self.url, &self.settings, &self.handle) {
            Ok(socket) => {
                let conversation = Conversation::new(self.wanted.clone(), self.returned.clone());
                self.link = Link::Up(Box::new(Up { socket, conversation, tick_at: Instant::now() }));
                Ok(())
            }
            Err(NoSocket::Stopped) => Ok(()),
            Err(NoSocket::Never(error)) => Err(error),
            Err(NoSocket::Later { why, after }) => self.down(why, after),
        }
    }

    /// One frame, or one tick, of a connection that stands.
    fn turn(&mut self) -> Result<(), ClientError> {
        let now = self.began.elapsed();
        let Link::Up(up) = &mut self.link else { return Ok(()) };
        let Up { socket, conversation, tick_at } = up.as_mut();
        if conversation.takes_filter()
            && let Some(filter) = self.handle.take_filter()
        {
            self.wanted.set_filter(filter.clone());
            conversation.set_filter(filter);
        }
        conversation.set_paused(self.handle.is_paused());
        if Instant::now() >= *tick_at {
            *tick_at = Instant::now() + TICK;
            if let Some(why) = conversation.tick(now, self.settings.answer_timeout) {
                return self.down(why, Duration::ZERO);
            }
        }
        for frame in std::mem::take(&mut conversation.outbox) {
            if let Err(why) = socket.say(&frame) {
                return self.down(why, Duration::ZERO);
            }
        }
        let heard = match socket.read()? {
            Got::Nothing | Got::Other => return Ok(()),
            Got::Frame(frame) => conversation.hear(frame, now)?,
            Got::Over(why) => {
                let code = if let Why::Closed { code, .. } = &why { *code } else { None };
                if code == Some(CloseReason::StreamChanged.code()) {
                    conversation.stream_changed();
                }
                let ours = CloseReason::ALL.into_iter().find(|reason| Some(reason.code()) == code);
                self.queue.append(&mut conversation.deliveries);
                return self.ended(why, ours, Duration::ZERO);
            }
        };
        self.queue.append(&mut conversation.deliveries);
        match heard {
            Heard::Fine => Ok(()),
            Heard::WrongStream => self.down(Why::WrongStream, Duration::ZERO),
            Heard::Refused { what, why } => Err(ClientError::Refused { what, why }),
            Heard::Bye { reason, reconnect_after } => {
                let ours = CloseReason::ALL.into_iter().find(|ours| ours.label() == reason);
                self.ended(Why::Bye(reason), ours, reconnect_after)
            }
        }
    }

    /// The gateway ended the connection. Where that is this client's fault, coming back does not help.
    fn ended(&mut self, why: Why, reason: Option<CloseReason>, asked: Duration) -> Result<(), ClientError> {
        match reason {
            Some(
                CloseReason::ProtocolError
                | CloseReason::InvalidUtf8
                | CloseReason::MessageTooBig
                | CloseReason::ResumeTooLarge,
            ) => Err(ClientError::Refused { what: "what this client says".to_owned(), why: why.to_string() }),
            _ => self.down(why, asked),
        }
    }

    fn down(&mut self, why: Why, asked: Duration) -> Result<(), ClientError> {
        self.hang_up();
        let Some(retry_in) = self.backoff.failed(asked, dice()) else {
            return Err(ClientError::GaveUp { attempts: self.backoff.attempts, last: why });
        };
        self.link = Link::Down { until: Instant::now() + retry_in };
        let event = Some(Event::Disconnected { why, retry_in });
        self.queue.push_back(Delivery { event, moved: Default::default() });
        Ok(())
    }

    fn hang_up(&mut self) {
        if let Link::Up(up) = std::mem::replace(&mut self.link, Link::Down { until: Instant::now() }) {
            up.socket.close();
        }
    }

    /// Forgets what was handed out and not applied: it comes again.
    fn rewind(&mut self) {
        self.hang_up();
        self.queue.clear();
        self.unacknowledged = Unacknowledged::default();
        self.returned = self.applied.clone();
    }

    fn save(&mut self) -> Result<(), ClientError> {
        if self.unsaved {
            self.saved_at = Instant::now();
            self.store.save(&self.applied)?;
            self.unsaved = false;
        }
        Ok(())
    }
}

/// What was applied is saved also when the handler panics.
impl Drop for Client {
    fn drop(&mut self) {
        let _nobody_to_tell = self.save();
    }
}

/// A random number: the keys of a hasher are random, which is all the chance that is needed here.
fn dice() -> u64 {
    RandomState::new().build_hasher().finish()
}
