//! Declared topics: `[topics.NAME]` of the configuration file, from what was written to what is meant. A preset gives
//! what is not written; without one, partitions and replication factor must be, and settings that nobody named are
//! left to the cluster.
//!
//! Values are kept as Kafka writes them, so that comparing with a cluster is comparing texts. Deliberately absent: the
//! cluster (`topics`).

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::error::{ConfigError, nearest, shorten, value_shown};
use super::file::text_of;
use super::table::shape;
use super::value::{Kind, TimeUnit, Value};

/// A file declares the topics of a stream, not those of a company.
const DECLARED_MAX: usize = 100;

/// What can be declared of a topic besides its partitions and their copies.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum TopicSetting {
    Retention,
    RetentionBytes,
    SegmentBytes,
    CleanupPolicy,
    CompressionType,
    MinInsyncReplicas,
    MaxMessageBytes,
}

impl TopicSetting {
    pub const ALL: [Self; 7] = [
        Self::Retention,
        Self::RetentionBytes,
        Self::SegmentBytes,
        Self::CleanupPolicy,
        Self::CompressionType,
        Self::MinInsyncReplicas,
        Self::MaxMessageBytes,
    ];

    /// The key in `[topics.NAME]`.
    pub fn key(self) -> &'static str {
        match self {
            Self::Retention => "retention",
            Self::RetentionBytes => "retention_bytes",
            Self::SegmentBytes => "segment_bytes",
            Self::CleanupPolicy => "cleanup_policy",
            Self::CompressionType => "compression_type",
            Self::MinInsyncReplicas => "min_insync_replicas",
            Self::MaxMessageBytes => "max_message_bytes",
        }
    }

    /// Kafka's own name.
    pub fn kafka_name(self) -> &'static str {
        match self {
            Self::Retention => "retention.ms",
            Self::RetentionBytes => "retention.bytes",
            Self::SegmentBytes => "segment.bytes",
            Self::CleanupPolicy => "cleanup.policy",
            Self::CompressionType => "compression.type",
            Self::MinInsyncReplicas => "min.insync.replicas",
            Self::MaxMessageBytes => "max.message.bytes",
        }
    }

    pub fn allowed(self) -> &'static str {
        match self {
            Self::Retention => "a time such as 36h or 7d, 1s to 36500d, or forever",
            Self::RetentionBytes => "bytes per partition or a size such as 64GiB, 1MiB to 4096GiB, or unlimited",
            Self::SegmentBytes => "bytes or a size such as 1GiB, 1MiB to 2147483647 bytes (1GiB and less is usual)",
            Self::CleanupPolicy => "delete | compact | compact,delete",
            Self::CompressionType => "producer | uncompressed | gzip | snappy | lz4 | zstd",
            Self::MinInsyncReplicas => "a whole number, 1 to replication_factor",
            Self::MaxMessageBytes => "bytes or a size such as 16MiB, 1KiB to 256MiB",
        }
    }

    /// As Kafka writes it, or `None` when it is not allowed.
    fn parse(self, text: &str) -> Option<String> {
        const MIB: u64 = 1 << 20;
        let size = |min, max| match (Kind::Size { min, max }).parse(text)? {
            Value::Size(size) => Some(size.to_string()),
            _ => None,
        };
        match self {
            Self::Retention if text.eq_ignore_ascii_case("forever") => Some("-1".to_owned()),
            Self::Retention => parse_retention(text).map(|time| time.as_millis().to_string()),
            Self::RetentionBytes if text.eq_ignore_ascii_case("unlimited") => Some("-1".to_owned()),
            Self::RetentionBytes => size(MIB, 4_096 << 30),
            Self::SegmentBytes => size(MIB, i32::MAX as u64),
            Self::CleanupPolicy => {
                let normal = cleanup_policy(&text.to_ascii_lowercase());
                ["delete", "compact", "compact,delete"].contains(&normal.as_str()).then_some(normal)
            }
            Self::CompressionType => {
                let lower = text.to_ascii_lowercase();
                ["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"].contains(&lower.as_str()).then_some(lower)
            }
            Self::MinInsyncReplicas => text.parse::<u16>().ok().filter(|count| *count >= 1).map(|c| c.to_string()),
            Self::MaxMessageBytes => size(1_024, 256 * MIB),
        }
    }

    /// What Kafka says, in the one spelling in which it is compared.
    pub fn normal(self, kafka: &str) -> String {
        match self {
            Self::CleanupPolicy => cleanup_policy(kafka),
            _ => kafka.to_owned(),
        }
    }

    /// What Kafka says, as it would be declared.
    pub fn shown(self, kafka: &str) -> String {
        let number = kafka.parse::<i64>();
        match (self, number) {
            (Self::Retention, Ok(..0)) => "forever".to_owned(),
            (Self::Retention, Ok(ms)) if ms > 0 && ms % 86_400_000 == 0 => format!("{}d", ms / 86_400_000),
            (Self::Retention, Ok(ms)) => Value::Time(Duration::from_millis(ms.unsigned_abs())).to_string(),
            (Self::RetentionBytes, Ok(..0)) => "unlimited".to_owned(),
            (Self::RetentionBytes | Self::SegmentBytes | Self::MaxMessageBytes, Ok(bytes)) => {
                Value::Size(bytes.unsigned_abs()).to_string()
            }
            _ => kafka.to_owned(),
        }
    }
}

