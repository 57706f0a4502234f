use super::super::rules::{RuleMatch, Rules};
use super::*;
use http::Method;
use prost_reflect::{DescriptorPool, DynamicMessage};
use serde_json::json;

fn rules() -> Rules {
    let pool = DescriptorPool::decode(crate::testing::library().as_slice()).unwrap();
    let settings = serde_json::from_value(json!({ "descriptors": "library" })).unwrap();
    Rules::new(pool, &settings).unwrap()
}

/// The call of a request, and its message as JSON.
fn asked(method: &str, target: &str, body: &str) -> Result<(String, Value), String> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let RuleMatch::Call(rule, path) = rules().find(&method, path) else {
        panic!("{target} is no call")
    };
    let path = path.map_err(|_| "the path is not UTF-8")?;
    let said = RequestInput { path, query: query.to_owned(), lenient: false };
    let bytes = message(&rule, &said, body.as_bytes(), 1 << 20).map_err(|status| {
        assert_eq!(status.code, Code::InvalidArgument);
        status.message
    })?;
    let message = DynamicMessage::decode(rule.call.input.clone(), bytes.as_slice()).unwrap();
    Ok((rule.call.path.clone(), serde_json::to_value(message).unwrap()))
}

fn is(method: &str, target: &str, body: &str, call: &str, message: Value) {
    let call = format!("/library.v1.Library/{call}");
    assert_eq!(asked(method, target, body), Ok((call, message)), "{method} {target} {body}");
}

#[test]
fn paths_say_fields() {
    is("GET", "/v1/shelves/1/books/2", "", "GetBook", json!({ "name": "shelves/1/books/2" }));
    is("GET", "/v1/books/a%20b", "", "GetBook", json!({ "name": "a b" }));
    is("GET", "/v1/shelves/crime/books", "", "ListBooks", json!({ "shelf": "crime" }));
    is("GET", "/v1/shelves/crime:watch", "", "WatchShelf", json!({ "shelf": "crime" }));
    is("GET", "/v1/files/a/b/c", "", "ReadFile", json!({ "name": "a/b/c" }));
    is("PURGE", "/v1/all", "", "Purge", json!({}));
    let target = "/v1/shelves/1/books/2:lend";
    is(
        "POST",
        target,
        r#"{"title":"x"}"#,
        "LendBook",
        json!({ "name": "shelves/1/books/2", "title": "x" }),
    );
}

#[test]
fn queries_say_fields_of_every_kind() {
    for (query, field) in [
        ("page_size=7", json!({ "pageSize": 7 })),
        ("pageSize=7", json!({ "pageSize": 7 })),
        ("genres=CRIME&genres=2", json!({ "genres": ["CRIME", "POETRY"] })),
        ("filter.title=a+b%2Bc", json!({ "filter": { "title": "a b+c" } })),
        ("filter.tags=a&filter.tags=b", json!({ "filter": { "tags": ["a", "b"] } })),
        ("lent=true", json!({ "lent": true })),
        ("token=aGk", json!({ "token": "aGk=" })),
        ("token=-_8%3D", json!({ "token": "+/8=" })),
        ("weight=1.5", json!({ "weight": 1.5 })),
        ("since=2026-01-02T03:04:05Z", json!({ "since": "2026-01-02T03:04:05Z" })),
        ("&&", json!({})),
    ] {
        let mut message = field;
        message["shelf"] = "x".into();
        is("GET", &format!("/v1/shelves/x/books?{query}"), "", "ListBooks", message);
    }
    let masked = json!({ "name": "shelves/1/books/2", "readMask": "title,author.fullName" });
    let target = "/v1/shelves/1/books/2?read_mask=title,author.fullName";
    is("GET", target, "", "GetBook", masked);
}

#[test]
fn a_path_is_stronger_than_a_query_and_a_body() {
    is("GET", "/v1/shelves/x/books?shelf=y", "", "ListBooks", json!({ "shelf": "x" }));
    let lent = r#"{"name":"other","title":"x"}"#;
    let message = json!({ "name": "shelves/1/books/2", "title": "x" });
    is("POST", "/v1/shelves/1/books/2:lend", lent, "LendBook", message);
}

