//! Checks `tracing`, and fills in what the environment says.

use super::{Check, given, number, or};
use crate::file::{TraceAlways, Tracing};
use std::time::Duration;
use traces::{Always, OtelEnvironment, OtlpEndpoint, Sample, TracesPlan, read_headers};
use values::{
    Span,
    spanned::{Opt, Spanned},
};

/// The share of traces that begin here which are recorded.
const DEFAULT_SAMPLE: Sample = Sample(0.01);

/// How long it may take to hand a batch to the collector.
const TIMEOUT: Duration = Duration::from_secs(10);

const DEFAULT_MAX_SPANS: usize = 1000;

impl Check<'_> {
    /// What is traced; `None` if nothing is.
    pub(super) fn tracing(&mut self, written: Option<Spanned<Tracing>>) -> Option<TracesPlan> {
        let Spanned { at, value } = written?;
        let environment = match OtelEnvironment::read(|name| std::env::var(name).ok()) {
            Ok(environment) => environment,
            Err(error) => {
                self.report.add_diagnostic(at, error);
                return None;
            }
        };
        self.traces_plan(at, value.unwrap_or_default(), environment)
    }

    fn traces_plan(
        &mut self,
        at: Span,
        tracing: Tracing,
        environment: OtelEnvironment,
    ) -> Option<TracesPlan> {
        if environment.disabled {
            return None;
        }
        let otlp = self.collector(at, &tracing.otlp, &environment)?;
        let protocol = given(&tracing.protocol);
        // The variable is about the variables' collector.
        let protocol = protocol.or(environment.protocol.filter(|_| tracing.otlp.is_none()));
        let protocol = protocol.unwrap_or_else(|| otlp.protocol());
        let headers_file = tracing.headers_file.and_then(|it| {
            let at = it.at;
            Some((at, self.file_to_read(it)?))
        });
        let headers = match &headers_file {
            None => environment.headers,
            Some((at, path)) => read_headers(path).unwrap_or_else(|error| {
                self.report.add_diagnostic(*at, error);
                Vec::new()
            }),
        };
        let tls = self.collector_tls(&otlp, protocol, tracing.tls);
        let service = tracing.service.and_then(|it| it.value).or(environment.service);
        let sessions = tracing.sessions.and_then(|it| it.value).unwrap_or(false);
        Some(TracesPlan {
            otlp,
            protocol,
            tls,
            sample: given(&tracing.sample).or(environment.sample).unwrap_or(DEFAULT_SAMPLE),
            always: always(tracing.always),
            service: service.unwrap_or_else(|| "tollgate".to_owned()).into(),
            resource: environment.resource,
            headers_file: headers_file.map(|(_, path)| path),
            headers,
            max_spans_per_second: number(tracing.max_spans_per_second, DEFAULT_MAX_SPANS as u32),
            sessions,
            timeout: environment.timeout.unwrap_or(TIMEOUT),
        })
    }

    fn collector(
        &mut self,
        at: Span,
        written: &Opt<OtlpEndpoint>,
        environment: &OtelEnvironment,
    ) -> Option<OtlpEndpoint> {
        if written.is_some() {
            return given(written);
        }
        if environment.endpoint.is_none() {
            let message = "`tracing` has no collector: neither `otlp` nor the environment variable \
                           OTEL_EXPORTER_OTLP_ENDPOINT is set";
            self.report.add(at, message, "write where it is: `otlp: http://collector:4317`");
        }
        environment.endpoint.clone()
    }
}

fn always(written: Option<Spanned<TraceAlways>>) -> Always {
    let Some(always) = written.and_then(|it| it.value) else { return Always::default() };
    let errors = always.errors.and_then(|it| it.value).unwrap_or(false);
    Always { errors, slower_than: or(always.slower_than, None) }
}
