//! `dashstream replay`: one run again, at its own pace or at another.

use std::io::Write;
use std::ops::ControlFlow;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::CliError;
use super::gather::Unseen;
use super::reading::{self, Ended, Flags, Reading, Showing};
use super::show::{Form, line};
use super::source::{Item, start};
use super::stop::Stop;
use crate::analysis::runs::is_failure;

const FLAGS: Flags = Flags {
    from: "earliest",
    follow: true,
    limit: Some("Show so many events at most, filters applied"),
    forms: &[Form::Human, Form::Json, Form::Jsonl, Form::Csv],
    thread_required: true,
};

/// What `--speed` takes.
const SPEED_MAX: f64 = 1e6;

pub fn command() -> Command {
    let command = Command::new("replay")
        .about("Show a run again at the pace at which it happened")
        .long_about(
            "Shows the events of a run, waiting between them as long as the run did, by its producer's clock. Pauses \
             are cut to --pause-max. --speed 0 does not wait at all.",
        )
        .arg(
            Arg::new("speed")
                .long("speed")
                .value_name("FACTOR")
                .value_parser(speed)
                .allow_negative_numbers(true)
                .default_value("1")
                .help("1 is the run's own pace, 10 ten times as fast, 0 as fast as possible")
                .help_heading("How shown"),
        )
        .arg(
            Arg::new("pause-max")
                .long("pause-max")
                .value_name("SECONDS")
                .value_parser(value_parser!(u32).range(0..=3_600))
                .default_value("5")
                .help("No pause is longer than this")
                .help_heading("How shown"),
        )
        .arg(
            Arg::new("until")
                .long("until")
                .value_name("TIME")
                .value_parser(|text: &str| start::time_ms(text).ok_or("a time such as 2026-01-31T12:00:00Z is meant"))
                .help("End before the first event that happened at this time or later")
                .help_heading("Which events (repeat a flag, or use commas, for any of several)"),
        )
        .arg(
            Arg::new("stop-on-error")
                .long("stop-on-error")
                .action(ArgAction::SetTrue)
                .help("End after the first error: an error message (no warning), a *_ERROR event, a failed tool")
                .help_heading("Which events (repeat a flag, or use commas, for any of several)"),
        );
    reading::with_flags(
        command,
        FLAGS,
        "Examples:\n  \
         dashstream replay --thread run-1\n  \
         dashstream replay --thread run-1 --speed 20 --stop-on-error\n  \
         dashstream replay --thread run-1 --file run-1.json --speed 0",
    )
}

fn speed(text: &str) -> Result<f64, String> {
    let speed = text.parse::<f64>().ok().filter(|speed| (0.0..=SPEED_MAX).contains(speed));
    speed.ok_or_else(|| format!("a number from 0 to {SPEED_MAX} is meant"))
}

pub(super) fn run(matches: &ArgMatches, output: &mut dyn Write) -> Result<(), CliError> {
    let reading = Reading::of(matches)?;
    let pace = Pace {
        speed: matches.get_one("speed").copied().unwrap_or(1.0),
        pause_max: Duration::from_secs(matches.get_one::<u32>("pause-max").copied().unwrap_or(5).into()),
    };
    let until = matches.get_one::<i64>("until").map(|ms| ms.saturating_mul(1_000));
    let stop_on_error = matches.get_flag("stop-on-error");
    let stop = Stop::on_signals()?;
    let mut showing = Showing::of(&reading, output);
    let mut before = None;
    let mut unseen = Unseen::of(&reading);
    let ended = reading.each(&stop, false, |item| {
        let mut last = false;
        if let Item::Event(seen) = item {
            let time = line::header(&seen.message).map(|header| header.timestamp_us).filter(|time| *time != 0);
            if time.zip(until).is_some_and(|(time, until)| time >= until) {
                return Ok(ControlFlow::Break(()));
            }
            unseen.note(seen);
            let pause = time.zip(before).map_or(Duration::ZERO, |(time, before)| pace.pause(before, time));
            if !pause.is_zero() {
                showing.flush()?;
                stop.wait(pause);
                if stop.is_asked() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            before = time.max(before);
            last = stop_on_error && is_failure(&seen.message);
        }
        let flow = showing.item(item)?;
        Ok(if last { ControlFlow::Break(()) } else { flow })
    });
    // Also where a pause was broken off.
    let ended = ended.map(|ended| if stop.is_asked() && ended == Ended::Enough { Ended::Stopped } else { ended });
    let (ended, _found) = showing.finish(ended)?;
    unseen.finish(ended)
}

struct Pace {
    speed: f64,
    pause_max: Duration,
}

impl Pace {
    /// Between two times of the producer's clock, µs. It may go back.
    fn pause(&self, before: i64, now: i64) -> Duration {
        let micros = u64::try_from(now.saturating_sub(before)).unwrap_or(0);
        if self.speed == 0.0 {
            return Duration::ZERO;
        }
        let seconds = micros as f64 / 1e6 / self.speed;
        Duration::try_from_secs_f64(seconds).unwrap_or(self.pause_max).min(self.pause_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_follow_the_run_and_have_a_bound() {
        let check = |speed: f64, before: i64, now: i64, expected_ms: u64| {
            let pace = Pace { speed, pause_max: Duration::from_secs(5) };
            assert_eq!(pace.pause(before, now).as_millis(), u128::from(expected_ms), "{speed} {before} {now}");
        };
        check(1.0, 0, 1_500_000, 1_500);
        check(10.0, 0, 1_500_000, 150);
        check(0.0, 0, 1_500_000, 0);
        check(1.0, 0, i64::MAX, 5_000);
        check(1e-300, 0, 1, 5_000);
        check(1.0, 10, 5, 0);
        check(1.0, i64::MIN, i64::MAX, 5_000);
    }

    #[test]
    fn a_speed_is_a_number_that_makes_sense() {
        assert_eq!(speed("2.5"), Ok(2.5));
        for bad in ["", "-1", "fast", "NaN", "inf", "1e9"] {
            assert!(speed(bad).is_err(), "{bad}");
        }
    }
}
