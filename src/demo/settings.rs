//! The gateway's settings in a demo: the defaults, what the user asked for, and what an embedded broker needs.
//!
//! Pure. Environment and files are not read: a demo is the same on every machine.

pub const TOPIC: &str = "dashstream-quality";
pub const DLQ_TOPIC: &str = "dashstream-quality-dlq";

/// What the demo is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DemoOptions {
    /// Events per second.
    pub rate: u32,
    /// Equal seeds make equal runs. `None`: another one each time, which is printed.
    pub seed: Option<u64>,
    /// 0 lets the system choose; the chosen port is printed.
    pub port: u16,
    /// Whether a few records are made that nobody can decode.
    pub poison: bool,
    /// `section.key` and value, for [`crate::config::load_with`], below what the demo itself must set.
    pub settings: Vec<(String, String)>,
}

/// `section.key` and value. What the demo cannot do without comes last and replaces what was asked for.
pub fn settings(options: &DemoOptions, brokers: &str) -> Vec<(String, String)> {
    let port = options.port.to_string();
    // Whoever lets the system choose a port runs more than one of these.
    let admin = if options.port == 0 { "127.0.0.1:0" } else { "127.0.0.1:9464" };
    // What the terminal should show is the address; what goes wrong is still said.
    let defaults = [("admin.listen", admin), ("kafka.group_id", "dashstream-demo"), ("logging.filter", "warn")];
    let needed = [
        ("kafka.brokers", brokers),
        ("kafka.topic", TOPIC),
        ("dlq.topic", DLQ_TOPIC),
        ("kafka.security_protocol", "plaintext"),
        ("kafka.assignment", "all"),
        // The feeder waits for a reader that begins at the beginning.
        ("kafka.auto_offset_reset", "earliest"),
        // The embedded broker lets an empty fetch wait in full, whatever arrives meanwhile: this is the latency.
        ("kafka.fetch_max_wait_ms", "10ms"),
        ("server.port", port.as_str()),
    ];
    let mut settings: Vec<(String, String)> = Vec::new();
    let asked = options.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    for (name, value) in defaults.into_iter().chain(asked).chain(needed) {
        settings.retain(|(known, _)| known != name);
        settings.push((name.to_owned(), value.to_owned()));
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_with;

    fn options(port: u16, settings: &[(&str, &str)]) -> DemoOptions {
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        DemoOptions { rate: 200, seed: Some(1), port, poison: true, settings }
    }

    #[test]
    fn what_the_demo_needs_wins_over_what_was_asked_for_and_that_over_defaults() {
        let check = |asked: &[(&str, &str)], name: &str, expected: &str| {
            let settings = settings(&options(4000, asked), "127.0.0.1:1");
            let values: Vec<&str> =
                settings.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect();
            assert_eq!(values, [expected], "{name}");
        };
        check(&[], "server.port", "4000");
        check(&[("server.port", "5000")], "server.port", "4000");
        check(&[("kafka.brokers", "elsewhere:9092")], "kafka.brokers", "127.0.0.1:1");
        check(&[("admin.listen", "127.0.0.1:7")], "admin.listen", "127.0.0.1:7");
        check(&[], "admin.listen", "127.0.0.1:9464");
        check(&[("log.max_bytes", "64MiB")], "log.max_bytes", "64MiB");
    }

    #[test]
    fn they_are_accepted_by_the_one_door() {
        for port in [0, 3002] {
            let settings = settings(&options(port, &[]), "127.0.0.1:12345");
            let pairs: Vec<_> = settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let config = load_with(&pairs).expect("good settings").config;
            assert_eq!((config.kafka.topic.as_str(), config.dlq.topic.as_str()), (TOPIC, DLQ_TOPIC));
            assert_eq!((config.server.port, config.server.host.is_loopback()), (port, true));
            assert_eq!(config.admin.listen.port() == 0, port == 0);
            assert_eq!(config.kafka.fetch_max_wait.as_millis(), 10);
        }
    }
}
