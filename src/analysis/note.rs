//! What a reader of findings must know about them: what was left out, and what the events did not say.

use std::fmt;

use super::text::count;

/// One thing to know. Every variant is a sentence that is shown beside the findings.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Note {
    /// The run has no `GRAPH_START` in what was read.
    NoBeginning,
    /// The run has not ended in what was read.
    NoEnd,
    /// Events with a message id that was there before; they are counted once.
    Duplicates(u64),
    /// Sequences that no event has, and the first of them.
    Missing { count: u64, first: u64 },
    /// Sequences occur twice: several producers of this run count each for itself, so none can be called missing.
    SeveralCounters,
    /// Events without a sequence.
    Unnumbered(u64),
    /// Events beyond [`super::limits::RUN_EVENTS_MAX`] or [`super::limits::RUN_BYTES_MAX`].
    LeftOut(u64),
    /// Starts without an end.
    OpenSpans(u64),
    /// Ends without a start.
    StartlessSpans(u64),
    /// Edges that lead from or to no execution of a node.
    LooseEdges(u64),
    /// Rows beyond [`super::limits::ROWS_MAX`], summed as `(others)`.
    RowsLeftOut(u64),
    /// Model calls that were settled before their end was seen, see [`super::limits::CALLS_MAX`].
    SettledEarly(u64),
    /// Model calls whose model has no price.
    Unpriced { calls: u64, model: String },
    /// Differences beyond [`super::limits::DIFFERENCES_MAX`].
    DifferencesLeftOut(u64),
    /// Runs beyond those that are kept.
    RunsLeftOut(u64),
    /// Events that name no thread.
    Nameless(u64),
}

impl fmt::Display for Note {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (one, many) = ("", "s");
        let s = |number: &u64| if *number == 1 { one } else { many };
        match self {
            Note::NoBeginning => formatter.write_str("its beginning is not in what was read"),
            Note::NoEnd => formatter.write_str("it has not ended in what was read"),
            Note::Duplicates(number) => {
                write!(formatter, "{} duplicate{} counted once", count(*number), s(number))
            }
            Note::Missing { count: number, first } => {
                write!(formatter, "{} sequence{} missing, the first is {first}", count(*number), s(number))
            }
            Note::SeveralCounters => {
                formatter.write_str("several producers count for themselves: missing sequences cannot be told")
            }
            Note::Unnumbered(number) => write!(formatter, "{} event{} without a sequence", count(*number), s(number)),
            Note::LeftOut(number) => write!(
                formatter,
                "{} event{} left out: at most {} events and {} MiB of a run are looked at, four times that of all runs",
                count(*number),
                s(number),
                count(super::limits::RUN_EVENTS_MAX as u64),
                super::limits::RUN_BYTES_MAX >> 20
            ),
            Note::OpenSpans(number) => write!(formatter, "{} start{} without an end", count(*number), s(number)),
            Note::StartlessSpans(number) => {
                write!(formatter, "{} end{} without a start", count(*number), s(number))
            }
            Note::LooseEdges(number) => {
                write!(formatter, "{} edge{} between no executions that were seen", count(*number), s(number))
            }
            Note::RowsLeftOut(number) => write!(
                formatter,
                "{} row{} summed as (others): at most {} are told apart",
                count(*number),
                s(number),
                count(super::limits::ROWS_MAX as u64)
            ),
            Note::SettledEarly(number) => write!(
                formatter,
                "{} model call{} settled before the end was seen: at most {} are followed at once",
                count(*number),
                s(number),
                count(super::limits::CALLS_MAX as u64)
            ),
            Note::Unpriced { calls, model } => write!(
                formatter,
                "{} call{} without a price, such as of {model}: set costs.prices or --price",
                count(*calls),
                s(calls)
            ),
            Note::DifferencesLeftOut(number) => write!(
                formatter,
                "{} difference{} not listed: at most {} are",
                count(*number),
                s(number),
                count(super::limits::DIFFERENCES_MAX as u64)
            ),
            Note::RunsLeftOut(number) => write!(formatter, "{} run{} not looked at", count(*number), s(number)),
            Note::Nameless(number) => write!(formatter, "{} event{} without a thread", count(*number), s(number)),
        }
    }
}
