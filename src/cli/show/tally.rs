//! The sum of what was shown, which stands behind the events of an export. Of fixed size.

use super::{Extent, line};
use crate::cli::source::Item;

/// What was found out is listed up to this many; all of it is counted.
const FINDINGS_MAX: usize = 1_000;

#[derive(Default, Debug)]
pub struct Tally {
    pub events: u64,
    /// Of the events, by their producers' clocks, µs since the epoch.
    pub first_us: Option<i64>,
    pub last_us: Option<i64>,
    pub bad_records: u64,
    /// Offsets in gaps.
    pub missing_records: u64,
    pub missing_sequences: u64,
    pub duplicates: u64,
    findings: Vec<Vec<u8>>,
    findings_left_out: u64,
}

impl Tally {
    pub fn note(&mut self, item: &Item) {
        match item {
            Item::Event(seen) => {
                self.events += 1;
                let time = line::header(&seen.message).map(|header| header.timestamp_us).filter(|time| *time != 0);
                if let Some(time) = time {
                    self.first_us = Some(self.first_us.map_or(time, |first| first.min(time)));
                    self.last_us = Some(self.last_us.map_or(time, |last| last.max(time)));
                }
                return;
            }
            Item::Bad(_) => self.bad_records += 1,
            Item::Gap { from, to, .. } => self.missing_records += to.0.saturating_sub(from.0),
            Item::Missing { from, to, .. } => {
                self.missing_sequences = self.missing_sequences.saturating_add(to.saturating_sub(*from));
            }
            Item::Duplicate { .. } => self.duplicates += 1,
            Item::StreamChanged => {}
            _ => return,
        }
        if self.findings.len() < FINDINGS_MAX {
            let mut finding = Vec::new();
            line::item(item, &mut finding);
            self.findings.push(finding);
        } else {
            self.findings_left_out += 1;
        }
    }

    /// Something is not as it should be.
    pub fn has_findings(&self) -> bool {
        !self.findings.is_empty()
    }

    /// What ends a JSON document, from the bracket behind the events.
    pub(super) fn close(&self, extent: Extent, out: &mut Vec<u8>) {
        let time = |time: Option<i64>| time.and_then(super::human::known_rfc3339);
        let duration = self.last_us.zip(self.first_us).map_or(0, |(last, first)| last.saturating_sub(first));
        let fields = [
            ("total_events", serde_json::json!(self.events)),
            ("start_time", serde_json::json!(time(self.first_us))),
            ("end_time", serde_json::json!(time(self.last_us))),
            ("duration_micros", serde_json::json!(duration)),
            ("bad_records", serde_json::json!(self.bad_records)),
            ("missing_records", serde_json::json!(self.missing_records)),
            ("missing_sequences", serde_json::json!(self.missing_sequences)),
            ("duplicates", serde_json::json!(self.duplicates)),
            ("findings_left_out", serde_json::json!(self.findings_left_out)),
        ];
        out.extend_from_slice(if self.events > 0 { b"\n]" } else { b"]" });
        if extent == Extent::Incomplete {
            out.extend_from_slice(b",\"incomplete\":true");
        }
        for (name, value) in fields {
            out.extend_from_slice(format!(",\"{name}\":{value}").as_bytes());
        }
        out.extend_from_slice(b",\"findings\":[");
        for (index, finding) in self.findings.iter().enumerate() {
            out.extend_from_slice(if index == 0 { b"\n" } else { b",\n" });
            out.extend_from_slice(finding);
        }
        out.extend_from_slice(if self.findings.is_empty() { b"]}\n" } else { b"\n]}\n" });
    }
}
