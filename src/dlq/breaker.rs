//! When to send dead letters, when to wait, and when to give one up: decided from outcomes and the time that is
//! handed in.
//!
//! Deliberately absent: clocks, random numbers, Kafka. What is given up is never decided by the breaker alone:
//! under fail_closed nothing is given up, an open breaker only slows the attempts.

use crate::config::DlqMode;
use crate::observe::stats::DlqFailure;

/// Failures in a row, over all letters, after which the topic is taken to be unwritable.
const FAILURES_TO_OPEN: u32 = 5;
/// The predecessor's pauses: 100 ms, doubled, at most 5 s; an open breaker goes on doubling to 30 s.
const FIRST_PAUSE_MS: u64 = 100;
const LETTER_PAUSE_MAX_MS: u64 = 5_000;
const OPEN_PAUSE_MAX_MS: u64 = 30_000;
/// Attempts per letter under fail_open.
pub const ATTEMPTS_MAX: u32 = 3;

/// 0 to 1000: how much of the quarter that a pause may be longer. Made outside, so that hosts do not retry in step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Jitter(u64);

impl Jitter {
    /// From any number.
    pub fn new(random: u64) -> Self {
        Self(random % 1001)
    }

    fn stretch(self, pause_ms: u64) -> u64 {
        pause_ms + pause_ms / 4 * self.0 / 1000
    }
}

/// May a letter be sent now?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    Send,
    /// One letter, to find out. Tell [`Breaker::probing`] when it was sent.
    Probe,
    /// Not before then; without a time: not before the outcome of the probe.
    Wait {
        until_ms: Option<u64>,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Closed { failures: u32 },
    Open { until_ms: u64, times: u32 },
    HalfOpen { times: u32 },
}

/// Protects the topic, and the log file, from a stream of attempts that cannot succeed.
#[derive(Debug)]
pub struct Breaker {
    state: State,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { state: State::Closed { failures: 0 } }
    }
}

impl Breaker {
    pub fn verdict(&self, now_ms: u64) -> Verdict {
        match self.state {
            State::Closed { .. } => Verdict::Send,
            State::Open { until_ms, .. } if until_ms <= now_ms => Verdict::Probe,
            State::Open { until_ms, .. } => Verdict::Wait { until_ms: Some(until_ms) },
            State::HalfOpen { .. } => Verdict::Wait { until_ms: None },
        }
    }

    pub fn is_open(&self) -> bool {
        !matches!(self.state, State::Closed { .. })
    }

    /// A letter was sent on [`Verdict::Probe`].
    pub fn probing(&mut self) {
        if let State::Open { times, .. } = self.state {
            self.state = State::HalfOpen { times };
        }
    }

    /// Kafka acknowledged a letter, whichever: the topic can be written.
    pub fn succeeded(&mut self) {
        self.state = State::Closed { failures: 0 };
    }

    /// A letter failed for a reason that is not its own.
    pub fn failed(&mut self, now_ms: u64, jitter: Jitter) {
        self.state = match self.state {
            State::Closed { failures } if failures + 1 < FAILURES_TO_OPEN => State::Closed { failures: failures + 1 },
            State::Closed { .. } => open(now_ms, 1, jitter),
            State::HalfOpen { times } => open(now_ms, times.saturating_add(1), jitter),
            // Sent before it opened: nothing new.
            State::Open { .. } => self.state,
        };
    }

    /// The process stops: waiting any longer than this would spend the deadline on nothing.
    pub fn hurry(&mut self, now_ms: u64) {
        if let State::Open { until_ms, times } = self.state {
            self.state = State::Open { until_ms: until_ms.min(now_ms + FIRST_PAUSE_MS), times };
        }
    }
}

fn open(now_ms: u64, times: u32, jitter: Jitter) -> State {
    // The first pause is as long as a letter's after as many failures.
    let pause = doubled(FIRST_PAUSE_MS, FAILURES_TO_OPEN - 1 + times, OPEN_PAUSE_MAX_MS);
    State::Open { until_ms: now_ms + jitter.stretch(pause), times }
}

fn doubled(first: u64, times: u32, most: u64) -> u64 {
    first.saturating_mul(1 << times.saturating_sub(1).min(20)).min(most)
}

/// What becomes of a letter whose attempt failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    Retry {
        at_ms: u64,
    },
    /// Only under fail_open: it is lost, and said to be.
    GiveUp,
}

/// One letter's own course.
#[derive(Clone, Copy, Debug)]
pub struct Attempts {
    pub mode: DlqMode,
    /// Attempts made so far.
    pub made: u32,
    /// When the letter was taken up.
    pub since_ms: u64,
    /// `dlq.send_timeout`.
    pub send_timeout_ms: u64,
}

