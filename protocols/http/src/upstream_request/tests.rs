use super::*;
use http::uri::Scheme;

#[test]
fn a_failed_attempt_has_a_retry_failure_and_an_outcome() {
    let away = |reason| {
        let (message, close) = (String::new(), Close::ConnectFailed);
        AttemptError::Unreachable(Unreachable { reason, message, close })
    };
    let cases = [
        (away(RejectReason::NoEndpoint), Some(AttemptFailure::Connect), Outcome::Lost),
        (away(RejectReason::Overloaded), None, Outcome::Lost),
        (
            AttemptError::Upstream(UpstreamError::Refused),
            Some(AttemptFailure::Refused),
            Outcome::Lost,
        ),
        (
            AttemptError::Upstream(UpstreamError::ConnectionReset),
            Some(AttemptFailure::Reset),
            Outcome::Lost,
        ),
        (
            AttemptError::Upstream(UpstreamError::StreamReset),
            Some(AttemptFailure::Reset),
            Outcome::Lost,
        ),
        (
            AttemptError::Upstream(UpstreamError::InvalidResponse),
            Some(AttemptFailure::Reset),
            Outcome::Lost,
        ),
        (
            AttemptError::EndpointClosed(Close::EndpointRemoved),
            Some(AttemptFailure::Reset),
            Outcome::Cancelled,
        ),
        (
            AttemptError::Upstream(UpstreamError::ConflictingLength),
            Some(AttemptFailure::Reset),
            Outcome::Lost,
        ),
        (AttemptError::Upstream(UpstreamError::HeadTooLarge), None, Outcome::Cancelled),
        (AttemptError::HeadTooLarge(9), None, Outcome::Cancelled),
        (AttemptError::TimedOut, Some(AttemptFailure::PerTryTimeout), Outcome::Lost),
        (AttemptError::TooLarge, None, Outcome::Cancelled),
        (AttemptError::ClientAborted, None, Outcome::Cancelled),
    ];
    for (failed, kind, outcome) in cases {
        assert_eq!((failed.failure(), failed.outcome()), (kind, outcome), "{failed:?}");
    }
}

#[test]
fn the_authority_is_written_as_the_version_requires() {
    let shop = HeaderValue::from_static("shop.example:8080");
    let request = |http2: Option<Scheme>, authority: Option<&HeaderValue>| {
        let body = RequestBody::new(&ReplayBody::new(Body::Empty, 0, None, None), None);
        let incoming = Request::get("http://other.example/a?b").header("host", "other.example");
        let mut request = incoming.body(body).unwrap();
        set_target(&mut request, authority, "shop-1:80", http2);
        let host = request.headers().get("host").map(|it| it.to_str().unwrap().to_owned());
        (request.uri().to_string(), host, request.version())
    };
    let host = |text: &str| Some(text.to_owned());
    let one = request(None, Some(&shop));
    assert_eq!(one, ("/a?b".to_owned(), host("shop.example:8080"), Version::HTTP_11));
    let two = request(Some(Scheme::HTTPS), Some(&shop));
    assert_eq!(two, ("https://shop.example:8080/a?b".to_owned(), None, Version::HTTP_2));
    // An HTTP/1.0 client may have sent no host.
    assert_eq!(request(None, None), ("/a?b".to_owned(), host("shop-1:80"), Version::HTTP_11));
    assert_eq!(request(Some(Scheme::HTTP), None).0, "http://shop-1:80/a?b");
}