/// Kafka keeps the words in the order in which somebody wrote them.
fn cleanup_policy(text: &str) -> String {
    let mut words: Vec<_> = text.split(',').map(str::trim).filter(|word| !word.is_empty()).collect();
    words.sort_unstable();
    words.join(",")
}

/// Days besides the usual units. A bare number is refused: Kafka's own unit is milliseconds, and few remember that.
fn parse_retention(text: &str) -> Option<Duration> {
    const DAY: Duration = Duration::from_secs(86_400);
    let bounds = Duration::from_secs(1)..=DAY * 36_500;
    let time = match text.strip_suffix('d') {
        Some(days) => DAY.checked_mul(days.trim_end().parse().ok()?)?,
        None if text.bytes().all(|byte| byte.is_ascii_digit()) => return None,
        None => {
            match (Kind::Time { bare: TimeUnit::Milliseconds, min: *bounds.start(), max: *bounds.end() }).parse(text)? {
                Value::Time(time) => time,
                _ => return None,
            }
        }
    };
    bounds.contains(&time).then_some(time)
}

/// Where a topic's values come from when they are not written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Preset {
    /// For one broker.
    Default,
    /// For three brokers or more: one may be away.
    Recommended,
    /// Small, and gone after a day.
    Dev,
    /// Dead letters: few, and kept for a month.
    Dlq,
}

impl Preset {
    pub const ALL: [Self; 4] = [Self::Default, Self::Recommended, Self::Dev, Self::Dlq];

    /// The word in the configuration.
    pub fn label(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Recommended => "recommended",
            Self::Dev => "dev",
            Self::Dlq => "dlq",
        }
    }

    fn counts(self) -> (u32, u16) {
        match self {
            Self::Default => (10, 1),
            Self::Recommended => (10, 3),
            Self::Dev | Self::Dlq => (3, 1),
        }
    }

    fn settings(self) -> BTreeMap<TopicSetting, String> {
        let (retention, segment, compression) = match self {
            Self::Default | Self::Recommended => ("7d", "1GiB", "zstd"),
            Self::Dev => ("1d", "256MiB", "producer"),
            Self::Dlq => ("30d", "256MiB", "zstd"),
        };
        let min_insync = (self == Self::Recommended).then_some((TopicSetting::MinInsyncReplicas, "2"));
        [
            (TopicSetting::Retention, retention),
            (TopicSetting::SegmentBytes, segment),
            (TopicSetting::CleanupPolicy, "delete"),
            (TopicSetting::CompressionType, compression),
        ]
        .into_iter()
        .chain(min_insync)
        .map(|(setting, text)| (setting, setting.parse(text).unwrap_or_else(|| unreachable!("{text} is allowed"))))
        .collect()
    }
}

