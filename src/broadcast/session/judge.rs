//! The typed answers to a cursor, and where a session goes on after them.

use std::collections::BTreeMap;

use super::follow::{Follow, HELD};
use super::{Answered, Notice, Resume, Session, World};
use crate::broadcast::filter::Filter;
use crate::broadcast::protocol::{RunStart, Start, TruncatedReason};
use crate::broadcast::runs::{RunIndex, Seen};
use crate::log::Place;
use crate::log::forms::last_before;
use crate::observe::stats::{Protocol, ResumeMode};
use crate::replay::ask::Wish;
use crate::words::{CloseReason, Offset, PartitionId};

/// When to come back with a cursor that cannot be judged now.
const RETRY_AFTER_MS: u64 = 2_000;

pub(super) const UNAVAILABLE: Answered = Answered::Unavailable { retry_after_ms: RETRY_AFTER_MS };

/// A resume whose answer needs something that was asked of Kafka after the resume arrived, or a partition whose log is
/// not open yet. Nothing of what is `open` is sent before.
#[derive(Debug)]
pub(super) struct Judging {
    pub(super) since_ms: u64,
    number: u64,
    /// The cursor is of another stream.
    wrong_stream: bool,
    answers: Vec<(PartitionId, Answered)>,
    open: Vec<(PartitionId, Ask)>,
    time: Option<TimeQuestion>,
}

/// What is asked of one partition.
#[derive(Clone, Copy, Debug)]
enum Ask {
    /// What comes after this offset, which the client has applied.
    After(Offset),
    /// A run, of which this is known; what is not known is looked for in what is young enough.
    Run(Option<Seen>),
    /// All that there is. `told`: with an answer.
    Earliest { told: bool },
    /// From the time in question on; nothing older when no record is that late.
    AtTime,
}

#[derive(Debug)]
struct TimeQuestion {
    timestamp_ms: i64,
    ticket: Option<u64>,
    offsets: Option<BTreeMap<PartitionId, Offset>>,
    /// It is a search: each partition is told as searched when it is through.
    search: bool,
}

impl Judging {
    /// A search for runs in every partition, of which `seen` is known, in what is at most `age_ms` old.
    pub(super) fn search(
        number: u64,
        age_ms: u64,
        seen: impl Fn(PartitionId) -> Option<Seen>,
        world: &World<'_>,
    ) -> Self {
        let timestamp_ms = world.wall_ms.saturating_sub(i64::try_from(age_ms).unwrap_or(i64::MAX)).max(0);
        Self {
            since_ms: world.now_ms,
            number,
            wrong_stream: false,
            answers: Vec::new(),
            open: world.ring.partitions().map(|(partition, ..)| (partition, Ask::Run(seen(partition)))).collect(),
            time: Some(TimeQuestion { timestamp_ms, ticket: None, offsets: None, search: true }),
        }
    }

    /// What is to be asked of the cold readers now.
    pub(super) fn wish(&self) -> Option<Wish> {
        let time = self.time.as_ref().filter(|time| time.ticket.is_none() && time.offsets.is_none())?;
        Some(Wish::AtTime { timestamp_ms: time.timestamp_ms })
    }

    pub(super) fn time_asked(&mut self, ticket: u64) {
        if let Some(time) = &mut self.time {
            time.ticket = Some(ticket);
        }
    }

    pub(super) fn time_answer(&mut self, ticket: u64, offsets: Option<BTreeMap<PartitionId, Offset>>) {
        if let Some(time) = self.time.as_mut().filter(|time| time.ticket == Some(ticket)) {
            time.ticket = None;
            time.offsets = offsets;
        }
    }
}

