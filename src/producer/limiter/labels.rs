//! Tenants as labels, bounded: what is long or strange is shown by its hash, and beyond a number of tenants there is
//! one label for all others.

use std::collections::HashMap;
use std::sync::Mutex;

use prometheus::IntCounter;
use sha2::{Digest, Sha256};

use super::super::lock;
use super::super::metrics::Metrics;

/// Labels of tenants, at most; all further tenants are `overflow`.
const LABELS_MAX: usize = 1_000;
/// A longer tenant is shown by its hash.
const LABEL_BYTES_MAX: usize = 64;
const OVERFLOW: &str = "overflow";

pub(super) struct Labels {
    metrics: Metrics,
    tenants: Mutex<HashMap<Box<str>, Pair>>,
    overflow: Pair,
}

/// The two counters of one label.
#[derive(Clone)]
pub(super) struct Pair {
    allowed: IntCounter,
    exceeded: IntCounter,
}

impl Pair {
    fn of(metrics: &Metrics, label: &str) -> Self {
        Self {
            allowed: metrics.allowed.with_label_values(&[label]),
            exceeded: metrics.exceeded.with_label_values(&[label]),
        }
    }

    pub(super) fn count(&self, allowed: bool) {
        if allowed { self.allowed.inc() } else { self.exceeded.inc() }
    }
}

impl Labels {
    pub(super) fn new(metrics: Metrics) -> Self {
        let overflow = Pair::of(&metrics, OVERFLOW);
        Self { metrics, tenants: Mutex::default(), overflow }
    }

    /// What a tenant counts in, for good.
    pub(super) fn pair(&self, tenant: &str) -> Pair {
        let mut tenants = lock(&self.tenants);
        if let Some(pair) = tenants.get(tenant) {
            pair.clone()
        } else if tenants.len() < LABELS_MAX {
            let pair = Pair::of(&self.metrics, &label(tenant));
            tenants.insert(tenant.into(), pair.clone());
            pair
        } else {
            self.overflow.clone()
        }
    }

    #[cfg(feature = "limiter-redis")]
    pub(super) fn trouble(&self, trouble: super::shared::Trouble) {
        match trouble {
            super::shared::Trouble::Error(operation) => self.metrics.redis_error(operation),
            super::shared::Trouble::Took(ms) => self.metrics.redis_took(ms),
        }
    }
}

/// A tenant as it is, if that is short and plain.
fn label(tenant: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:@/".contains(&byte);
    // What looks like one of our own must not be taken for it.
    let ours = tenant == OVERFLOW || tenant.starts_with("tenant_");
    if !tenant.is_empty() && tenant.len() <= LABEL_BYTES_MAX && tenant.bytes().all(plain) && !ours {
        return tenant.to_owned();
    }
    let digest = Sha256::digest(tenant.as_bytes());
    digest.iter().take(6).fold("tenant_".to_owned(), |label, byte| label + &format!("{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strange_and_long_tenants_are_shown_by_their_hash() {
        let check = |tenant: &str, expected: &str| assert_eq!(label(tenant), expected);
        check("acme", "acme");
        check("team-a/eu.west:1@x_y", "team-a/eu.west:1@x_y");
        check(&"a".repeat(64), &"a".repeat(64));
        // SHA-256 of the empty text begins with e3b0c44298fc, of "abc" with ba7816bf8f01.
        check("", "tenant_e3b0c44298fc");
        assert_eq!(label("a b").len(), "tenant_".len() + 12);
        for odd in ["a b", "é", "a\"b", "a\nb", &"a".repeat(65), "overflow", "tenant_ba7816bf8f01"] {
            assert!(label(odd).starts_with("tenant_") && label(odd) != odd, "{odd}");
        }
    }

    #[test]
    fn beyond_the_limit_tenants_share_a_label() {
        let registry = prometheus::Registry::new();
        let metrics = Metrics::new();
        metrics.register(&registry).expect("registered");
        let labels = Labels::new(metrics.clone());
        for tenant in 0..LABELS_MAX + 50 {
            labels.pair(&tenant.to_string()).count(tenant % 2 == 0);
        }
        labels.pair("7").count(true);
        let series = |name: &str| {
            let families = registry.gather();
            families.iter().find(|family| family.name() == name).map_or(0, |family| family.get_metric().len())
        };
        assert_eq!(series("dashstream_rate_limit_allowed_total"), LABELS_MAX + 1);
        assert_eq!(metrics.allowed.with_label_values(&["overflow"]).get(), 25);
        assert_eq!(metrics.exceeded.with_label_values(&["overflow"]).get(), 25);
        assert_eq!(metrics.allowed.with_label_values(&["7"]).get(), 1);
    }
}