/// One topic as it should be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicDeclaration {
    pub name: String,
    pub preset: Option<Preset>,
    pub partitions: u32,
    pub replication_factor: u16,
    /// As Kafka writes them. What is not here is left as it is.
    pub settings: BTreeMap<TopicSetting, String>,
}

impl fmt::Display for TopicDeclaration {
    /// In the shape of the file, with the preset already applied.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "[topics.{:?}]", self.name)?;
        if let Some(preset) = self.preset {
            write!(formatter, " # with what preset {} gives", preset.label())?;
        }
        write!(formatter, "\npartitions = {}\nreplication_factor = {}\n", self.partitions, self.replication_factor)?;
        for (setting, value) in &self.settings {
            match setting {
                TopicSetting::MinInsyncReplicas => writeln!(formatter, "{} = {value}", setting.key())?,
                _ => writeln!(formatter, "{} = {:?}", setting.key(), setting.shown(value))?,
            }
        }
        Ok(())
    }
}

impl TopicDeclaration {
    pub fn to_json(&self) -> serde_json::Value {
        let settings =
            self.settings.iter().map(|(setting, value)| (setting.kafka_name().to_owned(), value.clone().into()));
        serde_json::json!({
            "topic": self.name,
            "preset": self.preset.map(Preset::label),
            "partitions": self.partitions,
            "replication_factor": self.replication_factor,
            "settings": settings.collect::<serde_json::Map<_, _>>(),
        })
    }
}

/// All declarations of a file, in the order of their names, or what is wrong with each.
pub(super) fn declarations(tables: &[(String, toml::Table)], errors: &mut Vec<ConfigError>) -> Vec<TopicDeclaration> {
    let mut declared: Vec<TopicDeclaration> = Vec::new();
    for (name, table) in tables.iter().take(DECLARED_MAX) {
        let mut mistakes = Vec::new();
        let declaration = declaration(name, table, &mut mistakes);
        let twin = declared.iter().find(|other| other.name.replace('.', "_") == name.replace('.', "_"));
        if let Some(twin) = twin {
            mistakes.push(format!("Kafka cannot tell it from {:?}: '.' and '_' count as the same sign", twin.name));
        }
        errors.extend(mistakes.into_iter().map(|message| ConfigError::Topic { topic: shorten(name), message }));
        declared.extend(declaration);
    }
    if tables.len() > DECLARED_MAX {
        let (name, _) = &tables[DECLARED_MAX];
        let message = format!("{} topics are declared; allowed: at most {DECLARED_MAX}", tables.len());
        errors.push(ConfigError::Topic { topic: shorten(name), message });
    }
    declared
}

