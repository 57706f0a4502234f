//! What happens to the request at the front instead of being forwarded unchanged.

use bytes::Bytes;

/// What happens to a request that is not forwarded unchanged.
#[derive(Debug)]
pub(super) enum FrontAction {
    /// Other bytes are forwarded.
    Rewrite {
        /// Its length.
        len: usize,
        /// The bytes that replace it.
        with: Bytes,
    },
    /// The codec answers it.
    Answer {
        /// Its length.
        len: usize,
        /// An upstream connection was opened for the answer.
        has_upstream: bool,
    },
}

impl FrontAction {
    /// The request's length.
    pub(super) fn request_len(&self) -> usize {
        match self {
            FrontAction::Rewrite { len, .. } | FrontAction::Answer { len, .. } => *len,
        }
    }
}
