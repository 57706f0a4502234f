//! Access rules of the admin interface: pages of other sites get nothing; changes are accepted only on
//! the control socket, with the token if one is configured.

use super::{error, token::Token};
use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::Next,
    response::Response,
};
use serde_json::{Value, json};
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// The access rules of one socket.
pub(super) struct Rules {
    /// Accepted host names with a dot; `None` accepts any, for sockets that browsers can't reach.
    pub(super) hosts: Option<Vec<Arc<str>>>,
    pub(super) control: Control,
}

/// Whether changes are accepted.
pub(super) enum Control {
    /// Yes, with this token if there is one.
    Allowed(Option<Arc<Token>>),
    /// No; the text says where changes are accepted.
    ReadOnly(String),
}

/// What a page from here may load and do: only its own script, style and requests, and no text that a
/// client chose can become one of these.
const CONTENT_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Middleware of every request: checks the access rules, forbids caching and embedding of the
/// response, and closes the connection after one request, so that its age bounds it.
pub(super) async fn guard(
    State(rules): State<Arc<Rules>>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = match rules.rejection(&request) {
        None => next.run(request).await,
        Some((status, why)) => error(status, why),
    };
    if response.status() == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    for (name, value) in [
        ("connection", "close"),
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        ("cross-origin-resource-policy", "same-origin"),
        ("content-security-policy", CONTENT_POLICY),
        ("referrer-policy", "no-referrer"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

impl Rules {
    /// Whether a client that sends these headers may change something, and what it lacks.
    pub(super) fn changes(&self, headers: &HeaderMap) -> Value {
        match &self.control {
            Control::ReadOnly(why) => {
                json!({ "allowed": false, "needs_token": false, "why": why })
            }
            Control::Allowed(token) => json!({
                "allowed": token.as_ref().is_none_or(|token| token.is_in(authorization(headers))),
                "needs_token": token.is_some(),
                "why": null,
            }),
        }
    }

    /// The status and message if the request is rejected.
    fn rejection(&self, request: &Request) -> Option<(StatusCode, String)> {
        let (headers, changes) = (request.headers(), !request.method().is_safe());
        // Health checks use these two; they reveal nothing.
        let harmless = !changes && matches!(request.uri().path(), "/live" | "/ready");
        let authority = request.uri().authority().map(|authority| authority.as_str());
        if !harmless && let Some(host) = self.unknown_host(headers, authority) {
            let why = format!(
                "the admin interface does not answer to the name {}: use its IP address, or add the \
                 name to `admin.allowed_hosts`",
                host.escape_default()
            );
            return Some((StatusCode::FORBIDDEN, why));
        }
        if !changes {
            return None;
        }
        let token = match &self.control {
            Control::ReadOnly(why) => return Some((StatusCode::FORBIDDEN, why.clone())),
            Control::Allowed(token) => token,
        };
        if is_cross_site(headers) {
            let why = "pages of other sites may not send this request";
            return Some((StatusCode::FORBIDDEN, why.to_owned()));
        }
        if is_form(headers) {
            let why =
                "browser forms may not send this request: send `content-type: application/json`";
            return Some((StatusCode::UNSUPPORTED_MEDIA_TYPE, why.to_owned()));
        }
        if token.as_ref().is_some_and(|token| !token.is_in(authorization(headers))) {
            let why = "this request needs the token in admin.token_file: send `authorization: Bearer TOKEN`";
            return Some((StatusCode::UNAUTHORIZED, why.to_owned()));
        }
        None
    }

    /// The host of the request, if it is not an accepted name.
    ///
    /// The owner of a domain can point it at this address after a page was loaded from it (DNS
    /// rebinding); to a browser, page and response are then of one site. IP addresses, `localhost` and
    /// names without a dot, which no public DNS has, can't be abused like this. Whether the request
    /// comes from a browser is unknown: over plain HTTP browsers send no fetch metadata.
    fn unknown_host(&self, headers: &HeaderMap, authority: Option<&str>) -> Option<String> {
        let allowed = self.hosts.as_ref()?;
        let hosts = headers.get_all(header::HOST).into_iter();
        let hosts = hosts.map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned());
        let mut hosts = hosts.chain(authority.map(str::to_owned));
        hosts.find(|host| !is_allowed(host, allowed))
    }
}

/// Whether `host`, with or without a port, is an address, a name without a dot, or an allowed name.
fn is_allowed(host: &str, allowed: &[Arc<str>]) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => name,
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|inside| inside.strip_suffix(']')).unwrap_or(name);
    if bare.parse::<IpAddr>().is_ok() || host.parse::<SocketAddr>().is_ok() {
        return true;
    }
    let name = bare.trim_end_matches('.').to_ascii_lowercase();
    let matches = |pattern: &Arc<str>| match pattern.strip_prefix('*') {
        Some(end) => name.len() > end.len() && name.ends_with(end),
        None => name == **pattern,
    };
    !name.contains('.') || allowed.iter().any(matches)
}

/// The value of the `authorization` header, or nothing.
fn authorization(headers: &HeaderMap) -> &[u8] {
    headers.get(header::AUTHORIZATION).map_or(&b""[..], HeaderValue::as_bytes)
}

/// Whether a browser sent this for a page of another site. Other clients send neither header.
fn is_cross_site(headers: &HeaderMap) -> bool {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
    if headers
        .get("sec-fetch-site")
        .is_some_and(|site| !matches!(&*text(site), "same-origin" | "none"))
    {
        return true;
    }
    let Some(origin) = headers.get(header::ORIGIN).map(text) else { return false };
    let host = headers.get(header::HOST).map(text);
    origin.split_once("://").is_none_or(|(_, rest)| Some(rest) != host.as_deref())
}

/// Whether a browser sent this with a content type that a form of any site can send without a
/// preflight request (Fetch, section 2.2.2, "CORS-safelisted request-header").
fn is_form(headers: &HeaderMap) -> bool {
    let value = |name| headers.get(name).map_or(&b""[..], HeaderValue::as_bytes);
    let content = value(header::CONTENT_TYPE).to_ascii_lowercase();
    let forms = ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"];
    value(header::USER_AGENT).starts_with(b"Mozilla/")
        && forms.iter().any(|form| content.starts_with(form.as_bytes()))
}
