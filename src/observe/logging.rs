//! Logs: one line per event on standard error, for people or for machines, with everything that could break a line
//! escaped.
//!
//! Levels go by consequence: `error` means data lost or a human needed, `warn` something that was recovered,
//! `info` the life of the process, `debug` detail for a developer; none of them once per record.
//!
//! Deliberately absent: the decision what to log, and holding repeated lines back (`observe::throttle`).

use std::fmt::{self, Write as _};

use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::registry::LookupSpan;

use crate::config::{LogFormat, LoggingConfig};

/// Longer texts are cut: a line is for reading, and a broker's or a client's text may be of any length.
const TEXT_BYTES_MAX: usize = 2_048;

#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    #[error(
        "logging.filter = {filter:?} is not a filter: {source}; use for example info or info,dashstream::kafka=debug"
    )]
    Filter {
        filter: String,
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    #[error("logging was set up twice")]
    Twice(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Once per process, before the first thread.
pub fn init(config: &LoggingConfig) -> Result<(), LoggingError> {
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter(&config.filter)?)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .event_format(Line { format: config.format, now: OffsetDateTime::now_utc })
        .finish();
    tracing::subscriber::set_global_default(subscriber).map_err(|error| LoggingError::Twice(error.into()))
}

fn filter(text: &str) -> Result<EnvFilter, LoggingError> {
    EnvFilter::builder().parse(text).map_err(|source| LoggingError::Filter { filter: text.to_owned(), source })
}

/// One event as one line. The clock is a field so that a test can hold it still.
struct Line {
    format: LogFormat,
    now: fn() -> OffsetDateTime,
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        let time = (self.now)().format(&Rfc3339).map_err(|_| fmt::Error)?;
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or("unnamed");
        let (level, target) = (metadata.level().as_str(), metadata.target());
        match self.format {
            LogFormat::Json => {
                let mut object = fields.others;
                object.insert("message".to_owned(), Value::String(fields.message));
                for (key, value) in [("time", time.as_str()), ("level", level), ("target", target), ("thread", thread)]
                {
                    object.insert(key.to_owned(), Value::String(value.to_owned()));
                }
                writeln!(writer, "{}", Value::Object(object))
            }
            LogFormat::Text => {
                write!(writer, "{time} {level:>5} {} {target}: {}", escaped(thread), escaped(&fields.message))?;
                for (name, value) in &fields.others {
                    match value {
                        Value::String(text) => write!(writer, " {name}={}", quoted(text))?,
                        other => write!(writer, " {name}={other}")?,
                    }
                }
                writeln!(writer)
            }
        }
    }
}

/// The fields of an event, the message apart.
#[derive(Default)]
struct Fields {
    message: String,
    others: Map<String, Value>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            ("message", other) => self.message = other.to_string(),
            (name, other) => {
                self.others.insert(name.to_owned(), other);
            }
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = Bounded(String::new());
        // A value that is too long to be written whole is not an error.
        let _cut: fmt::Result = write!(text, "{value:?}");
        self.put(field, Value::String(text.0));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let mut text = Bounded(String::new());
        let _cut: fmt::Result = text.write_str(value);
        self.put(field, Value::String(text.0));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
}

/// Text that stops growing at a character boundary.
struct Bounded(String);

impl fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = TEXT_BYTES_MAX.saturating_sub(self.0.len());
        if text.len() <= room {
            self.0.push_str(text);
            return Ok(());
        }
        self.0.push_str(&text[..text.floor_char_boundary(room)]);
        self.0.push('…');
        Err(fmt::Error)
    }
}

/// Control characters, and those that turn or hide text on a terminal, as escapes.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        let hides = matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
        if character.is_control() || hides {
            safe.extend(character.escape_unicode());
        } else {
            safe.push(character);
        }
    }
    safe
}

/// Bare when it is one plain word, else in quotes.
fn quoted(text: &str) -> String {
    let plain = |character: char| character.is_ascii_alphanumeric() || "._-:/+@,".contains(character);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("\"{}\"", escaped(&text.replace('\\', "\\\\").replace('"', "\\\"")))
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("lock").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn lines(format: LogFormat, filter_text: &str, log: impl FnOnce()) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(filter(filter_text).expect("a filter"))
            .with_writer(move || writer.clone())
            .event_format(Line { format, now: || OffsetDateTime::UNIX_EPOCH })
            .finish();
        tracing::subscriber::with_default(subscriber, log);
        let bytes = kept.0.lock().expect("lock").clone();
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn a_text_line_is_one_line_whatever_comes_in() {
        let hostile = "a\r\n2026 ERROR forged\u{1b}[31m\u{202e}\u{0}";
        let text = lines(LogFormat::Text, "info", || {
            tracing::warn!(target: "dashstream::kafka", client = hostile, count = 7, ok = true, word = "plain", "seen {hostile}");
        });
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.starts_with("1970-01-01T00:00:00Z  WARN "), "{text}");
        assert!(
            !text.trim_end().chars().any(|character| character.is_control() || character == '\u{202e}'),
            "{text:?}"
        );
        for part in ["dashstream::kafka: seen a", " count=7", " ok=true", " word=plain", " client=\"a\\u{d}\\u{a}"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn a_json_line_is_an_object_and_its_own_keys_win() {
        let text = lines(LogFormat::Json, "info", || {
            tracing::error!(time = "forged", lost = 3u64, "two\nlines");
        });
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!((&line["message"], &line["level"]), (&"two\nlines".into(), &"ERROR".into()));
        assert_eq!((&line["lost"], &line["time"]), (&3.into(), &"1970-01-01T00:00:00Z".into()));
        assert!(line["target"].as_str().is_some_and(|target| target.contains("logging")), "{line}");
    }

    #[test]
    fn texts_are_cut_at_a_character() {
        let text = lines(LogFormat::Json, "info", || tracing::info!(long = "é".repeat(5_000), "x"));
        let line: Value = serde_json::from_str(&text).expect("JSON");
        let long = line["long"].as_str().expect("a text");
        assert!(long.len() <= TEXT_BYTES_MAX + '…'.len_utf8() && long.ends_with('…'), "{}", long.len());
    }

    #[test]
    fn the_filter_decides_and_a_wrong_one_is_named() {
        let log = || {
            tracing::debug!(target: "dashstream::kafka", "hidden");
            tracing::debug!(target: "dashstream::lag", "shown");
        };
        let text = lines(LogFormat::Text, "info,dashstream::lag=debug", log);
        assert!(text.contains("shown") && !text.contains("hidden"), "{text}");
        let error = filter("info,,=[[").expect_err("not a filter").to_string();
        assert!(error.contains("logging.filter") && error.contains("[["), "{error}");
    }
}
