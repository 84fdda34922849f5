//! Buckets in Redis, common to all processes: one Lua script, by the clock of Redis, so that hosts need not agree on
//! the time. One round trip per event; a tenant that has to wait is not asked for again before its time.
//!
//! There is one connection, which one caller has at a time. The others wait for their turn no longer than for an answer,
//! and no lock is held while Redis is waited for.
//!
//! The key is the predecessor's. What is left in it after the longest silence that matters is gone by its TTL.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use redis::{Pipeline, Value};

use super::super::lock;
use super::bucket::Rate;
use super::{RedisOperation, TENANTS_MAX};
use crate::redis_link::{Failure, Link, NO_ANSWER, Pauses};

/// Nobody asks Redis for that long after a failure, doubled up to the second.
const PAUSES: Pauses = Pauses { first: Duration::from_millis(100), longest: Duration::from_secs(5) };
/// The least that a bucket is kept, as the predecessor kept it.
const TTL_MIN: Duration = Duration::from_secs(3600);

/// Takes one token. Answers whether there was one, and µs until there is. A clock that went back gives nothing for the
/// time between, and refilling goes on from what it says now.
const SCRIPT: &str = r"
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local rate, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local state = redis.call('HMGET', KEYS[1], 'tokens', 'last_refill')
local tokens, last = tonumber(state[1]) or burst, tonumber(state[2]) or now
if now > last then
  tokens = tokens + (now - last) * rate
end
tokens = math.min(tokens, burst)
local allowed, wait = 0, 0
if tokens >= 1 then
  tokens = tokens - 1
  allowed = 1
else
  wait = math.ceil((1 - tokens) / rate * 1000000)
end
redis.call('HSET', KEYS[1], 'tokens', string.format('%.17g', tokens), 'last_refill', string.format('%.6f', now))
redis.call('EXPIRE', KEYS[1], ARGV[3])
return {allowed, wait}
";

pub(super) struct Shared {
    timeout: Duration,
    /// None: somebody has it, and gives it back.
    link: Mutex<Option<Link>>,
    returned: Condvar,
    /// Tenants that have to wait, and until when. Bounded: see [`remember`].
    denied: Mutex<Denied>,
}

type Denied = HashMap<Box<str>, Instant>;

/// The link in the hands of one caller. Given back in whatever way the caller ends.
struct Turn<'a> {
    shared: &'a Shared,
    /// Invariant: there until it is dropped.
    link: Option<Link>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *lock(&self.shared.link) = self.link.take();
        self.shared.returned.notify_one();
    }
}

/// What is to be counted.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Trouble {
    Error(RedisOperation),
    /// No trouble: a round trip took that many ms.
    Took(f64),
}

impl Shared {
    /// None: the URL is none.
    pub(super) fn new(url: &str, timeout: Duration) -> Option<Self> {
        let link = Mutex::new(Some(Link::open(url, timeout, PAUSES)?));
        Some(Self { timeout, link, returned: Condvar::new(), denied: Mutex::default() })
    }

    /// None: Redis gave no answer, now or a moment ago, or too many ask it.
    pub(super) fn take(&self, tenant: &str, rate: Rate, count: &dyn Fn(Trouble)) -> Option<Result<(), Duration>> {
        if let Some(left) = self.has_to_wait(tenant) {
            return Some(Err(left));
        }
        let mut turn = self.turn()?;
        // Another may have asked for the same tenant meanwhile.
        if let Some(left) = self.has_to_wait(tenant) {
            return Some(Err(left));
        }
        let now = Instant::now();
        let answer = ask(turn.link.as_mut()?, tenant, rate, count)?;
        if let Err(wait) = answer {
            remember(&mut lock(&self.denied), tenant, now, wait);
        }
        Some(answer)
    }

    /// How long, as far as Redis said before.
    fn has_to_wait(&self, tenant: &str) -> Option<Duration> {
        let mut denied = lock(&self.denied);
        let left = denied.get(tenant)?.saturating_duration_since(Instant::now());
        if left.is_zero() {
            denied.remove(tenant);
            return None;
        }
        Some(left)
    }

    /// None: so many are before this one that its turn does not come in time.
    fn turn(&self) -> Option<Turn<'_>> {
        let waited = self.returned.wait_timeout_while(lock(&self.link), self.timeout, |link| link.is_none());
        let (mut link, _) = waited.unwrap_or_else(PoisonError::into_inner);
        Some(Turn { shared: self, link: Some(link.take()?) })
    }
}

fn ask(link: &mut Link, tenant: &str, rate: Rate, count: &dyn Fn(Trouble)) -> Option<Result<(), Duration>> {
    let mut commands = Pipeline::new();
    let ttl = TTL_MIN.max(rate.fills_in() + Duration::from_secs(60)).as_secs();
    commands
        .cmd("EVAL")
        .arg(SCRIPT)
        .arg(1)
        .arg(format!("rate_limit:{tenant}:bucket"))
        .arg(format!("{:e}", rate.per_second()))
        .arg(format!("{:e}", rate.burst()))
        .arg(ttl);
    let sent = std::cell::Cell::new(false);
    let took = |ms| {
        sent.set(true);
        count(Trouble::Took(ms));
    };
    let replies = match link.ask(&mut commands, &took) {
        Ok(replies) => replies,
        Err(Failure::Paused) => return None,
        Err(Failure::Failed(why)) => {
            count(Trouble::Error(match (sent.get(), why == NO_ANSWER) {
                (false, _) => RedisOperation::Connect,
                (true, true) => RedisOperation::Timeout,
                (true, false) => RedisOperation::Check,
            }));
            return None;
        }
    };
    let answer = match replies.first() {
        Some(Ok(Value::Array(parts))) => match parts.as_slice() {
            [Value::Int(1), _] => Some(Ok(())),
            [Value::Int(0), Value::Int(wait_us)] => {
                Some(Err(Duration::from_micros(u64::try_from(*wait_us).unwrap_or(0).max(1))))
            }
            _ => None,
        },
        _ => None,
    };
    if answer.is_none() {
        // It refuses scripts or writes, or somebody else's value is under the key.
        count(Trouble::Error(RedisOperation::Check));
    }
    answer
}

fn remember(denied: &mut Denied, tenant: &str, now: Instant, wait: Duration) {
    if denied.len() >= TENANTS_MAX {
        denied.retain(|_, until| *until > now);
    }
    // Of more who wait than that, each asks Redis again, which says the same.
    if denied.len() < TENANTS_MAX {
        denied.insert(tenant.into(), now + wait);
    }
}

#[cfg(test)]
#[path = "shared_tests.rs"]
mod tests;
