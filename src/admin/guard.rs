//! Access rules of the admin interface: a page of another site may request nothing, and a request that
//! changes something only where control is, with the token if there is one.

use super::{error, token::Token};
use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::Next,
    response::Response,
};
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// What a socket of the admin interface takes.
pub(super) struct Rules {
    /// Host names with a dot that requests may be addressed to; `None` where no browser can ask.
    pub(super) hosts: Option<Vec<Arc<str>>>,
    pub(super) control: Control,
}

/// Whether requests are taken that change something.
pub(super) enum Control {
    /// With this token, if there is one.
    Here(Option<Arc<Token>>),
    /// Rejected, with a text that says where changes are accepted.
    Elsewhere(String),
}

/// What holds for every request: it may ask for this here, nothing is kept, no other site shows the
/// answer, and a connection serves one request, so that its age alone bounds it.
pub(super) async fn guard(
    State(rules): State<Arc<Rules>>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = match rules.refusal(&request) {
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
        ("content-security-policy", "frame-ancestors 'none'"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

impl Rules {
    /// Why a request is refused, if it is.
    fn refusal(&self, request: &Request) -> Option<(StatusCode, String)> {
        let (headers, changes) = (request.headers(), !request.method().is_safe());
        // These reveal nothing, and health checks of the process use them.
        let harmless = !changes && matches!(request.uri().path(), "/live" | "/ready");
        let named = request.uri().authority().map(|authority| authority.as_str());
        if !harmless && let Some(host) = self.unknown_host(headers, named) {
            let why = format!(
                "this is no name of the admin interface: {}; ask by its IP address, or write the \
                 name under `admin.allowed_hosts`",
                host.escape_default()
            );
            return Some((StatusCode::FORBIDDEN, why));
        }
        if !changes {
            return None;
        }
        let token = match &self.control {
            Control::Elsewhere(why) => return Some((StatusCode::FORBIDDEN, why.clone())),
            Control::Here(token) => token,
        };
        if is_cross_site(headers) {
            let why = "a page of another site may not ask for this";
            return Some((StatusCode::FORBIDDEN, why.to_owned()));
        }
        if is_form(headers) {
            let why =
                "a browser's form may not ask for this: send `content-type: application/json`";
            return Some((StatusCode::UNSUPPORTED_MEDIA_TYPE, why.to_owned()));
        }
        let given = headers.get(header::AUTHORIZATION).map_or(&b""[..], HeaderValue::as_bytes);
        if token.as_ref().is_some_and(|token| !token.is_in(given)) {
            let why =
                "this takes the token in admin.token_file: send `authorization: Bearer TOKEN`";
            return Some((StatusCode::UNAUTHORIZED, why.to_owned()));
        }
        None
    }

    /// The host that a request is addressed to, if it is none of this interface's.
    ///
    /// Anyone who owns a name can point it at this address once a page is loaded from it (DNS
    /// rebinding); to a browser, page and answer are of one site then. It can't point an IP address
    /// or `localhost` elsewhere, nor a name without a dot, which no public DNS has. Whether the
    /// request comes from a browser is unknown: over plain HTTP browsers send no fetch metadata.
    fn unknown_host(&self, headers: &HeaderMap, named: Option<&str>) -> Option<String> {
        let known = self.hosts.as_ref()?;
        let hosts = headers.get_all(header::HOST).into_iter();
        let hosts = hosts.map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned());
        let mut hosts = hosts.chain(named.map(str::to_owned));
        hosts.find(|host| !is_own(host, known))
    }
}

/// Whether `host`, with or without a port, is an address, a name without a dot, or a known name.
fn is_own(host: &str, known: &[Arc<str>]) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => name,
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|inside| inside.strip_suffix(']')).unwrap_or(name);
    if bare.parse::<IpAddr>().is_ok() || host.parse::<SocketAddr>().is_ok() {
        return true;
    }
    let name = bare.trim_end_matches('.').to_ascii_lowercase();
    let is = |pattern: &Arc<str>| match pattern.strip_prefix('*') {
        Some(end) => name.len() > end.len() && name.ends_with(end),
        None => name == **pattern,
    };
    !name.contains('.') || known.iter().any(is)
}

/// Whether a browser sent this for a page that this interface did not serve. What is no browser
/// sends neither header.
fn is_cross_site(headers: &HeaderMap) -> bool {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
    if headers.get("sec-fetch-site").is_some_and(|it| !matches!(&*text(it), "same-origin" | "none"))
    {
        return true;
    }
    let Some(origin) = headers.get(header::ORIGIN).map(text) else { return false };
    let host = headers.get(header::HOST).map(text);
    origin.split_once("://").is_none_or(|(_, rest)| Some(rest) != host.as_deref())
}

/// Whether a browser sent this with a type of content that a form of any site can send without
/// being asked first (Fetch, section 2.2.2, "CORS-safelisted request-header").
fn is_form(headers: &HeaderMap) -> bool {
    let value = |name| headers.get(name).map_or(&b""[..], HeaderValue::as_bytes);
    let content = value(header::CONTENT_TYPE).to_ascii_lowercase();
    let forms = ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"];
    value(header::USER_AGENT).starts_with(b"Mozilla/")
        && forms.iter().any(|form| content.starts_with(form.as_bytes()))
}
