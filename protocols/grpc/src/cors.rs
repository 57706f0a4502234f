//! What pages of other sites may do (Fetch, "CORS protocol").

use crate::settings::Web;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header, request};
use web::Body;

/// Headers of gRPC-Web's own requests.
const REQUEST: &str = "authorization, content-type, grpc-accept-encoding, grpc-encoding, \
                       grpc-timeout, x-grpc-web, x-user-agent";
/// Headers of answers that a page may read.
const ANSWER: &str = "grpc-status, grpc-message, grpc-status-details-bin";

/// Which sites' pages may call, and what they may send and read.
#[derive(Debug)]
pub(crate) struct Cors {
    origins: Vec<String>,
    credentials: bool,
    headers: HeaderValue,
    expose: HeaderValue,
    max_age: HeaderValue,
}

/// What one page may read, to be written into its answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Grant(HeaderMap);

impl Grant {
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.0 {
            match *name == header::VARY {
                true if headers.get_all(name).iter().any(|it| it == value) => {}
                true => _ = headers.append(name, value.clone()),
                false => _ = headers.insert(name, value.clone()),
            }
        }
    }
}

impl Cors {
    pub(crate) fn new(web: &Web) -> Self {
        let list = |own: &str, more: &[String]| {
            let names = std::iter::once(own).chain(more.iter().map(String::as_str));
            let names: Vec<_> = names.collect();
            // Settings whose names are none were refused.
            HeaderValue::try_from(names.join(", ")).unwrap_or(HeaderValue::from_static(""))
        };
        Self {
            origins: web.origins.clone(),
            credentials: web.credentials,
            headers: list(REQUEST, &web.headers),
            expose: list(ANSWER, &web.expose),
            max_age: HeaderValue::from(web.max_age.0.as_secs()),
        }
    }

    /// What the page that sent this may read of the answer.
    pub(crate) fn grant(&self, headers: &HeaderMap) -> Grant {
        let mut grant = HeaderMap::new();
        if !self.origins.is_empty() {
            grant.insert(header::VARY, HeaderValue::from_static("origin"));
        }
        if let Some(origin) = headers.get(header::ORIGIN).filter(|origin| self.allows(origin)) {
            grant.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            grant.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, self.expose.clone());
            self.credential(&mut grant);
        }
        Grant(grant)
    }

    /// Answers what a browser asks before it lets a page call; `None` for what is no such question.
    pub(crate) fn preflight(&self, head: &request::Parts) -> Option<Response<Body>> {
        let origin = head.headers.get(header::ORIGIN)?;
        let asked = head.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        if head.method != Method::OPTIONS || !asked {
            return None;
        }
        let mut answer = Response::new(Body::Empty);
        *answer.status_mut() = StatusCode::NO_CONTENT;
        let headers = answer.headers_mut();
        headers.insert(header::VARY, HeaderValue::from_static("origin"));
        if self.allows(origin) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            let methods = HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE");
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, self.headers.clone());
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
            self.credential(headers);
        }
        Some(answer)
    }

    /// Whether a page asks that may not read the answer: of another site, and of none that is named.
    pub(crate) fn refuses(&self, headers: &HeaderMap, host: &str) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn cors(origins: &[&str], credentials: bool) -> Cors {
        let origins = origins.iter().map(|it| (*it).to_owned()).collect();
        let headers = vec!["x-tenant".to_owned()];
        Cors::new(&Web { origins, credentials, headers, ..Web::default() })
    }

    fn preflight(cors: &Cors, origin: &str) -> Option<Response<Body>> {
        let request = Request::options("/a.B/C")
            .header("origin", origin)
            .header("access-control-request-method", "POST");
        cors.preflight(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn a_page_of_an_allowed_site_learns_what_it_may_send() {
        let cors = cors(&["https://shop.example"], true);
        let answer = preflight(&cors, "https://shop.example").unwrap();
        assert_eq!(answer.status(), 204);
        let headers = answer.headers();
        assert_eq!(headers["access-control-allow-origin"], "https://shop.example");
        assert_eq!(headers["access-control-allow-credentials"], "true");
        assert_eq!(headers["access-control-max-age"], "3600");
        assert_eq!(headers["vary"], "origin");
        let allowed = headers["access-control-allow-headers"].to_str().unwrap();
        assert!(allowed.contains("x-grpc-web") && allowed.ends_with(", x-tenant"), "{allowed}");
    }

    #[test]
    fn a_page_of_another_site_learns_nothing() {
        let cors = cors(&["https://shop.example"], false);
        for origin in ["https://evil.example", "https://shop.example.evil.example", "null"] {
            let answer = preflight(&cors, origin).unwrap();
            assert!(!answer.headers().contains_key("access-control-allow-origin"), "{origin}");
            let mut asked = HeaderMap::new();
            asked.insert(header::ORIGIN, HeaderValue::from_static("https://evil.example"));
            let mut headers = HeaderMap::new();
            cors.grant(&asked).write(&mut headers);
            assert!(!headers.contains_key("access-control-allow-origin"));
            assert_eq!(headers["vary"], "origin");
        }
    }

    #[test]
    fn a_request_that_is_no_preflight_is_none() {
        let cors = cors(&["*"], false);
        let post = Request::post("/").header("origin", "https://a").body(()).unwrap();
        assert!(cors.preflight(&post.into_parts().0).is_none());
        let options = Request::options("/").header("origin", "https://a").body(()).unwrap();
        assert!(cors.preflight(&options.into_parts().0).is_none());
    }

    #[test]
    fn what_varied_before_still_varies() {
        let mut asked = HeaderMap::new();
        asked.insert(header::ORIGIN, HeaderValue::from_static("https://a"));
        let mut headers = HeaderMap::new();
        headers.insert(header::VARY, HeaderValue::from_static("accept"));
        let grant = cors(&["*"], false).grant(&asked);
        grant.write(&mut headers);
        grant.write(&mut headers);
        let varies: Vec<_> = headers.get_all(header::VARY).iter().collect();
        assert_eq!(varies, ["accept", "origin"]);
        assert_eq!(headers["access-control-allow-origin"], "https://a");
        assert!(headers["access-control-expose-headers"].to_str().unwrap().contains("grpc-status"));
    }
}
