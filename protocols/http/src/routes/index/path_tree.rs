//! Routes by the segments of their exact path, path prefix or path template.

use super::FirstMatch;
use foldhash::HashMap;

/// A tree of segments. The root stands for the empty path.
#[derive(Debug)]
pub(super) struct PathTree {
    nodes: Vec<PathNode>,
}

/// A path of segments, each literal or named.
#[derive(Debug, Default)]
struct PathNode {
    /// The paths that are one literal segment longer.
    literal: HashMap<Box<str>, usize>,
    /// The path that is one named segment longer.
    named: Option<usize>,
    /// Routes for this path only.
    here: Vec<usize>,
    /// Routes for this path and all below it.
    below: Vec<usize>,
}

/// The node of the empty path.
const ROOT: usize = 0;

impl Default for PathTree {
    fn default() -> Self {
        Self { nodes: vec![PathNode::default()] }
    }
}

impl PathTree {
    /// Adds a route for the path of these segments, `None` for a named one, and for all paths below
    /// it if it `takes_rest`.
    pub(super) fn insert<'s>(
        &mut self,
        route: usize,
        segments: impl Iterator<Item = Option<&'s str>>,
        takes_rest: bool,
    ) {
        let mut at = ROOT;
        for segment in segments {
            let next = self.nodes.len();
            let node = &mut self.nodes[at];
            at = match segment {
                Some(text) => *node.literal.entry(text.into()).or_insert(next),
                None => *node.named.get_or_insert(next),
            };
            if at == next {
                self.nodes.push(PathNode::default());
            }
        }
        let node = &mut self.nodes[at];
        if takes_rest { &mut node.below } else { &mut node.here }.push(route);
    }

    /// Searches the routes for this path.
    pub(super) fn search(&self, path: &str, search: &mut FirstMatch<'_>) {
        if path.is_empty() || path.starts_with('/') {
            self.search_from(ROOT, path, search);
        }
    }

    /// Searches from a node on; `left` is the rest of the path. Visits no node twice, and recurses
    /// once for each named segment.
    fn search_from(&self, node: usize, left: &str, search: &mut FirstMatch<'_>) {
        let (mut node, mut left) = (&self.nodes[node], left);
        loop {
            search.try_routes(&node.below);
            let Some(inner) = left.strip_prefix('/') else {
                return search.try_routes(&node.here);
            };
            let end = memchr::memchr(b'/', inner.as_bytes()).unwrap_or(inner.len());
            let (segment, rest) = inner.split_at(end);
            if let Some(named) = node.named.filter(|_| !segment.is_empty()) {
                self.search_from(named, rest, search);
            }
            let Some(literal) = node.literal.get(segment) else { return };
            (node, left) = (&self.nodes[*literal], rest);
        }
    }
}
