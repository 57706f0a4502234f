use super::*;
use crate::testing::Random;

const MAX: usize = 256;

/// What is between the quotes of a value.
fn quoted(value: LoggedValue<'_>, max_bytes: usize) -> String {
    let mut out = b"\"".to_vec();
    write_quoted(&mut out, value, max_bytes);
    out.push(b'"');
    serde_json::from_slice::<String>(&out).unwrap();
    String::from_utf8(out).unwrap()
}

/// A random text with characters that JSON escapes, and of each length in UTF-8.
fn text(random: &mut Random) -> String {
    const CHARACTERS: [char; 14] =
        ['a', 'Z', ' ', '~', '"', '\\', '\n', '\t', '\u{1}', '\u{7f}', 'é', '€', '𝄞', '\u{2028}'];
    let plain = random.below(2) == 0;
    let longest = if random.below(4) == 0 { 2 * MAX as u64 } else { 40 };
    let len = random.below(longest);
    let mut one = || CHARACTERS[random.below(if plain { 4 } else { 14 }) as usize];
    (0..len).map(|_| one()).collect()
}

#[test]
fn a_text_is_escaped_as_json_libraries_do() {
    let mut random = Random(7);
    for _ in 0..20_000 {
        let (text, max_bytes) = (text(&mut random), 1 + random.below(300) as usize);
        let shown = serde_json::to_string(&truncate(&text, max_bytes)).unwrap();
        for value in [LoggedValue::Text(text.as_str().into()), LoggedValue::Bytes(text.as_bytes())]
        {
            assert_eq!(quoted(value, max_bytes), shown);
        }
        if is_plain(text.as_bytes()) {
            assert_eq!(quoted(LoggedValue::Plain(text.as_bytes()), max_bytes), shown);
        }
        let mut field = Vec::new();
        write_text(&mut field, br#","f":""#, &text, max_bytes);
        assert_eq!(String::from_utf8(field).unwrap(), format!(r#","f":{shown}"#));
    }
}

#[test]
fn invalid_utf8_is_shown_as_replacement_characters() {
    let value = LoggedValue::Bytes(b"a\xff\"b");
    assert_eq!(quoted(value, MAX), "\"a\u{fffd}\\\"b\"");
    let shown = quoted(LoggedValue::Bytes(&[0xff; MAX]), MAX);
    assert_eq!(shown, format!("\"{}…\"", "\u{fffd}".repeat((MAX - 3) / 3)));
}

#[test]
fn a_value_is_written_as_its_text() {
    let mut random = Random(9);
    for _ in 0..20_000 {
        let bits = random.below(64);
        let mut number = || random.below(u64::MAX) >> bits;
        let [a, b] = [number(), number()];
        let octets = (a as u32).to_be_bytes();
        let values = [
            LoggedValue::Number(a),
            LoggedValue::Micros(a),
            LoggedValue::Hex { id: u128::from(a) << 64 | u128::from(b), digits: 32 },
            LoggedValue::Hex { id: b.into(), digits: 16 },
            LoggedValue::Ip(octets.into()),
            LoggedValue::Ip([a as u16, 0, 0, 0, 0, 0, 1, 7].into()),
            LoggedValue::Address((octets, b as u16).into()),
            LoggedValue::Address(([a as u16, 0, 0, 0, 0, 0, 1, 7], b as u16).into()),
        ];
        for value in values {
            let text = value.clone().text().into_owned();
            assert_eq!(quoted(value, MAX), format!("\"{text}\""));
        }
    }
}

#[test]
fn a_duration_is_rounded_to_the_microsecond() {
    let shown = |nanos| {
        let mut out = Vec::new();
        write_millis(&mut out, Duration::from_nanos(nanos));
        String::from_utf8(out).unwrap()
    };
    assert_eq!([0, 499, 500, 1_499_499].map(shown), ["0.000", "0.000", "0.001", "1.499"]);
    assert_eq!([999_999_499, 999_999_500].map(shown), ["999.999", "1000.000"]);
    assert_eq!(shown(61_000_007_000_000), "61000007.000");
    let mut out = Vec::new();
    write_millis(&mut out, Duration::MAX);
    assert_eq!(out, b"18446744073709551.615");
}

#[test]
fn a_text_that_fits_stays_as_it_is() {
    for value in ["", "curl/8.5", &"x".repeat(MAX)] {
        assert_eq!(truncate(value, MAX), value);
    }
}

#[test]
fn a_long_text_is_cut_between_characters() {
    let long = "x".repeat(MAX + 1);
    assert_eq!(truncate(&long, MAX), format!("{}…", "x".repeat(MAX - 3)));
    for width in ["é", "€", "𝄞"] {
        let shown = truncate(&width.repeat(MAX), MAX).into_owned();
        assert!(shown.len() <= MAX && shown.len() > MAX - 4, "{}", shown.len());
        assert!(shown.strip_suffix('…').unwrap().chars().all(|c| width.starts_with(c)));
    }
}
