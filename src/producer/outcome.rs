//! What became of an event that was accepted, in closed words. Pure.
//!
//! The words are librdkafka's knowledge and no more: a record of which it cannot say whether a broker stored it is
//! `Unknown`, and nobody here sends it again. Deliberately absent: events that were not accepted (`error`).

use rdkafka::error::RDKafkaErrorCode;
use rdkafka_sys::rd_kafka_msg_status_t as Status;

use crate::words::{Offset, PartitionId};

/// What became of one accepted event. Every accepted event gets exactly one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Outcome {
    /// Every in-sync replica has it, once, at this place. Events of one batch share their place.
    Delivered {
        /// The event's number within its thread, from 1.
        sequence: u64,
        /// Where it stands.
        partition: PartitionId,
        /// Where it stands.
        offset: Offset,
    },
    /// It is not on the topic and will not be. Its sequence is a real gap that consumers will see. May be sent again,
    /// as a new event.
    Refused {
        /// The event's number within its thread, from 1.
        sequence: u64,
        /// Why not.
        reason: Reason,
    },
    /// It may be on the topic or not: the answer of a broker was lost. Sending it again may make a duplicate, which
    /// consumers tell by the message id.
    Unknown {
        /// The event's number within its thread, from 1.
        sequence: u64,
        /// What is known.
        reason: Reason,
    },
}

impl Outcome {
    /// The event's number within its tenant and thread, from 1.
    pub fn sequence(&self) -> u64 {
        match self {
            Self::Delivered { sequence, .. } | Self::Refused { sequence, .. } | Self::Unknown { sequence, .. } => {
                *sequence
            }
        }
    }

    /// Is it stored, at a known place?
    pub fn is_delivered(&self) -> bool {
        matches!(self, Self::Delivered { .. })
    }
}

/// Why an accepted event was not delivered, or is not known to be.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Reason {
    /// The delivery timeout passed. Heals when brokers answer again.
    TimedOut,
    /// The topic allows smaller records only: raise its `max.message.bytes` or lower `record_bytes_max`. Kafka answers
    /// for all that librdkafka sent it at once, so that small neighbours may share a large record's refusal.
    TooLarge,
    /// There is no such topic. Make it, or mend the name.
    NoSuchTopic,
    /// The brokers do not let us write there. A human has to grant it.
    NotAuthorized,
    /// Too few replicas are in sync. Heals when brokers come back.
    NotEnoughReplicas,
    /// The producer was closed before the event was settled.
    Closed,
    /// librdkafka gave up idempotence and with it this producer: make a new one.
    Fatal,
    /// It is stored, but a broker that knew it already did not say where.
    PlaceUnknown,
    /// Any other error of Kafka; the number is Kafka's own (negative: librdkafka's).
    Kafka(i32),
}

impl Reason {
    /// The word in metrics and dead letters.
    pub fn label(self) -> &'static str {
        match self {
            Self::TimedOut => "timed_out",
            Self::TooLarge => "too_large",
            Self::NoSuchTopic => "no_such_topic",
            Self::NotAuthorized => "not_authorized",
            Self::NotEnoughReplicas => "not_enough_replicas",
            Self::Closed => "closed",
            Self::Fatal => "fatal",
            Self::PlaceUnknown => "place_unknown",
            Self::Kafka(_) => "kafka",
        }
    }

    pub(super) fn of(code: RDKafkaErrorCode) -> Self {
        use RDKafkaErrorCode as Code;
        match code {
            Code::MessageTimedOut | Code::RequestTimedOut | Code::OperationTimedOut | Code::TimedOutQueue => {
                Self::TimedOut
            }
            Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize => Self::TooLarge,
            Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition | Code::InvalidTopic => {
                Self::NoSuchTopic
            }
            Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::SaslAuthenticationFailed
            | Code::Authentication => Self::NotAuthorized,
            Code::NotEnoughReplicas | Code::NotEnoughReplicasAfterAppend => Self::NotEnoughReplicas,
            Code::PurgeQueue | Code::PurgeInflight => Self::Closed,
            Code::Fatal => Self::Fatal,
            other => Self::Kafka(other as i32),
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TimedOut => formatter.write_str("the delivery timeout passed; are the brokers there?"),
            Self::TooLarge => formatter.write_str("the topic allows smaller records only; see max.message.bytes"),
            Self::NoSuchTopic => formatter.write_str("there is no such topic; create it first"),
            Self::NotAuthorized => formatter.write_str("the brokers do not let us write there; grant it"),
            Self::NotEnoughReplicas => formatter.write_str("too few replicas are in sync; are all brokers up?"),
            Self::Closed => formatter.write_str("the producer was closed before"),
            Self::Fatal => formatter.write_str("this producer can send nothing any more; make a new one"),
            Self::PlaceUnknown => formatter.write_str("it is stored, at a place that no broker told"),
            Self::Kafka(code) => write!(formatter, "Kafka's error {code}"),
        }
    }
}

