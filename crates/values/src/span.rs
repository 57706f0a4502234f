//! Spans in the texts of files.

use serde::Deserialize;

/// A span in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Span {
    /// The number of the file, in the order of reading; the first is 0.
    pub file: u32,
    /// The line, counted from 1; 0 without a text.
    pub line: u32,
    /// The column in characters, counted from 1.
    pub column: u32,
    /// The width in characters.
    pub width: u32,
}

impl Span {
    /// No span.
    pub const NOWHERE: Span = Span { file: 0, line: 0, column: 0, width: 0 };

    /// No span in this file: the whole of it.
    pub const fn whole(file: u32) -> Span {
        Span { file, ..Span::NOWHERE }
    }

    /// The span after the last character of the text of a file.
    pub fn end_of(file: u32, text: &str) -> Span {
        let lines = text_lines(text);
        let column = lines.last().map_or(0, |line| line.chars().count()) + 1;
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Span { file, line: number(lines.len()), column: number(column), width: 1 }
    }
}

/// The lines of a text as YAML counts them (1.2.2, section 5.4): a lone carriage return ends one
/// too. The last one may be empty.
pub fn text_lines(text: &str) -> Vec<String> {
    text.replace("\r\n", "\n").split(['\n', '\r']).map(str::to_owned).collect()
}
