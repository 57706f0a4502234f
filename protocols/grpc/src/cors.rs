//! CORS rules for gRPC-Web (Fetch, "CORS protocol").

use crate::settings::Web;
use tollgate_http::CorsRules;
pub(crate) use tollgate_http::{Cors, CorsHeaders};

/// Request headers that gRPC-Web clients send.
const REQUEST: &str = "authorization, content-type, grpc-accept-encoding, grpc-encoding, \
                       grpc-timeout, x-grpc-web, x-user-agent";
/// Response headers that a page may read.
const ANSWER: &str = "grpc-status, grpc-message, grpc-status-details-bin";

/// The CORS rules for the configured origins.
pub(crate) fn cors(web: &Web) -> Cors {
    let list = |own: &str, more: &[String]| {
        let names: Vec<_> = std::iter::once(own).chain(more.iter().map(String::as_str)).collect();
        names.join(", ")
    };
    Cors::new(CorsRules {
        origins: &web.origins,
        credentials: web.credentials,
        methods: "GET, POST, PUT, PATCH, DELETE",
        headers: &list(REQUEST, &web.headers),
        expose: &list(ANSWER, &web.expose),
        max_age: web.max_age.0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, HeaderValue, Request, Response, header};
    use tollgate_http::Body;

    fn sites(origins: &[&str], credentials: bool) -> Cors {
        let origins = origins.iter().map(|it| (*it).to_owned()).collect();
        let headers = vec!["x-tenant".to_owned()];
        cors(&Web { origins, credentials, headers, ..Web::default() })
    }

    fn preflight(cors: &Cors, origin: &str) -> Option<Response<Body>> {
        let request = Request::options("/a.B/C")
            .header("origin", origin)
            .header("access-control-request-method", "POST");
        cors.preflight(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn a_page_of_an_allowed_site_learns_what_it_may_send() {
        let cors = sites(&["https://shop.example"], true);
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
        let cors = sites(&["https://shop.example"], false);
        for origin in ["https://evil.example", "https://shop.example.evil.example", "null"] {
            let answer = preflight(&cors, origin).unwrap();
            assert!(!answer.headers().contains_key("access-control-allow-origin"), "{origin}");
            let mut asked = HeaderMap::new();
            asked.insert(header::ORIGIN, HeaderValue::from_static("https://evil.example"));
            let mut headers = HeaderMap::new();
            cors.headers_for(&asked).add_to(&mut headers);
            assert!(!headers.contains_key("access-control-allow-origin"));
            assert_eq!(headers["vary"], "origin");
        }
    }

    #[test]
    fn a_request_that_is_no_preflight_is_none() {
        let cors = sites(&["*"], false);
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
        let grant = sites(&["*"], false).headers_for(&asked);
        grant.add_to(&mut headers);
        grant.add_to(&mut headers);
        let varies: Vec<_> = headers.get_all(header::VARY).iter().collect();
        assert_eq!(varies, ["accept", "origin"]);
        assert_eq!(headers["access-control-allow-origin"], "https://a");
        assert!(headers["access-control-expose-headers"].to_str().unwrap().contains("grpc-status"));
    }
}
