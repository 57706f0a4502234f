use super::*;
use crate::testing::tree;
use prost_reflect::{DescriptorPool, DynamicMessage};
use serde_json::{Value, json};
use std::sync::LazyLock;

static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(tree().as_slice()).unwrap());

fn node() -> MessageDescriptor {
    POOL.get_message_by_name("t.Node").unwrap()
}

fn encoded(text: &str) -> Result<Vec<u8>, String> {
    encoded_within(text, 1 << 20)
}

fn encoded_within(text: &str, limit: usize) -> Result<Vec<u8>, String> {
    let mut to = MessageWriter::new(limit);
    let mut from = serde_json::Deserializer::from_str(text);
    let written = content(MessageSeed { to: &mut to, message: &node(), depth: 0 }, &mut from);
    written.and_then(|()| from.end()).map_err(|error| error.to_string())?;
    Ok(to.bytes)
}

/// Decodes the output with another library.
fn read(text: &str) -> DynamicMessage {
    let bytes = encoded(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    DynamicMessage::decode(node(), bytes.as_slice())
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn is_what_another_reads(said: &Value) {
    let other = DynamicMessage::deserialize(node(), said).unwrap();
    let json = |message: DynamicMessage| serde_json::to_value(message).unwrap();
    assert_eq!(json(read(&said.to_string())), json(other), "{said}");
}

#[test]
fn messages_are_what_another_reader_of_json_makes_of_them() {
    let long = "x".repeat(300);
    for said in [
        json!({}),
        json!({ "v": "", "r": [], "named": {}, "nodes": [] }),
        json!({ "v": long, "a": { "a": { "v": long } }, "r": ["a", "", long] }),
        json!({ "nodes": [{}, { "v": "x" }, { "nodes": [{}] }] }),
        json!({ "named": { "a": {}, "": { "v": "x" } } }),
        json!({ "left": {} }),
        json!({ "right": "" }),
        json!({ "either": null }),
        json!({ "value": null, "a": null, "r": null, "maybeText": "" }),
        json!({ "maybe_text": "x" }),
        json!({ "value": { "a": [1, "x", null, true, { "b": [] }, -2.5] } }),
        json!({ "list": [[], {}, [[1]]], "fields": { "": null, "x": { "y": 1 } } }),
        json!({ "at": "2026-01-02T03:04:05.006Z", "took": "-1.5s" }),
        json!({ "mask": "title,author.fullName", "empty": {} }),
        json!({ "mask": "" }),
        json!({ "any": { "@type": "x/t.Node", "v": "x", "a": {} } }),
        json!({ "any": { "v": "x", "@type": "x/t.Node" } }),
        json!({ "any": { "@type": "x/google.protobuf.Duration", "value": "1s" } }),
        json!({ "any": { "value": [1], "@type": "x/google.protobuf.ListValue" } }),
        json!({ "any": { "@type": "x/google.protobuf.Any",
                         "value": { "@type": "x/t.Wrapped", "text": "x" } } }),
        json!({ "wrapped": { "bool": false, "text": "", "bytes": "aGk=", "int64": "-1",
                             "uint32": 7, "double": 0.5, "texts": ["", "x"] } }),
    ] {
        is_what_another_reads(&said);
    }
}

#[test]
fn numbers_are_what_another_reader_of_json_makes_of_them() {
    for numbers in [
        json!({ "int32": -1, "int64": "-9223372036854775808", "uint32": 4294967295u32,
                "uint64": "18446744073709551615", "sint32": -2147483648i64, "sint64": -1,
                "fixed32": 7, "fixed64": "7", "sfixed32": -7, "sfixed64": "-7" }),
        json!({ "int32": "12", "int64": 1.0, "uint32": 1e3, "sint32": "-5" }),
        json!({ "float": 1.5, "double": "-Infinity", "bool": true, "bytes": "_-8", "kind": "LEAF" }),
        json!({ "float": "NaN", "double": 3, "bool": false, "bytes": "", "kind": -1 }),
        json!({ "packed": [1, -1, 300, "7"], "unpacked": [0, 1.5], "kinds": ["LEAF", 0, 9] }),
        json!({ "packed": [], "chunks": ["", "aGk"], "nulls": [null, null] }),
        json!({ "byInt": { "-1": "a", "7": "" }, "byBool": { "true": "LEAF", "false": 0 } }),
        json!({ "byFixed": { "18446744073709551615": "aGk=" }, "bySint": { "-3": 0.5 } }),
    ] {
        is_what_another_reads(&json!({ "numbers": numbers }));
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    for (said, words) in [
        (r#"{"nope":1}"#, "unrecognized field name 'nope'"),
        (r#"{"v":"a","v":"b"}"#, "the field `v` is given twice"),
        (r#"{"maybeText":"a","maybe_text":"b"}"#, "the field `maybeText` is given twice"),
        (r#"{"left":{},"right":"x"}"#, "the oneof `choice` is given twice"),
        (r#"{"v":1}"#, "expected a string"),
        (r#"{"r":[null]}"#, "expected a string"),
        (r#"{"r":{}}"#, "expected a list"),
        (r#"{"nodes":{}}"#, "expected a list"),
        (r#"{"named":[]}"#, "expected an object"),
        (r#"{"a":[]}"#, "expected an object"),
        (r#"{"a":"x"}"#, "expected an object"),
        (r#"{"numbers":{"int32":2147483648}}"#, "expected a 32-bit signed integer"),
        (r#"{"numbers":{"int32":1.5}}"#, "expected a 32-bit signed integer"),
        (r#"{"numbers":{"uint64":-1}}"#, "expected a 64-bit unsigned integer"),
        (r#"{"numbers":{"uint64":1e30}}"#, "expected a 64-bit unsigned integer"),
        (r#"{"numbers":{"float":1e39}}"#, "expected a 32-bit floating point value"),
        (r#"{"numbers":{"bool":"true"}}"#, "expected a boolean"),
        (r#"{"numbers":{"bytes":"*"}}"#, "expected a base64-encoded string"),
        (r#"{"numbers":{"kind":"NOPE"}}"#, "unrecognized enum value 'NOPE'"),
        (r#"{"numbers":{"byInt":{"x":""}}}"#, "expected a 32-bit signed integer"),
        (r#"{"numbers":{"byBool":{"1":0}}}"#, "expected a boolean"),
        (r#"{"at":"today"}"#, ""),
        (r#"{"mask":"a_b"}"#, "invalid field mask"),
        (r#"{"empty":{"a":1}}"#, "unrecognized field name"),
        (r#"{"any":{}}"#, "needs `@type`"),
        (r#"{"any":{"@type":"t.Node"}}"#, "has no `/`"),
        (r#"{"any":{"@type":"x/t.Nope"}}"#, "message 't.Nope' not found"),
        (r#"{"any":{"@type":"x/t.Node","@type":"x/t.Node"}}"#, "given twice"),
        (r#"{"any":{"@type":"x/google.protobuf.Duration"}}"#, "`value` is missing"),
        (r#"{"any":{"@type":"x/google.protobuf.Duration","value":"1s","x":1}}"#, "unrecognized"),
        (r#"{"v":"a"} x"#, "trailing"),
    ] {
        let told = encoded(said).unwrap_err();
        assert!(told.contains(words), "{said}: {told}");
    }
}

/// Nests text `times` times.
fn nested(open: &str, inner: &str, close: &str, times: usize) -> String {
    [open.repeat(times), inner.to_owned(), close.repeat(times)].concat()
}

#[test]
fn depth_is_bounded_whatever_it_is_made_of() {
    crate::testing::with_little_stack(depth_is_bounded);
}

fn depth_is_bounded() {
    for (open, inner, close, most) in [
        (r#"{"a":"#, "{}", "}", 100),
        (r#"{"nodes":["#, "{}", "]}", 62),
        (r#"{"named":{"x":"#, "{}", "}}", 50),
        (r#"{"left":"#, "{}", "}", 100),
    ] {
        assert!(encoded(&nested(open, inner, close, most)).is_ok(), "{open}");
        for more in [most + 2, 127, 1000, 100_000] {
            let told = encoded(&nested(open, inner, close, more)).unwrap_err();
            assert!(told.contains("deeper") || told.contains("recursion"), "{open}: {told}");
        }
    }
    for (open, inner, close, most) in
        [("[", "1", "]", 48), (r#"{"x":"#, "1", "}", 48), (r#"[{"x":"#, "1", "}]", 24)]
    {
        let value = |times| format!(r#"{{"value":{}}}"#, nested(open, inner, close, times));
        assert!(encoded(&value(most)).is_ok(), "{open}");
        for more in [most + 3, 127, 1000, 100_000] {
            assert!(encoded(&value(more)).is_err(), "{open} {more}");
        }
    }
    let any = |times| {
        let open = r#"{"@type":"x/google.protobuf.Any","value":"#;
        format!(r#"{{"any":{}}}"#, nested(open, r#"{"@type":"x/t.Node"}"#, "}", times))
    };
    assert!(encoded(&any(8)).is_ok());
    assert!(encoded(&any(10)).unwrap_err().contains("deeper than 100"));
}

#[test]
fn a_message_becomes_no_longer_than_its_limit() {
    for item in ["\"\"", "{}", "1"] {
        let field = match item {
            "{}" => "nodes",
            "1" => "list",
            _ => "r",
        };
        let list = vec![item; 100_000].join(",");
        let told = encoded_within(&format!(r#"{{"{field}":[{list}]}}"#), 1000).unwrap_err();
        assert!(told.contains("it is too long"), "{told}");
    }
}
