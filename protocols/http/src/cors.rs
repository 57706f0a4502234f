//! Cross-origin resource sharing (Fetch standard, "CORS protocol").

use crate::{body::Body, header_lines::HeaderLines, settings::CorsSettings};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header, request};
use std::time::Duration;
use values::Diagnostic;

pub(crate) const REFUSED: operation::Violation =
    operation::Violation(operation::EndReason::OriginRefused.as_str());

/// Which origins are allowed, and what their pages may send and read.
#[derive(Clone, Copy, Debug)]
pub struct CorsRules<'a> {
    /// Allowed origins: `https://shop.example`, or `*` for all.
    pub origins: &'a [String],
    /// Whether cookies are allowed.
    pub credentials: bool,
    /// Allowed methods, separated by commas.
    pub methods: &'a str,
    /// Allowed request headers, separated by commas.
    pub headers: &'a str,
    /// Response headers that pages may read, separated by commas.
    pub expose: &'a str,
    /// How long a browser may cache a preflight response.
    pub max_age: Duration,
}

/// The rules as header values.
#[derive(Debug)]
pub struct Cors {
    origins: Box<[String]>,
    credentials: bool,
    methods: Option<HeaderValue>,
    headers: Option<HeaderValue>,
    expose: Option<HeaderValue>,
    max_age: HeaderValue,
}

/// CORS headers of one response.
#[derive(Clone, Debug, Default)]
pub struct CorsHeaders(HeaderMap);

/// Headers that are removed from a service's response where the proxy applies CORS.
const ALLOWS: [HeaderName; 3] = [
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_EXPOSE_HEADERS,
];

impl CorsHeaders {
    /// Adds them to a response's headers.
    pub fn add_to(&self, headers: &mut dyn HeaderLines) {
        for (name, value) in &self.0 {
            match *name == header::VARY {
                true if headers.has(name, value) => {}
                true => headers.add(name, value),
                false => headers.set(name, value),
            }
        }
    }

    /// Replaces the CORS headers of a service's response.
    pub(crate) fn replace(&self, headers: &mut dyn HeaderLines) {
        for name in &ALLOWS {
            headers.remove(name);
        }
        self.add_to(headers);
    }
}

impl Cors {
    /// With these rules. Empty lists are not sent.
    pub fn new(sites: CorsRules<'_>) -> Self {
        let told = |list: &str| HeaderValue::try_from(list).ok().filter(|it| !it.is_empty());
        Self {
            origins: sites.origins.into(),
            credentials: sites.credentials,
            methods: told(sites.methods),
            headers: told(sites.headers),
            expose: told(sites.expose),
            max_age: HeaderValue::from(sites.max_age.as_secs()),
        }
    }

    pub(crate) fn of(settings: &CorsSettings) -> Self {
        Self::new(CorsRules {
            origins: &settings.origins,
            credentials: settings.credentials,
            methods: &settings.methods.join(", "),
            headers: &settings.headers.join(", "),
            expose: &settings.expose.join(", "),
            max_age: settings.max_age.0,
        })
    }

