//! Routes: which cluster a request goes to, and what is done to it on the way.

/// Where requests of one kind go.
#[derive(Debug)]
pub struct Route {
    /// Its name: the resource of its operations.
    pub name: Box<str>,
}
