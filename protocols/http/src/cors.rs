//! What pages of other sites may do (Fetch, "CORS protocol").

use crate::{body::Body, settings::CorsSettings};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header, request};
use std::time::Duration;
use values::Fault;

/// The log's word for a page of another site that may not read what it asks for; it is counted, too.
pub(crate) const ORIGIN_REFUSED: &str = "origin_refused";
pub(crate) const REFUSED: operation::Violation = operation::Violation(ORIGIN_REFUSED);

/// Which sites' pages may call, and what they may send and read.
#[derive(Clone, Copy, Debug)]
pub struct CorsRules<'a> {
    /// The sites: `https://shop.example`, or `*` for all.
    pub origins: &'a [String],
    /// Whether their pages may send cookies.
    pub credentials: bool,
    /// The methods that they may use, with commas between them.
    pub methods: &'a str,
    /// The headers that they may send.
    pub headers: &'a str,
    /// The headers of answers that they may read.
    pub expose: &'a str,
    /// How long a browser may remember that.
    pub max_age: Duration,
}

/// The same, ready to be told.
#[derive(Debug)]
pub struct Cors {
    origins: Box<[String]>,
    credentials: bool,
    methods: Option<HeaderValue>,
    headers: Option<HeaderValue>,
    expose: Option<HeaderValue>,
    max_age: HeaderValue,
}

/// What one page may read, to be written into its answer.
#[derive(Clone, Debug, Default)]
pub struct CorsHeaders(HeaderMap);

/// What tells pages what they may; a service's own word counts for nothing where the proxy decides.
const ALLOWS: [HeaderName; 3] = [
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_EXPOSE_HEADERS,
];

impl CorsHeaders {
    /// Adds it to an answer's headers.
    pub fn write(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.0 {
            match *name == header::VARY {
                true if headers.get_all(name).iter().any(|it| it == value) => {}
                true => _ = headers.append(name, value.clone()),
                false => _ = headers.insert(name, value.clone()),
            }
        }
    }

    /// Puts it in the place of what an answer says itself.
    pub(crate) fn replace(&self, headers: &mut HeaderMap) {
        for name in &ALLOWS {
            headers.remove(name);
        }
        self.write(headers);
    }
}

impl Cors {
    /// For these sites. Lists that are empty are not told.
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

    /// What the page that sent this may read of the answer.
    pub fn grant(&self, asked: &HeaderMap) -> CorsHeaders {
        let mut grant = CorsHeaders::default();
        let headers = &mut grant.0;
        if !self.origins.is_empty() {
            headers.insert(header::VARY, HeaderValue::from_static("origin"));
        }
        let origin = asked.get(header::ORIGIN).filter(|origin| self.allows(origin));
        let Some(origin) = origin else { return grant };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        if let Some(expose) = &self.expose {
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone());
        }
        self.credential(headers);
        grant
    }

    /// Answers what a browser asks before it lets a page call; `None` for what is no such question.
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
            self.credential(headers);
        }
        Some(answer)
    }

    /// Whether a page asks that may not read the answer: of another site, and of none that is named.
    pub fn refuses(&self, headers: &HeaderMap, host: &str) -> bool {
        let Some(origin) = headers.get(header::ORIGIN) else { return false };
        let text = origin.to_str().unwrap_or_default();
        let site = text.split_once("://").map_or("", |(_, site)| site);
        let site = site.rsplit_once(':').map_or(site, |(name, _)| name);
        // A page of the proxy's own name needs no leave; which port it came by is not known here.
        !site.eq_ignore_ascii_case(host) && !self.allows(origin)
    }

    fn allows(&self, origin: &HeaderValue) -> bool {
        self.origins.iter().any(|allowed| allowed == "*" || origin == allowed.as_str())
    }

    fn credential(&self, headers: &mut HeaderMap) {
        if self.credentials {
            let yes = HeaderValue::from_static("true");
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
        }
    }
}

/// The method that a browser asks for ahead of the request itself.
pub(crate) fn preflight_method(head: &request::Parts) -> Option<Method> {
    if head.method != Method::OPTIONS || !head.headers.contains_key(header::ORIGIN) {
        return None;
    }
    head.headers.get(header::ACCESS_CONTROL_REQUEST_METHOD)?.as_bytes().try_into().ok()
}

/// What is wrong with such settings, by the key that it is below.
pub fn faults(
    origins: &[String],
    credentials: bool,
    lists: [(&'static str, &[String]); 2],
) -> Vec<(&'static str, Fault)> {
    let mut found = Vec::new();
    for origin in origins.iter().filter(|origin| *origin != "*") {
        let site = origin.split_once("://").filter(|(scheme, host)| {
            !scheme.is_empty() && !host.is_empty() && !host.contains(['/', '*', ' '])
        });
        if site.is_none() {
            let hint = "write scheme, host and port as browsers do: `https://shop.example`";
            found.push(("origins", Fault::new(format!("`{origin}` is no origin"), hint)));
        }
    }
    if credentials && origins.iter().any(|origin| origin == "*") {
        let hint = "name the origins, or leave `credentials` out";
        let message = "`credentials` for every origin would let any page act as its visitor";
        found.push(("credentials", Fault::new(message, hint)));
    }
    for (key, names) in lists {
        for name in names.iter().filter(|it| HeaderName::try_from(*it).is_err()) {
            let message = format!("`{name}` can't be the name of a header");
            found.push((key, Fault::new(message, "letters, digits and `-`")));
        }
    }
    found
}

/// The same of a listener's or a route's `cors`.
pub(crate) fn faults_of(settings: &CorsSettings) -> Vec<(&'static str, Fault)> {
    let CorsSettings { origins, credentials, headers, expose, methods, .. } = settings;
    let mut found = faults(origins, *credentials, [("headers", headers), ("expose", expose)]);
    if origins.is_empty() {
        let hint = "such as `[\"https://shop.example\"]`, or `[\"*\"]` for all";
        found.push(("origins", Fault::new("no site is named", hint)));
    }
    for method in methods {
        if method.parse::<Method>().is_err() || method.bytes().any(|b| b.is_ascii_lowercase()) {
            let message = format!("`{method}` is no method");
            found.push(("methods", Fault::new(message, "in capitals, such as `GET`")));
        }
    }
    found
}
