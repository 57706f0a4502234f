//! Comments are plain English: idioms that a reader has to decode are counted, and their number may only fall.

use crate::walk::{read, shown, sources};

/// Words for which plain English has a plainer one; CONTRIBUTING.md has examples.
const IDIOMS: &[&str] = &[
    "whoever",
    "somebody",
    "nobody",
    "who is",
    "whom",
    "anew",
    "taken for",
    "no more",
    "in the place of",
    "so many",
    "heed",
    "heeds",
    "hear of",
    "hears of",
    "tell",
    "tells",
    "told",
    "is had",
    "becomes of",
    "thereby",
    "whence",
    "herein",
    "lest",
    "who has",
    "who had",
    "who ask",
    "who asks",
    "who wait",
    "who waits",
    "who hold",
    "who holds",
    "who stand",
    "who stands",
    "who call",
    "who calls",
    "who read",
    "who reads",
    "who write",
    "who writes",
    "who may",
    "who can",
    "who want",
    "who wants",
    "who get",
    "who gets",
    "who come",
    "who comes",
    "who goes",
    "who send",
    "who sends",
];

/// How many may be left. Lower this with every rewrite, and never raise it.
const ALLOWED: usize = 40;

/// How long the name of a test may be.
const LONGEST_NAME: usize = 60;

/// Words that make a riddle of a test's name.
const RIDDLES: [&str; 9] =
    ["who", "whoever", "whom", "somebody", "anybody", "nobody", "anew", "told", "tells"];

/// The comment of a line, if it has one. Addresses such as `http://` in code do not begin one.
fn comment(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let text = match line.starts_with("//") {
        true => Some(line),
        false => line.split_once(" // ").map(|(_, comment)| comment),
    };
    text.filter(|text| !text.is_empty())
}

/// Whether one of the idioms stands in this comment, as whole words.
fn has_idiom(comment: &str) -> bool {
    let words = comment.to_lowercase();
    let words: Vec<&str> =
        words.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let text = format!(" {} ", words.join(" "));
    IDIOMS.iter().any(|idiom| text.contains(&format!(" {idiom} ")))
}

#[test]
fn comments_with_idioms_become_fewer() {
    let mut found = Vec::new();
    for file in sources(".") {
        for (number, line) in read(&file).lines().enumerate() {
            if comment(line).is_some_and(has_idiom) {
                found.push(format!("{}:{}: {}", shown(&file), number + 1, line.trim()));
            }
        }
    }
    assert!(
        found.len() <= ALLOWED,
        "{} comments with idioms, at most {ALLOWED}; say it as CONTRIBUTING.md shows:\n{}",
        found.len(),
        found.join("\n")
    );
}

#[test]
fn names_of_tests_are_short_and_plain() {
    let mut wrong = Vec::new();
    for file in sources(".") {
        let text = read(&file);
        for part in text.split("test]\n").skip(1) {
            let Some((_, rest)) = part.split_once("fn ") else { continue };
            let name = rest.split('(').next().unwrap();
            let riddle = name.split('_').any(|word| RIDDLES.contains(&word));
            if riddle || name.len() > LONGEST_NAME {
                wrong.push(format!("{}: {name}", shown(&file)));
            }
        }
    }
    assert!(wrong.is_empty(), "say subject, verb and object:\n{}", wrong.join("\n"));
}

#[test]
fn only_comments_are_looked_at() {
    assert_eq!(comment("    /// Tells."), Some("/// Tells."));
    assert_eq!(comment("let a = 1; // anew"), Some("anew"));
    assert_eq!(comment("let a = \"http://whoever\";"), None);
    assert!(has_idiom("Whoever asks gets it.") && has_idiom("Cut: no more."));
    assert!(!has_idiom("A teller nobodys."));
}
