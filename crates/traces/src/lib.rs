//! Traces: spans of operations, and their export by OTLP.
//!
//! A span is made once, when its operation has ended. Workers hand spans over in batches and never
//! wait; one thread sends them to the collector. This crate knows no protocol, no policy and no config
//! file.
//!
//! - `plan`: where spans go and which; `environment`: what `OTEL_…` variables say of that
//! - `sampler`: whether a trace that begins here is recorded
//! - `tracer`: the proxy's one tracer, and the spans of one listener on one worker
//! - `rate`: the limit of spans per second
//! - `otlp`: the messages of the protocol
//! - `exporter`: the thread that sends; `transport`: its connection

mod environment;
mod exporter;
mod otlp;
mod plan;
mod rate;
mod sampler;
mod tracer;
mod transport;

pub use environment::OtelEnvironment;
pub use otlp::{KeyValue, Link, Span, Status, attribute, id_bytes};
pub use plan::{Always, OtlpEndpoint, OtlpProtocol, Sample, TracesPlan, read_headers};
pub use sampler::Sampler;
pub use tracer::{SpanBuffer, Tracer};
