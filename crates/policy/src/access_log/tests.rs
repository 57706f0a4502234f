//! A line is compared with one that is made of texts, by names and with a JSON library.

use super::*;
use crate::testing::Random;
use operation::{
    AttributeValue, Attributes, ExtraCounter, LoggedValue, Outcome, RejectReason, Settlement,
};
use serde_json::{Value, json};
use std::time::Instant;

const PROTOCOL: Protocol = Protocol {
    attributes: &["user", "comment", "id", "size", "queue_ms"],
    items: Some(ExtraCounter { metric: "toy_items_total", help: "Items" }),
    item_name: "items",
    logged: &["size", "id", "queue_ms", "word"],
    logged_when_slow: &["query"],
    ..Protocol::plain("toy")
};

/// The attributes of an operation, in the form in which they are at hand.
struct Given(Vec<(&'static str, LoggedValue<'static>)>);

impl Given {
    fn find(&self, name: &str) -> Option<LoggedValue<'static>> {
        self.0.iter().find(|(given, _)| *given == name).map(|(_, value)| value.clone())
    }
}

impl Attributes for Given {
    fn get<'a>(&'a self, _: &'a [u8], name: &str) -> AttributeValue<'a> {
        self.find(name).into()
    }

    fn logged<'a>(&'a self, _: &'a [u8], attribute: ResolvedAttribute) -> Option<LoggedValue<'a>> {
        let by_number = attribute.number.map(|number| PROTOCOL.attributes[usize::from(number)]);
        self.find(by_number.unwrap_or(attribute.name))
    }
}

/// A random text; some are plain, some are longer than a line shows.
fn text(random: &mut Random) -> String {
    let plain = random.below(2) == 0;
    let characters: Vec<char> =
        if plain { "az ~" } else { "az\"\\\n\u{1}\u{7f}é€𝄞" }.chars().collect();
    let len = if random.below(5) == 0 { random.below(1500) } else { random.below(30) };
    (0..len).map(|_| characters[random.below(characters.len() as u64) as usize]).collect()
}

fn value(random: &mut Random) -> LoggedValue<'static> {
    let number = random.below(u64::MAX) >> random.below(64);
    match random.below(6) {
        0 => LoggedValue::Number(number),
        1 => LoggedValue::Hex { id: number.into(), digits: 16 },
        2 => LoggedValue::Address(((number as u32).to_be_bytes(), number as u16).into()),
        3 => LoggedValue::Plain(b"known to be plain"),
        4 => LoggedValue::Bytes(text(random).into_bytes().leak()),
        _ => LoggedValue::Text(text(random).into()),
    }
}

/// The attributes of a line, in order, with the longest text of each.
const EXPECTED: [(&str, usize); 10] = [
    ("peer", MAX_TEXT),
    ("endpoint", MAX_TEXT),
    ("cluster", MAX_TEXT),
    ("user", MAX_TEXT),
    ("comment", MAX_TEXT),
    ("size", MAX_TEXT),
    ("id", MAX_TEXT),
    ("queue_ms", MAX_TEXT),
    ("word", MAX_TEXT),
    ("query", MAX_QUERY_TEXT),
];

