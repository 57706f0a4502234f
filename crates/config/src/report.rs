//! Collects the diagnostics of a text.

use std::{borrow::Cow, collections::BTreeSet, fmt};
use values::{Diagnostic, HIDDEN, Location, Span, hide, secrets, text_lines};

/// Further diagnostics are dropped.
const MAX_DIAGNOSTICS: usize = 100;

/// Snippets show this many characters before and after the place.
const SNIPPET_RADIUS: usize = 80;

/// Escapes a text for a terminal, which must not obey control codes in files or arguments, and for
/// logs, which must not contain passwords of pasted URIs.
pub fn printable(text: &str) -> String {
    hide(text).replace(|c: char| c.is_control(), "\u{fffd}")
}

/// All diagnostics, in the order of the text. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl Diagnostics {
    /// One diagnostic about a whole file.
    pub(crate) fn for_file(file: &str, message: String, hint: &str) -> Self {
        let mut report = Report::new(file, "");
        report.add(Span::NOWHERE, message, hint);
        report.finish()
    }

    /// An array of `{ file, line, column, message, hint }`.
    pub fn to_json(&self) -> serde_json::Value {
        let one = |it: &Diagnostic| {
            let hint = Some(&it.hint).filter(|hint| !hint.is_empty());
            serde_json::json!({
                "file": it.location.as_ref().map_or("", |at| &at.file),
                "line": it.line(), "column": it.column(), "message": it.message, "hint": hint,
            })
        };
        self.0.iter().map(one).collect()
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, diagnostic) in self.0.iter().enumerate() {
            let gap = if i > 0 { "\n\n" } else { "" };
            write!(f, "{gap}{diagnostic}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

/// Collects diagnostics while a text is read.
pub(crate) struct Report {
    file: String,
    lines: Vec<String>,
    diagnostics: Vec<Diagnostic>,
    /// The spans of invalid values.
    invalid: BTreeSet<Span>,
}

impl Report {
    /// An empty report on `text`.
    pub(crate) fn new(file: &str, text: &str) -> Self {
        let mut lines = text_lines(text);
        // Nothing follows the last line break.
        lines.pop_if(|line| line.is_empty());
        Self { file: printable(file), lines, diagnostics: Vec::new(), invalid: BTreeSet::new() }
    }

    /// Adds a diagnostic, unless it was reported before.
    pub(crate) fn add(&mut self, at: Span, message: impl Into<String>, hint: impl Into<String>) {
        self.add_diagnostic(at, Diagnostic::new(message, hint));
    }

    /// Adds a diagnostic of the value at this span, unless it was reported before.
    pub(crate) fn add_diagnostic(&mut self, at: Span, diagnostic: Diagnostic) {
        let location = Location {
            file: self.file.clone(),
            line: at.line,
            column: at.column,
            snippet: self.snippet(at),
        };
        let placed = Diagnostic {
            path: Vec::new(),
            message: printable(&diagnostic.message),
            hint: printable(&diagnostic.hint),
            location: Some(Box::new(location)),
        };
        let known = self.diagnostics.contains(&placed);
        if !known && self.diagnostics.len() < MAX_DIAGNOSTICS {
            self.diagnostics.push(placed);
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

    /// How many diagnostics there are so far.
    pub(crate) fn count(&self) -> usize {
        self.diagnostics.len()
    }

    /// Whether there is none so far.
    pub(crate) fn is_empty(&self) -> bool {
        self.diagnostics.is_empty()
    }

    /// All diagnostics, in the order of the text.
    pub(crate) fn finish(mut self) -> Diagnostics {
        self.diagnostics.sort_by_key(|it| (it.line(), it.column()));
        Diagnostics(self.diagnostics)
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
        let number = at.line;
        let rule = format!("{:gutter$} |", "", gutter = number.to_string().len());
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
