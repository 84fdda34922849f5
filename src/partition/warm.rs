//! Where a restart should begin to read, so that the newer part of the log is there again.
//!
//! A worker notes its chunks; the answer is the offset where its newest `bytes_max` bytes or `age_max_ms` begin.

use std::collections::VecDeque;

use crate::words::Offset;

/// Marks kept at most; neighbours are merged when there are more, which only makes the answer coarser.
const MARKS_MAX: usize = 256;

#[derive(Clone, Copy, Debug)]
struct Mark {
    from: Offset,
    bytes: u64,
    at_ms: u64,
}

/// One per worker.
#[derive(Debug)]
pub struct WarmSpan {
    bytes_max: u64,
    age_max_ms: u64,
    marks: VecDeque<Mark>,
    bytes: u64,
}

impl WarmSpan {
    pub fn new(bytes_max: u64, age_max_ms: u64) -> Self {
        Self { bytes_max, age_max_ms, marks: VecDeque::new(), bytes: 0 }
    }

    /// A chunk that begins at `from` went into the log.
    pub fn note(&mut self, from: Offset, bytes: u64, now_ms: u64) {
        self.marks.push_back(Mark { from, bytes, at_ms: now_ms });
        self.bytes += bytes;
        if self.marks.len() > MARKS_MAX {
            self.merge();
        }
        self.forget(now_ms);
    }

    /// Where the warm span begins; `None` while nothing is in it.
    pub fn from(&mut self, now_ms: u64) -> Option<Offset> {
        self.forget(now_ms);
        self.marks.front().map(|mark| mark.from)
    }

    fn forget(&mut self, now_ms: u64) {
        while let Some(front) = self.marks.front() {
            let too_old = now_ms.saturating_sub(front.at_ms) > self.age_max_ms;
            if self.bytes <= self.bytes_max && !too_old {
                break;
            }
            self.bytes -= front.bytes;
            self.marks.pop_front();
        }
    }

    /// Every second mark goes into the one before it.
    fn merge(&mut self) {
        let mut merged: VecDeque<Mark> = VecDeque::with_capacity(MARKS_MAX);
        for (place, mark) in self.marks.iter().enumerate() {
            match merged.back_mut() {
                Some(last) if place % 2 == 1 => {
                    last.bytes += mark.bytes;
                    last.at_ms = mark.at_ms;
                }
                _ => merged.push_back(*mark),
            }
        }
        self.marks = merged;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_span_is_bounded_in_bytes_and_age_and_its_begin_only_goes_up() {
        let mut span = WarmSpan::new(1_000, 10_000);
        assert_eq!(span.from(0), None);
        let mut last = Offset(0);
        for index in 0..2_000u64 {
            span.note(Offset(index * 10), 10, index);
            let from = span.from(index).expect("something was noted");
            assert!(from >= last && span.bytes <= 1_000 && span.marks.len() <= MARKS_MAX);
            last = from;
        }
        assert!(last >= Offset(18_900) && last <= Offset(19_200), "{last:?}");
        assert_eq!(span.from(100_000), None, "too old");
    }
}
