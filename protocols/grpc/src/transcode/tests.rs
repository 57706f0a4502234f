use super::*;
use crate::{
    frame::{COMPRESSED, framed},
    testing::{
        Script, answer, grpc_answer, headers, library, library_file, post, read, ready, room,
    },
};
use base64::Engine as _;
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage};
use serde_json::{Value, json};

const OK: &[(&str, &str)] = &[("grpc-status", "0")];

fn json_of(mut settings: Value) -> Arc<JsonTranscoding> {
    settings["descriptors"] = "library".into();
    let settings: Transcode = serde_json::from_value(settings).unwrap();
    let pool = DescriptorPool::decode(library().as_slice()).unwrap();
    let rules = Rules::new(pool, &settings).unwrap();
    Arc::new(JsonTranscoding { rules, settings })
}

/// A message of the library, as bytes.
fn bytes_of(name: &str, json: Value) -> Vec<u8> {
    let pool = DescriptorPool::decode(library().as_slice()).unwrap();
    let message = pool.get_message_by_name(name).unwrap();
    DynamicMessage::deserialize(message, json).unwrap().encode_to_vec()
}

fn book(title: &str) -> Vec<u8> {
    bytes_of("library.v1.Book", json!({ "title": title }))
}

fn head(method: &str, target: &str) -> http_request::Parts {
    let mut head = post(target, &[("accept", "*/*"), ("content-length", "0")]);
    head.method = Method::from_bytes(method.as_bytes()).unwrap();
    head
}

fn transcoder(json: &Arc<JsonTranscoding>, head: &mut http_request::Parts) -> Box<dyn Translator> {
    json.read(head, CorsHeaders::default(), room(4096))
        .unwrap_or_else(|_| panic!("{} is no call", head.uri))
}

fn call(
    json: &Arc<JsonTranscoding>,
    method: &str,
    target: &str,
    reply: Response<Body>,
) -> Response<Body> {
    let mut head = head(method, target);
    let mut translator = transcoder(json, &mut head);
    let asked = read(translator.translate_request(&mut head, Body::Empty));
    assert_eq!(asked.broken, None);
    ready(translator.translate_response(reply))
}

fn text(answer: Response<Body>) -> String {
    String::from_utf8(read(answer.into_body()).bytes).unwrap()
}

fn tree(answer: Response<Body>) -> Value {
    serde_json::from_str(&text(answer)).unwrap()
}

#[test]
fn a_request_becomes_the_call_that_its_rule_says() {
    let json = json_of(json!({}));
    let mut head = head("GET", "/v1/shelves/1/books/2?read_mask=title");
    let mut translator = transcoder(&json, &mut head);
    assert_eq!(
        (head.uri.to_string().as_str(), &head.method),
        ("/library.v1.Library/GetBook", &Method::POST)
    );
    let asked = read(translator.translate_request(&mut head, Body::Empty));
    // The query comes first: later values win.
    let part = |said| bytes_of("library.v1.GetBookRequest", said);
    let query = part(json!({ "readMask": "title" }));
    let expected = [query, part(json!({ "name": "shelves/1/books/2" }))].concat();
    assert_eq!(asked.bytes, framed(0, &expected));
    assert_eq!(head.headers["content-type"], "application/grpc");
    assert_eq!(head.headers["te"], "trailers");
    assert!(!head.headers.contains_key("accept") && !head.headers.contains_key("content-length"));
}

#[test]
fn a_message_is_answered_as_json() {
    let json = json_of(json!({}));
    let reply = grpc_answer(&[&book("x")], &[("grpc-status", "0"), ("x-cost", "7")]);
    let answer = call(&json, "GET", "/v1/books/1", reply);
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "application/json");
    assert_eq!(answer.headers()["content-length"], "13");
    assert_eq!(answer.headers()["grpc-status"], "0");
    assert_eq!(answer.headers()["x-cost"], "7");
    assert_eq!(text(answer), r#"{"title":"x"}"#);
}

#[test]
fn messages_are_written_as_settings_say() {
    let full = || {
        let book = json!({ "copies": "3", "author": { "fullName": "y" }, "genre": "CRIME" });
        grpc_answer(&[&bytes_of("library.v1.Book", book)], OK)
    };
    let plain = tree(call(&json_of(json!({})), "GET", "/v1/books/1", full()));
    assert_eq!(plain, json!({ "copies": "3", "author": { "fullName": "y" }, "genre": "CRIME" }));
    let json = json_of(json!({ "print_defaults": true, "proto_names": true }));
    let all = tree(call(&json, "GET", "/v1/books/1", full()));
    assert_eq!(all["author"], json!({ "full_name": "y", "living": false }));
    assert_eq!((&all["title"], &all["tags"]), (&json!(""), &json!([])));
}

