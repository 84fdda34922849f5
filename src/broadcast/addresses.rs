//! Who may sit down: seats in total, seats per address, and whose address counts behind a proxy.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// Shared by the accept thread and the shards. The lock is taken once when a connection comes and once when it goes.
#[derive(Debug)]
pub struct Addresses {
    seats_max: u32,
    per_address_max: u32,
    taken: AtomicU32,
    /// Invariant: no entry is 0, so it is never larger than the number of seats.
    per_address: Mutex<HashMap<IpAddr, u32>>,
}

/// A connection's place in the total. Given back when dropped.
#[derive(Debug)]
pub struct Seat(Arc<Addresses>);

/// A session's place among those of its address. Given back when dropped.
#[derive(Debug)]
pub struct AddressSeat {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Addresses {
    pub fn new(seats_max: u32, per_address_max: u32) -> Arc<Self> {
        Arc::new(Self { seats_max, per_address_max, taken: AtomicU32::new(0), per_address: Mutex::default() })
    }

    pub fn sit(self: &Arc<Self>) -> Option<Seat> {
        let taken = self
            .taken
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |taken| (taken < self.seats_max).then_some(taken + 1));
        taken.is_ok().then(|| Seat(self.clone()))
    }

    pub fn taken(&self) -> u32 {
        self.taken.load(Ordering::Acquire)
    }

    pub fn sit_at(self: &Arc<Self>, address: IpAddr) -> Option<AddressSeat> {
        let mut per_address = self.lock();
        let count = per_address.entry(address).or_insert(0);
        if *count >= self.per_address_max {
            return None;
        }
        *count += 1;
        Some(AddressSeat { addresses: self.clone(), address })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, u32>> {
        self.per_address.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl AddressSeat {
    pub fn address(&self) -> IpAddr {
        self.address
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Drop for AddressSeat {
    fn drop(&mut self) {
        let mut per_address = self.addresses.lock();
        if let Some(count) = per_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                per_address.remove(&self.address);
            }
        }
    }
}

/// The address that counts: the peer's, unless it is a trusted proxy; then the nearest one in `X-Forwarded-For`, from
/// the right, that is not a trusted proxy itself.
pub fn client_address(peer: IpAddr, forwarded_for: &[&str], trusted: &[IpAddr]) -> IpAddr {
    let peer = peer.to_canonical();
    if !trusted.iter().any(|proxy| proxy.to_canonical() == peer) {
        return peer;
    }
    let hops = forwarded_for.iter().rev().flat_map(|line| line.rsplit(','));
    hops.filter_map(|hop| hop.trim().parse::<IpAddr>().ok())
        .map(|address| address.to_canonical())
        .find(|address| !trusted.iter().any(|proxy| proxy.to_canonical() == *address))
        .unwrap_or(peer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_come_back_and_addresses_are_counted_apart() {
        let addresses = Addresses::new(3, 2);
        let one: IpAddr = "10.0.0.1".parse().unwrap();
        let seats: Vec<_> = (0..3).map(|_| addresses.sit().unwrap()).collect();
        assert!(addresses.sit().is_none());
        let first = addresses.sit_at(one).unwrap();
        let second = addresses.sit_at(one).unwrap();
        assert!(addresses.sit_at(one).is_none());
        assert!(addresses.sit_at("10.0.0.2".parse().unwrap()).is_some());
        drop((first, second, seats));
        assert_eq!((addresses.taken(), addresses.lock().len()), (0, 0));
    }

    #[test]
    fn a_forwarded_address_counts_only_from_a_trusted_proxy() {
        let trusted: Vec<IpAddr> = vec!["10.0.0.9".parse().unwrap(), "10.0.0.8".parse().unwrap()];
        for (peer, header, expected) in [
            ("1.2.3.4", "9.9.9.9", "1.2.3.4"),
            ("10.0.0.9", "9.9.9.9", "9.9.9.9"),
            ("10.0.0.9", "6.6.6.6, 9.9.9.9, 10.0.0.8", "9.9.9.9"),
            ("10.0.0.9", "nonsense", "10.0.0.9"),
            ("10.0.0.9", "", "10.0.0.9"),
            ("::ffff:10.0.0.9", "9.9.9.9", "9.9.9.9"),
        ] {
            let found = client_address(peer.parse().unwrap(), &[header], &trusted);
            assert_eq!(found, expected.parse::<IpAddr>().unwrap(), "{peer} {header}");
        }
    }
}