impl Attempts {
    pub fn after_failure(self, now_ms: u64, jitter: Jitter) -> Next {
        if self.mode == DlqMode::FailOpen && (self.made >= ATTEMPTS_MAX || self.expired(now_ms)) {
            return Next::GiveUp;
        }
        Next::Retry { at_ms: now_ms + jitter.stretch(doubled(FIRST_PAUSE_MS, self.made, LETTER_PAUSE_MAX_MS)) }
    }

    /// Under fail_open a letter that waits behind an open breaker has an end too: as long as all its attempts.
    pub fn expired(self, now_ms: u64) -> bool {
        self.mode == DlqMode::FailOpen && now_ms >= self.expires_ms()
    }

    pub fn expires_ms(self) -> u64 {
        self.since_ms.saturating_add(self.send_timeout_ms.saturating_mul(u64::from(ATTEMPTS_MAX)))
    }
}

/// The label of a lost letter: a broker that said no, or nobody who said anything.
pub fn failure_label(timed_out: bool) -> DlqFailure {
    if timed_out { DlqFailure::Timeout } else { DlqFailure::KafkaError }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Jitter = Jitter(0);

    /// Steps: `f` failure, `s` success, `p` probe sent, a number waits so many ms. Then the verdict.
    fn check(steps: &str, expected: Verdict) {
        let mut breaker = Breaker::default();
        let mut now = 0;
        for step in steps.split_whitespace() {
            match step {
                "f" => breaker.failed(now, NONE),
                "s" => breaker.succeeded(),
                "p" => breaker.probing(),
                "h" => breaker.hurry(now),
                wait => now += wait.parse::<u64>().expect("a step"),
            }
        }
        assert_eq!(breaker.verdict(now), expected, "{steps}");
        assert_eq!(breaker.is_open(), expected != Verdict::Send, "{steps}");
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_closes_on_the_first_success() {
        check("", Verdict::Send);
        check("f f f f", Verdict::Send);
        check("f f f f s f f f f", Verdict::Send);
        check("f f f f f", Verdict::Wait { until_ms: Some(1600) });
        check("f f f f f f f f", Verdict::Wait { until_ms: Some(1600) });
        check("f f f f f s", Verdict::Send);
        check("f f f f f 1599", Verdict::Wait { until_ms: Some(1600) });
        check("f f f f f 1600", Verdict::Probe);
        check("f f f f f 1600 p", Verdict::Wait { until_ms: None });
        check("f f f f f 1600 p s", Verdict::Send);
        check("f f f f f 1600 p f", Verdict::Wait { until_ms: Some(4800) });
        check("f f f f f 1600 p f 3200 p f", Verdict::Wait { until_ms: Some(11_200) });
    }

    #[test]
    fn pauses_are_bounded() {
        let probes = "f f f f f".to_owned() + &" 40000 p f".repeat(40);
        check(&probes, Verdict::Wait { until_ms: Some(40 * 40_000 + 30_000) });
        check("f f f f f 100000 p f h", Verdict::Wait { until_ms: Some(100_100) });
        assert_eq!(Jitter::new(1000).stretch(1000), 1250);
        assert_eq!(Jitter::new(u64::MAX).stretch(1000), 1000 + u64::MAX % 1001 / 4);
    }

    #[test]
    fn a_letter_is_only_given_up_under_fail_open() {
        let check = |mode, made, now_ms, expected| {
            let attempts = Attempts { mode, made, since_ms: 1000, send_timeout_ms: 500 };
            assert_eq!(attempts.after_failure(now_ms, NONE), expected, "{mode:?} {made} {now_ms}");
        };
        check(DlqMode::FailOpen, 1, 1100, Next::Retry { at_ms: 1200 });
        check(DlqMode::FailOpen, 2, 1100, Next::Retry { at_ms: 1300 });
        check(DlqMode::FailOpen, 3, 1100, Next::GiveUp);
        check(DlqMode::FailOpen, 1, 2500, Next::GiveUp);
        check(DlqMode::FailClosed, 3, 1100, Next::Retry { at_ms: 1500 });
        check(DlqMode::FailClosed, u32::MAX, 1_000_000, Next::Retry { at_ms: 1_005_000 });
    }

    #[test]
    fn only_fail_open_letters_expire() {
        let attempts = |mode| Attempts { mode, made: 0, since_ms: 0, send_timeout_ms: 500 };
        assert!(!attempts(DlqMode::FailOpen).expired(1499));
        assert!(attempts(DlqMode::FailOpen).expired(1500));
        assert!(!attempts(DlqMode::FailClosed).expired(u64::MAX));
    }
}
