//! The typed answers to a cursor, and where a session goes on after them.

use std::collections::BTreeMap;

use super::{Answered, Notice, Resume, Session, ThreadReplay, World};
use crate::broadcast::protocol::{Start, TruncatedReason};
use crate::log::Place;
use crate::log::forms::last_before;
use crate::observe::stats::{Protocol, ResumeMode};
use crate::words::{CloseReason, Offset, PartitionId};

/// When to come back with a cursor that cannot be judged now.
const RETRY_AFTER_MS: u64 = 2_000;

/// The floor of a partition that was asked for in vain: nothing of it is sent until a resume names it again, since
/// what came first would pass over what lies between the cursor and there.
pub(super) const HELD: Offset = Offset(u64::MAX);

/// A resume whose answer needs a watermark that is asked of Kafka after the resume arrived, or a partition whose log
/// is not open yet.
#[derive(Debug)]
pub(super) struct Judging {
    pub(super) since_ms: u64,
    number: u64,
    /// The cursor is of another stream.
    wrong_stream: bool,
    answers: Vec<(PartitionId, Answered)>,
    /// Partition and requested offset, ahead of our log or without one.
    ahead: Vec<(PartitionId, Offset)>,
}

impl Session {
    pub(super) fn resume(&mut self, resume: Resume, world: &World<'_>) {
        self.stream_aware |= resume.stream.is_some();
        self.settle_unit(world.ring);
        self.end_replay(true, world);
        if self.protocol == Protocol::V1 {
            // v1 does not number its resumes: a late answer to the last one would be taken for this one's.
            self.judging = None;
        }
        self.end_judging(world);
        self.resumes += 1;
        world.stats.resumes[ResumeMode::Partition as usize].add(1);
        let wrong_stream = resume.stream.as_ref().is_some_and(|stream| *stream != world.topology.stream);
        let mut answers = Vec::new();
        let mut ahead = Vec::new();
        let mut wants: BTreeMap<PartitionId, Offset> = BTreeMap::new();
        let mode = match &resume.start {
            Start::Latest => {
                for (partition, _, next) in world.ring.partitions() {
                    wants.insert(partition, next);
                    answers.push((partition, Answered::Resumed { from: next }));
                }
                "latest"
            }
            Start::Timestamp(_) | Start::Run(_) => "cursor",
            Start::Earliest => {
                for (partition, oldest, _) in world.ring.partitions() {
                    wants.insert(partition, oldest);
                    answers.push((partition, earliest(partition, oldest, world)));
                }
                "earliest"
            }
            Start::Cursor(cursor) => {
                // A partition that the cursor does not name goes on where this connection stands (before anything
                // was sent that is Hello's position); a v1 client expects all that there is.
                if self.protocol != Protocol::V1 {
                    let absent = self.floors.iter().filter(|(partition, _)| world.ring.bounds(**partition).is_none());
                    wants.extend(absent.map(|(partition, floor)| (*partition, *floor)));
                }
                for (partition, oldest, _) in world.ring.partitions() {
                    let here = if self.protocol == Protocol::V1 {
                        Some(oldest)
                    } else {
                        self.stands_at(world.ring, partition)
                    };
                    wants.insert(partition, here.unwrap_or(oldest));
                }
                for (partition, applied) in cursor {
                    match judge(*partition, *applied, wrong_stream, world) {
                        Judged::Answer(answer, want) => {
                            wants.insert(*partition, want);
                            answers.push((*partition, answer));
                        }
                        Judged::NotOurs(answer) => {
                            wants.insert(*partition, HELD);
                            answers.push((*partition, answer));
                        }
                        Judged::Waits => {
                            // Nothing below what the client has may be sent, whatever the answer will be.
                            wants.insert(*partition, applied.next());
                            ahead.push((*partition, *applied));
                        }
                    }
                }
                "cursor"
            }
        };
        self.place(&wants, world);
        let mut active = self.replay(self.resumes, mode, ResumeMode::Partition, world);
        if mode == "latest" {
            active.last = world
                .ring
                .partitions()
                .filter(|(.., next)| next.0 > 0)
                .map(|(p, _, next)| (p, last_before(next)))
                .collect();
        }
        self.active = Some(active);
        let judging = Judging { since_ms: world.now_ms, number: self.resumes, wrong_stream, answers, ahead };
        if judging.ahead.is_empty() {
            self.answer(judging, world);
            if std::mem::take(&mut self.unavailable) && self.protocol == Protocol::V1 {
                self.close(CloseReason::Unavailable, world);
            }
        } else {
            self.judging = Some(judging);
        }
    }

