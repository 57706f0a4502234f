use super::super::rules::{Found, Rules};
use super::*;
use http::Method;
use prost_reflect::DescriptorPool;
use serde_json::json;

fn rules() -> Rules {
    let pool = DescriptorPool::decode(crate::testing::library().as_slice()).unwrap();
    let settings = serde_json::from_value(json!({ "descriptors": "library" })).unwrap();
    Rules::new(pool, &settings).unwrap()
}

/// The call that a request is, and its message as JSON.
fn asked(method: &str, target: &str, body: &str) -> Result<(String, Value), String> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let Found::Call(rule, path) = rules().find(&method, path) else {
        panic!("{target} is no call")
    };
    let said = Said { path, query: query.to_owned(), lenient: false };
    let bytes = message(&rule, &said, body.as_bytes()).map_err(|status| {
        assert_eq!(status.code, Code::InvalidArgument);
        status.message
    })?;
    let message = DynamicMessage::decode(rule.call.input.clone(), bytes).unwrap();
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
fn what_does_not_fit_is_told() {
    for (method, target, body, words) in [
        (
            "GET",
            "/v1/books/1?nothing=1",
            "",
            "the query parameter `nothing` is no field of the request",
        ),
        ("POST", "/v1/books?title=1", "", "the query parameter `title` is no field of the request"),
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
        ("POST", "/v1/books", "[1]", "the body is no JSON object"),
        ("POST", "/v1/books", "{", "the body is no JSON: "),
        ("POST", "/v1/books", r#"{"tittle":"x"}"#, "the request does not fit: "),
        ("PATCH", "/v1/shelves/1/books/2", "[]", "the request does not fit: "),
    ] {
        let told = asked(method, target, body).unwrap_err();
        assert!(told.starts_with(words), "{target} {body}: {told}");
    }
}

#[test]
fn a_body_that_goes_deep_is_an_error_and_not_the_end() {
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(asked("POST", "/v1/books", &deep).unwrap_err().starts_with("the body is no JSON"));
}

#[test]
fn parameters_that_are_no_fields_pass_where_that_is_wanted() {
    let Found::Call(rule, path) = rules().find(&Method::GET, "/v1/books/1") else { panic!() };
    let said = Said { path, query: "utm=1".to_owned(), lenient: true };
    assert!(message(&rule, &said, b"").is_ok());
}
