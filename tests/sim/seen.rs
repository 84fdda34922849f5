//! What the dice brought about.

use crate::client::Counts;

/// What happened, so that a run that tried nothing is seen.
#[derive(Clone, Default, Debug)]
pub(crate) struct Seen {
    pub counts: Counts,
    pub resumes: u64,
    pub moves: u64,
    pub evictions: u64,
    pub mid_unit_evictions: u64,
    pub byes: u64,
    pub restarts: u64,
    pub turned_away: u64,
    pub cold_asked: u64,
    pub cold_joined: u64,
    pub unparked: u64,
    pub recreated: u64,
    pub rebalanced: u64,
    pub kafka_silent: u64,
}

impl Seen {
    pub(crate) fn count(&mut self, counts: &Counts) {
        self.counts.records += counts.records;
        self.counts.gaps += counts.gaps;
        self.counts.dead_letters += counts.dead_letters;
        self.counts.truncated += counts.truncated;
        self.counts.futures += counts.futures;
        self.counts.retention_gaps += counts.retention_gaps;
        self.counts.progress += counts.progress;
        self.counts.applied += counts.applied;
        self.counts.policies += counts.policies;
        self.counts.refused += counts.refused;
        self.counts.wrong_streams += counts.wrong_streams;
        self.counts.not_here += counts.not_here;
        self.counts.waiting += counts.waiting;
        self.counts.falling_behind += counts.falling_behind;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.count(&other.counts);
        self.resumes += other.resumes;
        self.moves += other.moves;
        self.evictions += other.evictions;
        self.mid_unit_evictions += other.mid_unit_evictions;
        self.byes += other.byes;
        self.restarts += other.restarts;
        self.turned_away += other.turned_away;
        self.cold_asked += other.cold_asked;
        self.cold_joined += other.cold_joined;
        self.unparked += other.unparked;
        self.recreated += other.recreated;
        self.rebalanced += other.rebalanced;
        self.kafka_silent += other.kafka_silent;
    }

    pub(crate) fn assert_rich(&self) {
        for (what, count) in [
            ("records", self.counts.records),
            ("gaps", self.counts.gaps),
            ("dead letters", self.counts.dead_letters),
            ("truncated", self.counts.truncated),
            ("futures", self.counts.futures),
            ("resumes", self.resumes),
            ("moves", self.moves),
            ("evictions", self.evictions),
            ("evictions in the middle of a unit", self.mid_unit_evictions),
            ("byes", self.byes),
            ("restarts", self.restarts),
            ("turned away", self.turned_away),
            ("streams made again", self.recreated),
            ("cursors of another stream", self.counts.wrong_streams),
            ("partitions that went to another host", self.rebalanced),
            ("cursors of a partition that is not here", self.counts.not_here),
            ("silence of Kafka", self.kafka_silent),
            ("gaps by retention", self.counts.retention_gaps),
            ("progress", self.counts.progress),
            ("filters, pauses and continues", self.counts.applied),
            ("policies chosen", self.counts.policies),
            ("policies refused", self.counts.refused),
            ("waiting", self.counts.waiting),
            ("falling behind", self.counts.falling_behind),
            ("questions to the tiers", self.cold_asked),
            ("joins", self.cold_joined),
            ("chunks that concern a parked client", self.unparked),
        ] {
            assert!(count > 50, "the dice tried too little: {what} {count}");
        }
    }
}
