//! `dashstream demo`: the appliance with an embedded broker and made-up agent runs, for a first look and for tests.

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::CliError;
use crate::demo::DemoOptions;

pub fn command() -> Command {
    Command::new("demo")
        .about("See it work: embedded broker, made-up agent runs, the same gateway")
        .long_about(
            "Starts an embedded broker, a generator of believable agent runs and the very same gateway as `serve`, in \
             one process, and prints the address of the page. Needs nothing else, and leaves nothing behind; Ctrl-C \
             ends it. The environment is not read.",
        )
        .after_help("Example:\n  dashstream demo --rate 2000 --seed 7")
        .arg(
            Arg::new("rate")
                .long("rate")
                .value_name("EVENTS/S")
                .value_parser(value_parser!(u32).range(20..=20_000))
                .default_value("200")
                .help("Events per second, 20 to 20000"),
        )
        .arg(
            Arg::new("seed")
                .long("seed")
                .value_name("NUMBER")
                .value_parser(value_parser!(u64))
                .help("Makes the same runs again; without it they differ each time"),
        )
        .arg(
            Arg::new("port")
                .long("port")
                .value_name("PORT")
                .value_parser(value_parser!(u16))
                .default_value("3002")
                .help("Port of the page and of clients, on 127.0.0.1; 0 lets the system choose"),
        )
        .arg(
            Arg::new("no-poison")
                .long("no-poison")
                .action(ArgAction::SetTrue)
                .help("Make no records that cannot be decoded"),
        )
        .arg(
            Arg::new("set")
                .long("set")
                .value_name("SECTION.KEY=VALUE")
                .action(ArgAction::Append)
                .value_parser(setting)
                .help("Any setting of the gateway, such as --set log.max_bytes=64MiB; may be repeated"),
        )
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("SECTION.KEY=VALUE is meant, such as log.max_bytes=64MiB")?;
    Ok((name.trim().to_owned(), value.to_owned()))
}

/// `None` if these are not the matches of [`command`].
pub(super) fn options(matches: &ArgMatches) -> Option<DemoOptions> {
    Some(DemoOptions {
        rate: *matches.get_one("rate")?,
        seed: matches.get_one("seed").copied(),
        port: *matches.get_one("port")?,
        poison: !matches.get_flag("no-poison"),
        settings: matches.get_many("set").unwrap_or_default().cloned().collect(),
    })
}

pub(super) fn run(matches: &ArgMatches) -> Result<(), CliError> {
    let options = options(matches).unwrap_or_else(|| unreachable!("rate and port have defaults"));
    // A mistake in --set is found before a broker is started for it.
    let pairs: Vec<_> = options.settings.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    crate::config::load_with(&pairs)?;
    Ok(crate::demo::run(&options)?)
}
