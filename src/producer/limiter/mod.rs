//! How many events a tenant may send: a token bucket per tenant, in this process or shared through Redis.
//!
//! A producer asks before it accepts. An event that was asked for and is then not accepted (the queue was full by a
//! hair) has used its token: a limiter errs on the side of fewer.

pub(super) mod bucket;
mod labels;
mod local;
#[cfg(feature = "limiter-redis")]
mod shared;

use std::collections::HashMap;
use std::time::{Duration, Instant};

pub use bucket::Rate;
use labels::Labels;
use local::Local;

use super::metrics::Metrics;

/// Tenants whose buckets are kept in this process; of more, the one that was full again for longest is forgotten,
/// which changes nothing for it, and else the one that was quiet for longest, which begins with a full bucket.
const TENANTS_MAX: usize = 10_000;

/// A rate limit per tenant.
pub struct Limiter {
    rates: Rates,
    local: Local,
    #[cfg(feature = "limiter-redis")]
    shared: Option<shared::Shared>,
    labels: Option<Labels>,
}

/// What each tenant may do.
#[derive(Clone, Debug)]
pub(super) struct Rates {
    usual: Rate,
    overrides: HashMap<String, Rate>,
}

impl Rates {
    pub(super) fn of(&self, tenant: &str) -> Rate {
        self.overrides.get(tenant).copied().unwrap_or(self.usual)
    }
}

impl Limiter {
    /// Buckets in this process alone: `n` processes together allow `n` times as much.
    pub fn local(rate: Rate) -> Self {
        Self {
            rates: Rates { usual: rate, overrides: HashMap::new() },
            local: Local::new(TENANTS_MAX),
            #[cfg(feature = "limiter-redis")]
            shared: None,
            labels: None,
        }
    }

    /// Buckets in Redis, common to all processes that use it, by the clock of Redis. One question is under way at a time.
    /// `timeout` bounds the wait for one's turn, then the wait for a connection if there is none, and each wait for Redis
    /// to take the question and to answer; 250 ms is sensible. So while Redis is slow `try_send` takes the double at
    /// most, and more only where the connection has to be made. Whose turn does not come in time, and everybody while
    /// Redis does not answer, takes from buckets in this process (counted as `fallback_to_local`): each process then
    /// allows the full rate.
    ///
    /// An error says what is wrong with the URL, without quoting it: a password may stand in it.
    #[cfg(feature = "limiter-redis")]
    pub fn shared(url: &str, timeout: Duration, rate: Rate) -> Result<Self, RedisUrlError> {
        let shared = shared::Shared::new(url, timeout).ok_or(RedisUrlError)?;
        Ok(Self { shared: Some(shared), ..Self::local(rate) })
    }

    /// Another rate for one tenant.
    pub fn tenant(mut self, tenant: impl Into<String>, rate: Rate) -> Self {
        self.rates.overrides.insert(tenant.into(), rate);
        self
    }

    /// Counts in these metrics from now on, and begins with full buckets. A producer does this with its own metrics.
    pub fn metrics(mut self, metrics: &Metrics) -> Self {
        self.labels = Some(Labels::new(metrics.clone()));
        // Buckets know their counters.
        self.local = Local::new(TENANTS_MAX);
        self
    }

    /// May the tenant send one event now? If not, when it may at the earliest.
    pub fn take(&self, tenant: &str) -> Result<(), Duration> {
        self.take_at(tenant, Instant::now())
    }

    pub(super) fn take_at(&self, tenant: &str, now: Instant) -> Result<(), Duration> {
        let rate = self.rates.of(tenant);
        #[cfg(feature = "limiter-redis")]
        if let Some(shared) = &self.shared {
            return self.ask(shared, tenant, rate, now);
        }
        self.local.take(tenant, rate, now, self.labels.as_ref())
    }

    #[cfg(feature = "limiter-redis")]
    fn ask(&self, shared: &shared::Shared, tenant: &str, rate: Rate, now: Instant) -> Result<(), Duration> {
        let count = |trouble: shared::Trouble| {
            if let Some(labels) = &self.labels {
                labels.trouble(trouble);
            }
        };
        let Some(answer) = shared.take(tenant, rate, &count) else {
            count(shared::Trouble::Error(RedisOperation::Fallback));
            return self.local.take(tenant, rate, now, self.labels.as_ref());
        };
        if let Some(labels) = &self.labels {
            labels.pair(tenant).count(answer.is_ok());
        }
        answer
    }
}

impl std::fmt::Debug for Limiter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Limiter").field("rates", &self.rates).finish_non_exhaustive()
    }
}

/// The URL of Redis is none.
#[cfg(feature = "limiter-redis")]
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not a URL of Redis; it looks like redis://[user:password@]host:port/0 or rediss://…")]
pub struct RedisUrlError;

/// What went wrong with Redis: the label of its metric.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum RedisOperation {
    Connect,
    Check,
    Timeout,
    Fallback,
}

impl RedisOperation {
    pub(super) const ALL: [Self; 4] = [Self::Connect, Self::Check, Self::Timeout, Self::Fallback];

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Connect => "new_connection",
            Self::Check => "rate_limit_check",
            Self::Timeout => "rate_limit_check_timeout",
            Self::Fallback => "fallback_to_local",
        }
    }
}
