//! Routes by regular expressions, which one automaton reads a path for together.

use super::FirstMatch;
use regex_automata::{
    Input,
    meta::{Config, Regex},
    nfa::thompson::WhichCaptures,
};

/// Largest size of an automaton, in bytes. If the expressions need more, they get several.
const LARGEST: usize = 10 << 20;

/// Most memory in which a thread keeps an automaton's states, in bytes. With the default of 2 MiB,
/// a thousand expressions with a `\d` have no room for their states, and are read a hundred times
/// more slowly.
const LARGEST_CACHE: usize = 8 << 20;

/// Routes by regular expressions.
#[derive(Debug, Default)]
pub(super) struct RegexIndex {
    groups: Vec<RegexGroup>,
    /// Routes that were added, with their expressions.
    added: Vec<(usize, Box<str>)>,
}

#[derive(Debug)]
struct RegexGroup {
    /// In order.
    routes: Box<[usize]>,
    /// Finds the first of them; `None` if they have to be tried one by one.
    automaton: Option<Regex>,
}

impl RegexIndex {
    /// Adds a route behind those that were added before. The expression must be anchored at both
    /// ends: of those that match, the automaton prefers the first one only if they begin at the
    /// same place.
    pub(super) fn insert(&mut self, route: usize, regex: &str) {
        self.added.push((route, regex.into()));
    }

    /// Compiles the automata.
    pub(super) fn finish(&mut self) {
        let added = std::mem::take(&mut self.added);
        self.add_group(&added, LARGEST);
    }

    /// Makes one group of these routes, or several if an automaton would be larger than `largest`
    /// bytes.
    fn add_group(&mut self, routes: &[(usize, Box<str>)], largest: usize) {
        let automaton = match routes {
            [] => return,
            // The route's own expression does the same.
            [_] => None,
            _ => {
                let automaton = automaton(routes.iter().map(|(_, regex)| &**regex), largest);
                if automaton.is_none() {
                    let (first, second) = routes.split_at(routes.len() / 2);
                    self.add_group(first, largest);
                    return self.add_group(second, largest);
                }
                automaton
            }
        };
        let routes = routes.iter().map(|(route, _)| *route).collect();
        self.groups.push(RegexGroup { routes, automaton });
    }

    /// Searches the routes for this path.
    pub(super) fn search(&self, path: &str, search: &mut FirstMatch<'_>) {
        for RegexGroup { routes, automaton } in &self.groups {
            let first = match automaton {
                None => 0,
                Some(automaton) => match automaton.search_half(&Input::new(path)) {
                    Some(found) => found.pattern().as_usize(),
                    None => continue,
                },
            };
            // It may have other conditions that do not hold, and there is no automaton for those
            // behind it.
            search.try_routes(&routes[first..]);
        }
    }
}

/// An automaton that finds the first of these expressions that matches; `None` if it is larger than
/// `largest` bytes.
fn automaton<'r>(regexes: impl Iterator<Item = &'r str>, largest: usize) -> Option<Regex> {
    let config = Config::new()
        .nfa_size_limit(Some(largest))
        .hybrid_cache_capacity(LARGEST_CACHE)
        .which_captures(WhichCaptures::Implicit)
        .onepass(false);
    Regex::builder().configure(config).build_many(&regexes.collect::<Vec<_>>()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first route of these that matches, if those in `failing` fail for another reason.
    fn first(index: &RegexIndex, path: &str, failing: &[usize]) -> usize {
        let matches = |route: usize| !failing.contains(&route);
        let mut search = FirstMatch { matches: &matches, found: usize::MAX };
        index.search(path, &mut search);
        search.found
    }

    fn index(regexes: impl Iterator<Item = String>, largest: usize) -> RegexIndex {
        let mut index = RegexIndex::default();
        let anchored = regexes.map(|regex| format!("^(?:{regex})$").into());
        index.add_group(&anchored.enumerate().collect::<Vec<_>>(), largest);
        index
    }

    #[test]
    fn one_automaton_finds_the_first_expression_of_many() {
        let index = index((0..300).map(|number| format!("/v{number}/.*")), LARGEST);
        assert_eq!(index.groups.len(), 1);
        assert!(index.groups[0].automaton.is_some());
        assert_eq!(first(&index, "/v0/a", &[]), 0);
        assert_eq!(first(&index, "/v299/a", &[]), 299);
        assert_eq!(first(&index, "/v300/a", &[]), usize::MAX);
        assert_eq!(first(&index, "/v7/a", &[7]), 8, "those behind it are tried one by one");
    }

    #[test]
    fn expressions_that_are_too_large_together_get_several_automata() {
        let index = index((0..40).map(|number| format!("/{number}/.*")), 16 << 10);
        assert!((2..20).contains(&index.groups.len()), "{}", index.groups.len());
        for number in [0, 19, 20, 39] {
            assert_eq!(first(&index, &format!("/{number}/a"), &[]), number);
        }
    }
}
