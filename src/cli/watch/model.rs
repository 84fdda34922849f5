//! What `watch` knows, and what keys do to it. Pure: items and keys in; the view asks.

use std::collections::VecDeque;
use std::time::Duration;

use super::super::gather;
use super::super::show::human::notice;
use super::super::source::Item;
use crate::analysis::RunId;
use crate::analysis::live::{Live, LiveRun};
use crate::analysis::runs::Status;

/// What went wrong with the stream itself, the latest last.
const NOTICES_MAX: usize = 50;
const PAGE: usize = 10;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Key {
    Up,
    Down,
    PageUp,
    PageDown,
    /// Back to whichever run began last.
    Newest,
    /// The run on the whole screen.
    Open,
    Back,
    Filter,
    Quit,
}

/// How the stream stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Link {
    /// What was there before we came.
    CatchingUp,
    Live,
    Lost {
        why: String,
        retry_in: Duration,
    },
    /// All of a file.
    Ended,
}

/// Which runs are listed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Shown {
    All,
    UnderWay,
    /// Failed, or with errors, or with something missing.
    Trouble,
}

impl Shown {
    pub(super) fn label(self) -> &'static str {
        match self {
            Shown::All => "all runs",
            Shown::UnderWay => "under way",
            Shown::Trouble => "in trouble",
        }
    }

    fn next(self) -> Self {
        match self {
            Shown::All => Shown::UnderWay,
            Shown::UnderWay => Shown::Trouble,
            Shown::Trouble => Shown::All,
        }
    }

    fn shows(self, run: &LiveRun) -> bool {
        match self {
            Shown::All => true,
            Shown::UnderWay => !run.has_ended(),
            Shown::Trouble => run.status() == Status::Failed || run.error_count > 0 || run.missing > 0,
        }
    }
}

pub(super) struct Model {
    pub live: Live,
    pub link: Link,
    /// Was lost and came back so many times.
    pub reconnects: u64,
    pub shown: Shown,
    /// The run alone is looked at.
    pub opened: bool,
    /// Where the events come from.
    pub place: String,
    pub notices: VecDeque<String>,
    /// Records that will not come, that hold nothing, and sequences that did not come.
    pub gaps: u64,
    /// `None`: whichever run began last.
    chosen: Option<RunId>,
    before_loss: Link,
    /// The event that comes next came before.
    repeated: bool,
    quit: bool,
}

impl Model {
    pub(super) fn new(place: String) -> Self {
        Self {
            live: Live::default(),
            link: Link::CatchingUp,
            reconnects: 0,
            shown: Shown::All,
            opened: false,
            place,
            notices: VecDeque::new(),
            gaps: 0,
            chosen: None,
            before_loss: Link::CatchingUp,
            repeated: false,
            quit: false,
        }
    }

    pub(super) fn is_quit(&self) -> bool {
        self.quit
    }

    pub(super) fn item(&mut self, item: &Item) {
        match item {
            Item::Event(seen) => {
                // What comes twice is counted, and means nothing new.
                if !std::mem::take(&mut self.repeated) {
                    self.live.take(gather::place(seen), &seen.message);
                }
            }
            Item::Live => self.link = Link::Live,
            Item::End => self.link = Link::Ended,
            Item::Disconnected { why, retry_in } => {
                if !matches!(self.link, Link::Lost { .. }) {
                    self.before_loss = self.link.clone();
                }
                self.link = Link::Lost { why: why.clone(), retry_in: *retry_in };
            }
            Item::Connected => {
                if matches!(self.link, Link::Lost { .. }) {
                    self.link = self.before_loss.clone();
                    self.reconnects += 1;
                }
            }
            Item::Missing { tenant, thread, from, to } => {
                let count = to.saturating_sub(*from);
                self.gaps = self.gaps.saturating_add(count);
                self.live.missing(tenant, thread, count);
            }
            Item::Duplicate { tenant, thread, .. } => {
                self.repeated = true;
                self.live.duplicate(tenant, thread);
            }
            Item::Gap { from, to, .. } => self.gaps = self.gaps.saturating_add(to.0.saturating_sub(from.0)),
            Item::Bad(_) => self.gaps = self.gaps.saturating_add(1),
            Item::StreamChanged => {
                self.live.clear();
                self.chosen = None;
            }
            Item::Idle => {}
        }
        if let Some(text) = notice(item) {
            if self.notices.len() >= NOTICES_MAX {
                self.notices.pop_front();
            }
            self.notices.push_back(text.trim_start_matches("-- ").to_owned());
        }
    }

    /// Those that are listed, the newest first.
    pub(super) fn runs(&self) -> Vec<&LiveRun> {
        self.live.newest_first().filter(|run| self.shown.shows(run)).collect()
    }

    /// Its place in [`Model::runs`]; a run that has left the list gives way to the newest.
    pub(super) fn chosen(&self, runs: &[&LiveRun]) -> usize {
        let place = self.chosen.as_ref().and_then(|id| runs.iter().position(|run| run.id == *id));
        place.unwrap_or(0)
    }

    pub(super) fn key(&mut self, key: Key) {
        match key {
            Key::Quit => self.quit = true,
            Key::Back if self.opened => self.opened = false,
            Key::Back => self.quit = true,
            Key::Open => self.opened = true,
            Key::Filter => self.shown = self.shown.next(),
            Key::Newest => self.chosen = None,
            Key::Up => self.choose(|place, _| place.saturating_sub(1)),
            Key::Down => self.choose(|place, last| (place + 1).min(last)),
            Key::PageUp => self.choose(|place, _| place.saturating_sub(PAGE)),
            Key::PageDown => self.choose(|place, last| (place + PAGE).min(last)),
        }
    }

    fn choose(&mut self, step: impl FnOnce(usize, usize) -> usize) {
        let runs = self.runs();
        let place = step(self.chosen(&runs), runs.len().saturating_sub(1));
        self.chosen = runs.get(place).map(|run| run.id.clone());
    }
}
