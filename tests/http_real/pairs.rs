//! Every version of HTTP at the client's side with every version at the service's.

use crate::support::{
    http::{Version, origin, proxy},
    tollgate::Tollgate,
};

/// A proxy with the listener `web`, before a service on hyper.
pub(crate) struct Pair {
    pub(crate) tollgate: Tollgate,
    /// curl's option for the version.
    pub(crate) flag: &'static str,
    /// What clients and the service speak, as the log has it.
    pub(crate) versions: (&'static str, &'static str),
}

impl Pair {
    /// Where something is.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.tollgate.listener("web"))
    }
}

/// Tries something with each pair.
pub(crate) fn each(tried: impl Fn(&Pair)) {
    for (answers, down) in [(Version::One, "1.1"), (Version::Two, "2")] {
        let service = origin(answers);
        for (flag, up) in [("--http1.1", "1.1"), ("--http2-prior-knowledge", "2")] {
            let tollgate = proxy(&service, "");
            tried(&Pair { tollgate, flag, versions: (up, down) });
        }
    }
}
