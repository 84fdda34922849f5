//! `dashstream completions` and `dashstream man`: made from the commands themselves.

use std::io::Write;
use std::path::PathBuf;

use clap::builder::PathBufValueParser;
use clap::{Arg, ArgMatches, Command};
use clap_complete::Shell;

use super::CliError;

pub fn completions_command() -> Command {
    Command::new("completions")
        .about("Print what makes a shell complete commands and flags")
        .after_help(
            "Examples:\n  \
             dashstream completions bash > /etc/bash_completion.d/dashstream\n  \
             dashstream completions zsh > ~/.zfunc/_dashstream\n  \
             dashstream completions fish > ~/.config/fish/completions/dashstream.fish",
        )
        .arg(
            Arg::new("shell")
                .value_name("SHELL")
                .required(true)
                .value_parser(["bash", "zsh", "fish"])
                .help("Which one"),
        )
}

pub fn man_command() -> Command {
    Command::new("man")
        .about("Print the manual page of a command, or write all of them")
        .after_help(
            "Examples:\n  \
             dashstream man tail | man -l -\n  \
             dashstream man topics plan\n  \
             dashstream man --write /usr/local/share/man/man1",
        )
        .arg(
            Arg::new("command")
                .value_name("COMMAND")
                .num_args(0..)
                .help("Which one, such as tail, or topics plan; without it, that of the program"),
        )
        .arg(
            Arg::new("write")
                .long("write")
                .value_name("FOLDER")
                .value_parser(PathBufValueParser::new())
                .conflicts_with("command")
                .help("Write the pages of all commands into this folder"),
        )
}

pub(super) fn completions(matches: &ArgMatches, output: &mut dyn Write) -> Result<(), CliError> {
    let shell = match matches.get_one::<String>("shell").map(String::as_str) {
        Some("zsh") => Shell::Zsh,
        Some("fish") => Shell::Fish,
        _ => Shell::Bash,
    };
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut super::command(), "dashstream", &mut text);
    output.write_all(&text)?;
    output.flush()?;
    Ok(())
}

pub(super) fn man(matches: &ArgMatches, output: &mut dyn Write) -> Result<(), CliError> {
    let mut program = without_help(super::command());
    program.build();
    if let Some(folder) = matches.get_one::<PathBuf>("write") {
        let mut commands = vec![&program];
        while let Some(command) = commands.pop() {
            commands.extend(command.get_subcommands());
            let path = folder.join(format!("{}.1", page_name(command)));
            std::fs::write(&path, page(command)?).map_err(|source| CliError::File { path, source })?;
        }
        return Ok(());
    }
    let mut command = &program;
    for name in matches.get_many::<String>("command").unwrap_or_default() {
        command = command.find_subcommand(name).ok_or_else(|| {
            let names: Vec<_> = command.get_subcommands().map(Command::get_name).collect();
            super::reading::usage("COMMAND", name, &format!("there are {}", names.join(", ")))
        })?;
    }
    output.write_all(&page(command)?)?;
    output.flush()?;
    Ok(())
}

/// A page names those of its subcommands, and `help` has none.
fn without_help(command: Command) -> Command {
    let names: Vec<String> = command.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    let command = command.disable_help_subcommand(true);
    names.iter().fold(command, |command, name| command.mut_subcommand(name, without_help))
}

fn page_name(command: &Command) -> String {
    command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned()
}

fn page(command: &Command) -> Result<Vec<u8>, CliError> {
    let mut text = Vec::new();
    let page = clap_mangen::Man::new(command.clone().name(page_name(command)));
    page.source(concat!("dashstream ", env!("CARGO_PKG_VERSION"))).manual("DashStream").render(&mut text)?;
    Ok(text)
}
