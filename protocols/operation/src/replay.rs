//! How requests go on whose endpoint, or whose client, fails.

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

/// How a request goes on whose endpoint fails before it answers, or whose client vanishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// If no endpoint can be reached, the request waits. Otherwise it fails at once: what it continues has
    /// ended with its endpoint.
    pub waits_when_unreachable: bool,
    /// If its connection is lost without a byte of the reply, it is sent again: it does no harm to do it
    /// twice.
    pub resends_when_lost: bool,
    /// If its connection is lost and it is not sent again, the client gets an error. Otherwise the client's
    /// connection is closed.
    pub reports_loss: bool,
    /// The key of the pin that ends with its endpoint.
    pub unpins: Option<u64>,
    /// The service may end it although the client has vanished.
    pub outlives_client: bool,
}

impl Default for Recovery {
    fn default() -> Self {
        Self {
            waits_when_unreachable: true,
            resends_when_lost: false,
            reports_loss: false,
            unpins: None,
            outlives_client: false,
        }
    }
}
