//! Health checks by `grpc.health.v1.Health`, as the gRPC project's `health-checking.md` has it.

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

/// What is called.
const PATH: &str = "/grpc.health.v1.Health/Check";
/// The statuses of gRPC that tell more than their number here.
const NOT_FOUND: &str = "5";
const UNIMPLEMENTED: &str = "12";

/// What a health check asks of a gRPC server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    default,
    expecting = "keys and values, such as `{ service: shop.Cart }`"
)]
#[schemars(rename = "GrpcProbe")]
pub struct CheckSettings {
    /// The service that is asked about, with its package. Default: the server as a whole.
    pub service: Option<String>,
    /// Whether a server is healthy that answers, and has no `grpc.health.v1.Health`.
    /// Default: `false`; `true` where nothing is said of the probe at all.
    pub may_lack_health: bool,
}

impl CheckSettings {
    /// What is asked where nothing is said of it: a server that speaks gRPC works.
    pub fn usual() -> Self {
        Self { may_lack_health: true, ..Self::default() }
    }
}

/// What all checks of one cluster share.
#[derive(Debug)]
pub struct Check {
    settings: CheckSettings,
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

impl Check {
    /// Checks with these settings; `authority` is the cluster's name.
    pub fn new(settings: CheckSettings, authority: &str) -> Self {
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

    /// What people wrote.
    pub fn settings(&self) -> &CheckSettings {
        &self.settings
    }

    /// What is asked about, in words.
    fn subject(&self) -> String {
        match &self.settings.service {
            Some(service) => format!("the service {}", sanitize(service)),
            None => "the server".to_owned(),
        }
    }
}

/// One check by a call of `grpc.health.v1.Health/Check`. Its connection is not used again.
#[derive(Debug)]
pub struct GrpcProbe(Arc<Check>);

impl GrpcProbe {
    /// One more check.
    pub fn new(check: Arc<Check>) -> Self {
        Self(check)
    }
}

impl Probe for GrpcProbe {
    fn write_request(&mut self, out: &mut BytesMut) {
        out.extend_from_slice(&self.0.question);
    }

    fn evaluate(&mut self, answer: &[u8]) -> ProbeResult {
        match H2Response::read(answer).and_then(|answer| serving(&answer, &self.0)) {
            Ok(None) => ProbeResult::NeedMore,
            Ok(Some(words)) => ProbeResult::Healthy(words),
            Err(words) => ProbeResult::Unhealthy(words),
        }
    }
}

/// What a healthy answer tells; `None` while there is nothing to tell.
fn serving(answer: &H2Response, check: &Check) -> Result<Option<String>, String> {
    match answer.status {
        None if answer.ended => return Err("ends the answer before it began".to_owned()),
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
        return Err(refused(code, answer.header("grpc-message"), check));
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

/// The first message of a body.
fn message(body: &[u8]) -> Result<Option<&[u8]>, String> {
    let Some(([compressed, len @ ..], rest)) = body.split_first_chunk::<5>() else {
        return Ok(None);
    };
    if *compressed != 0 {
        return Err("answers with a message that is compressed, which nobody asked for".to_owned());
    }
    Ok(rest.get(..u32::from_be_bytes(*len) as usize))
}

fn refused(code: &str, message: Option<&str>, check: &Check) -> String {
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
