//! Settings for people and machines: what is in force, where each value came from, the memory sum and the warnings.
//! Secrets were masked before they came here.

use super::memory::MemorySum;
use super::raw::Source;
use super::table::{Key, SECTIONS};
use super::topics::TopicDeclaration;
use super::{Loaded, Value};

/// One key as it is in force.
#[derive(Clone)]
pub struct Setting {
    pub key: &'static Key,
    /// `None` is unset. Of a secret only `***`.
    pub value: Option<String>,
    pub source: Source,
}

impl std::fmt::Debug for Setting {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = self.value.as_deref().unwrap_or("unset");
        write!(formatter, "{} = {value} ({})", self.key.full_name(), self.source)
    }
}

impl Loaded {
    /// The effective configuration in the shape of the file, each line with its source.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for (section, title) in SECTIONS {
            text.push_str(&format!("# {title}\n[{section}]\n"));
            for setting in self.settings.iter().filter(|setting| setting.key.section == section) {
                let line = match &setting.value {
                    // A mask is no value: in a file it would be one.
                    Some(_) if setting.key.secret => format!("# {} is set", setting.key.name),
                    Some(value) => format!("{} = {}", setting.key.name, toml_value(value)),
                    None => format!("# {} is unset", setting.key.name),
                };
                text.push_str(&format!("{line:<52} # {}\n", setting.source));
            }
            if section == "topics" {
                self.config.topics.declared.iter().for_each(|topic| text.push_str(&topic.to_string()));
            }
            text.push('\n');
        }
        text
    }

    /// The same for machines; also what `/config` answers. The memory sum is for `kafka.partitions_max`, and for
    /// `partitions` if that is asked for.
    pub fn to_json(&self, partitions: Option<u32>) -> serde_json::Value {
        let settings: Vec<_> = self.settings.iter().map(setting_json).collect();
        let warnings: Vec<_> = self.warnings.iter().map(ToString::to_string).collect();
        let at_most = self.config.kafka.partitions_max;
        let sums =
            partitions.into_iter().chain([at_most]).map(|partitions| memory_json(&self.config.memory(partitions)));
        serde_json::json!({
            "settings": settings,
            "topics": self.config.topics.declared.iter().map(TopicDeclaration::to_json).collect::<Vec<_>>(),
            "memory": sums.collect::<Vec<_>>(),
            "warnings": warnings,
        })
    }
}

fn setting_json(setting: &Setting) -> serde_json::Value {
    let (source, name) = match &setting.source {
        Source::Command => ("command", None),
        Source::Flag(name) => ("flag", Some(format!("--{name}"))),
        Source::Environment(name) => ("environment", Some(name.clone())),
        Source::File(path) => ("file", Some(path.display().to_string())),
        Source::Default => ("default", None),
    };
    serde_json::json!({
        "key": setting.key.full_name(),
        "value": setting.value,
        "source": source,
        "source_name": name,
        "secret": setting.key.secret,
    })
}

fn memory_json(sum: &MemorySum) -> serde_json::Value {
    let items: Vec<_> = sum
        .items
        .iter()
        .map(|item| serde_json::json!({"what": item.what, "how": item.how, "bytes": item.bytes}))
        .collect();
    serde_json::json!({
        "partitions": sum.partitions,
        "items": items,
        "total_bytes": sum.total_bytes(),
        "kernel_bytes": sum.kernel.bytes,
    })
}

/// Numbers and switches bare, everything else quoted, so that the printed text is a file that can be loaded.
fn toml_value(value: &str) -> String {
    if value == "true" || value == "false" || value.parse::<i64>().is_ok() {
        return value.to_owned();
    }
    toml::Value::String(value.to_owned()).to_string()
}

/// The memory sum as a table for people.
pub fn memory_text(sum: &MemorySum) -> String {
    let mut text = format!("Memory, at most, with {} partitions:\n", sum.partitions);
    for item in &sum.items {
        text.push_str(&format!("  {:>12}  {:<22} {}\n", rounded(item.bytes), item.what, item.how));
    }
    text.push_str(&format!("  {:>12}  in all\n", rounded(sum.total_bytes())));
    text.push_str(&format!(
        "  {:>12}  {}, apart from that: {}\n",
        rounded(sum.kernel.bytes),
        sum.kernel.what,
        sum.kernel.how
    ));
    text
}

fn rounded(bytes: u64) -> String {
    match bytes {
        0..0x10_0000 => Value::Size(bytes).to_string(),
        _ => format!("{}.{} MiB", bytes >> 20, ((bytes % (1 << 20)) * 10) >> 20),
    }
}
