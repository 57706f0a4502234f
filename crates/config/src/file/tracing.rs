//! The keys of `tracing`.

use schemars::JsonSchema;
use serde::Deserialize;
use std::time::Duration;
use traces::{OtlpEndpoint, OtlpProtocol, Sample};
use values::{
    Count, OrOff,
    spanned::{Opt, Spanned},
};

/// Where spans of operations are sent, and which.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "keys and values, such as `{ otlp: http://collector:4317 }`, or `{}`"
)]
pub(crate) struct Tracing {
    /// The collector, by OTLP: a URL with `http` or `https`. The ports are 4317 for gRPC and 4318 for
    /// HTTP. Default: `OTEL_EXPORTER_OTLP_ENDPOINT`, which must be set then.
    pub(crate) otlp: Opt<OtlpEndpoint>,
    /// The protocol to the collector: `grpc`, or `http` with messages of protobuf. Default: `http` for
    /// the port 4318 and for a URL with a path, `grpc` for others.
    pub(crate) protocol: Opt<OtlpProtocol>,
    /// How the connection to a collector with `https` is encrypted. Default: `{}`.
    pub(crate) tls: Option<Spanned<tls::ClusterSettings>>,
    /// The share of traces that are recorded, among those that begin at the proxy: where a trace began
    /// before, its decision holds. Default: `OTEL_TRACES_SAMPLER`, or `1%`.
    pub(crate) sample: Opt<Sample>,
    /// Operations that have a span whatever was decided about their trace. Default: none.
    pub(crate) always: Option<Spanned<TraceAlways>>,
    /// The name of the proxy in traces (`service.name`). Default: `OTEL_SERVICE_NAME`, or `tollgate`.
    pub(crate) service: Option<Spanned<String>>,
    /// A file with headers of requests to the collector, `name: value` a line, for its tokens. Default:
    /// `OTEL_EXPORTER_OTLP_HEADERS`, or none.
    pub(crate) headers_file: Option<Spanned<String>>,
    /// The most spans in a second; further ones are dropped and counted. Default: 1000.
    pub(crate) max_spans_per_second: Opt<Count>,
    /// Make spans of connections that are one operation, which `tcp` has. Default: `false`.
    pub(crate) sessions: Option<Spanned<bool>>,
}

/// Operations that have a span whatever was decided about their trace.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "keys and values, such as `{ errors: true }`")]
pub(crate) struct TraceAlways {
    /// Operations with the outcome `failed` or `lost`. Default: `false`.
    pub(crate) errors: Option<Spanned<bool>>,
    /// Operations that took at least this long, without those that wait by design; or `off`. Default:
    /// `off`.
    pub(crate) slower_than: Opt<OrOff<Duration>>,
}
