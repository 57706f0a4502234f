//! The admin interface: the address for reading, and where and with which token it is controlled.

use serde::{Serialize, Serializer};
use std::{fmt, net::SocketAddr, path::PathBuf, sync::Arc};
use tls::ServerTls;

/// The admin interface. The token itself is not part of the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AdminPlan {
    /// The address where metrics and state are served.
    pub address: SocketAddr,
    /// The address for requests that change something, if not `address`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control: Option<ControlAddress>,
    /// The file whose first line is the token for such requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// Host names with a dot that requests may use, in lower case: `db.example.net`,
    /// `*.example.net`, `*`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed_hosts: Vec<Arc<str>>,
    /// How clients are encrypted at addresses; a Unix socket needs no encryption.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Arc<ServerTls>>,
}

impl AdminPlan {
    /// One address for everything.
    pub fn new(address: SocketAddr) -> Self {
        Self { address, control: None, token_file: None, allowed_hosts: Vec::new(), tls: None }
    }
}

/// The address for requests that change something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlAddress {
    /// At this address.
    Tcp(SocketAddr),
    /// At a Unix socket with this path.
    Unix(PathBuf),
}

/// The text in a config: `127.0.0.1:9902`, `unix:/run/tollgate.sock`.
impl fmt::Display for ControlAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ControlAddress::Tcp(address) => address.fmt(f),
            ControlAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Serialize for ControlAddress {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}
