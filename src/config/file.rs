//! The TOML file: sections of keys, nothing nested but declared topics and where the name of a section has a dot. Gives texts, exactly as
//! a flag or a variable would, so that every value is parsed by one piece of code.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::error::{ConfigError, Warning, nearest, shorten, value_shown};
use super::raw::{Source, names_in};
use super::table::{self, Key, SECTIONS};

/// A configuration file has some kilobytes; more is a wrong path.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What a file says.
#[derive(Default)]
pub(super) struct Written {
    pub(super) texts: Vec<(&'static Key, String)>,
    /// `[topics.NAME]`, each as it stands there.
    pub(super) topics: Vec<(String, toml::Table)>,
}

pub(super) fn read(path: &Path, errors: &mut Vec<ConfigError>, warnings: &mut Vec<Warning>) -> Written {
    let text = match read_bounded(path) {
        Ok(text) => text,
        Err(error) => {
            errors.push(error);
            return Written::default();
        }
    };
    let read = parse(path, &text, errors);
    if read.texts.iter().any(|(key, _)| key.secret) && others_can_read(path) {
        warnings.push(Warning::ReadableSecrets { path: path.to_owned() });
    }
    read
}

fn read_bounded(path: &Path) -> Result<String, ConfigError> {
    let failed = |source| ConfigError::File { path: path.to_owned(), source };
    let mut text = String::new();
    File::open(path).map_err(failed)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(ConfigError::FileTooLarge { path: path.to_owned(), bytes_max: FILE_BYTES_MAX });
    }
    Ok(text)
}

fn others_can_read(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0)
}

fn parse(path: &Path, text: &str, errors: &mut Vec<ConfigError>) -> Written {
    let origin = format!("file {}", path.display());
    let table = match text.parse::<toml::Table>() {
        Ok(table) => table,
        Err(error) => {
            // The parser's own text quotes the line, and the line may hold a secret.
            let start = error.span().map_or(0, |span| span.start.min(text.len()));
            let line = 1 + text.bytes().take(start).filter(|byte| *byte == b'\n').count();
            errors.push(ConfigError::Syntax {
                path: path.to_owned(),
                line,
                message: error.message().lines().next().unwrap_or("not TOML").to_owned(),
            });
            return Written::default();
        }
    };
    let mut read = Written::default();
    for (section, content) in unfolded(table) {
        let toml::Value::Table(content) = content else {
            errors.push(ConfigError::Unknown {
                origin: origin.clone(),
                what: "key outside of a section",
                name: shorten(&section),
                value: None,
                suggestion: None,
                allowed: "keys inside a section, such as [kafka] and then topic = \"name\"".to_owned(),
            });
            continue;
        };
        if !SECTIONS.iter().any(|(name, _)| *name == section) {
            errors.push(ConfigError::Unknown {
                origin: origin.clone(),
                what: "section",
                name: shorten(&section),
                value: None,
                suggestion: nearest(&section, SECTIONS.iter().map(|(name, _)| (*name).to_owned())),
                allowed: SECTIONS.map(|(name, _)| name).join(", "),
            });
            continue;
        }
        for (name, value) in content {
            if let ("topics", toml::Value::Table(declared)) = (section.as_str(), &value) {
                read.topics.push((name, declared.clone()));
                continue;
            }
            let full_name = format!("{section}.{name}");
            let Some(key) = table::find(&full_name) else {
                let suggestion = nearest(&full_name, table::KEYS.iter().map(Key::full_name));
                errors.push(ConfigError::Unknown {
                    origin: origin.clone(),
                    what: "key",
                    name: shorten(&full_name),
                    value: text_of(&value).map(|text| value_shown(&full_name, suggestion.as_deref(), &text)),
                    suggestion,
                    allowed: names_in(&section, |key| key.name.to_owned()),
                });
                continue;
            };
            match text_of(&value) {
                Some(text) => read.texts.push((key, text)),
                None => errors.push(ConfigError::Value {
                    key: full_name,
                    value: format!("({})", value.type_str()),
                    origin: Source::File(path.to_owned()),
                    allowed: key.kind.allowed(),
                }),
            }
        }
    }
    read
}

/// The same with `[a.b]` as one section where there is one of that name: TOML reads it as a table in a table.
fn unfolded(table: toml::Table) -> Vec<(String, toml::Value)> {
    let mut sections = Vec::new();
    for (name, content) in table {
        let start = format!("{name}.");
        if !SECTIONS.iter().any(|(section, _)| section.starts_with(&start)) {
            sections.push((name, content));
            continue;
        }
        let toml::Value::Table(inner) = content else {
            sections.push((name, content));
            continue;
        };
        sections.extend(inner.into_iter().map(|(part, content)| (format!("{name}.{part}"), content)));
    }
    sections
}

/// Text, whole number, switch, or a list of texts.
pub(super) fn text_of(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(on) => Some(on.to_string()),
        toml::Value::Array(parts) => {
            let texts = parts.iter().map(|part| part.as_str().filter(|text| !text.contains(',')));
            Some(texts.collect::<Option<Vec<_>>>()?.join(","))
        }
        toml::Value::Float(_) | toml::Value::Datetime(_) | toml::Value::Table(_) => None,
    }
}
