//! What differs between declared topics and a cluster, and what is done about each difference. Pure.
//!
//! A difference is a [`Step`], which `apply` takes, or an [`Obstacle`], which it never touches: what would delete
//! records, take something away, or leave a topic that nobody can write to.

use std::collections::BTreeMap;
use std::fmt;

use crate::config::{TopicDeclaration, TopicSetting};

/// What a cluster has, as far as it was asked.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ClusterState {
    pub brokers: u32,
    /// A topic that is not here was not asked for.
    pub topics: BTreeMap<String, TopicState>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TopicState {
    Missing,
    Found(FoundTopic),
    /// The user may not know; the text says what it would need.
    Unseen(String),
}

/// A topic as it is.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct FoundTopic {
    pub partitions: u32,
    /// Of the partition that has the fewest copies.
    pub replication_factor: u16,
    /// Of the partition that has the most.
    pub replication_factor_most: u16,
    pub leaderless: u32,
    /// Every setting in force, by Kafka's name.
    pub settings: BTreeMap<String, String>,
}

impl FoundTopic {
    /// In the spelling in which it is compared.
    pub fn setting(&self, setting: TopicSetting) -> Option<String> {
        self.settings.get(setting.kafka_name()).map(|value| setting.normal(value))
    }

    fn number(&self, setting: TopicSetting) -> Option<i64> {
        self.settings.get(setting.kafka_name())?.parse().ok()
    }
}

/// What `apply` does, in this order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    Create(TopicDeclaration),
    /// `is` is absent when the cluster has no such setting.
    Set {
        setting: TopicSetting,
        is: Option<String>,
        declared: String,
    },
    AddPartitions {
        has: u32,
        declared: u32,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create(declared) => {
                write!(
                    formatter,
                    "does not exist; create it with partitions = {}, replication_factor = {}",
                    declared.partitions, declared.replication_factor
                )?;
                for (setting, value) in &declared.settings {
                    write!(formatter, ", {} = {}", setting.key(), setting.shown(value))?;
                }
                Ok(())
            }
            Self::Set { setting, is, declared } => {
                let is = is.as_ref().map_or("unset".to_owned(), |is| setting.shown(is));
                write!(formatter, "{} is {is}; set it to {}", setting.key(), setting.shown(declared))
            }
            Self::AddPartitions { has, declared } => write!(
                formatter,
                "has {has} {}; add {} to make {declared} (warning: keys then go to other partitions, so the order of \
                 records with one key is lost across this moment)",
                if *has == 1 { "partition" } else { "partitions" },
                declared - has
            ),
        }
    }
}

/// What `apply` leaves alone, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Obstacle {
    TooFewBrokers {
        declared: u16,
        brokers: u32,
    },
    FewerPartitions {
        has: u32,
        declared: u32,
    },
    /// Of the partitions that have the fewest and the most copies.
    ReplicationFactor {
        fewest: u16,
        most: u16,
        declared: u16,
    },
    /// Less would be kept, protected or accepted than now.
    Lowers {
        setting: TopicSetting,
        is: String,
        declared: String,
    },
    /// With as few copies as the topic has, nobody could write.
    InsyncBeyondCopies {
        copies: u16,
        declared: String,
    },
    /// Neither side is known: the user may not see it.
    Unseen(String),
}

impl fmt::Display for Obstacle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooFewBrokers { declared, brokers } => write!(
                formatter,
                "replication_factor = {declared} needs as many brokers, and the cluster has {brokers}; add brokers or \
                 declare less"
            ),
            Self::FewerPartitions { has, declared } => write!(
                formatter,
                "has {has} partitions and {declared} {} declared; Kafka cannot take partitions away: declare {has}",
                if *declared == 1 { "is" } else { "are" }
            ),
            Self::ReplicationFactor { fewest, most, declared } if fewest == most => write!(
                formatter,
                "replication_factor is {most} and {declared} is declared; moving copies is not done here: use \
                 kafka-reassign-partitions.sh, or declare {most}"
            ),
            Self::ReplicationFactor { fewest, most, declared } => write!(
                formatter,
                "its partitions have from {fewest} to {most} copies and replication_factor = {declared} is declared; \
                 moving copies is not done here: use kafka-reassign-partitions.sh, or wait where they are being moved"
            ),
            Self::Lowers { setting, is, declared } => write!(
                formatter,
                "{} is {} and {} is declared, which {}; this is not done here: if it is meant, use kafka-configs.sh \
                 with {}={declared}",
                setting.key(),
                setting.shown(is),
                setting.shown(declared),
                match setting {
                    TopicSetting::Retention | TopicSetting::RetentionBytes | TopicSetting::CleanupPolicy => {
                        "would delete records"
                    }
                    TopicSetting::MinInsyncReplicas => "would protect records less",
                    TopicSetting::SegmentBytes => "would refuse larger records, which max_message_bytes allows",
                    TopicSetting::CompressionType | TopicSetting::MaxMessageBytes => {
                        "would refuse records that are taken now"
                    }
                },
                setting.kafka_name(),
            ),
            Self::InsyncBeyondCopies { copies, declared } => write!(
                formatter,
                "min_insync_replicas = {declared} is declared and it has {copies} copies: nobody could write; give it \
                 more copies first"
            ),
            Self::Unseen(why) => formatter.write_str(why),
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicPlan {
    pub name: String,
    pub steps: Vec<Step>,
    pub obstacles: Vec<Obstacle>,
}

