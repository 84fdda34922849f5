//! Who is listening: accept, shards, sessions and the three protocols.
