//! Problems of a config: message, place, and hint.

use std::{borrow::Cow, collections::BTreeSet, fmt};
use values::{Fault, HIDDEN, Span, hide, secrets, text_lines};

/// Further problems are dropped.
const MAX_PROBLEMS: usize = 100;

/// Snippets show this many characters before and after the place.
const SNIPPET_RADIUS: usize = 80;

/// Escapes a text for a terminal, which must not obey control codes in files or arguments, and for
/// logs, which must not contain passwords of pasted URIs.
pub(crate) fn printable(text: &str) -> String {
    hide(text).replace(|c: char| c.is_control(), "\u{fffd}")
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The name of the file.
    pub file: String,
    /// The line, counted from 1; 0 without a line.
    pub line: u32,
    /// The column in characters, counted from 1; 0 without a line.
    pub column: u32,
    /// What is invalid.
    pub message: String,
    /// How to fix it.
    pub hint: Option<String>,
    /// The line with the place underlined; empty without a line.
    pub snippet: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}", self.message)?;
        if !self.snippet.is_empty() {
            write!(f, "\n{}", self.snippet)?;
        }
        match &self.hint {
            Some(hint) if self.snippet.is_empty() => write!(f, "\n  hint: {hint}"),
            Some(hint) => write!(f, "\n{:gutter$} = hint: {hint}", "", gutter = gutter(self.line)),
            None => Ok(()),
        }
    }
}

/// All problems, in the order of the text. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// One problem with a whole file.
    pub(crate) fn for_file(file: &str, message: String, hint: &str) -> Self {
        let mut report = Report::new(file, "");
        report.add(Span::NOWHERE, message, hint);
        report.finish()
    }

    /// An array of `{ file, line, column, message, hint }`.
    pub fn to_json(&self) -> serde_json::Value {
        let one = |p: &Problem| {
            serde_json::json!({
                "file": p.file, "line": p.line, "column": p.column,
                "message": p.message, "hint": p.hint,
            })
        };
        self.0.iter().map(one).collect()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            let gap = if i > 0 { "\n\n" } else { "" };
            write!(f, "{gap}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Collects problems while a text is read.
pub(crate) struct Report {
    file: String,
    lines: Vec<String>,
    problems: Vec<Problem>,
    /// The spans of invalid values.
    invalid: BTreeSet<Span>,
}

impl Report {
    /// An empty report on `text`.
    pub(crate) fn new(file: &str, text: &str) -> Self {
        let mut lines = text_lines(text);
        // Nothing follows the last line break.
        lines.pop_if(|line| line.is_empty());
        Self { file: printable(file), lines, problems: Vec::new(), invalid: BTreeSet::new() }
    }

    /// Adds a problem, unless it was reported before.
    pub(crate) fn add(&mut self, at: Span, message: impl Into<String>, hint: impl Into<String>) {
        self.add_fault(at, Fault::new(message, hint));
    }

    /// Adds a problem, unless it was reported before.
    pub(crate) fn add_fault(&mut self, at: Span, fault: Fault) {
        let problem = Problem {
            file: self.file.clone(),
            line: at.line,
            column: at.column,
            message: printable(&fault.message),
            hint: Some(printable(&fault.hint)).filter(|hint| !hint.is_empty()),
            snippet: self.snippet(at),
        };
        let known = self.problems.contains(&problem);
        if !known && self.problems.len() < MAX_PROBLEMS {
            self.problems.push(problem);
        }
    }

    /// Marks the value here as invalid, so that it is not read further. Returns whether it was not
    /// marked before.
    pub(crate) fn mark_invalid(&mut self, at: Span) -> bool {
        at != Span::NOWHERE && self.invalid.insert(at)
    }

    /// Whether the value here is invalid.
    pub(crate) fn is_invalid(&self, at: Span) -> bool {
        self.invalid.contains(&at)
    }

    /// How many problems there are so far.
    pub(crate) fn count(&self) -> usize {
        self.problems.len()
    }

    /// Whether there is no problem so far.
    pub(crate) fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// All problems, in the order of the text.
    pub(crate) fn finish(mut self) -> Problems {
        self.problems.sort_by_key(|problem| (problem.line, problem.column));
        Problems(self.problems)
    }

    fn snippet(&self, at: Span) -> String {
        let index = (at.line as usize).checked_sub(1);
        let Some(line) = index.and_then(|i| self.lines.get(i)) else { return String::new() };
        let column = (at.column as usize).saturating_sub(1);
        let (line, column, width) = without_secrets(line, column, at.width as usize);
        // One column for each character, so that the carets are aligned.
        let shown = |c: char| if c.is_control() { ' ' } else { c };
        let from = column.saturating_sub(SNIPPET_RADIUS);
        let part: String = line.chars().skip(from).take(2 * SNIPPET_RADIUS).map(shown).collect();
        let part = part.trim_end();
        let left = part.chars().count().saturating_sub(column - from);
        let carets = "^".repeat(width.clamp(1, left.max(1)));
        let gutter = gutter(at.line);
        let number = at.line;
        let rule = format!("{:gutter$} |", "");
        let indent = " ".repeat(column - from);
        format!("{rule}\n{number} | {part}\n{rule} {indent}{carets}")
    }
}

/// A line with its secrets hidden, and the column and width of the place in it.
fn without_secrets(line: &str, column: usize, width: usize) -> (Cow<'_, str>, usize, usize) {
    let hidden = secrets(line);
    if hidden.is_empty() {
        return (line.into(), column, width);
    }
    // A place inside a secret is shown at its start.
    let shown_at = |index: usize| {
        let at = line.char_indices().nth(index).map_or(line.len(), |(at, _)| at);
        let before = hidden.iter().take_while(|secret| secret.start < at);
        before.fold(index, |shown, secret| {
            let taken = line.get(secret.start..secret.end.min(at)).unwrap_or_default();
            let left = if at < secret.end { 0 } else { HIDDEN.len() };
            shown + left - taken.chars().count()
        })
    };
    let (begin, end) = (shown_at(column), shown_at(column + width));
    (hide(line), begin, end.saturating_sub(begin))
}

fn gutter(line: u32) -> usize {
    line.to_string().len()
}
