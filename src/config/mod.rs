//! Raw (what was written) to checked (what is meant); the only reader of the environment.
//!
//! [`load`] is the one door: flags, environment, file and defaults go in, and out comes a [`Loaded`] in which every
//! value is typed, checked and knows its source, or all mistakes at once. Tests and the demo use the same door
//! through [`load_with`]. A setting is one row of [`table::KEYS`].

pub mod checked;
pub mod table;
pub mod predecessor;
pub mod raw;
pub mod error;
pub mod memory;
pub mod report;
mod value;
mod file;
mod host;
mod settle;
pub mod topics;
mod check;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod declared_tests;

pub use checked::*;
pub use error::{ConfigError, ConfigErrors, Warning};
pub use memory::{KafkaBudget, MemoryItem, MemorySum};
pub use raw::{Environment, Inputs, Source};
pub use report::Setting;
pub use topics::{Preset, TopicDeclaration, TopicSetting};
pub use value::{Kind, TimeUnit};

use value::Value;

/// A configuration that holds together, and how it came about.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: Config,
    /// Every key in force, in the order of the table, secrets masked.
    pub settings: Vec<Setting>,
    pub warnings: Vec<Warning>,
}

/// Reads, parses and checks. On refusal every mistake is reported, not just the first.
pub fn load(inputs: &Inputs) -> Result<Loaded, ConfigErrors> {
    let mut raw = raw::Raw::gather(inputs);
    let mut errors = std::mem::take(&mut raw.errors);
    let mut warnings = std::mem::take(&mut raw.warnings);
    let values = settle::Values::parse(&raw, &host::Host::this(), &mut errors);
    let mut config = values.config();
    config.topics.declared = topics::declarations(&raw.topics, &mut errors);
    // What was refused holds its default meanwhile; a relation to that would confuse.
    errors.extend(check::relations(&config).into_iter().filter(|error| match error {
        ConfigError::Relation { keys, .. } => !keys.iter().any(|key| values.refused.contains(*key)),
        _ => true,
    }));
    warnings.extend(check::doubts(&config));
    match errors.is_empty() {
        true => Ok(Loaded { config, settings: values.settings(), warnings }),
        false => Err(ConfigErrors(errors)),
    }
}

/// The defaults with these settings (`("kafka.topic", "name")`), and nothing from environment or files: the same on
/// every host. For tests and for the demo.
pub fn load_with(overrides: &[(&str, &str)]) -> Result<Loaded, ConfigErrors> {
    let overrides = overrides.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    load(&Inputs { overrides, ..Inputs::default() })
}
