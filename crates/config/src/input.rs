//! Reads the files of a config into one tree: the main file, and those that it includes.

use super::{
    Access, Diagnostics, MAX_FILE,
    included::Merge,
    report::Report,
    sources::{FoundFile, Sources},
    variables::Variables,
    yaml::{self, Document, MAX_VALUES},
};
use std::{env, io::ErrorKind, path::PathBuf};
use values::{Diagnostic, Node, Span, Value};

/// What an empty main file should have.
const EMPTY: &str = "a config has at least `listeners` and `clusters`";

/// What an empty included file should have.
const EMPTY_PART: &str = "write `listeners`, `clusters` or `policies`, or leave the file out";

/// A config while its files are read.
pub(crate) struct Input {
    report: Report,
    variables: Variables,
    /// How many values all files may still have.
    left: usize,
}

/// Reads a main file, and the files that it includes, which `sources` gets.
pub(crate) fn read(
    name: &str,
    bytes: &[u8],
    access: &Access,
    sources: &mut Sources,
) -> Result<(Report, Node), Diagnostics> {
    let variables = match access.environment {
        true => Variables::of(|name| env::var_os(name), MAX_FILE),
        false => Variables::off(),
    };
    let mut input = Input::new(variables);
    let Some(mut tree) = input.file(name, bytes, EMPTY) else { return Err(input.report.finish()) };
    let Some(place) = tree.child("include").map(|(key, it)| it.place_under(key.map(|it| it.at)))
    else {
        return Ok((input.report, tree));
    };
    let Some(directory) = &access.include_from else {
        let hint = "write the whole config in one text";
        input.report.add(place, "no files can be included here", hint);
        return Ok((input.report, tree));
    };
    let patterns = patterns(&tree);
    let paths: Vec<PathBuf> = patterns.iter().map(|(_, it)| directory.join(it)).collect();
    let mut whole = true;
    let mut merge = Merge::new(name, &tree);
    for FoundFile { pattern, path, content } in sources.include(bytes.len(), paths) {
        let name = path.display().to_string();
        let at = patterns.get(pattern).map_or(place, |(at, _)| *at);
        let part = match content {
            Ok(bytes) => input.file(&name, &bytes, EMPTY_PART),
            Err(error) => {
                let hint = match error.kind() {
                    ErrorKind::NotFound => "name a file that exists, or a glob: `conf.d/*.yaml`",
                    _ => "name regular files that can be read, 4 MiB in all: `conf.d/*.yaml`",
                };
                input.report.add(at, format!("can't read `{name}`: {error}"), hint);
                None
            }
        };
        match part {
            Some(part) => merge.add(&mut tree, part, &mut input.report),
            None => whole = false,
        }
    }
    // What the missing parts define would be reported as missing too.
    if whole { Ok((input.report, tree)) } else { Err(input.report.finish()) }
}

/// Reads a text of its own, without variables and included files. `wanted` is the hint if it is empty.
pub(crate) fn read_alone(
    name: &str,
    bytes: &[u8],
    wanted: &str,
) -> Result<(Report, Node), Diagnostics> {
    let mut input = Input::new(Variables::off());
    match input.file(name, bytes, wanted) {
        Some(tree) => Ok((input.report, tree)),
        None => Err(input.report.finish()),
    }
}

/// The texts under `include`, with their spans. Other values are reported when the tree is decoded.
fn patterns(tree: &Node) -> Vec<(Span, String)> {
    let Some((_, written)) = tree.child("include") else { return Vec::new() };
    let items = match &written.value {
        Value::List(items) => items.as_slice(),
        _ => std::slice::from_ref(written),
    };
    let texts = items.iter().filter(|it| !it.as_text().is_empty());
    texts.map(|it| (it.at, it.as_text().to_owned())).collect()
}

impl Input {
    fn new(variables: Variables) -> Self {
        Self {
            report: Report::without_files(variables.are_replaced()),
            variables,
            left: MAX_VALUES,
        }
    }

    /// Reads a file. `None` if that is impossible, which is reported.
    fn file(&mut self, name: &str, bytes: &[u8], wanted: &str) -> Option<Node> {
        let (file, text) = self.text(name, bytes)?;
        let tree = yaml::read(Document { file, text }, &mut self.variables, &mut self.left);
        self.report.hide(self.variables.take_secrets());
        for (at, fault) in self.variables.take_faults() {
            self.report.add_last(at, fault);
        }
        match tree {
            Ok(Node { value: Value::Null, .. }) => {
                self.report.add(Span::whole(file), "the file is empty", wanted);
                None
            }
            Ok(tree) => Some(tree),
            Err((at, fault)) => {
                self.report.add_diagnostic(at, fault);
                None
            }
        }
    }

    /// The number and the text of a file, if it is UTF-8 and not too long.
    fn text<'b>(&mut self, name: &str, bytes: &'b [u8]) -> Option<(u32, &'b str)> {
        if bytes.len() > MAX_FILE {
            let file = self.report.begin_file(name, "");
            let message = format!("too big: a config may have {} MiB", MAX_FILE >> 20);
            self.report.add(Span::whole(file), message, "leave out what is no config");
            return None;
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => {
                let text = text.strip_prefix('\u{feff}').unwrap_or(text);
                Some((self.report.begin_file(name, text), text))
            }
            Err(error) => {
                let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
                let good = String::from_utf8_lossy(good);
                let file = self.report.begin_file(name, &good);
                let hint = "save the file as UTF-8; an editor calls that its encoding";
                let fault = Diagnostic::new("this byte is not UTF-8 text", hint);
                self.report.add_diagnostic(Span::end_of(file, &good), fault);
                None
            }
        }
    }
}
