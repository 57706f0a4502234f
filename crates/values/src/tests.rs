//! Tests of several kinds of values.

use crate::*;
use std::time::Duration;

#[test]
fn a_0_instead_of_off_has_a_hint() {
    for text in ["0", "0s", "0.0ms", "00"] {
        let error = OrOff::<Duration>::from_text(text).unwrap_err();
        assert_eq!(error.hint, "to do without, write `off`", "{text}");
    }
    assert_eq!(OrOff::<Count>::from_text("0").unwrap_err().hint, "to do without, write `off`");
    assert_eq!(OrOff::<Count>::from_text("off"), Ok(None));
}

#[test]
fn a_leading_0_is_rejected() {
    let errors = [
        Count::from_text("010").unwrap_err(),
        Percent::from_text("007").unwrap_err(),
        Workers::from_text("04").unwrap_err(),
        Factor::from_text("01.5").unwrap_err(),
        Share::from_text("05").unwrap_err(),
        Size::from_text("0777KiB").unwrap_err(),
        Rate::from_text("010/s").unwrap_err(),
        Duration::from_text("010s").unwrap_err(),
    ];
    for error in errors {
        assert!(error.message.contains("begins with a 0"), "{error:?}");
    }
    assert_eq!(Count::from_text("010").unwrap_err().hint, "write it without: `10`");
    assert!(Factor::from_text("0.5").is_ok() && Duration::from_text("0.5s").is_ok());
}

/// The quoted suggestions of a hint, if they are complete.
fn suggestions(error: &Diagnostic) -> Vec<String> {
    let parts = error.hint.split('`').skip(1).step_by(2);
    parts.filter(|it| !it.contains('…')).map(str::to_owned).collect()
}

/// Following each hint must lead to a valid value.
fn follow<T: FromText>(texts: &[&str]) {
    for text in texts {
        let Err(error) = T::from_text(text) else { continue };
        for suggested in suggestions(&error) {
            let again = T::from_text(&suggested).map(drop);
            assert_eq!(again, Ok(()), "`{text}` has the hint to write `{suggested}`");
        }
    }
}

#[test]
fn following_a_hint_gives_a_valid_value() {
    let texts = [
        "",
        "0",
        "00",
        "010",
        "0s",
        "0ms",
        "off",
        "5",
        "1.5",
        "-1",
        "5S",
        "5%",
        "many",
        "1e3",
        "400d",
        "0.5",
        "1/s",
        "5/ms",
        "0/s",
        "64 kilobytes",
        "2000GiB",
        "101",
    ];
    follow::<Duration>(&texts);
    follow::<AtLeast>(&texts);
    follow::<OrOff<Duration>>(&texts);
    follow::<OrOff<Count>>(&texts);
    follow::<Count>(&texts);
    follow::<Workers>(&texts);
    follow::<Size>(&texts);
    follow::<Rate>(&texts);
    follow::<Factor>(&texts);
    follow::<Share>(&texts);
}
