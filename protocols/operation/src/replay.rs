//! Which requests are sent again when their endpoint fails.

/// What a codec may do where operations share the connections of a pool, and the endpoint of one fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplayConfig {
    /// The longest request of which a copy is kept, in bytes, so that it can be sent again. 0: none is.
    pub max_request: usize,
    /// Writes that the client did not make retryable are made so: the service does them once however
    /// often they arrive.
    pub makes_writes_retryable: bool,
    /// A client whose request was sent and may have been done gets an error; otherwise its connection is
    /// closed.
    pub reports_lost: bool,
}
