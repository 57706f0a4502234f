//! The variables that OpenTelemetry's software reads: they fill in what the config leaves out.
//!
//! Sources: OpenTelemetry's specification, "Environment Variable Specification" and "OTLP Exporter
//! Configuration".

use crate::{OtlpEndpoint, OtlpProtocol, Sample, plan::header};
use http::{HeaderName, HeaderValue};
use std::time::Duration;
use values::{Diagnostic, FromText};

/// What the variables say; `None` is left out.
#[derive(Debug, Default)]
pub struct OtelEnvironment {
    /// `OTEL_SDK_DISABLED`: no spans are made.
    pub disabled: bool,
    /// `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`, or `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub endpoint: Option<OtlpEndpoint>,
    /// `OTEL_EXPORTER_OTLP_TRACES_PROTOCOL`, or `OTEL_EXPORTER_OTLP_PROTOCOL`.
    pub protocol: Option<OtlpProtocol>,
    /// `OTEL_EXPORTER_OTLP_TRACES_HEADERS`, or `OTEL_EXPORTER_OTLP_HEADERS`.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// `OTEL_EXPORTER_OTLP_TRACES_TIMEOUT`, or `OTEL_EXPORTER_OTLP_TIMEOUT`.
    pub timeout: Option<Duration>,
    /// `OTEL_TRACES_SAMPLER` with `OTEL_TRACES_SAMPLER_ARG`.
    pub sample: Option<Sample>,
    /// `OTEL_SERVICE_NAME`, or `service.name` of `OTEL_RESOURCE_ATTRIBUTES`.
    pub service: Option<String>,
    /// `OTEL_RESOURCE_ATTRIBUTES` without the service's name.
    pub resource: Vec<(String, String)>,
}

impl OtelEnvironment {
    /// Reads the variables; `get` returns the value of one.
    ///
    /// # Errors
    /// What is wrong with one of them.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, Diagnostic> {
        // An empty variable counts as none.
        let get = |name: &str| get(name).filter(|value| !value.trim().is_empty());
        let of_traces = |name: &str| {
            let names = [name.replace("OTLP_", "OTLP_TRACES_"), name.to_owned()];
            names.into_iter().find_map(|name| Some((get(&name)?, name)))
        };
        let resource = get("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
        let mut resource = pairs(&resource, "OTEL_RESOURCE_ATTRIBUTES")?;
        let named = resource.iter().position(|(key, _)| key == "service.name");
        let named = named.map(|at| resource.remove(at).1);
        let disabled = get("OTEL_SDK_DISABLED");
        Ok(Self {
            disabled: disabled.is_some_and(|value| value.trim().eq_ignore_ascii_case("true")),
            endpoint: endpoint(&get)?,
            protocol: of_traces("OTEL_EXPORTER_OTLP_PROTOCOL").map(protocol).transpose()?,
            headers: of_traces("OTEL_EXPORTER_OTLP_HEADERS")
                .map_or_else(|| Ok(Vec::new()), headers)?,
            timeout: of_traces("OTEL_EXPORTER_OTLP_TIMEOUT").map(timeout).transpose()?,
            sample: sample(&get)?,
            service: get("OTEL_SERVICE_NAME").or(named),
            resource,
        })
    }
}

/// Reports the value of a variable. It is not shown where it may be a secret.
fn wrong(name: &str, hint: &str) -> Diagnostic {
    Diagnostic::new(format!("the environment variable {name} has a wrong value"), hint)
}

fn endpoint(get: &impl Fn(&str) -> Option<String>) -> Result<Option<OtlpEndpoint>, Diagnostic> {
    let read = |name: &str| {
        let read = |url: String| {
            OtlpEndpoint::from_text(url.trim())
                .map_err(|error| Diagnostic::new(format!("{name}: {}", error.message), error.hint))
        };
        get(name).map(read).transpose()
    };
    match read("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")? {
        Some(endpoint) => Ok(Some(endpoint)),
        None => Ok(read("OTEL_EXPORTER_OTLP_ENDPOINT")?.map(OtlpEndpoint::for_all_signals)),
    }
}

fn protocol((value, name): (String, String)) -> Result<OtlpProtocol, Diagnostic> {
    match value.trim() {
        "grpc" => Ok(OtlpProtocol::Grpc),
        "http/protobuf" => Ok(OtlpProtocol::Http),
        _ => Err(wrong(&name, "it is `grpc` or `http/protobuf`")),
    }
}

fn timeout((value, name): (String, String)) -> Result<Duration, Diagnostic> {
    let millis = value.trim().parse().ok().filter(|millis| *millis > 0);
    millis.map(Duration::from_millis).ok_or_else(|| wrong(&name, "it is a number of milliseconds"))
}