    pub(super) fn resume_threads(&mut self, sequences: Vec<(String, u64)>, stream: Option<String>, world: &World<'_>) {
        self.stream_aware |= stream.is_some();
        self.settle_unit(world.ring);
        self.end_replay(true, world);
        self.end_judging(world);
        self.resumes += 1;
        world.stats.resumes[ResumeMode::Thread as usize].add(1);
        self.active = Some(self.replay(self.resumes, "thread", ResumeMode::Thread, world));
        if !sequences.is_empty() {
            let wants = world.ring.partitions().map(|(partition, oldest, _)| (partition, oldest)).collect();
            self.place(&wants, world);
            self.threads = Some(Box::new(ThreadReplay::new(sequences)));
        }
    }

    pub(super) fn cursor_reset(&mut self, world: &World<'_>) {
        self.settle_unit(world.ring);
        self.end_replay(true, world);
        self.end_judging(world);
        let latest: Vec<_> = world.ring.partitions().map(|(partition, _, next)| (partition, next)).collect();
        self.place(&latest.iter().copied().collect(), world);
        let offsets: Vec<_> =
            latest.iter().filter(|(_, next)| next.0 > 0).map(|(p, next)| (*p, last_before(*next))).collect();
        self.say(&Notice::CursorReset { latest: &offsets });
    }

    /// Gives the answer that is outstanding, if it can be given: as soon as the log and a watermark asked for after the
    /// resume are there, or as `unavailable` after the deadline. True: it was given, and nothing is outstanding any more.
    pub(super) fn give_answer(&mut self, world: &World<'_>) -> bool {
        let Some(judging) = &self.judging else { return false };
        // What Kafka did not answer, since a broker was not reached yet, is asked again until the deadline.
        let known = world.watermarks.asked_at_ms >= judging.since_ms
            && judging.ahead.iter().all(|(partition, _)| {
                world.ring.bounds(*partition).is_some() && world.watermarks.bounds.contains_key(partition)
            });
        let late = world.now_ms.saturating_sub(judging.since_ms) >= world.settings.judge_timeout_ms;
        if !known && !late {
            return false;
        }
        self.end_judging(world);
        let unavailable = std::mem::take(&mut self.unavailable);
        if unavailable && self.protocol == Protocol::V1 {
            // A v1 client has no word for it; one whose resume was overtaken by another does not need it either.
            self.close(CloseReason::Unavailable, world);
        }
        true
    }

    /// Gives the answer that is outstanding by what is known now.
    pub(super) fn end_judging(&mut self, world: &World<'_>) {
        let Some(mut judging) = self.judging.take() else { return };
        let known = world.watermarks.asked_at_ms >= judging.since_ms;
        for (partition, applied) in std::mem::take(&mut judging.ahead) {
            let want = applied.next();
            let high = world.watermarks.bounds.get(&partition).map(|(_, high)| *high).filter(|_| known);
            let answer = match (world.ring.bounds(partition), high) {
                // No log, or nothing that Kafka said.
                (None, _) => self.hold(partition),
                (Some((_, next)), _) if judging.wrong_stream => {
                    self.floors.insert(partition, next);
                    Answered::WrongStream { newest: next }
                }
                // Evicted meanwhile is told as a gap; the log of a partition that was not open may begin beyond.
                (Some((oldest, _)), _) if want < oldest && !self.missed_from(partition, want) => {
                    self.missed.remove(&partition);
                    truncated(partition, applied, oldest, world)
                }
                (Some((_, next)), _) if want <= next => Answered::Resumed { from: want },
                (_, Some(high)) if want <= high => Answered::Resumed { from: want },
                (_, None) => self.hold(partition),
                (Some(_), Some(high)) => {
                    // The log may have moved on since; what it got meanwhile is sent, except for what was evicted.
                    let here = world.ring.next_at(partition, self.position).unwrap_or(high);
                    let newest = high.max(here);
                    self.floors.insert(partition, newest);
                    Answered::Future { requested: applied, newest }
                }
            };
            judging.answers.push((partition, answer));
        }
        self.answer(judging, world);
    }