#[test]
fn a_rule_may_answer_one_field() {
    let json = json_of(json!({}));
    let list = json!({ "books": [{ "title": "x" }] });
    let reply = grpc_answer(&[&bytes_of("library.v1.ListBooksResponse", list)], OK);
    let answer = tree(call(&json, "GET", "/v1/shelves/1/books", reply));
    assert_eq!(answer[0]["title"], "x");
    let answer = text(call(&json, "GET", "/v1/shelves/1/books", grpc_answer(&[b""], OK)));
    assert_eq!(answer, "[]");
}

#[test]
fn an_http_body_is_answered_as_it_is() {
    let json = json_of(json!({}));
    let file = json!({ "contentType": "image/png", "data": "iVBORw==" });
    let reply = grpc_answer(&[&bytes_of("google.api.HttpBody", file)], OK);
    let answer = call(&json, "GET", "/v1/files/a.png", reply);
    assert_eq!(answer.headers()["content-type"], "image/png");
    assert_eq!(read(answer.into_body()).bytes, b"\x89PNG");
}

/// A successful trailers-only response.
fn over_with_its_head() -> Response<Body> {
    answer(&[("content-type", "application/grpc"), ("grpc-status", "0")], Script::default())
}

#[test]
fn a_stream_without_messages_is_an_empty_list_or_nothing() {
    for (streams, body) in [("array", "[]"), ("lines", "")] {
        let json = json_of(json!({ "streams": streams }));
        for reply in [over_with_its_head(), grpc_answer(&[], OK)] {
            let answer = call(&json, "GET", "/v1/shelves/1:watch", reply);
            assert_eq!(answer.status(), 200, "{streams}");
            assert_eq!(text(answer), body, "{streams}");
        }
    }
}

#[test]
fn a_successful_unary_call_without_a_message_is_an_error() {
    for reply in [over_with_its_head(), grpc_answer(&[], OK)] {
        let answer = call(&json_of(json!({})), "GET", "/v1/books/1", reply);
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["grpc-status"]),
            (500, &"13".parse().unwrap())
        );
        assert_eq!(tree(answer)["code"], 13);
    }
}

#[test]
fn pieces_of_a_file_are_answered_one_after_the_other() {
    let row = |text: &[u8]| {
        let data = base64::engine::general_purpose::STANDARD.encode(text);
        bytes_of("google.api.HttpBody", json!({ "contentType": "text/csv", "data": data }))
    };
    let (a, b) = (row(b"a\n"), row(b"b\n"));
    for streams in ["array", "lines"] {
        let json = json_of(json!({ "streams": streams }));
        let answer = call(&json, "GET", "/v1/pieces/x", grpc_answer(&[&a, &b], OK));
        assert_eq!(answer.headers()["content-type"], "text/csv");
        assert_eq!(text(answer), "a\nb\n");
        let answer = call(&json, "GET", "/v1/pieces/x", grpc_answer(&[], OK));
        assert_eq!(answer.headers()["content-type"], "application/octet-stream");
        assert_eq!(text(answer), "");
        // The body was not read completely.
        let ends = &[("grpc-status", "15"), ("grpc-message", "the disk is gone")];
        let answer = call(&json, "GET", "/v1/pieces/x", grpc_answer(&[&a], ends));
        let held = read(answer.into_body());
        assert_eq!(
            (held.bytes, held.broken.as_deref()),
            (b"a\n".to_vec(), Some("the disk is gone"))
        );
    }
}

#[test]
fn a_head_is_asked_for_where_a_get_is() {
    let json = json_of(json!({}));
    let answer = call(&json, "HEAD", "/v1/books/1", grpc_answer(&[&book("x")], OK));
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["content-length"]),
        (200, &"13".parse().unwrap())
    );
    assert_eq!(text(answer), "");
    let ends = &[("grpc-status", "5")];
    let answer = call(&json, "HEAD", "/v1/books/1", grpc_answer(&[], ends));
    assert_eq!(answer.status(), 404);
    assert_eq!(text(answer), "");
}

