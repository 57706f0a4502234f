//! One word, one meaning: a type's name is defined at most twice in the whole tree.

use crate::walk::{FOLDERS, indented_code, production_sources, read, shown};
use std::collections::BTreeMap;

/// Names that repeat on purpose: each policy, protocol and probe has its settings and its plan.
const PATTERN: [&str; 2] = ["Settings", "Plan"];

/// The type that a line defines. A type inside an `impl` or `trait` block is indented and an alias of
/// that block, not a definition.
fn defined(line: &str) -> Option<&str> {
    let bare = line.trim_start();
    let words = match bare.strip_prefix("pub") {
        Some(rest) if rest.starts_with('(') => rest.split_once(')')?.1.trim_start(),
        Some(rest) => rest.trim_start(),
        None => bare,
    };
    let (keyword, rest) = words.split_once(' ')?;
    let types = ["struct", "enum", "trait", "union"].contains(&keyword);
    let alias = keyword == "type" && bare.len() == line.len();
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    ((types || alias) && end > 0).then(|| &rest[..end])
}

#[test]
fn no_type_name_is_defined_more_than_twice() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in production_sources(&FOLDERS) {
        for name in indented_code(&read(&path)).into_iter().filter_map(defined) {
            places.entry(name.to_owned()).or_default().push(shown(&path));
        }
    }
    assert!(places.len() > 400, "types are looked for in the wrong place");
    places.retain(|name, places| places.len() > 2 && !PATTERN.contains(&name.as_str()));
    assert!(places.is_empty(), "defined more than twice: {places:#?}");
}

#[test]
fn a_definition_is_distinguished_from_a_use() {
    assert_eq!(defined("pub struct Pool {"), Some("Pool"));
    assert_eq!(defined("pub(crate) enum Close<'a> {"), Some("Close"));
    assert_eq!(defined("    struct Inner;"), Some("Inner"));
    assert_eq!(defined("type Map = u8;"), Some("Map"));
    for other in ["    type Output = u8;", "impl Pool {", "let pool: Pool;", "// struct of it"] {
        assert_eq!(defined(other), None, "{other}");
    }
}