    fn hold(&mut self, partition: PartitionId) -> Answered {
        self.floors.insert(partition, HELD);
        Answered::Unavailable { retry_after_ms: RETRY_AFTER_MS }
    }

    fn missed_from(&self, partition: PartitionId, want: Offset) -> bool {
        self.missed.get(&partition).is_some_and(|(first, _)| *first == want)
    }

    fn answer(&mut self, judging: Judging, world: &World<'_>) {
        for (_, answer) in &judging.answers {
            world.stats.answers[answer.kind() as usize].add(1);
            if let Answered::Truncated { requested, oldest, .. } = answer {
                world.stats.replay_gap(ResumeMode::Partition, oldest.0.saturating_sub(requested.next().0));
            }
        }
        self.unavailable = judging.answers.iter().any(|(_, answer)| matches!(answer, Answered::Unavailable { .. }));
        if !judging.answers.is_empty() {
            self.say(&Notice::Answers { resume: judging.number, answers: &judging.answers });
        }
    }

    /// Goes back (or ahead) to where all of `wants` is still to come, with floors for what is not wanted again.
    fn place(&mut self, wants: &BTreeMap<PartitionId, Offset>, world: &World<'_>) {
        let ring = world.ring;
        // What was missed and not yet told stays to be told, unless the client now asks for something else.
        self.missed.retain(|partition, (first, _)| wants.get(partition) == Some(first));
        self.threads = None;
        self.position = wants
            .iter()
            .filter_map(|(partition, want)| match ring.find(*partition, *want) {
                Place::InLog { sequence } => Some(sequence),
                Place::Before { .. } => Some(ring.tail()),
                Place::Ahead { .. } | Place::Absent => None,
            })
            .min()
            .unwrap_or_else(|| ring.head());
        let position = self.position;
        let above = |(partition, want): (&PartitionId, &Offset)| {
            let floored = ring.next_at(*partition, position).is_none_or(|starts| *want > starts);
            floored.then_some((*partition, *want))
        };
        self.floors = wants.iter().filter_map(above).collect();
        self.floors_until = ring.head();
    }
}

enum Judged {
    /// With the next offset that the partition goes on from.
    Answer(Answered, Offset),
    /// Not a partition of this host, now.
    NotOurs(Answered),
    /// Beyond our log, and only Kafka can say; or the log is not open yet.
    Waits,
}

fn judge(partition: PartitionId, applied: Offset, wrong_stream: bool, world: &World<'_>) -> Judged {
    if partition.0 >= world.topology.partition_count {
        return Judged::NotOurs(Answered::UnknownPartition);
    }
    let Some((oldest, next)) = world.ring.bounds(partition) else {
        return if world.settings.group { Judged::NotOurs(Answered::NotHere) } else { Judged::Waits };
    };
    if wrong_stream {
        return Judged::Answer(Answered::WrongStream { newest: next }, next);
    }
    let want = applied.next();
    if want > next {
        return Judged::Waits;
    }
    if want >= oldest {
        return Judged::Answer(Answered::Resumed { from: want }, want);
    }
    Judged::Answer(truncated(partition, applied, oldest, world), oldest)
}

fn truncated(partition: PartitionId, requested: Offset, oldest: Offset, world: &World<'_>) -> Answered {
    let reason = match world.watermarks.bounds.get(&partition) {
        Some((low, _)) if requested.next() < *low => TruncatedReason::Retention,
        _ => TruncatedReason::Evicted,
    };
    Answered::Truncated { requested, oldest, reason }
}

/// All that is here; truncated when Kafka is known to have had more.
fn earliest(partition: PartitionId, oldest: Offset, world: &World<'_>) -> Answered {
    match world.watermarks.bounds.get(&partition) {
        Some((low, _)) if *low < oldest => {
            Answered::Truncated { requested: *low, oldest, reason: TruncatedReason::Evicted }
        }
        _ => Answered::Resumed { from: oldest },
    }
}