#[test]
fn errors_are_json_with_the_http_status_of_their_code() {
    let json = json_of(json!({}));
    for code in &Code::ALL[1..] {
        let number = code.number().to_string();
        let ends = [("grpc-status", number.as_str()), ("grpc-message", "no%20such")];
        let answer = call(&json, "GET", "/v1/books/1", grpc_answer(&[], &ends));
        assert_eq!(answer.status(), code.http());
        assert_eq!(answer.headers()["content-type"], "application/json");
        assert_eq!(tree(answer), json!({ "code": code.number(), "message": "no such" }));
    }
}

#[test]
fn known_details_of_an_error_are_translated() {
    // google.rpc.Status { code: 5, details: [Any { type_url, value }, …] }
    let any = |url: &str, value: &[u8]| {
        let field = |tag: u8, bytes: &[u8]| [&[tag, bytes.len() as u8], bytes].concat();
        let any = [field(0x0a, url.as_bytes()), field(0x12, value)].concat();
        field(0x1a, &any)
    };
    let fine = bytes_of("library.v1.Fine", json!({ "cents": 50 }));
    let parts =
        [vec![8, 5], any("type.googleapis.com/library.v1.Fine", &fine), any("x/y.Z", b"hi")];
    let coded = base64::engine::general_purpose::STANDARD_NO_PAD.encode(parts.concat());
    let ends = [("grpc-status", "5"), ("grpc-status-details-bin", coded.as_str())];
    let json = json_of(json!({}));
    let answer = tree(call(&json, "GET", "/v1/books/1", grpc_answer(&[], &ends)));
    let expected = json!([
        { "@type": "type.googleapis.com/library.v1.Fine", "cents": 50 },
        { "@type": "x/y.Z", "value": "aGk=" },
    ]);
    assert_eq!(answer["details"], expected);
    let ends = [("grpc-status", "5"), ("grpc-status-details-bin", "!")];
    let answer = tree(call(&json, "GET", "/v1/books/1", grpc_answer(&[], &ends)));
    assert_eq!(answer, json!({ "code": 5, "message": "" }));
}

#[test]
fn what_a_service_gets_wrong_is_its_fault() {
    let json = json_of(json!({}));
    let zipped = Script::default().data(framed(COMPRESSED, b"zip")).trailers(OK);
    let html = answer(&[("content-type", "text/html")], Script::default().data("<html>"));
    for reply in [
        grpc_answer(&[], OK),
        grpc_answer(&[&[0xff]], OK),
        grpc_answer(&[&book("x"), &book("y")], OK),
        grpc_answer(&[&book("x")], &[]),
        answer(&[("content-type", "application/grpc")], zipped),
        html,
    ] {
        let answer = call(&json, "GET", "/v1/books/1", reply);
        assert_eq!(answer.status(), 500);
        assert!(!tree(answer)["message"].as_str().unwrap().is_empty());
    }
}

