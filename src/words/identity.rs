//! Which stream this is: a topic can be deleted and made again under its name, and then every old cursor is wrong.

use uuid::Uuid;

/// Namespace of every name-based UUID that DashStream derives.
const NAMESPACE: Uuid = Uuid::from_u128(0x6d1f_6d0e_5b0a_5c52_9e0c_6461_7368_7374);

/// Cluster, topic and topic incarnation. Two hosts that read the same topic have equal identities, whatever
/// their group or host name; a topic that was deleted and made again has another one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StreamIdentity {
    pub cluster_id: String,
    pub topic: String,
    /// 16 bytes as Kafka gives them. All zero when the broker has no topic ids: see [`StreamIdentity::is_weak`].
    pub topic_id: [u8; 16],
}

impl StreamIdentity {
    /// Without a topic id a re-created topic cannot be told from the old one.
    pub fn is_weak(&self) -> bool {
        self.topic_id == [0; 16]
    }

    /// The one text form, opaque to clients: `v3_` and a UUIDv5 over the length-prefixed parts, 39 characters.
    /// It is `stream` in the protocols and `resume_namespace` in `/version`.
    pub fn name(&self) -> String {
        format!("v3_{}", self.uuid())
    }

    /// The id of the dead letter of one record: equal on every host and after every restart, so that ten hosts
    /// write one distinct key.
    pub fn dead_letter_id(&self, partition: super::PartitionId, offset: super::Offset) -> Uuid {
        let mut name = [0u8; 12];
        name[..4].copy_from_slice(&partition.0.to_be_bytes());
        name[4..].copy_from_slice(&offset.0.to_be_bytes());
        Uuid::new_v5(&self.uuid(), &name)
    }

    fn uuid(&self) -> Uuid {
        let mut name = Vec::with_capacity(32 + self.cluster_id.len() + self.topic.len());
        // Lengths first, so that no two different identities have one name.
        for part in [self.cluster_id.as_bytes(), self.topic.as_bytes(), &self.topic_id] {
            name.extend_from_slice(&(part.len() as u64).to_be_bytes());
            name.extend_from_slice(part);
        }
        Uuid::new_v5(&NAMESPACE, &name)
    }
}
