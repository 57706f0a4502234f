//! What is done with a fuzzer's text. `fuzz/` gives this function text of its own making;
//! `fuzzed.rs` gives it all that was ever found.

/// Reads a config. What is wrong with it has a place inside the text, and can be shown by any
/// terminal; what is right with it reads back as itself.
pub(crate) fn read(text: &str) {
    match config::parse("fuzzed", text) {
        Ok(plan) => {
            let shown = plan.to_json();
            let again = config::parse("shown", &shown.to_string()).expect("what runs can be read");
            assert_eq!(again.to_json(), shown, "what runs reads back as something else");
        }
        Err(problems) => {
            assert!(!problems.0.is_empty(), "nothing is wrong, and yet it is no config");
            for problem in &problems.0 {
                inside(text.strip_prefix('\u{feff}').unwrap_or(text), problem);
                let printed = problem.to_string();
                let obeyed = printed.chars().find(|c| c.is_control() && *c != '\n');
                assert_eq!(obeyed, None, "a terminal would obey {printed:?}");
            }
        }
    }
}

/// A problem is in no line, or in one of the text's, or at its very end. A carriage return alone
/// ends a line, too: so it is in YAML.
fn inside(text: &str, problem: &values::Diagnostic) {
    if problem.line() == 0 {
        assert_eq!((problem.column(), problem.snippet()), (0, ""), "{problem}");
        return;
    }
    let text = text.replace("\r\n", "\n");
    let line = text.split(['\n', '\r']).nth(problem.line() as usize - 1);
    let line = line.unwrap_or_else(|| panic!("there is no such line: {problem}"));
    assert!(line.is_empty() || !problem.snippet().is_empty(), "it is not shown: {problem}");
    let columns = 1..=line.chars().count() + 1;
    assert!(columns.contains(&(problem.column() as usize)), "no such column: {problem}");
}
