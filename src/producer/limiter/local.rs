//! Buckets of tenants in this process, in bounded number, on the monotonic clock.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::super::lock;
use super::bucket::{Bucket, Rate};
use super::labels::{Labels, Pair};

pub(super) struct Local {
    began: Instant,
    buckets: Mutex<Buckets>,
}

impl Local {
    pub(super) fn new(tenants_max: usize) -> Self {
        Self { began: Instant::now(), buckets: Mutex::new(Buckets { tenants_max, tenants: HashMap::new() }) }
    }

    /// Counted in `labels`.
    pub(super) fn take(&self, tenant: &str, rate: Rate, now: Instant, labels: Option<&Labels>) -> Result<(), Duration> {
        let now = now.saturating_duration_since(self.began);
        lock(&self.buckets).take(tenant, rate, now, labels)
    }
}

struct Buckets {
    tenants_max: usize,
    tenants: HashMap<Box<str>, Tenant>,
}

struct Tenant {
    bucket: Bucket,
    rate: Rate,
    used: Duration,
    /// Kept here, since one search per event is enough.
    label: Option<Pair>,
}

impl Tenant {
    fn take(&mut self, rate: Rate, now: Duration) -> Result<(), Duration> {
        (self.used, self.rate) = (now, rate);
        let answer = self.bucket.take(rate, now);
        if let Some(label) = &self.label {
            label.count(answer.is_ok());
        }
        answer
    }
}

impl Buckets {
    fn take(&mut self, tenant: &str, rate: Rate, now: Duration, labels: Option<&Labels>) -> Result<(), Duration> {
        if let Some(known) = self.tenants.get_mut(tenant) {
            return known.take(rate, now);
        }
        if self.tenants.len() >= self.tenants_max {
            self.forget(now);
        }
        let label = labels.map(|labels| labels.pair(tenant));
        let mut new = Tenant { bucket: Bucket::full(rate, now), rate, used: now, label };
        let answer = new.take(rate, now);
        self.tenants.insert(tenant.into(), new);
        answer
    }

    /// A tenth of the tenants goes, so that not every new tenant looks at all: first those whose bucket is full, which
    /// lose nothing, then those that were quiet for longest.
    fn forget(&mut self, now: Duration) {
        let mut order: Vec<(bool, Duration, Box<str>)> = self
            .tenants
            .iter()
            .map(|(name, tenant)| (!tenant.bucket.is_full(tenant.rate, now), tenant.used, name.clone()))
            .collect();
        order.sort_unstable();
        for (_, _, name) in order.into_iter().take(self.tenants_max.div_ceil(10)) {
            self.tenants.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_have_buckets_of_their_own_and_full_ones_are_forgotten_first() {
        let rate = Rate::new(1.0, 2.0).expect("a rate");
        let mut buckets = Buckets { tenants_max: 10, tenants: HashMap::new() };
        let at = Duration::from_secs;
        buckets.take("early", rate, at(0), None).expect("its first");
        for tenant in 0..9 {
            for _ in 0..2 {
                buckets.take(&tenant.to_string(), rate, at(100), None).expect("its burst");
            }
            assert!(buckets.take(&tenant.to_string(), rate, at(100), None).is_err());
        }
        assert_eq!(buckets.take("early", rate, at(100), None), Ok(()));
        assert_eq!(buckets.tenants.len(), 10);
        // "early" was used last, but is full again a second later.
        buckets.take("new", rate, at(101), None).expect("its first");
        assert_eq!(buckets.tenants.len(), 10);
        assert!(!buckets.tenants.contains_key("early"));
        assert!((0..9).all(|tenant| buckets.tenants.contains_key(tenant.to_string().as_str())));
    }
}
