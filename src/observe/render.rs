//! From a snapshot to all bodies that the HTTP fronts serve. Owns what has to be remembered between two renderings:
//! the registered metrics and the window of recent counts.
//!
//! Deliberately absent: who asks, how often, and over which socket.

use std::sync::Arc;

use arc_swap::ArcSwap;
use serde_json::Value;

use super::clients;
use super::exposition::{Exposition, ExpositionError};
use super::health;
use super::http::{Bodies, SharedBodies};
use super::snapshot::Snapshot;
use super::window::{Tally, Window};

#[derive(Debug)]
pub struct Renderer {
    exposition: Exposition,
    window: Window,
    config_json: Arc<[u8]>,
}

impl Renderer {
    /// `config_json` is the effective configuration, secrets masked; it does not change while the process runs.
    pub fn new(config_json: &str) -> Result<Self, ExpositionError> {
        let config_json = format!("{}\n", config_json.trim_end()).into_bytes().into();
        Ok(Self { exposition: Exposition::new()?, window: Window::default(), config_json })
    }

    pub fn render(&mut self, snapshot: Snapshot) -> Result<Bodies, ExpositionError> {
        let recent = self.window.observe(snapshot.now_ms, Tally::of(&snapshot));
        let (ready, ready_json) = health::ready(&snapshot);
        let (live, live_json) = health::live(&snapshot);
        Ok(Bodies {
            rendered_at_ms: snapshot.now_ms,
            ready,
            live,
            health_json: line(&health::health(&snapshot, &recent)),
            ready_json: line(&ready_json),
            live_json: line(&live_json),
            version_json: line(&health::version(&snapshot)),
            config_json: self.config_json.clone(),
            clients_json: clients::render(&snapshot.rosters, snapshot.now_ms).into(),
            metrics_text: self.exposition.render(Arc::new(snapshot))?.into_bytes().into(),
        })
    }

    /// The bodies of the first moment, and the place where later ones are swapped in.
    pub fn first(&mut self, snapshot: Snapshot) -> Result<SharedBodies, ExpositionError> {
        Ok(Arc::new(ArcSwap::from_pointee(self.render(snapshot)?)))
    }
}

fn line(value: &Value) -> Arc<[u8]> {
    format!("{value}\n").into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::super::stats::Stats;
    use super::*;

    #[test]
    fn bodies_of_one_rendering_agree() {
        for (stats, ready) in [(fixture::serving(), true), (Stats::default(), false)] {
            let mut renderer = Renderer::new("{\"settings\":[]}").expect("the table is sound");
            let snapshot = Snapshot::take(&stats, &fixture::config(), fixture::NOW_MS);
            let bodies = renderer.render(snapshot).expect("bodies");
            let health: Value = serde_json::from_slice(&bodies.health_json).expect("JSON");
            let answer: Value = serde_json::from_slice(&bodies.ready_json).expect("JSON");
            assert_eq!((bodies.ready, &health["ready"], &answer["ready"]), (ready, &ready.into(), &ready.into()));
            let metrics = std::str::from_utf8(&bodies.metrics_text).expect("text");
            assert!(metrics.contains(&format!("\ndashstream_ready {}\n", u8::from(ready))));
            assert_eq!(&*bodies.config_json, b"{\"settings\":[]}\n");
            let clients: Value = serde_json::from_slice(&bodies.clients_json).expect("JSON");
            assert_eq!(clients["total"], 0);
        }
    }

    #[test]
    fn the_window_moves_from_rendering_to_rendering() {
        let stats = fixture::serving();
        let mut renderer = Renderer::new("{}").expect("the table is sound");
        let mut messages = |now_ms: u64| {
            let bodies = renderer.render(Snapshot::take(&stats, &fixture::config(), now_ms)).expect("bodies");
            let health: Value = serde_json::from_slice(&bodies.health_json).expect("JSON");
            health["metrics"]["messages_last_120s"].as_u64()
        };
        stats.hold(crate::words::PartitionId(0)).consumed.add(8);
        assert_eq!(messages(1_000), Some(8));
        for second in 2..200 {
            messages(second * 1_000);
        }
        assert_eq!(messages(200_000), Some(0));
    }
}
