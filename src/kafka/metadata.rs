//! The text beside a committed offset: which stream it belongs to, who wrote it, and where the warm part of the log
//! began. Whoever reads it later may be another version, and whoever wrote it may have been another tool: what is
//! not understood is ignored.

use crate::words::Offset;

const MARK: &str = "dashstream/1";
/// Kafka's default limit (`offset.metadata.max.bytes`) is 4096; a group of 1,024 partitions keeps this many texts.
const TEXT_BYTES_MAX: usize = 256;
const INSTANCE_BYTES_MAX: usize = 64;

/// What a gateway writes beside an offset.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommitNote {
    /// The name of the stream's identity.
    pub stream: String,
    /// Which process wrote it, for a human.
    pub instance: String,
    /// A restart fills its log from here.
    pub warm_from: Option<Offset>,
}

impl CommitNote {
    pub fn to_text(&self) -> String {
        let mut text = format!("{MARK};stream={};instance={}", plain(&self.stream), plain(&self.instance));
        if let Some(warm_from) = self.warm_from {
            text.push_str(&format!(";warm_from={warm_from}"));
        }
        text
    }

    /// `None` when the text is not ours: a tool that resets offsets writes nothing, or something else.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > TEXT_BYTES_MAX {
            return None;
        }
        let mut parts = text.split(';');
        if parts.next() != Some(MARK) {
            return None;
        }
        let mut note = Self { stream: String::new(), instance: String::new(), warm_from: None };
        for part in parts {
            match part.split_once('=') {
                Some(("stream", value)) => note.stream = value.to_owned(),
                Some(("instance", value)) => note.instance = value.to_owned(),
                Some(("warm_from", value)) => note.warm_from = value.parse().ok().map(Offset),
                // A later version may say more.
                _ => {}
            }
        }
        (!note.stream.is_empty()).then_some(note)
    }
}

/// Bounded, and without the characters that separate.
fn plain(value: &str) -> String {
    let allowed = |character: &char| character.is_ascii_alphanumeric() || ['-', '_', '.', ':'].contains(character);
    value.chars().filter(allowed).take(INSTANCE_BYTES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(warm_from: Option<u64>) -> CommitNote {
        CommitNote { stream: "v3_0f".to_owned(), instance: "host-1:42".to_owned(), warm_from: warm_from.map(Offset) }
    }

    #[test]
    fn what_is_written_is_read() {
        for warm_from in [None, Some(0), Some(u64::MAX)] {
            assert_eq!(CommitNote::parse(&note(warm_from).to_text()), Some(note(warm_from)));
        }
    }

    #[test]
    fn a_text_is_bounded_whatever_the_host_is_called() {
        let mut long = note(Some(u64::MAX));
        long.instance = "ä;=\n".repeat(1000) + &"x".repeat(10_000);
        long.stream = "s".repeat(10_000);
        let text = long.to_text();
        assert!(text.len() <= TEXT_BYTES_MAX, "{}", text.len());
        let read = CommitNote::parse(&text).expect("ours");
        assert_eq!((read.instance, read.warm_from), ("x".repeat(INSTANCE_BYTES_MAX), long.warm_from));
    }

    #[test]
    fn what_is_not_ours_is_tolerated() {
        for (text, expected) in [
            ("", None),
            ("moved by an operator", None),
            ("dashstream/2;stream=v3_0f", None),
            ("dashstream/1", None),
            ("dashstream/1;stream=", None),
            ("\u{0}\u{fffd};;;===", None),
            ("dashstream/1;stream=v3_0f;instance=host-1:42;warm_from=abc;color=red;;=", Some(note(None))),
            ("dashstream/1;stream=v3_0f;instance=host-1:42;warm_from=-5", Some(note(None))),
        ] {
            assert_eq!(CommitNote::parse(text), expected, "{text:?}");
        }
        assert_eq!(CommitNote::parse(&"dashstream/1;stream=x;".repeat(10_000)), None);
    }
}
