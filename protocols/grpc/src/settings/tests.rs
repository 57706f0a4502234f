use super::*;
use crate::testing::settings as read;
use serde_json::json;

/// A word, as a config has it.
fn word(text: &str) -> Result<Switch<Bridge>, serde::de::value::Error> {
    Switch::deserialize(serde::de::value::StrDeserializer::new(text))
}

fn wrong(json: serde_json::Value) -> Vec<String> {
    let mistakes = read(json).unwrap().mistakes();
    mistakes.iter().map(|it| format!("{}: {}", it.path.join("."), it.message)).collect()
}

#[test]
fn nothing_is_on_unless_it_is_asked_for() {
    let settings = read(json!({})).unwrap();
    assert!(settings.bridge.0.is_none() && settings.web.0.is_none());
    assert!(settings.reverse_bridge.0.is_none() && settings.transcode.is_none());
    assert_eq!(settings.limit(), 4 << 20);
    assert!(settings.mistakes().is_empty());
}

#[test]
fn a_switch_is_a_word_or_settings() {
    let settings = read(json!({ "bridge": true, "web": { "origins": ["*"] } })).unwrap();
    assert_eq!(settings.bridge.0.unwrap().server_streams, ServerStreams::Refuse);
    assert_eq!(settings.web.0.unwrap().origins, ["*"]);
    assert!(word("true").unwrap().0.is_some());
    assert!(word("false").unwrap().0.is_none());
    let settings = read(json!({ "bridge": { "server_streams": "frames" } })).unwrap();
    assert_eq!(settings.bridge.0.unwrap().server_streams, ServerStreams::Frames);
    let error = word("yes").unwrap_err().to_string();
    assert!(error.contains("`true`, `false`, or keys and values: server_streams"), "{error}");
    assert!(read(json!({ "bridge": { "servers": 1 } })).unwrap_err().contains("servers"));
    assert!(read(json!({ "brigde": true })).unwrap_err().contains("brigde"));
}

#[test]
fn settings_are_written_as_they_would_be_read() {
    let json = json!({
        "bridge": { "server_streams": "frames" },
        "reverse_bridge": { "content_type": "application/proto", "withhold_frames": false },
        "web": { "origins": ["https://a.example"], "headers": [], "expose": ["x-a"],
                 "credentials": true, "max_age": "5m" },
        "max_message": "1MiB",
        "client_certificate_header": "rfc9440",
    });
    let settings = read(json.clone()).unwrap();
    assert_eq!(serde_json::to_value(&settings).unwrap(), json);
}

#[test]
fn keys_of_switches_are_those_of_their_settings() {
    fn keys<T: SwitchSettings + Serialize>() -> Vec<String> {
        let json = serde_json::to_value(T::default()).unwrap();
        json.as_object().unwrap().keys().cloned().collect()
    }
    fn same<T: SwitchSettings + Serialize>() {
        let mut named = T::KEYS.to_vec();
        named.sort_unstable();
        let mut keys = keys::<T>();
        keys.sort_unstable();
        assert_eq!(keys, named);
    }
    same::<Bridge>();
    same::<ReverseBridge>();
    same::<Web>();
}

#[test]
fn mistakes_say_where_they_are() {
    assert_eq!(wrong(json!({ "max_message": "2GiB" })), ["max_message: `2GiB` is too much"]);
    for origin in ["shop.example", "https://", "https://a/b", "https://*.a", "://a"] {
        let expected = format!("web.origins: `{origin}` is no origin");
        assert_eq!(wrong(json!({ "web": { "origins": [origin] } })), [expected]);
    }
    let found = wrong(json!({ "web": { "origins": ["*"], "credentials": true } }));
    assert!(found[0].starts_with("web.credentials: "), "{found:?}");
    let found = wrong(json!({ "web": { "headers": ["x y"] } }));
    assert_eq!(found, ["web.headers: `x y` can't be the name of a header"]);
    let found = wrong(json!({ "reverse_bridge": { "content_type": "protobuf" } }));
    assert_eq!(found, ["reverse_bridge.content_type: `protobuf` is no media type"]);
}

#[test]
fn the_buffer_limit_follows_the_message_limit_by_default() {
    let bounds = |settings| read(settings).unwrap().bounds();
    let default = BufferLimits { connection: 32 << 20, worker: 128 << 20 };
    assert_eq!(bounds(json!({})), default);
    let longer = BufferLimits { connection: 64 << 20, worker: 256 << 20 };
    assert_eq!(bounds(json!({ "max_message": "8MiB" })), longer);
    let told = json!({ "max_buffered_per_connection": "5MiB", "max_buffered": "7MiB" });
    assert_eq!(bounds(told), BufferLimits { connection: 5 << 20, worker: 7 << 20 });
    assert_eq!(
        wrong(json!({ "max_buffered_per_connection": "1MiB", "max_buffered": "2MiB" })),
        [
            "max_buffered_per_connection: `1MiB` is less than `max_message`",
            "max_buffered: `2MiB` is less than `max_message`"
        ]
    );
}