    /// The headers for a response to a request with these headers.
    pub fn headers_for(&self, request_headers: &HeaderMap) -> CorsHeaders {
        let mut cors_headers = CorsHeaders::default();
        let headers = &mut cors_headers.0;
        if !self.origins.is_empty() {
            headers.insert(header::VARY, HeaderValue::from_static("origin"));
        }
        let origin = request_headers.get(header::ORIGIN).filter(|origin| self.allows(origin));
        let Some(origin) = origin else { return cors_headers };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        if let Some(expose) = &self.expose {
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone());
        }
        self.add_credentials(headers);
        cors_headers
    }

    /// The response to a preflight request; `None` if the request is not a preflight.
    pub fn preflight(&self, head: &request::Parts) -> Option<Response<Body>> {
        let origin = head.headers.get(header::ORIGIN)?;
        preflight_method(head)?;
        let mut answer = Response::new(Body::Empty);
        *answer.status_mut() = StatusCode::NO_CONTENT;
        let headers = answer.headers_mut();
        headers.insert(header::VARY, HeaderValue::from_static("origin"));
        if self.allows(origin) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            let lists = [
                (header::ACCESS_CONTROL_ALLOW_METHODS, &self.methods),
                (header::ACCESS_CONTROL_ALLOW_HEADERS, &self.headers),
            ];
            for (name, list) in lists {
                if let Some(list) = list {
                    headers.insert(name, list.clone());
                }
            }
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
            self.add_credentials(headers);
        }
        Some(answer)
    }

    /// Whether the request comes from a page of another origin that is not allowed.
    pub fn is_refused(&self, headers: &HeaderMap, host: &str) -> bool {
        let Some(origin) = headers.get(header::ORIGIN) else { return false };
        let text = origin.to_str().unwrap_or_default();
        let site = text.split_once("://").map_or("", |(_, site)| site);
        let site = site.rsplit_once(':').map_or(site, |(name, _)| name);
        // Same-origin requests need no permission. The port is not compared, since it is not known
        // here.
        !site.eq_ignore_ascii_case(host) && !self.allows(origin)
    }

    fn allows(&self, origin: &HeaderValue) -> bool {
        self.origins.iter().any(|allowed| allowed == "*" || origin == allowed.as_str())
    }

    fn add_credentials(&self, headers: &mut HeaderMap) {
        if self.credentials {
            let yes = HeaderValue::from_static("true");
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
        }
    }
}

/// The method that a preflight request announces.
pub(crate) fn preflight_method(head: &request::Parts) -> Option<Method> {
    if head.method != Method::OPTIONS || !head.headers.contains_key(header::ORIGIN) {
        return None;
    }
    head.headers.get(header::ACCESS_CONTROL_REQUEST_METHOD)?.as_bytes().try_into().ok()
}

/// The errors of CORS settings.
pub fn errors(
    origins: &[String],
    credentials: bool,
    lists: [(&'static str, &[String]); 2],
) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for origin in origins.iter().filter(|origin| *origin != "*") {
        let site = origin.split_once("://").filter(|(scheme, host)| {
            !scheme.is_empty() && !host.is_empty() && !host.contains(['/', '*', ' '])
        });
        if site.is_none() {
            let hint = "write scheme, host and port as browsers do: `https://shop.example`";
            found.push(Diagnostic::at(&["origins"], format!("`{origin}` is no origin"), hint));
        }
    }
    if credentials && origins.iter().any(|origin| origin == "*") {
        let hint = "name the origins, or leave `credentials` out";
        let message = "`credentials` for every origin would let any page act as its visitor";
        found.push(Diagnostic::at(&["credentials"], message, hint));
    }
    for (key, names) in lists {
        for name in names.iter().filter(|it| HeaderName::try_from(*it).is_err()) {
            let message = format!("`{name}` can't be the name of a header");
            found.push(Diagnostic::at(&[key], message, "letters, digits and `-`"));
        }
    }
    found
}

/// The errors of a listener's or a route's `cors`.
pub(crate) fn errors_of(settings: &CorsSettings) -> Vec<Diagnostic> {
    let CorsSettings { origins, credentials, headers, expose, methods, .. } = settings;
    let mut found = errors(origins, *credentials, [("headers", headers), ("expose", expose)]);
    if origins.is_empty() {
        let hint = "such as `[\"https://shop.example\"]`, or `[\"*\"]` for all";
        found.push(Diagnostic::at(&["origins"], "no site is named", hint));
    }
    for method in methods {
        if method.parse::<Method>().is_err() || method.bytes().any(|b| b.is_ascii_lowercase()) {
            let message = format!("`{method}` is no method");
            found.push(Diagnostic::at(&["methods"], message, "in capitals, such as `GET`"));
        }
    }
    found
}