fn headers((value, name): (String, String)) -> Result<Vec<(HeaderName, HeaderValue)>, Diagnostic> {
    let read = |(key, value): (String, String)| {
        header(&key, &value).ok_or_else(|| wrong(&name, "it is a list: `name=value,name=value`"))
    };
    pairs(&value, &name)?.into_iter().map(read).collect()
}

fn sample(get: &impl Fn(&str) -> Option<String>) -> Result<Option<Sample>, Diagnostic> {
    let Some(sampler) = get("OTEL_TRACES_SAMPLER") else { return Ok(None) };
    // A parent's decision comes first with every sampler.
    let share = match sampler.trim().trim_start_matches("parentbased_") {
        "always_on" => 1.0,
        "always_off" => 0.0,
        "traceidratio" => {
            let share = get("OTEL_TRACES_SAMPLER_ARG").map_or(Ok(1.0), |it| it.trim().parse());
            let hint = "it is a share of 1: `0.01`";
            let share = share.ok().filter(|share| (0.0..=1.0).contains(share));
            share.ok_or_else(|| wrong("OTEL_TRACES_SAMPLER_ARG", hint))?
        }
        _ => {
            let hint =
                "it is `always_on`, `always_off` or `traceidratio`, alone or after `parentbased_`";
            return Err(wrong("OTEL_TRACES_SAMPLER", hint));
        }
    };
    Ok(Some(Sample(share)))
}

/// A list of `key=value`, with percent-encoded values (W3C Baggage).
fn pairs(list: &str, name: &str) -> Result<Vec<(String, String)>, Diagnostic> {
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=')?;
        let key = key.trim();
        (!key.is_empty()).then(|| Some((key.to_owned(), decoded(value.trim())?)))?
    };
    let parts = list.split(',').filter(|part| !part.trim().is_empty());
    parts
        .map(|part| pair(part).ok_or_else(|| wrong(name, "it is a list: `key=value,key=value`")))
        .collect()
}

/// The text without percent-encoding.
fn decoded(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(of: &[(&str, &str)]) -> Result<OtelEnvironment, String> {
        let get = |name: &str| {
            of.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        OtelEnvironment::read(get).map_err(|error| error.message)
    }

    #[test]
    fn the_variables_of_traces_come_before_those_of_all_signals() {
        let all = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all:4318/otlp");
        let found = read(&[all]).unwrap().endpoint.unwrap();
        assert_eq!(found.to_string(), "http://all:4318/otlp/v1/traces");
        let own = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://own:4318/x");
        assert_eq!(read(&[all, own]).unwrap().endpoint.unwrap().to_string(), "http://own:4318/x");
        let timeouts =
            [("OTEL_EXPORTER_OTLP_TIMEOUT", "1"), ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "250")];
        assert_eq!(read(&timeouts).unwrap().timeout, Some(Duration::from_millis(250)));
        let protocol = [("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")];
        assert_eq!(read(&protocol).unwrap().protocol, Some(OtlpProtocol::Http));
    }

    #[test]
    fn samplers_become_shares() {
        let sample = |sampler: &str, arg: &str| {
            let of = [("OTEL_TRACES_SAMPLER", sampler), ("OTEL_TRACES_SAMPLER_ARG", arg)];
            read(&of).unwrap().sample.map(|sample| sample.0)
        };
        assert_eq!(sample("always_on", ""), Some(1.0));
        assert_eq!(sample("parentbased_always_off", ""), Some(0.0));
        assert_eq!(sample("parentbased_traceidratio", "0.25"), Some(0.25));
        assert_eq!(sample("traceidratio", ""), Some(1.0));
        assert_eq!(sample("", "0.5"), None);
    }

    #[test]
    fn lists_are_decoded() {
        let of = [
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=edge, deployment.environment.name=p%2Cq ,"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20x,x-team=edge"),
        ];
        let found = read(&of).unwrap();
        assert_eq!(found.service.as_deref(), Some("edge"));
        assert_eq!(found.resource, [("deployment.environment.name".to_owned(), "p,q".to_owned())]);
        assert_eq!(found.headers[0].1.to_str().unwrap(), "Bearer x");
        let named = read(&[of[0], ("OTEL_SERVICE_NAME", "gate")]).unwrap();
        assert_eq!(named.service.as_deref(), Some("gate"));
        assert!(read(&[("OTEL_SDK_DISABLED", "TRUE")]).unwrap().disabled);
    }

    #[test]
    fn a_wrong_variable_is_named_without_its_value() {
        for (name, value) in [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "nowhere"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "hunter2"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
            ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
            ("OTEL_RESOURCE_ATTRIBUTES", "a=%zz"),
        ] {
            let error = read(&[(name, value)]).unwrap_err();
            assert!(error.contains(name) && !error.contains("hunter2"), "{error}");
        }
    }
}
