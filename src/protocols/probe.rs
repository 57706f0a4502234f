//! How a cluster's endpoints are asked whether they work.

mod written;

use super::settings_json;
use bytes::Bytes;
use cluster::ProbeConfig;
use grpc::probe::GrpcProbe;
use mongo::MongoProbe;
use operation::Probe;
use serde_json::{Value, json};
use std::sync::Arc;
use tcp::{Exchange, TcpProbe};
use tollgate_http::probe::HttpProbe;
pub(crate) use written::{TcpSettings, WrittenProbe};

/// What a health check asks, with its settings.
#[derive(Clone, Debug)]
pub enum ProbePlan {
    /// A connection, and an exchange of bytes if there is one.
    Tcp(Exchange),
    /// `hello`.
    Mongo(Arc<mongo::MongoProbeContext>),
    /// A GET.
    Http(Arc<tollgate_http::probe::HttpCheck>),
    /// `grpc.health.v1.Health/Check`.
    Grpc(Arc<grpc::probe::HealthCheck>),
}

/// Connecting is enough.
impl Default for ProbePlan {
    fn default() -> Self {
        ProbePlan::Tcp(Exchange::default())
    }
}

impl ProbeConfig for ProbePlan {
    fn begin(&self) -> Box<dyn Probe> {
        match self {
            ProbePlan::Tcp(exchange) => Box::new(TcpProbe::new(exchange.clone())),
            ProbePlan::Mongo(check) => Box::new(MongoProbe::new(Arc::clone(check))),
            ProbePlan::Http(check) => Box::new(HttpProbe::new(Arc::clone(check))),
            ProbePlan::Grpc(check) => Box::new(GrpcProbe::new(Arc::clone(check))),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            ProbePlan::Tcp(_) => "tcp",
            ProbePlan::Mongo(_) => "mongo",
            ProbePlan::Http(_) => "http",
            ProbePlan::Grpc(_) => "grpc",
        }
    }

    fn wants_the_primary(&self) -> bool {
        self.to_json()["mongo"]["writable"] == true
    }

    fn to_json(&self) -> Value {
        let settings = match self {
            ProbePlan::Tcp(Exchange { send, expect }) => {
                let parts = [("send", send), ("expect", expect)].into_iter();
                parts.filter(|(_, bytes)| !bytes.is_empty()).map(typed).collect()
            }
            ProbePlan::Mongo(check) => settings_json(&check.settings),
            ProbePlan::Http(check) => settings_json(check.settings()),
            ProbePlan::Grpc(check) => settings_json(check.settings()),
        };
        json!({ self.name(): settings })
    }
}

impl ProbePlan {
    /// Whether the connection can be used for the next check. Where the end of an answer is not
    /// known, its rest would be read as the front of the next one.
    pub fn reuses(&self) -> bool {
        match self {
            ProbePlan::Tcp(_) | ProbePlan::Http(_) | ProbePlan::Grpc(_) => false,
            ProbePlan::Mongo(_) => true,
        }
    }
}

/// Bytes as people write them: as text, or as hex where no keyboard has them.
fn typed((key, bytes): (&str, &Bytes)) -> (String, Value) {
    let text = |b: &u8| b.is_ascii_graphic() || matches!(b, b' ' | b'\r' | b'\n' | b'\t');
    if bytes.iter().all(text) {
        return (key.to_owned(), String::from_utf8_lossy(bytes).into());
    }
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    (format!("{key}_hex"), hex.into())
}