fn declaration(name: &str, table: &toml::Table, mistakes: &mut Vec<String>) -> Option<TopicDeclaration> {
    const COUNTS: [&str; 3] = ["preset", "partitions", "replication_factor"];
    if shape::topic(name).is_none() {
        mistakes.push("not a topic name; allowed: 1 to 249 of a-z A-Z 0-9 . _ -, not . or ..".to_owned());
    }
    let keys = || COUNTS.into_iter().chain(TopicSetting::ALL.map(TopicSetting::key));
    for (key, value) in table.iter().filter(|(key, _)| !keys().any(|known| known == key.as_str())) {
        if value.is_table() {
            mistakes.push(format!(
                "{:?} is a table in it: a topic name with a dot is quoted, [topics.\"a.b\"]",
                shorten(key)
            ));
            continue;
        }
        let suggestion = nearest(key, keys().map(str::to_owned));
        let meant = suggestion.as_ref().map_or(String::new(), |key| format!(", did you mean {key}?"));
        let shown = text_of(value).map_or(String::new(), |text| format!(" (= {})", value_shown(key, None, &text)));
        let allowed = keys().collect::<Vec<_>>().join(", ");
        mistakes.push(format!("there is no setting {:?}{shown}{meant}; allowed: {allowed}", shorten(key)));
    }
    let mut refuse = |key: &str, text: &str, allowed: &str| {
        mistakes.push(format!("{key} = {:?} is not allowed; allowed: {allowed}", shorten(text)));
    };
    let text =
        |key: &str| table.get(key).map(|value| text_of(value).unwrap_or_else(|| format!("({})", value.type_str())));
    let preset = text("preset").and_then(|text| {
        let found = Preset::ALL.into_iter().find(|preset| preset.label().eq_ignore_ascii_case(text.trim()));
        if found.is_none() {
            refuse("preset", &text, &Preset::ALL.map(Preset::label).join(" | "));
        }
        found
    });
    let mut count = |key: &str, preset: Option<u32>, max: u32| match text(key) {
        Some(text) => {
            let number = text.trim().parse::<u32>().ok().filter(|number| (1..=max).contains(number));
            if number.is_none() {
                refuse(key, &text, &format!("a whole number, 1 to {max}"));
            }
            number
        }
        None => preset,
    };
    let partitions = count("partitions", preset.map(|preset| preset.counts().0), 10_000);
    let replication = count("replication_factor", preset.map(|preset| u32::from(preset.counts().1)), 1_000);
    let mut settings = preset.map(Preset::settings).unwrap_or_default();
    for setting in TopicSetting::ALL {
        let Some(text) = text(setting.key()) else { continue };
        match setting.parse(text.trim()) {
            Some(value) => {
                settings.insert(setting, value);
            }
            None => refuse(setting.key(), &text, setting.allowed()),
        }
    }
    for (key, value) in [("partitions", partitions), ("replication_factor", replication)] {
        if value.is_none() && !table.contains_key(key) && !table.contains_key("preset") {
            mistakes.push(format!("{key} must be written, since no preset gives it"));
        }
    }
    // Without deletion nothing goes by age or size.
    if settings.get(&TopicSetting::CleanupPolicy).is_some_and(|policy| policy == "compact") {
        for setting in [TopicSetting::Retention, TopicSetting::RetentionBytes] {
            if table.contains_key(setting.key()) {
                mistakes.push(format!("{} does nothing under cleanup_policy = compact; remove it", setting.key()));
            }
            settings.remove(&setting);
        }
    }
    let declaration = TopicDeclaration {
        name: name.to_owned(),
        preset,
        partitions: partitions?,
        replication_factor: u16::try_from(replication?).ok()?,
        settings,
    };
    relations(&declaration, mistakes);
    Some(declaration)
}

