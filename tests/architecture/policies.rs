//! Adding a policy changes one file beside its own.

use super::walk::{FOLDERS, code, production_sources, read, root, shown};
use policy::kinds;
use std::path::{Path, PathBuf};

/// The list of all kinds of policies.
const LIST: &str = "crates/policy/src/kinds.rs";

/// Files in which the key of a kind means something else.
const OTHER_MEANINGS: [(&str, &str); 7] = [
    // The route of an HTTP request.
    ("route", "crates/policy/src/attributes.rs"),
    ("route", "protocols/http/src/dry_run/report.rs"),
    ("route", "protocols/http/src/lib.rs"),
    ("route", "protocols/http/src/routes/edit.rs"),
    ("route", "protocols/http/src/settings.rs"),
    // The name of a policy that the admin interface adds for a time.
    ("fault", "crates/config/src/single.rs"),
    // Why a connection was closed.
    ("connection_limit", "protocols/operation/src/outcome.rs"),
];

/// Whether a line of code names this module, or has it as a whole text.
fn names_kind(line: &str, key: &str) -> bool {
    line.contains(&format!("\"{key}\""))
        || line.match_indices(key).any(|(at, _)| {
            let (before, after) = (&line[..at], &line[at + key.len()..]);
            let whole = !before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
            whole && (after.starts_with("::") || before.ends_with("mod "))
        })
}

/// The production files that name a kind of policy, except its own.
fn files_that_name(key: &str) -> Vec<String> {
    let folder = root().join(LIST).with_extension("");
    let own = |path: &Path| {
        path.starts_with(folder.join(key)) || path == folder.join(format!("{key}.rs"))
    };
    let named = |path: &PathBuf| code(&read(path)).iter().any(|line| names_kind(line, key));
    let found = production_sources(&FOLDERS).into_iter().filter(|path| !own(path)).filter(named);
    found.map(|path| shown(&path)).filter(|path| !OTHER_MEANINGS.contains(&(key, path))).collect()
}

#[test]
fn a_kind_of_policy_is_named_in_one_file_beside_its_own() {
    assert!(kinds::keys().count() >= 8);
    for key in kinds::keys() {
        assert_eq!(files_that_name(key), [LIST], "{key}");
    }
}

#[test]
fn a_module_path_and_a_whole_text_name_a_kind() {
    for line in ["mod deny;", "&deny::KIND,", "kind() == \"deny\""] {
        assert!(names_kind(line, "deny"), "{line}");
    }
    for line in ["#[serde(deny_unknown_fields)]", "let deny = 1;", "my_deny::x()", "\"deny it\""] {
        assert!(!names_kind(line, "deny"), "{line}");
    }
}
