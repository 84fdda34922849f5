//! Where the output goes: how wide, and whether in colour. A pipe is neither: its reader wants all of a line, plain.

use std::io::IsTerminal as _;

use crate::config::raw;

/// `--color`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Colour {
    /// On a terminal, unless NO_COLOR is set or TERM is dumb.
    Auto,
    Always,
    Never,
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Screen {
    /// Columns; `None`: lines may be of any length.
    pub width: Option<usize>,
    pub colour: bool,
}

impl Screen {
    /// That of standard output.
    pub fn of_stdout(colour: Colour) -> Self {
        let terminal = std::io::stdout().is_terminal();
        let found = terminal_size::terminal_size_of(std::io::stdout()).map(|(width, _)| usize::from(width.0));
        Self::decide(colour, terminal, &raw::terminal(), found)
    }

    fn decide(colour: Colour, terminal: bool, wishes: &raw::TerminalWishes, found: Option<usize>) -> Self {
        let colour = match colour {
            Colour::Always => true,
            Colour::Never => false,
            Colour::Auto => terminal && !wishes.no_colour && !wishes.is_dumb,
        };
        Self { width: wishes.columns.or(if terminal { found } else { None }), colour }
    }
}

/// Standard output is a pipe, and whoever read it is gone.
pub fn nobody_reads_stdout() -> bool {
    let mut pipe = libc::pollfd { fd: libc::STDOUT_FILENO, events: 0, revents: 0 };
    // SAFETY: one valid pollfd, which poll only fills in; it does not wait.
    let ready = unsafe { libc::poll(&raw mut pipe, 1, 0) };
    ready == 1 && pipe.revents & libc::POLLERR != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipes_are_plain_and_as_wide_as_they_are_told() {
        let check = |colour, terminal, columns, no_colour, expected: (Option<usize>, bool)| {
            let wishes = raw::TerminalWishes { columns, no_colour, is_dumb: false };
            let Screen { width, colour } = Screen::decide(colour, terminal, &wishes, Some(80));
            assert_eq!((width, colour), expected);
        };
        check(Colour::Auto, false, None, false, (None, false));
        check(Colour::Auto, true, None, false, (Some(80), true));
        check(Colour::Auto, true, Some(120), true, (Some(120), false));
        check(Colour::Always, false, Some(100), true, (Some(100), true));
        check(Colour::Never, true, None, false, (Some(80), false));
    }
}
