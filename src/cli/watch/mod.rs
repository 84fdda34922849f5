//! `dashstream watch`: live runs on the whole screen. This file is the shell around `model` (what is known, and what
//! keys do) and `view` (how it looks): it owns the terminal, reads keys and events on one thread, and draws.
//!
//! Deliberately absent: any memory of what is on the screen. Every frame is drawn from the model alone, so a resize
//! needs no care.

mod model;
mod view;

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use clap::parser::ValueSource;
use clap::{ArgMatches, Command};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::CliError;
use super::gather::ExplainError;
use super::reading::{self, Flags, Reading, now_ms};
use super::source::{self, Item, Place, Source};
use super::stop::Stop;
use crate::analysis::life::STATUSES;
use model::{Key, Model};

const FLAGS: Flags = Flags { from: "-200", follow: false, limit: None, forms: &[], thread_required: false };

/// Between two frames: as often as eyes want, and seldom enough that a busy topic is read and not painted.
const FRAME: Duration = Duration::from_millis(66);

/// To look without waiting. With no time at all the source of keys does not even look.
const GLANCE: Duration = Duration::from_millis(1);

pub fn command() -> Command {
    let command = Command::new("watch").about("Follow live runs on the whole screen").long_about(format!(
        "Shows runs as they go: which are under way and in which node, tokens as they stream, errors, what is missing. \
         Keys stand at the bottom. {STATUSES} It begins with what is 200 records old, or where --from says, and goes on until q. \
         Needs a terminal; `dashstream tail --follow` is for pipes."
    ));
    reading::with_flags(
        command,
        FLAGS,
        "Examples:\n  \
         dashstream watch\n  \
         dashstream watch --gateway ws://127.0.0.1:3002 --tenant acme\n  \
         dashstream watch --from '10m ago'",
    )
}

pub(super) fn run(matches: &ArgMatches) -> Result<(), CliError> {
    let mut reading = Reading::of(matches)?;
    // A file is shown whole, and then stays on the screen.
    let is_file = matches!(reading.ask.place, Place::File(_));
    reading.ask.follow = !is_file;
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        return Err(ExplainError::NoTerminal.into());
    }
    if is_file && matches.value_source("from") != Some(ValueSource::CommandLine) {
        reading.ask.from = source::From::Earliest;
    }
    let place = match &reading.ask.place {
        Place::Kafka(kafka) => format!("{} at {}", kafka.topic, kafka.brokers),
        Place::Gateway(url) => url.clone(),
        Place::File(path) => path.display().to_string(),
    };
    let stop = Stop::on_signals()?;
    // Opened before the screen is taken, so that a mistake is told in the usual way.
    let Some(mut source) = source::open(&reading.ask, &stop)? else { return Err(CliError::Stopped) };
    let mut terminal = Terminal::take(reading.style.screen.colour)?;
    let mut model = Model::new(place);
    watch(source.as_mut(), &stop, &mut model, &mut terminal)
}

fn watch(source: &mut dyn Source, stop: &Stop, model: &mut Model, terminal: &mut Terminal) -> Result<(), CliError> {
    let mut ended = false;
    while !stop.is_asked() && !model.is_quit() {
        terminal.draw(model)?;
        let deadline = Instant::now() + FRAME;
        // A busy topic gets the whole frame; keys are looked at once a frame in any case.
        while !ended && Instant::now() < deadline {
            let item = source.next(deadline)?;
            ended = item == Item::End;
            model.item(&item);
        }
        let wait = if ended { deadline.saturating_duration_since(Instant::now()) } else { Duration::ZERO };
        terminal.keys(wait, model)?;
    }
    Ok(())
}

/// The screen, given back in whatever way the command ends.
struct Terminal {
    inner: ratatui::DefaultTerminal,
    colour: bool,
}

impl Terminal {
    fn take(colour: bool) -> Result<Self, CliError> {
        Ok(Self { inner: ratatui::try_init()?, colour })
    }

    fn draw(&mut self, model: &Model) -> Result<(), CliError> {
        let now_us = now_ms().saturating_mul(1_000);
        let colour = self.colour;
        self.inner.draw(|frame| view::draw(frame, model, now_us, colour))?;
        Ok(())
    }

    /// All that was pressed since, waiting so long for the first.
    fn keys(&mut self, wait: Duration, model: &mut Model) -> Result<(), CliError> {
        let mut wait = wait.max(GLANCE);
        while event::poll(wait)? {
            wait = GLANCE;
            if let Event::Key(pressed) = event::read()?
                && pressed.kind == KeyEventKind::Press
                && let Some(key) = key(pressed)
            {
                model.key(key);
            }
        }
        Ok(())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

fn key(pressed: KeyEvent) -> Option<Key> {
    let control = pressed.modifiers.contains(KeyModifiers::CONTROL);
    Some(match pressed.code {
        KeyCode::Char('c') if control => Key::Quit,
        KeyCode::Char('q') => Key::Quit,
        KeyCode::Up | KeyCode::Char('k') => Key::Up,
        KeyCode::Down | KeyCode::Char('j') => Key::Down,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home | KeyCode::Char('g') => Key::Newest,
        KeyCode::Enter => Key::Open,
        KeyCode::Esc | KeyCode::Backspace => Key::Back,
        KeyCode::Char('f') => Key::Filter,
        _ => return None,
    })
}
