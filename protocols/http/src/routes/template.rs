//! Paths with names in them: `/users/{id}/{rest=**}`.

/// What a match has named, each with the piece of the path, byte for byte. Costs nothing where
/// nothing is named.
#[derive(Clone, Debug, Default)]
pub struct Captures(pub(super) Vec<(std::sync::Arc<str>, Box<str>)>);

impl Captures {
    /// The piece of this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(it, _)| **it == *name).map(|(_, piece)| &**piece)
    }
}

/// A path that is made of text and captures.
#[derive(Clone, Debug)]
pub(super) struct Filled;
