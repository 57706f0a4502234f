//! Settings of HTTP health checks, and their checked form.

use super::h2;
use crate::settings::{StatusRange, UpstreamVersion};
use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, uri::PathAndQuery};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use values::{Diagnostic, Text};

/// `user-agent` of checks.
const USER_AGENT: &str = "tollgate-health-check";

/// The request of a health check, and the expected response.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    default,
    expecting = "keys and values, such as `{ path: /healthz, expect: [200] }`"
)]
#[schemars(rename = "HttpProbe")]
pub struct CheckSettings {
    /// The path of the GET request, with a query if needed. Default: `/`.
    pub path: Option<String>,
    /// The request's `host`. Default: the cluster's name.
    pub host: Option<String>,
    /// The statuses of a healthy endpoint: `200`, `2xx` for all of 200 to 299, or a range such as
    /// `200-204`. Default: `[2xx]`.
    pub expect: Vec<Text<StatusRange>>,
    /// Additional request headers. Default: none.
    pub headers: BTreeMap<String, String>,
}

impl CheckSettings {
    /// Settings of a check without any: `/`, and any status but 5xx is accepted, since the page may
    /// not exist.
    pub fn fallback() -> Self {
        Self { expect: vec![Text(StatusRange { from: 200, to: 499 })], ..Self::default() }
    }

    /// The expected statuses, for the message of a failed check.
    pub(super) fn expected(&self) -> String {
        if self.expect.is_empty() {
            return "2xx".to_owned();
        }
        let expected: Vec<String> = self.expect.iter().map(|Text(it)| it.to_string()).collect();
        expected.join(", ")
    }
}

/// What all checks of a cluster share.
#[derive(Debug)]
pub struct HttpCheck {
    settings: CheckSettings,
    version: UpstreamVersion,
    http1_request: Bytes,
    http2_request: Bytes,
}

impl HttpCheck {
    /// Checks the settings. The version is that of the cluster's endpoints; `host`, the cluster's
    /// name, is used if the settings have none.
    ///
    /// # Errors
    /// All mistakes in the settings.
    pub fn new(
        settings: CheckSettings,
        version: UpstreamVersion,
        host: &str,
    ) -> Result<Self, Vec<Diagnostic>> {
        let mistakes = settings.mistakes();
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        let host = settings.host.as_deref().unwrap_or(host);
        let path = settings.path.as_deref().unwrap_or("/");
        let mut headers: Vec<(String, &str)> = settings
            .headers
            .iter()
            .map(|(name, value)| (name.to_ascii_lowercase(), value.as_str()))
            .collect();
        if !headers.iter().any(|(name, _)| name == "user-agent") {
            headers.push(("user-agent".to_owned(), USER_AGENT));
        }
        let mut http1 = BytesMut::new();
        let mut line = |parts: &[&str]| {
            parts.iter().for_each(|part| http1.extend_from_slice(part.as_bytes()));
            http1.extend_from_slice(b"\r\n");
        };
        line(&["GET ", path, " HTTP/1.1"]);
        line(&["host: ", host]);
        headers.iter().for_each(|(name, value)| line(&[name, ": ", value]));
        line(&["connection: close"]);
        line(&[]);
        let mut http2 = BytesMut::new();
        h2::ask(&mut http2, "GET", host, path, headers, None);
        let (http1_request, http2_request) = (http1.freeze(), http2.freeze());
        Ok(Self { settings, version, http1_request, http2_request })
    }

    /// The settings as configured.
    pub fn settings(&self) -> &CheckSettings {
        &self.settings
    }

    /// Whether a check speaks HTTP/2, on a connection for which TLS has agreed on this protocol.
    pub(super) fn is_http2(&self, agreed: Option<&[u8]>) -> bool {
        self.version.is_http2(agreed).unwrap_or(true)
    }

    pub(super) fn request(&self, http2: bool) -> &[u8] {
        if http2 { &self.http2_request } else { &self.http1_request }
    }

    pub(super) fn expects(&self, status: u16) -> bool {
        match &self.settings.expect[..] {
            [] => (200..300).contains(&status),
            expect => expect.iter().any(|Text(it)| (it.from..=it.to).contains(&status)),
        }
    }
}

impl CheckSettings {
    fn mistakes(&self) -> Vec<Diagnostic> {
        let mut mistakes = Vec::new();
        let mut mistake = |path: &[&str], message: String, hint: &str| {
            mistakes.push(Diagnostic::at(path, message, hint));
        };
        if let Some(path) = &self.path
            && !(path.starts_with('/') && is_path(path))
        {
            let hint = "write it from the first `/` on, as in `/healthz`";
            mistake(&["path"], format!("`{path}` is not a path"), hint);
        }
        if let Some(host) = &self.host
            && http::uri::Authority::try_from(host.as_str()).is_err()
        {
            let hint = "write a name, with a port if need be: `shop.example:8080`";
            mistake(&["host"], format!("`{host}` is not a host"), hint);
        }
        if self.expect.iter().any(|Text(it)| it.to < 200 && it.to != 101) {
            let hint = "write 101, or 200 to 599: other 1xx end no request";
            mistake(&["expect"], "a status that no check ends with".to_owned(), hint);
        }
        for (name, value) in &self.headers {
            let own = ["host", "connection", "content-length", "transfer-encoding"];
            if HeaderName::try_from(name.as_str()).is_err() {
                mistake(&["headers", name], format!("`{name}` is no header's name"), "");
            } else if own.iter().any(|it| it.eq_ignore_ascii_case(name)) {
                let message = format!("`{name}` can't be set here");
                mistake(&["headers", name], message, "for `host` there is the key `host`");
            } else if HeaderValue::try_from(value.as_str()).is_err() {
                let hint = "without line breaks and control characters";
                mistake(&["headers", name], "the value can't be sent".to_owned(), hint);
            }
        }
        mistakes
    }
}

/// Whether the text can stand in a request line.
fn is_path(path: &str) -> bool {
    path.bytes().all(|b| b.is_ascii_graphic() && b != b'#') && PathAndQuery::try_from(path).is_ok()
}
