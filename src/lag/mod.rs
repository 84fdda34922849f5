//! How far behind Kafka we are, and whether a partition is stuck.