#[test]
fn several_messages_are_an_array_or_lines() {
    let books = [book("x"), book("y")];
    let many = |ends| grpc_answer(&[&books[0], &books[1]], ends);
    let failed: &[(&str, &str)] = &[("grpc-status", "14"), ("grpc-message", "gone")];
    let error = r#"{"error":{"code":14,"message":"gone"}}"#;
    let watch = "/v1/shelves/1:watch";
    let json = json_of(json!({}));
    let array = |reply| text(call(&json, "GET", watch, reply));
    assert_eq!(array(many(OK)), r#"[{"title":"x"},{"title":"y"}]"#);
    assert_eq!(array(many(failed)), format!(r#"[{{"title":"x"}},{{"title":"y"}},{error}]"#));
    assert_eq!(array(grpc_answer(&[], OK)), "[]");
    let json = json_of(json!({ "streams": "lines" }));
    let lines = |reply| text(call(&json, "GET", watch, reply));
    assert_eq!(lines(many(OK)), "{\"title\":\"x\"}\n{\"title\":\"y\"}\n");
    assert_eq!(lines(many(failed)), format!("{{\"title\":\"x\"}}\n{{\"title\":\"y\"}}\n{error}\n"));
    assert_eq!(lines(grpc_answer(&[], OK)), "");
    let answer = call(&json, "GET", watch, grpc_answer(&[], failed));
    assert_eq!(answer.status(), 503, "nothing was answered yet");
}

#[test]
fn a_request_that_does_not_fit_is_the_clients_fault() {
    let json = json_of(json!({}));
    let mut head = head("GET", "/v1/books/1?nothing=1");
    let mut translator = transcoder(&json, &mut head);
    assert!(read(translator.translate_request(&mut head, Body::Empty)).broken.is_some());
    let lost = rejection::trailers_only(&Status::new(Code::Unavailable, "lost"));
    let answer = translator.translate_rejection(lost);
    assert_eq!(answer.status(), 400);
    let message = "the query parameter `nothing` is not a field of the request";
    assert_eq!(tree(answer), json!({ "code": 3, "message": message }));
}

#[test]
fn a_refusal_is_json_too() {
    let json = json_of(json!({}));
    let mut head = head("GET", "/v1/books/1");
    let translator = transcoder(&json, &mut head);
    let mut no = rejection::trailers_only(&Status::new(Code::ResourceExhausted, "too many"));
    no.headers_mut().extend(headers(&[("grpc-retry-pushback-ms", "3000")]));
    let answer = translator.translate_rejection(no);
    assert_eq!(answer.status(), 429);
    assert_eq!(answer.headers()["retry-after"], "3");
    assert_eq!(tree(answer), json!({ "code": 8, "message": "too many" }));
}

#[test]
fn a_path_that_no_rule_has_is_not_found() {
    let json = json_of(json!({}));
    let refused = |method, target| match json.read(
        &mut head(method, target),
        CorsHeaders::default(),
        room(4096),
    ) {
        Err(answer) => answer,
        Ok(_) => panic!("{target} is a call"),
    };
    assert_eq!(refused("GET", "/v2/books").status(), 404);
    assert_eq!(refused("POST", "/v1/upload").status(), 404, "clients can't stream");
    assert_eq!(refused("POST", "/library.v1.Library/Unbound").status(), 404);
    let answer = refused("DELETE", "/v1/books");
    assert_eq!(answer.status(), 405);
    assert_eq!(answer.headers()["allow"], "POST");
    let answer = refused("DELETE", "/v1/books/1");
    assert_eq!(answer.headers()["allow"], "GET, HEAD");
    let unbound = text(refused("POST", "/library.v1.Library/Unbound"));
    assert!(unbound.contains("`unbound_methods: true`"), "{unbound}");
    assert!(!text(refused("GET", "/v2/books")).contains("unbound"));
}

#[test]
fn methods_without_a_rule_are_called_by_name_if_configured() {
    let json = json_of(json!({ "unbound_methods": true }));
    let reply = grpc_answer(&[&book("x")], OK);
    let answer = call(&json, "POST", "/library.v1.Library/Unbound", reply);
    assert_eq!(tree(answer), json!({ "title": "x" }));
    assert!(json.has_method("library.v1.Library/Upload"));
    assert!(!json.has_method("library.v1.Library/Nope") && !json.has_method(""));
}

#[test]
fn a_descriptor_set_is_read_from_its_file_and_mistakes_name_it() {
    let file = library_file();
    let path = file.path().to_str().unwrap().to_owned();
    let load = |settings: Value| {
        let settings: Transcode = serde_json::from_value(settings).unwrap();
        match JsonTranscoding::load(&settings) {
            Ok(_) => Vec::new(),
            Err(mistakes) => {
                mistakes.into_iter().map(|it| (it.path[1].clone(), it.message)).collect()
            }
        }
    };
    assert_eq!(load(json!({ "descriptors": path })), []);
    let wrong = load(json!({ "descriptors": path, "services": ["library.v1.Librarian"] }));
    assert_eq!(wrong[0].0, "services");
    assert!(wrong[0].1.contains("library.v1.Librarian") && wrong[0].1.contains(&path));
    let missing = load(json!({ "descriptors": "/nowhere/x.binpb" }));
    assert!(missing[0].1.starts_with("the descriptor set `/nowhere/x.binpb` can't be read"));
    std::fs::write(file.path(), "syntax = \"proto3\";").unwrap();
    assert!(load(json!({ "descriptors": path }))[0].1.contains("is no descriptor set"));
    std::fs::write(file.path(), "").unwrap();
    assert!(load(json!({ "descriptors": path }))[0].1.contains("no method in"));
}

/// `protos/tree.binpb` is what the fuzzer and other tests read. `UPDATE_PROTOS=1 cargo test -p grpc`
/// writes it.
#[test]
fn the_descriptor_set_that_is_kept_is_that_of_its_source() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/protos/tree.binpb");
    let compiled = crate::testing::tree();
    if std::env::var_os("UPDATE_PROTOS").is_some() {
        std::fs::write(path, &compiled).unwrap();
    }
    assert_eq!(std::fs::read(path).unwrap(), compiled, "run it with UPDATE_PROTOS=1");
}
