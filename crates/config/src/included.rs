//! Adds the listeners, clusters and policies of included files to those of the main file.

use super::report::Report;
use std::collections::BTreeMap;
use values::{Node, Span, Value, did_you_mean, nearest};

/// The keys that an included file may have.
const KEYS: [&str; 3] = ["listeners", "clusters", "policies"];

/// Merges included files into the tree of the main file.
pub(crate) struct Merge {
    /// The name of the main file.
    main: String,
    /// Where listeners and clusters are defined, by key and name.
    defined: BTreeMap<(&'static str, String), Span>,
}

impl Merge {
    /// A main file with this name and tree.
    pub(crate) fn new(main: &str, tree: &Node) -> Self {
        let mut merge = Self { main: main.to_owned(), defined: BTreeMap::new() };
        for key in KEYS {
            let Some((_, Node { value: Value::Map(entries), .. })) = tree.child(key) else {
                continue;
            };
            for (name, _) in entries {
                let name_text = name.as_text().to_owned();
                merge.defined.entry((key, name_text)).or_insert(name.at);
            }
        }
        merge
    }

    /// Adds what an included file has. Wrong keys are reported and left out.
    pub(crate) fn add(&mut self, tree: &mut Node, part: Node, report: &mut Report) {
        let Value::Map(entries) = part.value else {
            let hint = "write `key: value` lines, such as `clusters:`";
            report.add(part.at, "an included file has keys and values", hint);
            return;
        };
        let mut seen: BTreeMap<&'static str, Span> = BTreeMap::new();
        for (key, value) in entries {
            let Some(known) = KEYS.into_iter().find(|known| *known == key.as_text()) else {
                self.reject(&key, report);
                continue;
            };
            if let Some(first) = seen.insert(known, key.at) {
                let message = format!("the key `{known}` stands here for the second time");
                let hint = format!("the first is in line {}; keep one of them", first.line);
                report.add(key.at, message, hint);
                continue;
            }
            self.merge(tree, known, key, value, report);
        }
    }

    /// Reports a key that an included file can't have.
    fn reject(&self, key: &Node, report: &mut Report) {
        let name = key.as_text();
        if name.starts_with("x-") {
            return;
        }
        if name == "include" {
            let hint = format!("name all files under `include` in {}", self.main);
            report.add(key.at, "an included file can't include others", hint);
            return;
        }
        let schema = crate::schema();
        if schema["properties"].get(name).is_some() {
            let message = format!("`{name}` can't stand in an included file");
            let hint = format!("write it in {}: it is about the whole proxy", self.main);
            report.add(key.at, message, hint);
            return;
        }
        let near = did_you_mean(nearest(name, KEYS));
        let hint = format!("the keys of an included file: {}", KEYS.join(", "));
        report.add(key.at, format!("unknown key `{name}`{near}"), hint);
    }

    /// Adds the value of a known key.
    fn merge(
        &mut self,
        tree: &mut Node,
        known: &'static str,
        key: Node,
        value: Node,
        report: &mut Report,
    ) {
        let place = value.place_under(Some(key.at));
        let Value::Map(all) = &mut tree.value else { return };
        if all.iter().all(|(key, _)| key.as_text() != known) {
            let empty = match value.value {
                Value::List(_) => Value::List(Vec::new()),
                _ => Value::Map(Vec::new()),
            };
            all.push((key, Node { at: value.at, value: empty }));
        }
        let Some((_, whole)) = all.iter_mut().find(|(key, _)| key.as_text() == known) else {
            return;
        };
        match (&mut whole.value, value.value) {
            (Value::Map(whole), Value::Map(entries)) if known != "policies" => {
                let first_time = |(name, _): &(Node, Node)| self.define(known, name, report);
                whole.extend(entries.into_iter().filter(first_time));
            }
            (Value::List(whole), Value::List(items)) if known == "policies" => whole.extend(items),
            (_, Value::Map(_)) if known != "policies" => {}
            (_, Value::List(_)) if known == "policies" => {}
            _ => {
                let (what, hint) = match known {
                    "policies" => ("a list", "write `- name: …` a line"),
                    _ => ("names and their keys", "write a name and its keys: `NAME: { … }`"),
                };
                report.add(place, format!("`{known}` needs {what}"), hint);
            }
        }
    }

    /// Whether nothing with this name is defined in another file, which is reported. What is defined
    /// twice in one file is reported when the tree is decoded.
    fn define(&mut self, key: &'static str, name: &Node, report: &mut Report) -> bool {
        let text = name.as_text();
        let first = *self.defined.entry((key, text.to_owned())).or_insert(name.at);
        if first.file == name.at.file {
            return true;
        }
        let what = key.trim_end_matches('s');
        let message = format!("there are two {key} called `{text}`");
        let hint = format!("the other {what} is at {}; rename one of them", report.place(first));
        report.add(name.at, message, hint);
        false
    }
}
