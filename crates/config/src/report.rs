//! Collects the diagnostics of a config, which may have several files.

use std::{borrow::Cow, collections::BTreeSet, fmt};
use values::{Diagnostic, HIDDEN, Location, Span, hide, secrets, text_lines};

/// Messages show this many characters of a long value.
pub(crate) const SHORTENED: usize = 40;

/// Further diagnostics are dropped.
const MAX_DIAGNOSTICS: usize = 100;

/// Snippets show this many characters before and after the place.
const SNIPPET_RADIUS: usize = 80;

/// Escapes a text for a terminal, which must not obey control codes in files or arguments, and for
/// logs, which must not contain passwords of pasted URIs.
pub fn printable(text: &str) -> String {
    hide(text).replace(|c: char| c.is_control(), "\u{fffd}")
}

/// All diagnostics, in the order of the files and of their text. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl Diagnostics {
    /// One diagnostic about a whole file.
    pub(crate) fn for_file(file: &str, message: String, hint: &str) -> Self {
        let mut report = Report::new(file, "");
        report.add(Span::whole(0), message, hint);
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

/// Collects diagnostics while files are read.
#[derive(Default)]
pub(crate) struct Report {
    /// By their number in spans.
    files: Vec<ReportedFile>,
    diagnostics: Vec<(Span, Diagnostic)>,
    /// The spans of invalid values.
    invalid: BTreeSet<Span>,
    /// The spans of values about which nothing more is reported.
    silenced: BTreeSet<Span>,
    /// Texts that are never shown: values of variables.
    secrets: Vec<String>,
    /// Whether variables were replaced.
    replaces_variables: bool,
}

struct ReportedFile {
    name: String,
    lines: Vec<String>,
}

impl Report {
    /// An empty report on one text.
    pub(crate) fn new(file: &str, text: &str) -> Self {
        let mut report = Self::default();
        report.begin_file(file, text);
        report
    }

    /// An empty report, to which files are added.
    pub(crate) fn without_files(replaces_variables: bool) -> Self {
        Self { replaces_variables, ..Self::default() }
    }

    /// Whether variables were replaced in its files.
    pub(crate) fn replaces_variables(&self) -> bool {
        self.replaces_variables
    }

    /// Adds a file. Returns its number.
    pub(crate) fn begin_file(&mut self, name: &str, text: &str) -> u32 {
        let mut lines = text_lines(text);
        // Nothing follows the last line break.
        lines.pop_if(|line| line.is_empty());
        self.files.push(ReportedFile { name: printable(name), lines });
        u32::try_from(self.files.len() - 1).unwrap_or(u32::MAX)
    }

    /// Hides these texts in diagnostics to come.
    pub(crate) fn hide(&mut self, secrets: Vec<String>) {
        self.secrets.extend(secrets);
    }

    /// Adds a diagnostic, unless it was reported before.
    pub(crate) fn add(&mut self, at: Span, message: impl Into<String>, hint: impl Into<String>) {
        self.add_diagnostic(at, Diagnostic::new(message, hint));
    }

    /// Adds a diagnostic of the value at this span, unless it was reported before.
    pub(crate) fn add_diagnostic(&mut self, at: Span, diagnostic: Diagnostic) {
        if self.silenced.contains(&at) {
            return;
        }
        let location = Location {
            file: self.file(at).map_or_else(String::new, |it| it.name.clone()),
            line: at.line,
            column: at.column,
            snippet: self.snippet(at),
        };
        let placed = Diagnostic {
            path: Vec::new(),
            message: self.shown(&diagnostic.message),
            hint: self.shown(&diagnostic.hint),
            location: Some(Box::new(location)),
        };
        let known = self.diagnostics.iter().any(|(_, known)| *known == placed);
        if !known && self.diagnostics.len() < MAX_DIAGNOSTICS {
            self.diagnostics.push((at, placed));
        }
    }

    /// Adds the last diagnostic of the value at this span: what else is wrong there follows from it.
    pub(crate) fn add_last(&mut self, at: Span, diagnostic: Diagnostic) {
        self.add_diagnostic(at, diagnostic);
        self.silenced.insert(at);
    }

    /// The place of a span, for the text of a diagnostic about another one.
    pub(crate) fn place(&self, at: Span) -> String {
        let name = self.file(at).map_or("", |it| &it.name);
        format!("{name}:{}:{}", at.line, at.column)
    }

    fn file(&self, at: Span) -> Option<&ReportedFile> {
        self.files.get(at.file as usize)
    }

    /// A text without secrets and control codes.
    fn shown(&self, text: &str) -> String {
        let hide = |text: String, secret: &String| {
            // A long value is cut in some messages.
            let cut: String = secret.chars().take(SHORTENED).collect();
            text.replace(secret, HIDDEN).replace(&cut, HIDDEN)
        };
        printable(&self.secrets.iter().fold(text.to_owned(), hide))
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

    /// All diagnostics, in the order of the files and of their text.
    pub(crate) fn finish(mut self) -> Diagnostics {
        self.diagnostics.sort_by_key(|(at, _)| (at.file, at.line, at.column));
        Diagnostics(self.diagnostics.into_iter().map(|(_, diagnostic)| diagnostic).collect())
    }

    fn snippet(&self, at: Span) -> String {
        let line = self.file(at).zip((at.line as usize).checked_sub(1));
        let Some(line) = line.and_then(|(file, index)| file.lines.get(index)) else {
            return String::new();
        };
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
