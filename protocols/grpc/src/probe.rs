//! Health checks with `grpc.health.v1.Health` (gRPC, `health-checking.md`).

use bytes::{BufMut, BytesMut};
use operation::{Probe, ProbeResult};
use prost::Message;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tollgate_http::probe::{
    h2::{self, H2Response},
    sanitize,
};

/// The path of the health check call.
const PATH: &str = "/grpc.health.v1.Health/Check";
/// gRPC statuses with a text of their own.
const NOT_FOUND: &str = "5";
const UNIMPLEMENTED: &str = "12";

/// Settings of a gRPC health check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    default,
    expecting = "keys and values, such as `{ service: shop.Cart }`"
)]
#[schemars(rename = "GrpcProbe")]
pub struct HealthCheckSettings {
    /// The service that is asked about, with its package. Default: the server as a whole.
    pub service: Option<String>,
    /// Whether a server is healthy that answers, and has no `grpc.health.v1.Health`.
    /// Default: `false`; `true` where nothing is said of the probe at all.
    pub may_lack_health: bool,
}

impl HealthCheckSettings {
    /// The settings without a configured probe: any server that speaks gRPC is healthy.
    pub fn lenient() -> Self {
        Self { may_lack_health: true, ..Self::default() }
    }
}

/// A health check, shared by all probes of a cluster.
#[derive(Debug)]
pub struct HealthCheck {
    settings: HealthCheckSettings,
    question: BytesMut,
}

#[derive(Clone, PartialEq, Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

impl HealthCheck {
    /// A check with these settings. `authority` is the cluster's name.
    pub fn new(settings: HealthCheckSettings, authority: &str) -> Self {
        let service = settings.service.clone().unwrap_or_default();
        let message = HealthCheckRequest { service }.encode_to_vec();
        let mut body = BytesMut::new();
        body.put_u8(0);
        body.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
        body.extend_from_slice(&message);
        let headers = [
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", "tollgate-health-check"),
        ];
        let mut question = BytesMut::new();
        h2::ask(&mut question, "POST", authority, PATH, headers, Some(&body));
        Self { settings, question }
    }

    /// The settings as configured.
    pub fn settings(&self) -> &HealthCheckSettings {
        &self.settings
    }

    /// The checked service, for error texts.
    fn subject(&self) -> String {
        match &self.settings.service {
            Some(service) => format!("the service {}", sanitize(service)),
            None => "the server".to_owned(),
        }
    }
}

/// One call of `grpc.health.v1.Health/Check`. The connection is not reused.
#[derive(Debug)]
pub struct GrpcProbe(Arc<HealthCheck>);

impl GrpcProbe {
    /// A probe for one check.
    pub fn new(check: Arc<HealthCheck>) -> Self {
        Self(check)
    }
}

impl Probe for GrpcProbe {
    fn write_request(&mut self, out: &mut BytesMut) {
        out.extend_from_slice(&self.0.question);
    }

    fn evaluate(&mut self, answer: &[u8]) -> ProbeResult {
        match H2Response::read(answer).and_then(|answer| parse_response(&answer, &self.0)) {
            Ok(None) => ProbeResult::NeedMore,
            Ok(Some(words)) => ProbeResult::Healthy(words),
            Err(words) => ProbeResult::Unhealthy(words),
        }
    }
}

/// Returns the healthy server's detail text, or `None` while the response is incomplete.
fn parse_response(answer: &H2Response, check: &HealthCheck) -> Result<Option<String>, String> {
    match answer.status {
        None if answer.ended => return Err("closes the stream before the response".to_owned()),
        None => return Ok(None),
        Some(200) => {}
        Some(status) => return Err(format!("answers HTTP {status}, expected 200")),
    }
    if let Some(code) = answer.header("grpc-status")
        && code != "0"
    {
        if code == UNIMPLEMENTED && check.settings.may_lack_health {
            return Ok(Some("answers, and has no health service".to_owned()));
        }
        return Err(error_text(code, answer.header("grpc-message"), check));
    }
    let Some(message) = message(&answer.body)? else {
        let nothing = || "answers without a message".to_owned();
        return if answer.ended { Err(nothing()) } else { Ok(None) };
    };
    let unreadable = |_| "answers with a message that can't be read".to_owned();
    let status = HealthCheckResponse::decode(message).map_err(unreadable)?.status;
    let name = match status {
        1 => return Ok(Some("SERVING".to_owned())),
        0 => "UNKNOWN".to_owned(),
        2 => "NOT_SERVING".to_owned(),
        3 => "SERVICE_UNKNOWN".to_owned(),
        other => format!("the unknown state {other}"),
    };
    Err(format!("says that {} is {name}", check.subject()))
}

/// Reads the first message of a body.
fn message(body: &[u8]) -> Result<Option<&[u8]>, String> {
    let Some(([compressed, len @ ..], rest)) = body.split_first_chunk::<5>() else {
        return Ok(None);
    };
    if *compressed != 0 {
        return Err("answers with a compressed message, which was not asked for".to_owned());
    }
    Ok(rest.get(..u32::from_be_bytes(*len) as usize))
}

fn error_text(code: &str, message: Option<&str>, check: &HealthCheck) -> String {
    match code {
        NOT_FOUND => format!("does not know {}", check.subject()),
        UNIMPLEMENTED => "does not have grpc.health.v1.Health, which answers checks".to_owned(),
        _ => {
            let message = message.filter(|message| !message.is_empty());
            let message = message.map(|message| format!(": {}", sanitize(message)));
            format!("answers with grpc-status {}{}", sanitize(code), message.unwrap_or_default())
        }
    }
}

#[cfg(test)]
mod tests;