impl Session {
    pub(super) fn resume(&mut self, resume: Resume, world: &World<'_>) {
        if matches!(resume.start, Start::Timestamp(_)) && !world.settings.cold {
            world.stats.refused_frames.add(1);
            return self.say(&Notice::Refused {
                what: "resume",
                why: "this gateway replays from its log only: no timestamps",
            });
        }
        self.stream_aware |= resume.stream.is_some();
        self.settle_unit(world.ring);
        self.end_replay(true, world);
        if self.protocol == Protocol::V1 {
            // v1 does not number its resumes: a late answer to the last one would be taken for this one's.
            self.judging = None;
        }
        self.end_judging(world);
        self.resumes += 1;
        self.forget_falls();
        world.stats.resumes[ResumeMode::Partition as usize].add(1);
        let wrong_stream = resume.stream.as_ref().is_some_and(|stream| *stream != world.topology.stream);
        let mut judging = Judging {
            since_ms: world.now_ms,
            number: self.resumes,
            wrong_stream,
            answers: Vec::new(),
            open: Vec::new(),
            time: None,
        };
        let mut wants = self.kept_elsewhere(world);
        let mode = match resume.start {
            Start::Latest => {
                for (partition, _, next) in world.ring.partitions() {
                    wants.insert(partition, next);
                    judging.answers.push((partition, Answered::Resumed { from: next }));
                }
                "latest"
            }
            Start::Earliest => {
                for (partition, oldest, _) in world.ring.partitions() {
                    if world.settings.cold {
                        judging.open.push((partition, Ask::Earliest { told: true }));
                    } else {
                        wants.insert(partition, oldest);
                        judging.answers.push((partition, earliest(partition, oldest, world)));
                    }
                }
                "earliest"
            }
            Start::Timestamp(timestamp_ms) => {
                judging.time = Some(TimeQuestion { timestamp_ms, ticket: None, offsets: None, search: false });
                judging.open = world.ring.partitions().map(|(partition, ..)| (partition, Ask::AtTime)).collect();
                "timestamp"
            }
            Start::Run(run) => {
                self.start_run(&run, &mut judging, &mut wants, world);
                "run"
            }
            Start::Cursor(cursor) => {
                self.start_cursor(&cursor, &mut judging, &mut wants, world);
                "cursor"
            }
        };
        // Nothing of what is open is sent, whatever the answer will be.
        wants.extend(judging.open.iter().map(|(partition, _)| (*partition, HELD)));
        self.follow = Follow::Log;
        self.cold = None;
        self.missed.clear();
        self.threads = None;
        self.go_from(wants, world);
        let mut active = self.replay(self.resumes, mode, ResumeMode::Partition, world);
        if mode == "latest" {
            active.last = world
                .ring
                .partitions()
                .filter(|(.., next)| next.0 > 0)
                .map(|(p, _, next)| (p, last_before(next)))
                .collect();
        }
        if mode == "run" && judging.time.is_none() && judging.open.is_empty() {
            active.searched = world.ring.partitions().collect();
        }
        self.active = Some(active);
        if judging.open.is_empty() {
            self.answer(judging, world);
            if std::mem::take(&mut self.unavailable) && self.protocol == Protocol::V1 {
                self.close(CloseReason::Unavailable, world);
            }
        } else {
            self.judging = Some(judging);
        }
    }

    /// A partition that the cursor does not name goes on where this connection stands (before anything was sent that is
    /// Hello's position); a v1 client expects all that there is.
    fn start_cursor(
        &self,
        cursor: &[(PartitionId, Offset)],
        judging: &mut Judging,
        wants: &mut BTreeMap<PartitionId, Offset>,
        world: &World<'_>,
    ) {
        for (partition, oldest, _) in world.ring.partitions() {
            if self.protocol != Protocol::V1 {
                wants.insert(partition, self.stands_at(world.ring, partition).unwrap_or(oldest));
            } else if world.settings.cold && cursor.iter().all(|(named, _)| *named != partition) {
                judging.open.push((partition, Ask::Earliest { told: false }));
            } else {
                wants.insert(partition, oldest);
            }
        }
        for (partition, applied) in cursor {
            match judge(*partition, *applied, judging.wrong_stream, world) {
                Judged::Answer(answer, want) => {
                    wants.insert(*partition, want);
                    judging.answers.push((*partition, answer));
                }
                Judged::NotOurs(answer) => {
                    wants.insert(*partition, HELD);
                    judging.answers.push((*partition, answer));
                }
                Judged::Waits => judging.open.push((*partition, Ask::After(*applied))),
            }
        }
    }

    /// One run: from where this shard saw it begin; else everything that is young enough is looked through.
    fn start_run(
        &mut self,
        run: &RunStart,
        judging: &mut Judging,
        wants: &mut BTreeMap<PartitionId, Offset>,
        world: &World<'_>,
    ) {
        self.filter = Some(Box::new(Filter::of_run(&run.thread, run.tenant.as_deref(), run.after_sequence)));
        self.filter_version += 1;
        if world.settings.cold {
            let age_ms = run.search_age_ms.unwrap_or(world.settings.search_age_ms);
            let search = Judging::search(judging.number, age_ms, |p| world.runs.seen(&run.thread, p), world);
            (judging.open, judging.time) = (search.open, search.time);
            return;
        }
        for (partition, oldest, _) in world.ring.partitions() {
            wants.insert(partition, oldest);
            judging.answers.push((partition, Answered::Resumed { from: oldest }));
        }
    }

