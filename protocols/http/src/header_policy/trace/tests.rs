use super::*;

const TOLD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn rng() -> fastrand::Rng {
    fastrand::Rng::with_seed(1)
}

fn headers(of: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in of {
        headers.append(*name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

#[test]
fn an_existing_trace_is_forwarded_unchanged() {
    let of = &[("traceparent", TOLD), ("tracestate", "congo=t61")];
    let mut told = headers(of);
    let trace = trace(&mut told, None, &mut rng());
    assert_eq!(trace.to_string(), TOLD);
    assert_eq!(told, headers(of));
}

#[test]
fn an_invalid_traceparent_is_replaced_and_its_state_removed() {
    let zeros = |n| "0".repeat(n);
    for wrong in [
        String::new(),
        "00".to_owned(),
        TOLD.to_uppercase(),
        TOLD.replacen("00-", "ff-", 1),
        format!("{TOLD}-more"),
        format!("{TOLD} "),
        format!("00-{}-00f067aa0ba902b7-01", zeros(32)),
        format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{}-01", zeros(16)),
        TOLD.replace('-', "_"),
        TOLD[..54].to_owned(),
    ] {
        let mut told = headers(&[("traceparent", &wrong), ("tracestate", "a=b")]);
        let made = trace(&mut told, None, &mut rng());
        assert_eq!(SpanContext::read(told["traceparent"].as_bytes()), Some(made), "{wrong}");
        assert_eq!(told["traceparent"].len(), TOLD.len());
        assert!(!told.contains_key("tracestate"), "{wrong}");
    }
    let mut twice = headers(&[("traceparent", TOLD), ("traceparent", TOLD)]);
    assert_ne!(trace(&mut twice, None, &mut rng()), SpanContext::read(TOLD.as_bytes()).unwrap());
    assert_eq!(twice.get_all("traceparent").iter().count(), 1);
}

#[test]
fn a_printable_request_id_is_kept() {
    for id in ["a", "d9428888-122b-11e1-b85c-61cd3cbb3210", &"x".repeat(128)] {
        let mut told = headers(&[("x-request-id", id)]);
        assert_eq!(request_id(&mut told, &mut rng()), id);
    }
}

#[test]
fn a_request_without_valid_id_gets_a_uuid() {
    let long = "x".repeat(129);
    let cases: [&[(&str, &str)]; 5] = [
        &[],
        &[("x-request-id", "")],
        &[("x-request-id", "a b")],
        &[("x-request-id", &long)],
        &[("x-request-id", "a"), ("x-request-id", "b")],
    ];
    let mut rng = rng();
    let mut seen = Vec::new();
    for of in cases {
        let mut told = headers(of);
        let id = request_id(&mut told, &mut rng);
        let text = id.to_str().unwrap();
        let parts: Vec<usize> = text.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12], "{text}");
        assert_eq!(&text[14..15], "4");
        assert!(matches!(&text[19..20], "8" | "9" | "a" | "b"), "{text}");
        assert_eq!(told.get_all("x-request-id").iter().collect::<Vec<_>>(), [&id]);
        assert!(!seen.contains(&id));
        seen.push(id);
    }
}
