//! How much is kept, each with its reason. Whoever comes to one of these is told by a [`super::Note`].

/// Events kept of one run. The longest runs that agents make have some ten thousand, token by token.
pub const RUN_EVENTS_MAX: usize = 100_000;

/// Bytes of texts and states kept of one run: ten minutes of a state of 100 KB that is sent whole each second.
pub const RUN_BYTES_MAX: usize = 64 << 20;

/// Runs kept whole at once. Who looks closely looks at one or two; an export of spans takes what there is.
pub const RUNS_MAX: usize = 1_000;

/// Events kept of all runs together: some 120 MB beside their texts and states.
pub const EVENTS_MAX: usize = 4 * RUN_EVENTS_MAX;

/// Bytes of texts and states kept of all runs together.
pub const BYTES_MAX: usize = 4 * RUN_BYTES_MAX;

/// Threads that are told apart, kept or not.
pub const THREADS_MAX: usize = 100_000;

/// Characters of a name: of a node, a model, a tool. Longer ones are cut, and equal after the cut means equal.
pub const NAME_CHARS_MAX: usize = 120;

/// Bytes of the name of a tenant or thread; Kafka keys of that length are nobody's.
pub const OWNER_BYTES_MAX: usize = 1_024;

/// Characters of a remark, such as a thought or the message of an edge.
pub const TEXT_CHARS_MAX: usize = 400;

/// Characters of what an error says; its first lines are what is read.
pub const ERROR_CHARS_MAX: usize = 2_000;

/// Bytes of an identifier: ids are UUIDs of 16 bytes. What is longer is no id of ours, and its rest says nothing.
pub const ID_BYTES_MAX: usize = 32;

/// Bytes of the JSON text of a state: what producers may send at most.
pub const STATE_BYTES_MAX: usize = 10 << 20;

/// Nesting of a state. `serde_json` reads 128 levels; patches may build deeper ones, and to free a value takes stack.
pub const STATE_DEPTH_MAX: usize = 160;

/// Work that may be spent on the states of one run, in bytes that are parsed, walked or hashed: some seconds. A list
/// of small operations on a large state is cheap to send and dear to follow.
pub const STATE_WORK_MAX: u64 = 4 << 30;

/// Model calls remembered at once while costs are summed; an older one is settled as it stands.
pub const CALLS_MAX: usize = 100_000;

/// Rows of a sum, such as nodes or models: what is beyond goes into one row, `(others)`.
pub const ROWS_MAX: usize = 10_000;

/// Differences between two states that are listed.
pub const DIFFERENCES_MAX: usize = 1_000;