    pub(super) fn cursor_reset(&mut self, world: &World<'_>) {
        self.settle_unit(world.ring);
        self.end_replay(true, world);
        self.end_judging(world);
        let latest: Vec<_> = world.ring.partitions().map(|(partition, _, next)| (partition, next)).collect();
        let mut wants = self.kept_elsewhere(world);
        wants.extend(latest.iter().copied());
        self.follow = Follow::Log;
        self.cold = None;
        self.missed.clear();
        self.threads = None;
        self.place_kept(&wants, world);
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
            && judging.time.as_ref().is_none_or(|time| time.offsets.is_some())
            && judging.open.iter().all(|(partition, _)| {
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
        let mut wants = BTreeMap::new();
        for (partition, ask) in std::mem::take(&mut judging.open) {
            let bounds = world.ring.bounds(partition);
            let high = world.watermarks.bounds.get(&partition).map(|(_, high)| *high).filter(|_| known);
            let at_time = judging.time.as_ref().map(|time| {
                let offsets = time.offsets.as_ref()?;
                // Where Kafka knows no record that is that late, the log may: a broker that is embedded looks nothing
                // up by time. Else what comes from now on is.
                let known = offsets.get(&partition).copied();
                known.or_else(|| world.ring.since(partition, time.timestamp_ms)).or(bounds.map(|(_, next)| next))
            });
            let (answer, want) = match (ask, bounds, high) {
                // No log, or nothing that Kafka said.
                (_, None, _) => (UNAVAILABLE, HELD),
                (_, Some((_, next)), _) if judging.wrong_stream => (Answered::WrongStream { newest: next }, next),
                (Ask::After(applied), Some(bounds), high) => after(partition, applied, bounds, high, world),
                (Ask::Run(seen), Some(bounds), Some(_)) => match at_time.flatten() {
                    Some(offset) => {
                        let all = available(partition, bounds.0, world);
                        let young = offset.max(all).min(bounds.1);
                        // Where the index knows all that there is, or all that is young enough, nothing is looked for.
                        let known = seen.filter(|seen| seen.since <= all.max(young));
                        let want = known.map_or(young, |seen| seen.first.unwrap_or(bounds.1).max(all));
                        (Answered::Resumed { from: want }, want)
                    }
                    None => (UNAVAILABLE, HELD),
                },
                (Ask::Earliest { .. }, Some(bounds), Some(_)) => {
                    let want = available(partition, bounds.0, world);
                    (Answered::Resumed { from: want }, want)
                }
                (Ask::AtTime, Some(bounds), Some(_)) => match at_time.flatten() {
                    Some(offset) => {
                        let want = offset.max(available(partition, bounds.0, world)).min(bounds.1);
                        (Answered::Resumed { from: want }, want)
                    }
                    None => (UNAVAILABLE, HELD),
                },
                (_, Some(_), None) => (UNAVAILABLE, HELD),
            };
            if let (Some(time), Some((_, next)), Some(active)) = (&judging.time, bounds, &mut self.active)
                && time.search
                && want != HELD
            {
                // What the index knows was looked at before; nothing else of it is in there.
                let looked_from = match ask {
                    Ask::Run(Some(seen)) if seen.since <= want => {
                        seen.since.max(world.watermarks.oldest(partition).unwrap_or(seen.since))
                    }
                    _ => want,
                };
                active.searched.push((partition, looked_from, next));
            }
            wants.insert(partition, want);
            if !matches!(ask, Ask::Earliest { told: false }) || matches!(answer, Answered::Unavailable { .. }) {
                judging.answers.push((partition, answer));
            }
        }
        if let (Some(active), true) = (&mut self.active, judging.time.as_ref().is_some_and(|time| time.search)) {
            active.search_left = Some(world.settings.search_max_bytes);
        }
        let mut places = self.places(world);
        places.extend(wants);
        self.cold = None;
        self.go_from(places, world);
        self.answer(judging, world);
    }

    /// The answers that are known already, ahead of those that wait for Kafka: a cursor that stands on them follows.
    pub(super) fn tell_known(&mut self, world: &World<'_>) {
        let Some(judging) = &mut self.judging else { return };
        let (number, known) = (judging.number, std::mem::take(&mut judging.answers));
        self.say_answers(number, &known, world);
    }

    fn answer(&mut self, judging: Judging, world: &World<'_>) {
        world.stats.log_hits.add(u64::from(self.cold.is_none()));
        self.unavailable = judging.answers.iter().any(|(_, answer)| matches!(answer, Answered::Unavailable { .. }));
        self.say_answers(judging.number, &judging.answers, world);
    }

    pub(super) fn say_answers(&mut self, resume: u64, answers: &[(PartitionId, Answered)], world: &World<'_>) {
        for (_, answer) in answers {
            world.stats.answers[answer.kind() as usize].add(1);
            if let Answered::Truncated { requested, oldest, .. } = answer {
                world.stats.replay_gap(ResumeMode::Partition, oldest.0.saturating_sub(requested.next().0));
            }
        }
        if !answers.is_empty() {
            self.say(&Notice::Answers { resume, answers });
        }
    }

    /// The next offset of every partition, whether it is told, held, or read from below the log.
    pub(super) fn places(&self, world: &World<'_>) -> BTreeMap<PartitionId, Offset> {
        let mut places = match &self.follow {
            Follow::Paused(wants) => wants.clone(),
            Follow::Log | Follow::Parked => self.floors.clone(),
        };
        for (partition, ..) in world.ring.logs() {
            if let Some(next) = self.stands_at_unmissed(world.ring, partition) {
                places.insert(partition, next);
            }
        }
        places
    }

    /// Its places in partitions that are not ours, or not yet: a resume that cannot have them leaves them as they are.
    pub(super) fn kept_elsewhere(&self, world: &World<'_>) -> BTreeMap<PartitionId, Offset> {
        let mut places = self.places(world);
        places.retain(|partition, _| match world.ring.bounds(*partition) {
            Some(_) => false,
            // The predecessor's client gets all of a partition that it did not name, once that is there.
            None => self.protocol != Protocol::V1 || world.ring.log(*partition).is_some(),
        });
        for (partition, place) in &mut places {
            // What was missed there and not told yet is still to come, or to be told.
            *place = self.missed.get(partition).map_or(*place, |(first, _)| (*place).min(*first));
            if self.protocol == Protocol::V1 && *place == HELD {
                // It asked in vain, and does not name it any more.
                *place = Offset(0);
            }
        }
        places
    }

    /// Goes back (or ahead) to where all of `wants` is still to come, with floors for what is not wanted again. What
    /// was missed and not told yet stays to be told.
    pub(super) fn place_kept(&mut self, wants: &BTreeMap<PartitionId, Offset>, world: &World<'_>) {
        let ring = world.ring;
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

/// What is known of several runs together; `None` where something must be looked for.
pub(super) fn seen_of_all<'a>(
    runs: &RunIndex,
    threads: impl Iterator<Item = &'a str>,
    partition: PartitionId,
) -> Option<Seen> {
    let mut all = Seen { first: None, since: Offset(0) };
    for thread in threads {
        let seen = runs.seen(thread, partition)?;
        all.since = all.since.max(seen.since);
        all.first = [all.first, seen.first].into_iter().flatten().min();
    }
    Some(all)
}

/// The first offset that can be had: from the log, or from a tier below it.
fn available(partition: PartitionId, oldest: Offset, world: &World<'_>) -> Offset {
    world.watermarks.oldest(partition).map_or(oldest, |below| below.min(oldest))
}

/// The answer to a cursor that could not be judged at once, and where the partition goes on.
fn after(
    partition: PartitionId,
    applied: Offset,
    (oldest, next): (Offset, Offset),
    high: Option<Offset>,
    world: &World<'_>,
) -> (Answered, Offset) {
    let want = applied.next();
    if (oldest..=next).contains(&want) {
        return (Answered::Resumed { from: want }, want);
    }
    let Some(high) = high else {
        // Kafka does not answer: what the second tier says it has can be had all the same.
        let second = world.watermarks.second_tier.get(&partition).filter(|_| world.settings.cold);
        return match second {
            Some(second) if (*second..oldest).contains(&want) => (Answered::Resumed { from: want }, want),
            _ => (UNAVAILABLE, HELD),
        };
    };
    if want < oldest {
        let available = if world.settings.cold { available(partition, oldest, world) } else { oldest };
        if want >= available {
            return (Answered::Resumed { from: want }, want);
        }
        return (truncated(partition, applied, available, world), available);
    }
    if want <= high {
        return (Answered::Resumed { from: want }, want);
    }
    let newest = high.max(next);
    (Answered::Future { requested: applied, newest }, newest)
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
    if world.settings.cold {
        // A tier below the log may have it.
        return Judged::Waits;
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