impl TopicPlan {
    pub fn is_as_declared(&self) -> bool {
        self.steps.is_empty() && self.obstacles.is_empty()
    }
}

/// All differences, topic by topic, in the order of the declarations.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Plan {
    pub topics: Vec<TopicPlan>,
}

impl Plan {
    /// Topics that are not as declared.
    pub fn differing(&self) -> usize {
        self.topics.iter().filter(|topic| !topic.is_as_declared()).count()
    }

    /// Topics of which nothing is known.
    pub fn unseen(&self) -> usize {
        let unseen = |topic: &&TopicPlan| topic.obstacles.iter().any(|one| matches!(one, Obstacle::Unseen(_)));
        self.topics.iter().filter(unseen).count()
    }

    pub fn step_count(&self) -> usize {
        self.topics.iter().map(|topic| topic.steps.len()).sum()
    }
}

pub fn names(declared: &[TopicDeclaration]) -> Vec<String> {
    declared.iter().map(|topic| topic.name.clone()).collect()
}

pub fn plan(declared: &[TopicDeclaration], state: &ClusterState) -> Plan {
    Plan { topics: declared.iter().map(|topic| plan_topic(topic, state)).collect() }
}

fn plan_topic(declared: &TopicDeclaration, state: &ClusterState) -> TopicPlan {
    let mut plan = TopicPlan { name: declared.name.clone(), steps: Vec::new(), obstacles: Vec::new() };
    match state.topics.get(&declared.name) {
        Some(TopicState::Found(found)) => compare(declared, found, &mut plan),
        Some(TopicState::Missing) | None => {
            if u32::from(declared.replication_factor) > state.brokers {
                let (declared, brokers) = (declared.replication_factor, state.brokers);
                plan.obstacles.push(Obstacle::TooFewBrokers { declared, brokers });
            } else {
                plan.steps.push(Step::Create(declared.clone()));
            }
        }
        Some(TopicState::Unseen(why)) => plan.obstacles.push(Obstacle::Unseen(why.clone())),
    }
    plan
}

fn compare(declared: &TopicDeclaration, found: &FoundTopic, plan: &mut TopicPlan) {
    for (setting, value) in &declared.settings {
        let (setting, is) = (*setting, found.setting(*setting));
        if is.as_ref() == Some(value) {
            continue;
        }
        let copies = found.replication_factor;
        let number: Option<i64> = value.parse().ok();
        let beyond = setting == TopicSetting::MinInsyncReplicas && number.is_some_and(|n| n > i64::from(copies));
        match is {
            _ if beyond => plan.obstacles.push(Obstacle::InsyncBeyondCopies { copies, declared: value.clone() }),
            Some(is) if lowers(setting, declared, found) => {
                plan.obstacles.push(Obstacle::Lowers { setting, is, declared: value.clone() });
            }
            is => plan.steps.push(Step::Set { setting, is, declared: value.clone() }),
        }
    }
    let (has, wanted) = (found.partitions, declared.partitions);
    if has < wanted {
        plan.steps.push(Step::AddPartitions { has, declared: wanted });
    } else if has > wanted {
        plan.obstacles.push(Obstacle::FewerPartitions { has, declared: wanted });
    }
    let (fewest, most) = (found.replication_factor, found.replication_factor_most);
    if [fewest, most] != [declared.replication_factor; 2] {
        plan.obstacles.push(Obstacle::ReplicationFactor { fewest, most, declared: declared.replication_factor });
    }
}