#[test]
fn bodies_are_the_message_or_a_field_of_it() {
    let book =
        r#"{"title":"x","copies":"9007199254740993","cover":"aGk=","author":{"full_name":"y"}}"#;
    let read = json!({ "title": "x", "copies": "9007199254740993", "cover": "aGk=",
                       "author": { "fullName": "y" } });
    is("POST", "/v1/books", book, "CreateBook", read);
    let message = json!({ "book": { "name": "shelves/1/books/2", "title": "x" },
                          "updateMask": "title" });
    let target = "/v1/shelves/1/books/2?update_mask=title";
    is("PATCH", target, r#"{"title":"x","name":"other"}"#, "UpdateBook", message);
    is("POST", "/v1/books", " ", "CreateBook", json!({}));
    is("POST", "/v1/books", "null", "CreateBook", json!({}));
}

#[test]
fn a_value_that_does_not_fit_is_an_error() {
    for (method, target, body, words) in [
        (
            "GET",
            "/v1/books/1?nothing=1",
            "",
            "the query parameter `nothing` is not a field of the request",
        ),
        (
            "POST",
            "/v1/books?title=1",
            "",
            "the query parameter `title` is not a field of the request",
        ),
        (
            "PATCH",
            "/v1/shelves/1/books/2?book.title=1",
            "",
            "the query parameter `book.title` is no",
        ),
        ("GET", "/v1/shelves/x/books?lent=yes", "", "`yes` is no `true` or `false`, as `lent` is"),
        ("GET", "/v1/shelves/x/books?page_size=many", "", "the request does not fit: "),
        ("GET", "/v1/shelves/x/books?genres=WAR", "", "the request does not fit: "),
        ("GET", "/v1/shelves/x/books?token=%25%25", "", "the request does not fit: "),
        ("GET", "/v1/shelves/x/books?since=now", "", "the request does not fit: "),
        ("GET", "/v1/shelves/x/books?filter=1", "", "`filter` is a message: name a field of it"),
        ("GET", "/v1/shelves/x/books?labels=1", "", "`labels` is a map: it goes into the body"),
        (
            "GET",
            "/v1/shelves/x/books?filter.tags.x=1",
            "",
            "the query parameter `filter.tags.x` is",
        ),
        ("POST", "/v1/books", "[1]", "the body is not a JSON object"),
        ("POST", "/v1/books", "{", "the body is not JSON: "),
        ("POST", "/v1/books", r#"{"tittle":"x"}"#, "the request does not fit: "),
        ("PATCH", "/v1/shelves/1/books/2", "[]", "the request does not fit: "),
    ] {
        let told = asked(method, target, body).unwrap_err();
        assert!(told.starts_with(words), "{target} {body}: {told}");
    }
}

#[test]
fn an_error_names_the_field_that_does_not_fit() {
    for (method, target, body, words) in [
        ("POST", "/v1/books", r#"{"copies":"abc"}"#, "`copies`: invalid value: string \"abc\""),
        ("POST", "/v1/books", r#"{"author":{"living":3}}"#, "`author.living`: invalid value"),
        ("POST", "/v1/books", r#"{"tags":["x",3]}"#, "`tags`: invalid value"),
        ("POST", "/v1/books", r#"{"author":{"nme":3}}"#, "`author`: unrecognized field name 'nme'"),
        ("POST", "/v1/books", r#"{"printedAt":"x"}"#, "`printedAt`: "),
        ("PATCH", "/v1/shelves/1/books/2", r#"{"copies":[]}"#, "`book.copies`: invalid type"),
        ("GET", "/v1/shelves/1/books?page_size=x", "", "`page_size`: invalid value"),
        ("GET", "/v1/shelves/1/books?weight=1e400", "", "`weight`: invalid value"),
        ("GET", "/v1/shelves/1/books?weight=inf", "", "`weight`: invalid value"),
        ("GET", "/v1/shelves/1/books?weight=infinity", "", "`weight`: invalid value"),
    ] {
        let told = asked(method, target, body).unwrap_err();
        let words = format!("the request does not fit: {words}");
        assert!(told.starts_with(&words), "{target} {body}: {told}");
    }
    for (query, weight) in [("1e300", json!(1e300)), ("-Infinity", json!("-Infinity"))] {
        let target = format!("/v1/shelves/1/books?weight={query}");
        assert_eq!(asked("GET", &target, "").unwrap().1["weight"], weight);
    }
}

#[test]
fn text_that_is_no_utf_8_is_refused() {
    for target in ["/v1/shelves/%FF/books", "/v1/shelves/1/books?filter.title=%FF"] {
        let told = asked("GET", target, "").unwrap_err();
        assert!(told.contains("not UTF-8"), "{target}: {told}");
    }
    assert!(asked("GET", "/v1/shelves/%C3%A4/books?filter.title=%C3%A4", "").is_ok());
}

#[test]
fn a_body_that_goes_deep_is_an_error_and_not_the_end() {
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(
        asked("POST", "/v1/books", &deep).unwrap_err().starts_with("the body is not a JSON object")
    );
}

#[test]
fn parameters_that_are_no_fields_pass_where_that_is_wanted() {
    let RuleMatch::Call(rule, Ok(path)) = rules().find(&Method::GET, "/v1/books/1") else {
        panic!()
    };
    let said = RequestInput { path, query: "utm=1".to_owned(), lenient: true };
    assert!(message(&rule, &said, b"", 1024).is_ok());
}

/// Builds the message of a `protos/tree.proto` request.
fn tree_asked(target: &str, limit: usize, body: &[u8]) -> Result<Vec<u8>, Status> {
    let pool = DescriptorPool::decode(crate::testing::tree().as_slice()).unwrap();
    let settings = serde_json::from_value(json!({ "descriptors": "tree" })).unwrap();
    let rules = Rules::new(pool, &settings).unwrap();
    let (method, target) = target.split_once(' ').unwrap();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let RuleMatch::Call(rule, Ok(path)) = rules.find(&method, path) else { panic!("{target}") };
    message(&rule, &RequestInput { path, query: query.to_owned(), lenient: false }, body, limit)
}

#[test]
fn a_parameter_of_more_than_32_names_is_rejected() {
    let deep = |names: usize| format!("GET /v1/tree?{}v=1", "a.".repeat(names - 1));
    assert!(tree_asked(&deep(32), 1 << 20, b"").is_ok());
    for names in [33, 950, 100_000] {
        let told = tree_asked(&deep(names), 1 << 20, b"").unwrap_err();
        assert_eq!(told.code, Code::InvalidArgument);
        assert!(told.message.contains("deeper than 32 names"), "{}", told.message);
        assert!(told.message.len() <= MAX_ECHO_BYTES);
    }
}

#[test]
fn a_rule_whose_variable_is_deeper_than_32_names_is_no_rule() {
    let pool = DescriptorPool::decode(crate::testing::tree().as_slice()).unwrap();
    let node = pool.get_message_by_name("t.Node").unwrap();
    let path = |names: usize| format!("{}v", "a.".repeat(names - 1));
    assert_eq!(field_path(&node, &path(32)).map(|it| it.len()), Ok(32));
    assert_eq!(field_path(&node, &path(33)), Err(FieldPathError::TooDeep));
    assert_eq!(field_path(&node, "nodes.v"), Err(FieldPathError::Unknown));
}

#[test]
fn what_takes_one_value_is_given_once() {
    for (query, words) in [
        ("v=1&v=2", "the query parameter `v` is given twice"),
        ("a.v=1&a.v=2", "the query parameter `a.v` is given twice"),
        ("left.v=1&right=x", "`right` is one of `choice`, of which another is given"),
        ("a.right=x&a.left.v=1", "`a.left.v` is one of `choice`, of which another is given"),
    ] {
        let told = tree_asked(&format!("GET /v1/tree?{query}"), 1 << 20, b"").unwrap_err();
        assert_eq!(told.message, words);
    }
    for query in ["r=1&r=2", "left.v=1&left.left.v=2", "a.left.v=1&right=x", "v=1&a.v=2"] {
        assert!(tree_asked(&format!("GET /v1/tree?{query}"), 1 << 20, b"").is_ok(), "{query}");
    }
}

#[test]
fn a_time_in_a_path_or_query_leaves_nothing_of_one_in_a_body() {
    let body = br#"{"at":"2026-01-02T03:04:05.006Z"}"#;
    let said = tree_asked("PATCH /v1/tree/x?at=2026-01-02T03:04:06Z", 1 << 20, body).unwrap();
    let pool = DescriptorPool::decode(crate::testing::tree().as_slice()).unwrap();
    let node = pool.get_message_by_name("t.Node").unwrap();
    let read = DynamicMessage::decode(node, said.as_slice()).unwrap();
    let read = serde_json::to_value(read).unwrap();
    assert_eq!(read["at"], "2026-01-02T03:04:06Z");
    assert_eq!(read["left"]["at"], "2026-01-02T03:04:05.006Z");
}

#[test]
fn a_message_that_grows_too_long_has_its_own_error() {
    let list = vec!["1"; 1000].join(",");
    let body = format!(r#"{{"list":[{list}]}}"#);
    assert!(tree_asked("POST /v1/tree", 20_000, body.as_bytes()).is_ok());
    let told = tree_asked("POST /v1/tree", 3000, body.as_bytes()).unwrap_err();
    assert_eq!(told.code, Code::ResourceExhausted);
    assert!(told.message.contains("`max_message` allows 3000"), "{}", told.message);
}

#[test]
fn an_error_quotes_the_client_up_to_the_size_of_a_header() {
    let name = "ä".repeat(100_000);
    for body in [format!(r#"{{"{name}":1}}"#), format!(r#"{{"numbers":{{"kind":"{name}"}}}}"#)] {
        let told = tree_asked("POST /v1/tree", 1 << 20, body.as_bytes()).unwrap_err();
        assert!(told.message.len() <= MAX_ECHO_BYTES && told.message.len() > 100);
    }
}
