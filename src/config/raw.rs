//! What was written: flags before environment before file before default, and where each text came from. The only
//! reader of the environment.
//!
//! An environment variable with an empty value counts as not set, since unit files and compose files leave such lines
//! behind. In the file and in flags an empty value is a value. Space around a value is dropped, except of secrets.
//!
//! Deliberately absent: what the texts mean.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::error::{ConfigError, Warning, nearest, shorten, value_shown};
use super::predecessor::{self, Fate};
use super::table::{self, KEYS, Key, SECTIONS};

/// Names the configuration file; not a setting itself, since a file cannot name itself.
pub const FILE_VARIABLE: &str = "DASHSTREAM_CONFIG";

/// Names the gateway that commands read from; not a setting, since nothing that serves has a use for it.
pub const GATEWAY_VARIABLE: &str = "DASHSTREAM_GATEWAY";

/// Where settings may come from.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// What the command itself insists on, by full name; above everything else.
    pub overrides: Vec<(String, String)>,
    /// What was given as flags, by full name.
    pub flags: Vec<(String, String)>,
    /// `--config FILE`.
    pub file: Option<PathBuf>,
    pub environment: Environment,
}

#[derive(Clone, Debug, Default)]
pub enum Environment {
    /// That of this process.
    Process,
    /// Nothing is read: the same settings everywhere.
    #[default]
    None,
    /// These instead, for tests of precedence.
    Given(Vec<(String, String)>),
}

/// Where a value came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    Command,
    Flag(String),
    Environment(String),
    File(PathBuf),
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Command => formatter.write_str("command"),
            Source::Flag(name) => write!(formatter, "flag --{name}"),
            Source::Environment(name) => write!(formatter, "environment {name}"),
            Source::File(path) => write!(formatter, "file {}", path.display()),
            Source::Default => formatter.write_str("default"),
        }
    }
}

/// One text and its origin. Not `Debug`: it may be a secret.
#[derive(Clone)]
pub(super) struct Written {
    pub(super) text: String,
    pub(super) source: Source,
}

/// The winning text of every key that somebody wrote, and what was found on the way.
#[derive(Default)]
pub(super) struct Raw {
    pub(super) written: BTreeMap<String, Written>,
    /// `[topics.NAME]`, which only a file can hold.
    pub(super) topics: Vec<(String, toml::Table)>,
    pub(super) errors: Vec<ConfigError>,
    pub(super) warnings: Vec<Warning>,
}

impl Raw {
    pub(super) fn gather(inputs: &Inputs) -> Self {
        let mut raw = Raw::default();
        for (name, text) in &inputs.overrides {
            raw.take_named(name, text, Source::Command);
        }
        for (name, text) in &inputs.flags {
            let flag = table::find(name).map_or_else(|| name.clone(), Key::flag_name);
            raw.take_named(name, text, Source::Flag(flag));
        }
        let variables = match &inputs.environment {
            Environment::None => BTreeMap::new(),
            Environment::Given(variables) => variables.iter().cloned().collect(),
            Environment::Process => raw.process_environment(),
        };
        raw.take_environment(&variables);
        let file = inputs.file.clone().or_else(|| {
            variables.get(FILE_VARIABLE).filter(|path| !path.trim().is_empty()).map(|path| PathBuf::from(path.trim()))
        });
        if let Some(path) = file {
            let read = super::file::read(&path, &mut raw.errors, &mut raw.warnings);
            raw.topics = read.topics;
            for (key, text) in read.texts {
                raw.take(key, &text, Source::File(path.clone()));
            }
        }
        raw
    }

    /// The first one wins, hence the order of the calls.
    fn take(&mut self, key: &'static Key, text: &str, source: Source) {
        let text = if key.secret { text } else { text.trim() };
        self.written.entry(key.full_name()).or_insert_with(|| Written { text: text.to_owned(), source });
    }

    fn take_named(&mut self, name: &str, text: &str, source: Source) {
        match table::find(name) {
            Some(key) => self.take(key, text, source),
            None => {
                let suggestion = nearest(name, KEYS.iter().map(Key::full_name));
                self.errors.push(ConfigError::Unknown {
                    origin: source.to_string(),
                    what: "setting",
                    name: shorten(name),
                    value: Some(value_shown(name, suggestion.as_deref(), text)),
                    suggestion,
                    allowed: "section.key as printed by check-config".to_owned(),
                });
            }
        }
    }

