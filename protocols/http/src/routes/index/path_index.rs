//! The routes of one host by the condition on the path.

use super::{FirstMatch, path_tree::PathTree, regex_index::RegexIndex};
use crate::routes::matching::PathTest;

/// Routes by path.
#[derive(Debug, Default)]
pub(super) struct PathIndex {
    every_path: Vec<usize>,
    tree: PathTree,
    regexes: RegexIndex,
}

impl PathIndex {
    /// Adds a route behind those that were added before.
    pub(super) fn insert(&mut self, route: usize, path: &PathTest) {
        match path {
            PathTest::Any => self.every_path.push(route),
            PathTest::Exact(path) => self.tree.insert(route, segments(path).map(Some), false),
            PathTest::Prefix(prefix) => self.tree.insert(route, segments(prefix).map(Some), true),
            PathTest::Template(template) => {
                self.tree.insert(route, template.segments(), template.takes_rest());
            }
            PathTest::Regex(regex, _) => self.regexes.insert(route, regex.as_str()),
        }
    }

    /// Must be called once after all routes were added.
    pub(super) fn finish(&mut self) {
        self.regexes.finish();
    }

    /// Searches the routes for this path.
    pub(super) fn search(&self, path: &str, search: &mut FirstMatch<'_>) {
        search.try_routes(&self.every_path);
        self.tree.search(path, search);
        self.regexes.search(path, search);
    }
}

/// The segments of a path, which is empty or begins with a slash.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').skip(1)
}
