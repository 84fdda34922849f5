//! What can be wrong with settings, and what deserves a warning. Every text names the key, the value and what is
//! allowed, and never contains a secret.

use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

use super::raw::Source;

/// Everything that is wrong, at once: nobody should have to start a program five times to hear five things.
#[derive(Debug)]
pub struct ConfigErrors(pub Vec<ConfigError>);

#[derive(Debug, Error)]
pub enum ConfigError {
    #[error("cannot read the configuration file {}: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("{}: larger than {bytes_max} bytes, so hardly a configuration file", path.display())]
    FileTooLarge { path: PathBuf, bytes_max: u64 },
    #[error("{}, line {line}: {message}", path.display())]
    Syntax { path: PathBuf, line: usize, message: String },
    #[error("{origin}: there is no {what} {name:?}{}{}; allowed: {allowed}", equals(value), did_you_mean(suggestion))]
    Unknown {
        origin: String,
        what: &'static str,
        name: String,
        /// As `value_shown` lets it be seen.
        value: Option<String>,
        suggestion: Option<String>,
        allowed: String,
    },
    #[error("{key} = {value} ({origin}) is not allowed; allowed: {allowed}")]
    Value { key: String, value: String, origin: Source, allowed: String },
    /// A declaration of a topic.
    #[error("topics.{topic}: {message}")]
    Topic { topic: String, message: String },
    /// Settings that are fine one by one and not together.
    #[error("{}: {message}", keys.join(", "))]
    Relation { keys: Vec<&'static str>, message: String },
}

fn did_you_mean(suggestion: &Option<String>) -> String {
    suggestion.as_ref().map_or(String::new(), |suggestion| format!(", did you mean {suggestion}?"))
}

fn equals(value: &Option<String>) -> String {
    value.as_ref().map_or(String::new(), |value| format!(" (= {value})"))
}

/// The value of a name that is not ours: quoted and cut, or masked if the name may be a misspelt secret's.
pub(super) fn value_shown(name: &str, suggestion: Option<&str>, text: &str) -> String {
    // A URL may hold a password.
    const SECRETIVE: [&str; 10] = ["pass", "pwd", "secret", "token", "oauth", "cred", "key", "sasl", "url", "redis"];
    let words = [name, suggestion.unwrap_or_default()].map(str::to_ascii_lowercase);
    match SECRETIVE.iter().any(|part| words.iter().any(|word| word.contains(part))) {
        true => "***".to_owned(),
        false => format!("{:?}", shorten(text)),
    }
}

/// Text from outside, cut so that a message stays readable.
pub(super) fn shorten(text: &str) -> String {
    const LETTERS_MAX: usize = 100;
    match text.char_indices().nth(LETTERS_MAX) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

impl std::error::Error for ConfigErrors {}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        write!(formatter, "{count} {} in the configuration", if count == 1 { "mistake" } else { "mistakes" })?;
        for error in &self.0 {
            write!(formatter, "\n  {error}")?;
        }
        Ok(())
    }
}

/// Something that works and is probably not what was wanted.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum Warning {
    #[error("{name} is set and does nothing any more: {instead}")]
    Retired { name: String, instead: &'static str },
    #[error("{ignored} is ignored, because {used} says something else")]
    Shadowed { used: String, ignored: String },
    #[error("{name} begins like one of our names but is none{}; it is ignored", did_you_mean(suggestion))]
    UnknownEnvironment { name: String, suggestion: Option<String> },
    #[error("{} holds secrets and others can read it: chmod 600", path.display())]
    ReadableSecrets { path: PathBuf },
    #[error("{keys}: {message}")]
    Relation { keys: &'static str, message: String },
}

/// The nearest of the names, if it is near enough to be meant. Bounded by the first 64 letters of `name`.
pub(super) fn nearest(name: &str, names: impl Iterator<Item = String>) -> Option<String> {
    let name: String = name.chars().take(64).collect();
    let distance_max = 1 + name.len() / 5;
    names
        .map(|candidate| (distance(&name, &candidate), candidate))
        .filter(|(distance, _)| *distance <= distance_max)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// How many letters must be inserted, removed or replaced to get from one to the other.
fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.chars().count()).collect();
    for (line, left_letter) in left.chars().enumerate() {
        let mut diagonal = line;
        let mut before = line + 1;
        for (cell, right_letter) in row.iter_mut().skip(1).zip(right.chars()) {
            let replaced = diagonal + usize::from(left_letter != right_letter);
            diagonal = *cell;
            *cell = replaced.min(before + 1).min(diagonal + 1);
            before = *cell;
        }
        if let Some(first) = row.first_mut() {
            *first = line + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_and_a_far_one_is_not() {
        let check = |name: &str, expected: Option<&str>| {
            let names = ["brokers", "topic", "group_id"].into_iter().map(str::to_owned);
            assert_eq!(nearest(name, names).as_deref(), expected, "{name}");
        };
        check("broker", Some("brokers"));
        check("groupid", Some("group_id"));
        check("topics", Some("topic"));
        check("zzzzzz", None);
        check("", None);
        check(&"b".repeat(100_000), None);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
    }
}