    /// New names win over the predecessor's.
    fn take_environment(&mut self, variables: &BTreeMap<String, String>) {
        let set = |name: &str| variables.get(name).filter(|text| !text.trim().is_empty());
        for key in &KEYS {
            let own = key.environment_name();
            let mut used: Option<(&str, &String)> = None;
            let full_name = key.full_name();
            let names = predecessor::names_of(&full_name).map(|name| -> &str { name });
            for name in std::iter::once(own.as_str()).chain(names) {
                let Some(text) = set(name) else { continue };
                match used {
                    Some((used, winner)) if winner != text => {
                        self.warnings.push(Warning::Shadowed { used: used.to_owned(), ignored: name.to_owned() })
                    }
                    Some(_) => {}
                    None => used = Some((name, text)),
                }
            }
            if let Some((name, text)) = used {
                self.take(key, text, Source::Environment(name.to_owned()));
            }
        }
        for (name, text) in variables.iter().filter(|(name, _)| set(name).is_some()) {
            match predecessor::fate_of(name) {
                Some(Fate::Retired(instead)) => {
                    self.warnings.push(Warning::Retired { name: name.clone(), instead });
                }
                Some(Fate::Sets(_) | Fate::BuildTime) => {}
                None => self.judge_unknown(name, text),
            }
        }
    }

    /// A name in one of our sections is a mistake. A name that merely begins with `DASHSTREAM_` may be somebody
    /// else's, unless it is a letter or two away from one of ours.
    fn judge_unknown(&mut self, name: &str, text: &str) {
        let Some(rest) = name.strip_prefix("DASHSTREAM_") else { return };
        if [FILE_VARIABLE, GATEWAY_VARIABLE].contains(&name) || KEYS.iter().any(|key| key.environment_name() == name) {
            return;
        }
        let suggestion = nearest(name, KEYS.iter().map(Key::environment_name));
        // Of a section with a dot the first word is enough: nobody else has names that begin so.
        let first = rest.split('_').next().unwrap_or_default();
        let section = SECTIONS
            .iter()
            .map(|(section, _)| *section)
            .find(|section| section.split('.').next().is_some_and(|word| word.eq_ignore_ascii_case(first)));
        match section {
            Some(section) => self.errors.push(ConfigError::Unknown {
                origin: "environment".to_owned(),
                what: "setting",
                name: shorten(name),
                value: Some(value_shown(name, suggestion.as_deref(), text)),
                suggestion,
                allowed: names_in(section, Key::environment_name),
            }),
            None => self.warnings.push(Warning::UnknownEnvironment { name: shorten(name), suggestion }),
        }
    }

    /// Names that are not UTF-8 are nobody's; a value that is not is refused if the name is ours.
    fn process_environment(&mut self) -> BTreeMap<String, String> {
        let mut variables = BTreeMap::new();
        for (name, text) in std::env::vars_os() {
            let Ok(name) = name.into_string() else { continue };
            match text.into_string() {
                Ok(text) => {
                    variables.insert(name, text);
                }
                Err(_) if name.starts_with("DASHSTREAM_") || predecessor::fate_of(&name).is_some() => {
                    self.errors.push(ConfigError::Value {
                        key: name.clone(),
                        value: "(not UTF-8)".to_owned(),
                        origin: Source::Environment(name),
                        allowed: "UTF-8 text".to_owned(),
                    });
                }
                Err(_) => {}
            }
        }
        variables
    }
}

/// What the environment says about the terminal; no setting of ours, but a custom of all programs.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct TerminalWishes {
    /// `COLUMNS`.
    pub columns: Option<usize>,
    /// `NO_COLOR`, with any value but an empty one.
    pub no_colour: bool,
    /// `TERM=dumb`.
    pub is_dumb: bool,
}

pub fn terminal() -> TerminalWishes {
    let mut wishes = TerminalWishes::default();
    for (name, value) in std::env::vars_os() {
        let (Some(name), Some(value)) = (name.to_str(), value.to_str()) else { continue };
        match name {
            "COLUMNS" => wishes.columns = value.parse().ok().filter(|columns| (20..=10_000).contains(columns)),
            "NO_COLOR" => wishes.no_colour = !value.is_empty(),
            "TERM" => wishes.is_dumb = value == "dumb",
            _ => {}
        }
    }
    wishes
}

/// What [`GATEWAY_VARIABLE`] says. One that is not UTF-8 is no URL, and is refused as that.
pub fn gateway() -> Option<String> {
    let (_, url) = std::env::vars_os().find(|(name, _)| name == GATEWAY_VARIABLE)?;
    let url = url.to_string_lossy().trim().to_owned();
    (!url.is_empty()).then_some(url)
}

/// The names of a section's keys, in one of their spellings.
pub(super) fn names_in(section: &str, spelling: fn(&Key) -> String) -> String {
    let names: Vec<_> = KEYS.iter().filter(|key| key.section == section).map(spelling).collect();
    names.join(", ")
}
