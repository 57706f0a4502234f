//! Header lines that are edited, on any representation of a head.

use http::{HeaderMap, HeaderName, HeaderValue};

/// The header lines of a head on its way.
pub trait HeaderLines {
    /// Whether one of them has this name and value.
    fn has(&self, name: &HeaderName, value: &HeaderValue) -> bool;

    /// Removes all of this name.
    fn remove(&mut self, name: &HeaderName);

    /// Puts one line in place of all of this name.
    fn set(&mut self, name: &HeaderName, value: &HeaderValue);

    /// Adds a line.
    fn add(&mut self, name: &HeaderName, value: &HeaderValue);
}

impl HeaderLines for HeaderMap {
    fn has(&self, name: &HeaderName, value: &HeaderValue) -> bool {
        self.get_all(name).iter().any(|it| it == value)
    }

    fn remove(&mut self, name: &HeaderName) {
        HeaderMap::remove(self, name);
    }

    fn set(&mut self, name: &HeaderName, value: &HeaderValue) {
        self.insert(name, value.clone());
    }

    fn add(&mut self, name: &HeaderName, value: &HeaderValue) {
        self.append(name, value.clone());
    }
}
