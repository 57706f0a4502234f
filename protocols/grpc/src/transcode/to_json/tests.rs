use super::*;
use crate::testing::tree;
use crate::transcode::wire::{LEN, MessageWriter, VARINT};
use prost::Message as _;
use prost_reflect::{DynamicMessage, SerializeOptions};
use serde_json::{Value, json};
use std::sync::LazyLock;

static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(tree().as_slice()).unwrap());

fn printed_in(bytes: &[u8], style: PrintOptions, limit: usize) -> Result<String, PrintError> {
    let message = POOL.get_message_by_name("t.Node").unwrap();
    let mut to = Printer::new(&POOL, style, limit);
    to.message(&message, &[bytes], 0)?;
    Ok(String::from_utf8(to.out).unwrap())
}

fn printed(bytes: &[u8]) -> Result<String, PrintError> {
    printed_in(bytes, PrintOptions::default(), 1 << 20)
}

fn tree_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The output of another library.
fn other(bytes: &[u8], style: PrintOptions) -> Value {
    let message = POOL.get_message_by_name("t.Node").unwrap();
    let message = DynamicMessage::decode(message, bytes).unwrap();
    let options = SerializeOptions::new()
        .skip_default_fields(!style.defaults)
        .use_proto_field_name(style.proto_names);
    let mut text = serde_json::Serializer::new(Vec::new());
    message.serialize_with_options(&mut text, &options).unwrap();
    whole(serde_json::from_slice(&text.into_inner()).unwrap())
}

/// The same with `1` for `1.0`: that library writes whole numbers in another way than protobuf's own.
fn whole(tree: Value) -> Value {
    match tree {
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 1e15 => {
                Value::from(float as i64)
            }
            _ => Value::Number(number),
        },
        Value::Array(list) => list.into_iter().map(whole).collect(),
        Value::Object(map) => map.into_iter().map(|(name, value)| (name, whole(value))).collect(),
        other => other,
    }
}