/// Whether setting it as declared would delete records, protect them less, or refuse what is taken now. Compression is
/// only how records lie there, and so are segments, as long as the largest record that is allowed fits into one.
fn lowers(setting: TopicSetting, declared: &TopicDeclaration, found: &FoundTopic) -> bool {
    let wanted_of = |setting| declared.settings.get(&setting)?.parse::<i64>().ok();
    let falls = |has: i64, wanted: i64| wanted < has;
    let changes = |is_worse: &dyn Fn(i64, i64) -> bool| {
        // What is no number is left alone.
        found.number(setting).zip(wanted_of(setting)).is_none_or(|(has, wanted)| is_worse(has, wanted))
    };
    match setting {
        TopicSetting::Retention | TopicSetting::RetentionBytes => {
            // Below zero means without a bound.
            let unbounded = |number: i64| if number < 0 { i64::MAX } else { number };
            changes(&|has, wanted| falls(unbounded(has), unbounded(wanted)))
        }
        TopicSetting::MinInsyncReplicas | TopicSetting::MaxMessageBytes => changes(&falls),
        // Kafka refuses a batch that is larger than a segment, whatever max.message.bytes allows.
        TopicSetting::SegmentBytes => {
            let records = TopicSetting::MaxMessageBytes;
            let largest = found.number(records).max(wanted_of(records));
            changes(&|has, wanted| falls(has, wanted) && largest.is_some_and(|largest| wanted < largest))
        }
        // Compaction deletes what has a newer record, deletion what is old: neither may be added.
        TopicSetting::CleanupPolicy => {
            let is = found.setting(setting).unwrap_or_default();
            let wanted = declared.settings.get(&setting).map_or("", String::as_str);
            wanted.split(',').any(|word| !is.split(',').any(|has| has == word))
        }
        TopicSetting::CompressionType => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(partitions: u32, replication_factor: u16, settings: &[(TopicSetting, &str)]) -> TopicDeclaration {
        let settings = settings.iter().map(|(setting, value)| (*setting, (*value).to_owned())).collect();
        TopicDeclaration { name: "agents".to_owned(), preset: None, partitions, replication_factor, settings }
    }

    fn found(partitions: u32, replication_factor: u16, settings: &[(TopicSetting, &str)]) -> TopicState {
        let settings = settings.iter().map(|(setting, value)| (setting.kafka_name().to_owned(), (*value).to_owned()));
        TopicState::Found(FoundTopic {
            partitions,
            replication_factor,
            replication_factor_most: replication_factor,
            leaderless: 0,
            settings: settings.collect(),
        })
    }

    /// Every line of the plan, steps first, each up to its first punctuation.
    fn check(declared: TopicDeclaration, state: TopicState, expected: &[&str]) {
        let state = ClusterState { brokers: 2, topics: [("agents".to_owned(), state)].into() };
        let plan = plan(&[declared], &state);
        let topic = &plan.topics[0];
        let steps = topic.steps.iter().map(|step| format!("step: {step}"));
        let lines: Vec<String> = steps.chain(topic.obstacles.iter().map(|one| format!("left: {one}"))).collect();
        assert_eq!(lines.len(), expected.len(), "{lines:#?}");
        for (line, expected) in lines.iter().zip(expected) {
            assert!(line.starts_with(expected), "{line:?} does not begin with {expected:?}");
        }
        assert_eq!(plan.differing(), usize::from(!expected.is_empty()));
    }

    use TopicSetting::{
        CleanupPolicy, CompressionType, MaxMessageBytes, MinInsyncReplicas, Retention, RetentionBytes, SegmentBytes,
    };

    #[test]
    fn what_is_as_declared_is_left_alone() {
        let settings = [(Retention, "1000"), (CleanupPolicy, "compact,delete")];
        check(declared(3, 2, &settings), found(3, 2, &[(Retention, "1000"), (CleanupPolicy, "delete,compact")]), &[]);
        check(declared(3, 2, &[]), found(3, 2, &[(Retention, "1000")]), &[]);
    }

    #[test]
    fn a_missing_topic_is_created_where_there_are_brokers_for_it() {
        check(
            declared(3, 2, &[(Retention, "86400000")]),
            TopicState::Missing,
            &["step: does not exist; create it with partitions = 3, replication_factor = 2, retention = 1d"],
        );
        check(
            declared(3, 3, &[]),
            TopicState::Missing,
            &["left: replication_factor = 3 needs as many brokers, and the cluster has 2"],
        );
    }

    #[test]
    fn partitions_only_grow() {
        check(declared(5, 1, &[]), found(3, 1, &[]), &["step: has 3 partitions; add 2 to make 5 (warning: keys"]);
        check(
            declared(2, 1, &[]),
            found(3, 1, &[]),
            &["left: has 3 partitions and 2 are declared; Kafka cannot take partitions away: declare 3"],
        );
    }

    #[test]
    fn copies_are_not_moved() {
        check(declared(1, 2, &[]), found(1, 1, &[]), &["left: replication_factor is 1 and 2 is declared"]);
        check(declared(1, 1, &[]), found(1, 2, &[]), &["left: replication_factor is 2 and 1 is declared"]);
        check(
            declared(1, 2, &[(MinInsyncReplicas, "2")]),
            found(1, 1, &[(MinInsyncReplicas, "1")]),
            &["left: min_insync_replicas = 2 is declared and it has 1 copies: nobody could write", "left: replication"],
        );
    }

    /// The fewest copies alone were compared: partitions with one and with three copies were as declared where one was.
    #[test]
    fn partitions_with_other_numbers_of_copies_are_not_as_declared() {
        for wanted in 1..=3 {
            let TopicState::Found(mut uneven) = found(3, 1, &[]) else { unreachable!("it was just made") };
            uneven.replication_factor_most = 3;
            let expected = format!("left: its partitions have from 1 to 3 copies and replication_factor = {wanted} is");
            check(declared(3, wanted, &[]), TopicState::Found(uneven), &[&expected]);
        }
    }

    #[test]
    fn settings_are_raised_and_never_lowered() {
        for (setting, low, high, word) in [
            (Retention, "1000", "2000", "would delete records"),
            (Retention, "2000", "-1", "would delete records"),
            (RetentionBytes, "2000", "-1", "would delete records"),
            (MinInsyncReplicas, "1", "2", "would protect records less"),
            (MaxMessageBytes, "1024", "2048", "would refuse records"),
        ] {
            let name = setting.key();
            let (shown_low, shown_high) = (setting.shown(low), setting.shown(high));
            check(
                declared(1, 2, &[(setting, high)]),
                found(1, 2, &[(setting, low)]),
                &[&format!("step: {name} is {shown_low}; set it to {shown_high}")],
            );
            check(
                declared(1, 2, &[(setting, low)]),
                found(1, 2, &[(setting, high)]),
                &[&format!("left: {name} is {shown_high} and {shown_low} is declared, which {word}")],
            );
        }
    }

    #[test]
    fn how_records_lie_there_may_change_both_ways() {
        for (setting, one, other) in [(SegmentBytes, "1048576", "2097152"), (CompressionType, "zstd", "producer")] {
            for (is, wanted) in [(one, other), (other, one)] {
                let records = (MaxMessageBytes, "1048576");
                check(declared(1, 1, &[(setting, wanted)]), found(1, 1, &[(setting, is), records]), &["step: "]);
            }
        }
    }

    /// Kafka refuses a record that is larger than a segment. A topic that took 16 MiB was given segments of 1 MiB without
    /// a word, since only what was declared was compared.
    #[test]
    fn a_segment_stays_as_large_as_the_records_that_are_taken() {
        let segment = |wanted, records, expected: &str| {
            let found = found(1, 1, &[(SegmentBytes, "33554432"), (MaxMessageBytes, records)]);
            check(declared(1, 1, &[(SegmentBytes, wanted)]), found, &[expected]);
        };
        segment(
            "1048576",
            "16777216",
            "left: segment_bytes is 32MiB and 1MiB is declared, which would refuse larger records",
        );
        segment("16777215", "16777216", "left: segment_bytes");
        segment("16777216", "16777216", "step: segment_bytes is 32MiB; set it to 16MiB");
        // More is no harm, even where it is not enough.
        segment("33554433", "67108864", "step: segment_bytes");
        // Together with larger records, and with smaller ones, which are another's to allow.
        check(
            declared(1, 1, &[(SegmentBytes, "2097152"), (MaxMessageBytes, "2097152")]),
            found(1, 1, &[(SegmentBytes, "33554432"), (MaxMessageBytes, "1048576")]),
            &["step: segment_bytes is 32MiB; set it to 2MiB", "step: max_message_bytes"],
        );
        check(
            declared(1, 1, &[(SegmentBytes, "2097152"), (MaxMessageBytes, "2097152")]),
            found(1, 1, &[(SegmentBytes, "33554432"), (MaxMessageBytes, "16777216")]),
            &["left: segment_bytes is 32MiB and 2MiB is declared", "left: max_message_bytes"],
        );
    }

    #[test]
    fn a_policy_that_deletes_more_is_not_set() {
        let policy = |is, wanted, expected: &str| {
            check(declared(1, 1, &[(CleanupPolicy, wanted)]), found(1, 1, &[(CleanupPolicy, is)]), &[expected]);
        };
        policy("compact,delete", "delete", "step: cleanup_policy is compact,delete; set it to delete");
        policy("delete", "compact", "left: cleanup_policy is delete and compact is declared, which would delete");
        policy("delete", "compact,delete", "left: ");
    }

    #[test]
    fn what_nobody_said_is_set_and_what_is_no_number_is_left() {
        check(declared(1, 1, &[(Retention, "1000")]), found(1, 1, &[]), &["step: retention is unset; set it to 1s"]);
        check(declared(1, 1, &[(Retention, "1000")]), found(1, 1, &[(Retention, "a while")]), &["left: "]);
    }

    #[test]
    fn what_may_not_be_seen_is_neither_there_nor_missing() {
        check(declared(1, 1, &[]), TopicState::Unseen("may not".to_owned()), &["left: may not"]);
    }
}