/// The line as texts and a JSON library make it.
fn expected(done: &Settled<'_>, given: &Given) -> String {
    let how = done.how;
    let mut fields: Vec<(&str, Value)> = vec![
        ("listener", json!("front")),
        ("protocol", json!("toy")),
        ("operation", json!(*done.key.name)),
        ("resource", json!(truncate(&done.key.resource, MAX_TEXT))),
        ("outcome", json!(how.outcome.as_str())),
    ];
    fields.extend(how.reason.map(|reason| ("reason", json!(reason.as_str()))));
    fields.extend(how.code.map(|code| ("code", json!(code))));
    for (field, dry) in [("policy", false), ("dry_run", true)] {
        let effects = done.policy_effects.iter().filter(|effect| effect.dry_run == dry);
        let names: Vec<&str> = effects.map(|effect| &*effect.policy).collect();
        fields.extend((!names.is_empty()).then(|| (field, json!(names.join(", ")))));
    }
    let mut line = String::new();
    let mut add = |name: &str, text: &str| line += &format!(",\"{name}\":{text}");
    fields.iter().for_each(|(name, value)| add(name, &value.to_string()));
    let shown = |time: Duration| {
        let micros = (time.as_nanos() + 500) / 1000;
        format!("{}.{:03}", micros / 1000, micros % 1000)
    };
    add("duration_ms", &shown(done.took()));
    if let Some(first) = how.first_byte {
        add("ttfb_ms", &shown(first - done.began));
    }
    add("request_bytes", &how.request_bytes.to_string());
    add("reply_bytes", &how.reply_bytes.to_string());
    add("items", &how.request_items.max(how.reply_items).to_string());
    if let Some(shape) = how.shape {
        add("shape", &json!(shape).to_string());
    }
    for (name, max_bytes) in EXPECTED {
        let Some(text) = given.get(b"", name).text() else { continue };
        let quoted = json!(truncate(&text, max_bytes)).to_string();
        add(name, if name == "queue_ms" { &text } else { &quoted });
    }
    line + "}\n"
}

/// How an operation of a series ended, at random.
fn settlement<'a>(random: &mut Random, given: &'a Given, began: Instant) -> Settlement<'a> {
    let mut millis = || Duration::from_nanos(random.below(u64::MAX) >> (20 + random.below(44)));
    let (first, now) = (began + millis(), began + millis());
    let one_of = |random: &mut Random, word: &'static str| (random.below(2) == 0).then_some(word);
    Settlement {
        outcome: Outcome::ALL[random.below(Outcome::ALL.len() as u64) as usize],
        reason: (random.below(2) == 0).then_some(RejectReason::Denied.into()),
        code: one_of(random, "NotFound"),
        shape: one_of(random, "targeted"),
        request_bytes: random.below(u64::MAX) >> random.below(64),
        reply_bytes: random.below(u64::MAX) >> random.below(64),
        request_items: random.below(3),
        reply_items: random.below(3),
        first_byte: (random.below(2) == 0).then_some(first),
        attributes: given,
        ..Settlement::new(Outcome::Ok, now)
    }
}

#[test]
fn a_line_is_what_texts_by_name_would_make() {
    let (mut random, began) = (Random(3), Instant::now());
    let plan =
        AccessLogPlan { path: "log".into(), slower_than: Some(Duration::ZERO), values: false };
    let lines = LineBuffer::new(Arc::default());
    let log = AccessLog { plan, listener: "front".into(), has_preface: false, lines };
    let mut seen = 0;
    for _ in 0..5_000 {
        let key = SeriesKey {
            protocol: &PROTOCOL,
            name: "find".into(),
            resource: format!("shop.{}", text(&mut random)).into(),
            confirmed: true,
        };
        let present = EXPECTED.iter().filter(|_| random.below(2) == 0).map(|(name, _)| *name);
        let present: Vec<&str> = present.collect();
        let of = |name| match name {
            "queue_ms" => LoggedValue::Micros(random.below(10_000_000)),
            _ => value(&mut random),
        };
        let given = Given(present.iter().copied().zip(present.iter().copied().map(of)).collect());
        let effects = |random: &mut Random| PolicyEffect {
            policy: text(random).into(),
            dry_run: random.below(2) == 0,
        };
        let policy_effects: Vec<_> = (0..random.below(4)).map(|_| effects(&mut random)).collect();
        let done = Settled {
            key: &key,
            front: b"",
            began,
            long_poll: false,
            may_have_callsite: false,
            query_shape: None,
            policy_effects: &policy_effects,
            how: &settlement(&mut random, &given, began),
        };
        let mut line = Vec::new();
        log.series(&key).line(&mut line, &done, done.took());
        assert_eq!(String::from_utf8(line).unwrap(), expected(&done, &given));
        seen += given.0.len();
    }
    assert!(seen > 10_000, "{seen}");
}