#[test]
fn whole_numbers_are_written_without_a_point() {
    let said =
        json!({ "value": { "a": [1, -0.0, 2.5] }, "numbers": { "float": 3, "double": 1e300 } });
    let text = printed(&bytes_of(&said)).unwrap();
    assert!(text.contains(r#""value":{"a":[1,-0,2.5]}"#), "{text}");
    assert!(text.contains(r#""float":3,"double":1e+300"#), "{text}");
}

fn bytes_of(said: &Value) -> Vec<u8> {
    let message = POOL.get_message_by_name("t.Node").unwrap();
    DynamicMessage::deserialize(message, said).unwrap().encode_to_vec()
}

#[test]
fn json_is_what_another_library_writes() {
    for said in [
        json!({}),
        json!({ "v": "a\n\"", "a": { "a": { "v": "x" } }, "r": ["a", "", "b"] }),
        json!({ "nodes": [{}, { "v": "x" }, { "nodes": [{}] }], "maybeText": "" }),
        json!({ "named": { "b": {}, "a": { "v": "x" } }, "left": {} }),
        json!({ "value": { "a": [1, "x", null, true, { "b": [] }, -2.5] }, "right": "" }),
        json!({ "list": [[], {}, [[1.5]]], "fields": { "": null, "x": { "y": 1.5 } } }),
        json!({ "fields": {}, "list": [], "wrapped": { "text": "", "bool": false, "int64": 0 } }),
        json!({ "at": "2026-01-02T03:04:05.006Z", "took": "-1.5s", "mask": "title,author.fullName" }),
        json!({ "at": "1970-01-01T00:00:00Z", "took": "0s", "mask": "", "empty": {} }),
        json!({ "any": { "@type": "x/t.Node", "v": "x", "a": {} } }),
        json!({ "any": { "@type": "x/google.protobuf.Duration", "value": "1s" } }),
        json!({ "wrapped": { "bool": true, "text": "x", "bytes": "aGk=", "int64": "-1",
                             "uint32": 7, "double": 0.5, "texts": ["", "x"] } }),
        json!({ "numbers": { "int32": -1, "int64": "-9223372036854775808", "uint32": 4294967295u32,
                "uint64": "18446744073709551615", "sint32": -2147483648i64, "sint64": -1,
                "fixed32": 7, "fixed64": "7", "sfixed32": -7, "sfixed64": "-7" } }),
        json!({ "numbers": { "float": 1.1, "double": "-Infinity", "bool": true, "kind": "LEAF" } }),
        json!({ "numbers": { "float": "NaN", "double": 1e300, "bytes": "_-8", "kind": 9 } }),
        json!({ "numbers": { "packed": [1, -1, 300], "unpacked": [0, 1.5], "kinds": [0, 1, -1] } }),
        json!({ "numbers": { "byInt": { "-1": "a", "7": "" }, "byBool": { "true": "LEAF" } } }),
        json!({ "numbers": { "byFixed": { "3": "aGk=" }, "bySint": { "-3": 0.5 },
                "chunks": ["", "aGk="], "nulls": [null] } }),
    ] {
        let bytes = bytes_of(&said);
        for defaults in [false, true] {
            for proto_names in [false, true] {
                let style = PrintOptions { defaults, proto_names };
                let text = printed_in(&bytes, style, 1 << 20).unwrap();
                assert_eq!(tree_of(&text), other(&bytes, style), "{said} {style:?}");
            }
        }
    }
}

#[test]
fn repeated_fields_are_merged_as_by_another_library() {
    let parts: Vec<Vec<u8>> = [
        json!({ "a": { "v": "x", "r": ["1"] }, "numbers": { "packed": [1] } }),
        json!({ "v": "first", "left": { "v": "gone" }, "named": { "k": { "v": "old" } } }),
        json!({ "right": "x", "at": "2026-01-02T03:04:05.006Z", "fields": { "k": 1.5 } }),
        json!({ "a": { "r": ["2"], "a": { "v": "y" } }, "v": "last", "list": [1.5] }),
        json!({ "left": { "r": ["new"] }, "named": { "k": { "v": "new" }, "l": {} } }),
        json!({ "numbers": { "packed": [2, 3] }, "fields": { "k": "new" }, "list": ["x"] }),
    ]
    .iter()
    .map(bytes_of)
    .collect();
    let mut rng = fastrand::Rng::with_seed(7);
    for _ in 0..500 {
        let picked: Vec<_> = (0..rng.usize(1..9)).map(|_| rng.choice(&parts).unwrap()).collect();
        let bytes: Vec<u8> = picked.into_iter().flatten().copied().collect();
        let text = printed(&bytes).unwrap();
        assert_eq!(tree_of(&text), other(&bytes, PrintOptions::default()), "{bytes:?}");
    }
}

#[test]
fn unknown_fields_and_groups_are_left_out() {
    let mut to = MessageWriter::new(1 << 20);
    to.field(2, b"x");
    to.tag(1000, VARINT);
    to.varint(7);
    to.field(1001, b"unknown");
    to.tag(1002, GROUP_OPEN);
    to.field(2, b"inside");
    to.tag(1002, GROUP_CLOSE);
    assert_eq!(printed(&to.bytes).unwrap(), r#"{"v":"x"}"#);
}

const GROUP_OPEN: u32 = 3;
const GROUP_CLOSE: u32 = 4;

#[test]
fn a_message_of_another_type_is_an_error() {
    for (bytes, words) in [
        (&[0xff][..], "a number of variable length can't be read"),
        (&[0x00, 0x00], "a field's number can't be read"),
        (&[0x12, 5, b'x'], "it is truncated"),
        (&[0x12, 1, 0xff], "a string is not UTF-8"),
        (&[0x10, 1], "a field has another type on the wire"),
        (&[0x08, 1], "a message has another type on the wire"),
        (&[0x0c], "a group ends that did not begin"),
        (&[0x0b, 0x14], "a group ends that did not begin"),
        (&[0x0f], "a field has an unknown wire type"),
    ] {
        assert_eq!(printed(bytes), Err(PrintError::Wrong(words.to_owned())), "{bytes:?}");
    }
}

/// Nests a message `times` times in the field with this number.
fn nested(number: u32, times: usize, inner: &[u8]) -> Vec<u8> {
    let mut bytes = inner.to_vec();
    for _ in 0..times {
        let mut to = MessageWriter::new(usize::MAX);
        to.field(number, &bytes);
        bytes = to.bytes;
    }
    bytes
}

#[test]
fn depth_is_bounded_whatever_it_is_made_of() {
    crate::testing::with_little_stack(depth_is_bounded);
}

fn depth_is_bounded() {
    assert!(printed(&nested(1, 100, b"")).is_ok());
    assert!(printed(&nested(3, 100, b"")).is_ok());
    for number in [1, 3, 5, 6] {
        for times in [101, 1000, 3_000] {
            assert!(printed(&nested(number, times, b"")).is_err() || number == 5);
        }
    }
    // A list of `google.protobuf.Value`: ListValue { Value { ListValue … } }.
    let mut value = Vec::new();
    for _ in 0..3_000 {
        value = nested(1, 1, &nested(6, 1, &value));
    }
    assert!(printed(&nested(12, 1, &value)).is_err());
    let groups = [0x0b].repeat(3_000);
    assert!(printed(&groups).is_err());
}

#[test]
fn nested_any_messages_have_a_depth_limit() {
    let any = |times: usize| {
        let mut value = Vec::new();
        for _ in 0..times {
            let mut to = MessageWriter::new(usize::MAX);
            to.field(1, b"x/google.protobuf.Any");
            to.field(2, &value);
            value = to.bytes;
        }
        nested(9, 1, &value)
    };
    assert!(printed(&any(8)).is_ok());
    assert!(printed(&any(11)).is_err());
    assert!(printed(&any(5_000)).is_err());
}

#[test]
fn json_becomes_no_longer_than_its_limit() {
    let empty = [0x1a, 0].repeat(100_000);
    let defaults = PrintOptions { defaults: true, proto_names: false };
    for style in [PrintOptions::default(), defaults] {
        assert_eq!(printed_in(&empty, style, 1000), Err(PrintError::TooLong(1000)));
    }
    let mut packed = MessageWriter::new(usize::MAX);
    packed.tag(17, LEN);
    let at = packed.begin();
    packed.field(16, &[0; 100_000]);
    packed.end(at);
    assert_eq!(
        printed_in(&packed.bytes, PrintOptions::default(), 1000),
        Err(PrintError::TooLong(1000))
    );
}