/// What is allowed alone and not together.
fn relations(declaration: &TopicDeclaration, mistakes: &mut Vec<String>) {
    let number = |setting| declaration.settings.get(&setting).and_then(|text| text.parse::<i64>().ok());
    let size = |bytes: i64| Value::Size(bytes.unsigned_abs()).to_string();
    let replicas = i64::from(declaration.replication_factor);
    if let Some(insync) = number(TopicSetting::MinInsyncReplicas).filter(|insync| *insync > replicas) {
        mistakes.push(format!(
            "min_insync_replicas = {insync} is more than replication_factor = {replicas}: nobody could write"
        ));
    }
    let segment = number(TopicSetting::SegmentBytes);
    if let (Some(message), Some(segment)) = (number(TopicSetting::MaxMessageBytes), segment)
        && message > segment
    {
        let (message, segment) = (size(message), size(segment));
        mistakes.push(format!("max_message_bytes = {message} does not fit into segment_bytes = {segment}"));
    }
    let retained = number(TopicSetting::RetentionBytes).filter(|bytes| *bytes >= 0);
    if let (Some(retained), Some(segment)) = (retained, segment)
        && retained < segment
    {
        let (retained, segment) = (size(retained), size(segment));
        mistakes.push(format!(
            "retention_bytes = {retained} is less than segment_bytes = {segment}, and whole segments are deleted"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The declaration as `check-config` prints it, without its first line, or every mistake.
    fn check(name: &str, toml: &str, expected: &str) {
        let table = toml.parse::<toml::Table>().expect("TOML");
        let mut errors = Vec::new();
        let declared = declarations(&[(name.to_owned(), table)], &mut errors);
        let outcome = match errors.is_empty() {
            true => declared[0].to_string().lines().skip(1).collect::<Vec<_>>().join(" "),
            false => errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
        };
        assert_eq!(outcome, expected, "{toml}");
    }

    /// Refused with exactly one mistake that contains every part.
    fn refused(toml: &str, parts: &[&str]) {
        let table = toml.parse::<toml::Table>().expect("TOML");
        let mut errors = Vec::new();
        declarations(&[("agents".to_owned(), table)], &mut errors);
        assert_eq!(errors.len(), 1, "{toml}: {errors:?}");
        for part in parts {
            assert!(errors[0].to_string().contains(part), "{part:?} is missing in: {}", errors[0]);
        }
    }

    #[test]
    fn presets_are_those_of_the_predecessor_and_what_is_written_wins() {
        check(
            "agents",
            "preset = 'recommended'",
            "partitions = 10 replication_factor = 3 retention = \"7d\" segment_bytes = \"1GiB\" \
             cleanup_policy = \"delete\" compression_type = \"zstd\" min_insync_replicas = 2",
        );
        check(
            "agents",
            "preset = 'default'",
            "partitions = 10 replication_factor = 1 retention = \"7d\" segment_bytes = \"1GiB\" \
             cleanup_policy = \"delete\" compression_type = \"zstd\"",
        );
        check(
            "agents",
            "preset = 'Dev'",
            "partitions = 3 replication_factor = 1 retention = \"1d\" segment_bytes = \"256MiB\" \
             cleanup_policy = \"delete\" compression_type = \"producer\"",
        );
        check(
            "agents-dlq",
            "preset = 'dlq'\nretention = '90d'\npartitions = 1\nmax_message_bytes = '16MiB'",
            "partitions = 1 replication_factor = 1 retention = \"90d\" segment_bytes = \"256MiB\" \
             cleanup_policy = \"delete\" compression_type = \"zstd\" max_message_bytes = \"16MiB\"",
        );
    }

    #[test]
    fn without_a_preset_only_what_is_written_is_declared() {
        check("a.b", "partitions = 1\nreplication_factor = 2", "partitions = 1 replication_factor = 2");
        check(
            "a",
            "partitions = 1\nreplication_factor = 1\ncleanup_policy = ['delete', 'compact']\nretention = 'forever'\n\
             retention_bytes = 'unlimited'",
            "partitions = 1 replication_factor = 1 retention = \"forever\" retention_bytes = \"unlimited\" \
             cleanup_policy = \"compact,delete\"",
        );
        check(
            "a",
            "preset = 'dev'\ncleanup_policy = 'compact'",
            "partitions = 3 replication_factor = 1 segment_bytes = \"256MiB\" cleanup_policy = \"compact\" compression_type = \"producer\"",
        );
    }

    #[test]
    fn what_is_printed_is_what_is_read() {
        let table = "preset = 'recommended'\nretention = '36h'\nretention_bytes = '64GiB'".parse().expect("TOML");
        let declared = declarations(&[("a.b".to_owned(), table)], &mut Vec::new());
        let printed: toml::Table = declared[0].to_string().parse().expect("TOML");
        let again = printed["topics"]["a.b"].as_table().expect("a table").clone();
        let again = declarations(&[("a.b".to_owned(), again)], &mut Vec::new());
        assert_eq!(again[0].settings, declared[0].settings);
        assert_eq!(again[0].settings[&TopicSetting::Retention], "129600000");
    }

    #[test]
    fn every_mistake_is_refused_and_says_what_is_allowed() {
        refused("preset = 'best'", &["topics.agents", "preset", "\"best\"", "default | recommended | dev | dlq"]);
        refused("preset = 'dev'\npartitions = 0", &["partitions = \"0\"", "1 to 10000"]);
        refused("preset = 'dev'\npartitions = 10001", &["10001", "1 to 10000"]);
        refused("preset = 'dev'\nreplication_factor = 0", &["replication_factor", "1 to 1000"]);
        refused("replication_factor = 1", &["partitions", "must be written"]);
        refused("preset = 'dev'\nretention = '0s'", &["retention", "1s to 36500d"]);
        refused("preset = 'dev'\nretention = 604800000", &["retention", "604800000", "such as 36h or 7d"]);
        refused("preset = 'dev'\nretention = '40000d'", &["retention"]);
        refused("preset = 'dev'\nretention = '99999999999999999999d'", &["retention"]);
        refused("preset = 'dev'\nsegment_bytes = '16KiB'", &["segment_bytes", "1MiB"]);
        refused("preset = 'dev'\nsegment_bytes = '2GiB'", &["segment_bytes", "2147483647"]);
        refused("preset = 'dev'\nretention_bytes = 1", &["retention_bytes", "unlimited"]);
        refused("preset = 'dev'\ncleanup_policy = 'shred'", &["cleanup_policy", "compact,delete"]);
        refused("preset = 'dev'\ncompression_type = 'rar'", &["compression_type", "zstd"]);
        refused("preset = 'dev'\nmin_insync_replicas = 0", &["min_insync_replicas", "1 to replication_factor"]);
        refused("preset = 'dev'\nmin_insync_replicas = 2", &["min_insync_replicas = 2", "replication_factor = 1"]);
        refused("preset = 'recommended'\nreplication_factor = 1", &["min_insync_replicas = 2", "nobody could write"]);
        refused("preset = 'dev'\nmax_message_bytes = '512GiB'", &["max_message_bytes", "256MiB"]);
        refused(
            "preset = 'dev'\nsegment_bytes = '1MiB'\nmax_message_bytes = '2MiB'",
            &["2MiB", "segment_bytes = 1MiB"],
        );
        refused("preset = 'dev'\nretention_bytes = '2MiB'", &["retention_bytes = 2MiB", "segment_bytes = 256MiB"]);
        refused("preset = 'dev'\ncleanup_policy = 'compact'\nretention = '1d'", &["retention does nothing"]);
        refused("preset = 'dev'\nretentoin = '1d'", &["\"retentoin\"", "did you mean retention?"]);
        refused("preset = 'dev'\npartitions = [1]", &["partitions", "(array)"]);
        refused("preset = 'dev'\n[more]\nx = 1", &["\"more\"", "[topics.\"a.b\"]"]);
    }

    #[test]
    fn names_are_kafkas() {
        let mut errors = Vec::new();
        let table: toml::Table = "preset = 'dev'".parse().expect("TOML");
        let names = ["a b", "", "..", "a.b", "a_b", "fine"];
        declarations(&names.map(|name| (name.to_owned(), table.clone())), &mut errors);
        let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(errors.len(), 4, "{errors:?}");
        assert!(errors[3].contains("topics.a_b") && errors[3].contains("\"a.b\""), "{errors:?}");
        let many: Vec<_> = (0..=DECLARED_MAX).map(|number| (format!("t{number}"), table.clone())).collect();
        let mut errors = Vec::new();
        assert_eq!(declarations(&many, &mut errors).len(), DECLARED_MAX);
        assert_eq!(errors.len(), 1);
    }

    #[test]
    fn kafkas_texts_are_shown_as_they_would_be_declared() {
        for (setting, kafka, shown) in [
            (TopicSetting::Retention, "604800000", "7d"),
            (TopicSetting::Retention, "129600000", "36h"),
            (TopicSetting::Retention, "-1", "forever"),
            (TopicSetting::Retention, "0", "0ms"),
            (TopicSetting::RetentionBytes, "-1", "unlimited"),
            (TopicSetting::SegmentBytes, "1073741824", "1GiB"),
            (TopicSetting::SegmentBytes, "1000", "1000"),
            (TopicSetting::CompressionType, "producer", "producer"),
            (TopicSetting::MinInsyncReplicas, "2", "2"),
            (TopicSetting::Retention, "not a number", "not a number"),
        ] {
            assert_eq!(setting.shown(kafka), shown, "{setting:?}");
        }
        assert_eq!(TopicSetting::CleanupPolicy.normal("delete,compact"), "compact,delete");
    }
}
