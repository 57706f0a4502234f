//! Globs, also of words that are only partly known.

use super::*;

fn fits(glob: &str, word: &str) -> bool {
    Glob::new(glob).matches(word)
}

#[test]
fn a_star_is_any_run_and_a_question_mark_one_character() {
    for (glob, word) in [
        ("", ""),
        ("*", ""),
        ("*", "shop.orders"),
        ("**", "x"),
        ("shop.*", "shop."),
        ("shop.*", "shop.a.b"),
        ("*.orders", ".orders"),
        ("*.orders", "a.b.orders"),
        ("sh*rs", "shop.orders"),
        ("a*b*c", "a-b-b-c"),
        ("*ab", "aab"),
        ("?", "é"),
        ("?*", "x"),
        ("a?c", "abc"),
        ("[a]", "[a]"),
        ("a\\*", "a\\b"),
    ] {
        assert!(fits(glob, word), "{glob} {word}");
    }
    for (glob, word) in [
        ("", "x"),
        ("shop.*", "shop"),
        ("shop.*", "Shop.a"),
        ("*.orders", "orders"),
        ("?", ""),
        ("?", "ab"),
        ("a*b", "ac"),
        ("a*b*c", "a-c-b"),
        ("abc", "ab"),
        ("ab", "abc"),
        ("[a]", "a"),
    ] {
        assert!(!fits(glob, word), "{glob} {word}");
    }
}

#[test]
fn stars_do_not_multiply() {
    let (glob, word) = ("a*".repeat(100) + "b", "a".repeat(20_000));
    let began = Instant::now();
    assert!(!fits(&glob, &word));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

/// What a glob means, in the plainest words.
fn plainly(glob: &[char], word: &[char]) -> bool {
    match glob.split_first() {
        None => word.is_empty(),
        Some(('*', rest)) => (0..=word.len()).any(|at| plainly(rest, &word[at..])),
        Some((c, rest)) => word
            .split_first()
            .is_some_and(|(found, word)| (*c == '?' || c == found) && plainly(rest, word)),
    }
}

/// All words of at most `most` letters.
fn words(letters: &[char], most: usize) -> Vec<String> {
    let mut all = vec![String::new()];
    let mut from = 0;
    for _ in 0..most {
        let until = all.len();
        for at in from..until {
            all.extend(letters.iter().map(|c| format!("{}{c}", all[at])).collect::<Vec<_>>());
        }
        from = until;
    }
    all
}

#[test]
fn every_short_glob_means_what_it_says() {
    let words = words(&['a', 'b'], 5);
    for glob in self::words(&['a', 'b', '*', '?'], 4) {
        let chars: Vec<char> = glob.chars().collect();
        for word in &words {
            let expected = plainly(&chars, &word.chars().collect::<Vec<_>>());
            assert_eq!(fits(&glob, word), expected, "{glob} {word}");
        }
    }
}

#[test]
fn a_partly_known_value_matches_in_doubt() {
    // What may stand in the unknown part: nothing, every short text, and one of strange letters.
    let mut unknown = words(&['a', 'b', '.'], 4);
    unknown.push("zzzzzzzz".to_owned());
    let truth = |fits: &mut dyn Iterator<Item = bool>| {
        let fits: Vec<bool> = fits.collect();
        match (fits.iter().all(|it| *it), fits.iter().any(|it| *it)) {
            (true, _) => Truth::Yes,
            (false, true) => Truth::Unknown,
            (false, false) => Truth::No,
        }
    };
    for glob in words(&['a', 'b', '.', '*', '?'], 4) {
        let matcher = Glob::new(&glob);
        for end in ["", ".", ".a", ".b", ".ab", ".a.b"] {
            let all = &mut unknown.iter().map(|front| matcher.matches(&format!("{front}{end}")));
            assert_eq!(
                matcher.matches_known(glob::KnownText::End(end)),
                truth(all),
                "{glob} ?{end}"
            );
        }
        for front in [".", "a.", "b.", "ab.", "a.b."] {
            let all = &mut unknown.iter().map(|end| matcher.matches(&format!("{front}{end}")));
            assert_eq!(
                matcher.matches_known(glob::KnownText::Front(front)),
                truth(all),
                "{glob} {front}?"
            );
        }
    }
}

#[test]
fn a_question_mark_matches_one_character_in_its_place() {
    use glob::KnownText::{End, Front, Whole};
    for (resource, word) in [
        ("?", End("")),
        ("?.orders", End(".orders")),
        ("?.?", End("")),
        ("shop.?", Front("shop.")),
        ("a.b.?", Front("a.b.")),
        ("?what.orders", Whole("?what.orders")),
        ("shop.what?", Whole("shop.what?")),
        ("shop?", Whole("shop?")),
        ("", Whole("")),
    ] {
        assert_eq!(glob::KnownText::resource(resource), word, "{resource}");
    }
    assert_eq!(
        (glob::KnownText::name("?"), glob::KnownText::name("find")),
        (End(""), Whole("find"))
    );
}

#[test]
fn what_could_not_be_read_is_guarded_as_if_it_were_anything() {
    let none = facts(&[]);
    let on =
        |glob: &str, resource: &str| applies(&made! { "resource": glob }, "find", resource, &none);
    for glob in ["shop.orders", "*.orders", "shop.*", "*", "?hop.orders"] {
        assert!(on(glob, "?.orders"), "{glob}");
    }
    assert!(!on("shop.users", "?.orders"));
    for glob in ["shop.orders", "shop.*", "x", ""] {
        assert!(on(glob, "?"), "{glob}");
    }
    // A name may begin with a question mark.
    assert!(!on("shop.orders", "?what.orders"));
}

#[test]
fn an_unreadable_value_is_excluded_only_if_certain() {
    let none = facts(&[]);
    let but = |glob: &str, resource: &str| {
        applies(&made! { "not": { "resource": glob } }, "find", resource, &none)
    };
    for glob in ["shop.orders", "shop.*", "?*.orders"] {
        assert!(but(glob, "?.orders"), "{glob}");
    }
    assert!(!but("*.orders", "?.orders"));
    assert!(!but("*", "?.orders"));
    assert!(but("*.orders", "?") && !but("*", "?"));
    // Twice turned around, it guards again.
    let twice = made! { "not": { "not": { "resource": "shop.orders" } } };
    assert!(applies(&twice, "find", "?.orders", &none));
    assert!(applies(&twice, "find", "?", &none));
    assert!(!applies(&twice, "find", "?.users", &none));
}

#[test]
fn an_unknown_name_is_guarded_as_if_it_were_any_name() {
    let none = facts(&[]);
    for glob in ["drop", "d*", "????", "*"] {
        let (only, but) = (made! { "operation": glob }, made! { "not": { "operation": glob } });
        assert!(applies(&only, "?", "shop.orders", &none), "{glob}");
        // Only what matches every name excludes an unknown one.
        assert_eq!(applies(&but, "?", "shop.orders", &none), glob != "*", "{glob}");
    }
    assert!(!applies(&made! { "operation": "drop" }, "drop?", "shop.orders", &none));
    // Another key decides, whatever the name is.
    let elsewhere = made! { "operation": "drop", "resource": "audit.*" };
    assert!(!applies(&elsewhere, "?", "shop.orders", &none));
}
