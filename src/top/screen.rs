//! The terminal: a page that is drawn over itself, and put away at the end.

use super::choice::ViewOptions;
use crossterm::{
    cursor::{Hide, MoveTo, Show},
    execute, queue,
    terminal::{
        Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode,
        enable_raw_mode, size,
    },
};
use std::io::{self, IsTerminal, Read, Write, stdin, stdout};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How wide a table is where there is no terminal to ask.
const PLAIN_WIDTH: usize = 100;

/// The terminal while it is taken. Dropped, it is as it was.
pub struct Screen {
    colour: bool,
}

impl Screen {
    /// Takes the terminal; `None` if the output is none. `q` and Ctrl-C cancel `until`; other keys
    /// change the choice.
    pub fn open(until: &CancellationToken, choice: watch::Sender<ViewOptions>) -> Option<Self> {
        if !stdout().is_terminal() || std::env::var_os("TERM").is_some_and(|term| term == "dumb") {
            return None;
        }
        // Made first, so that whatever fails after it is undone.
        let screen = Self { colour: std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty()) };
        execute!(stdout(), EnterAlternateScreen, Hide).ok()?;
        if stdin().is_terminal() && enable_raw_mode().is_ok() {
            watch_keys(until.clone(), choice);
        }
        Some(screen)
    }

    /// Whether to use colours.
    pub fn colour(&self) -> bool {
        self.colour
    }

    /// Draws a page over the one before, in one write; its last line says how many lines have no
    /// room.
    pub fn draw(&mut self, page: &str) -> io::Result<()> {
        let rows = size().map_or(24, |(_, rows)| rows);
        let page = fitted(page, rows.into());
        let mut frame = Vec::new();
        for (row, line) in (0..rows).zip(&page) {
            // Cleared first: after a line as wide as the terminal it would lose its last column.
            queue!(frame, MoveTo(0, row), Clear(ClearType::CurrentLine))?;
            frame.extend(line.as_bytes());
        }
        let used = u16::try_from(page.len()).unwrap_or(u16::MAX);
        if used < rows {
            queue!(frame, MoveTo(0, used), Clear(ClearType::FromCursorDown))?;
        }
        let mut out = stdout().lock();
        out.write_all(&frame)?;
        out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // If the terminal is gone there is nothing to put right.
        let _ = disable_raw_mode();
        let _ = execute!(stdout(), Show, LeaveAlternateScreen);
    }
}

/// The lines of a page that have room, and how many have none.
fn fitted(page: &str, rows: usize) -> Vec<String> {
    let mut lines: Vec<String> = page.lines().map(str::to_owned).collect();
    if lines.len() > rows && rows > 0 {
        let more = lines.len() - rows + 1;
        lines.truncate(rows - 1);
        lines.push(format!("… {more} more"));
    }
    lines
}

/// Reads keys on a thread of its own, which a read that never ends can hold without harm. In raw
/// mode Ctrl-C is a key like others.
fn watch_keys(until: CancellationToken, choice: watch::Sender<ViewOptions>) {
    const CTRL_C: u8 = 3;
    std::thread::spawn(move || {
        for key in stdin().lock().bytes() {
            match key {
                Ok(b'q' | b'Q' | CTRL_C) | Err(_) => break,
                Ok(key) => _ = choice.send_if_modified(|choice| choice.press(key)),
            }
        }
        until.cancel();
    });
}

/// Writes a page where there is no terminal to draw on.
pub fn plain(page: &str) -> io::Result<()> {
    let mut out = stdout().lock();
    writeln!(out, "{page}\n")?;
    out.flush()
}

/// How many columns there are.
pub fn terminal_width() -> usize {
    let columns = if stdout().is_terminal() { size().map_or(0, |(columns, _)| columns) } else { 0 };
    if columns > 0 { columns.into() } else { PLAIN_WIDTH }
}

#[cfg(test)]
mod tests {
    use super::fitted;

    #[test]
    fn a_long_page_says_how_many_lines_are_left_out() {
        assert_eq!(fitted("a\nb\nc", 3), ["a", "b", "c"]);
        assert_eq!(fitted("a\nb\nc\nd", 3), ["a", "b", "… 2 more"]);
        assert_eq!(fitted("a\nb", 1), ["… 2 more"]);
    }
}