/// What librdkafka reported of a record, and so of each event in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Settled {
    At(PartitionId, Offset),
    Refused(Reason),
    Unknown(Reason),
}

impl Settled {
    /// `Ok` of librdkafka: stored. A broker that knew the record already may not say where it is.
    pub(super) fn stored(partition: i32, offset: i64) -> Self {
        match (PartitionId::from_kafka(partition), Offset::from_kafka(offset)) {
            (Some(partition), Some(offset)) => Self::At(partition, offset),
            _ => Self::Unknown(Reason::PlaceUnknown),
        }
    }

    /// An error, and what librdkafka knows of the record: only `NOT_PERSISTED` is a refusal.
    pub(super) fn failed(code: RDKafkaErrorCode, status: Status) -> Self {
        match status {
            Status::RD_KAFKA_MSG_STATUS_NOT_PERSISTED => Self::Refused(Reason::of(code)),
            Status::RD_KAFKA_MSG_STATUS_POSSIBLY_PERSISTED => Self::Unknown(Reason::of(code)),
            Status::RD_KAFKA_MSG_STATUS_PERSISTED => Self::Unknown(Reason::PlaceUnknown),
        }
    }

    pub(super) fn outcome(self, sequence: u64) -> Outcome {
        match self {
            Self::At(partition, offset) => Outcome::Delivered { sequence, partition, offset },
            Self::Refused(reason) => Outcome::Refused { sequence, reason },
            Self::Unknown(reason) => Outcome::Unknown { sequence, reason },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_librdkafka_knows_to_be_absent_is_refused() {
        let check = |status, expected: Settled| {
            assert_eq!(Settled::failed(RDKafkaErrorCode::MessageTimedOut, status), expected);
        };
        check(Status::RD_KAFKA_MSG_STATUS_NOT_PERSISTED, Settled::Refused(Reason::TimedOut));
        check(Status::RD_KAFKA_MSG_STATUS_POSSIBLY_PERSISTED, Settled::Unknown(Reason::TimedOut));
        check(Status::RD_KAFKA_MSG_STATUS_PERSISTED, Settled::Unknown(Reason::PlaceUnknown));
    }

    /// A broker that recognises a retry as one may acknowledge it without an offset: librdkafka says -1001 then, and
    /// reporting that as a place would be a lie.
    #[test]
    fn stored_without_a_place_is_not_called_delivered() {
        assert_eq!(Settled::stored(3, 7), Settled::At(PartitionId(3), Offset(7)));
        assert_eq!(Settled::stored(3, -1001), Settled::Unknown(Reason::PlaceUnknown));
        assert_eq!(Settled::stored(-1, 7), Settled::Unknown(Reason::PlaceUnknown));
    }

    #[test]
    fn an_outcome_carries_its_sequence() {
        for settled in [
            Settled::At(PartitionId(0), Offset(0)),
            Settled::Refused(Reason::Closed),
            Settled::Unknown(Reason::Kafka(-5)),
        ] {
            assert_eq!(settled.outcome(41).sequence(), 41);
        }
    }
}
