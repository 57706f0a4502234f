//! Variables of the environment in values: `${NAME}` and `${NAME:-default}`.
//!
//! They are replaced after YAML is parsed, so a variable can never add keys, list items or comments.
//! A `$` that does not stand before `{` is text, also in regular expressions and passwords. Of
//! several before a `{`, each pair is one `$`: `$${` writes `${`.

use std::ffi::OsString;
use values::{Diagnostic, Span, Value, hide};

/// Finds the value of a variable.
pub(crate) type Environment = fn(&str) -> Option<OsString>;

/// How a text is written in YAML.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// In quotes: it is always text.
    Quoted,
    /// Without quotes: it may be a number or a boolean.
    Plain,
}

/// Replaces the variables of a config.
pub(crate) struct Variables {
    /// `None`: they are not replaced.
    lookup: Option<Environment>,
    /// How many bytes replaced texts may still have.
    left: usize,
    faults: Vec<(Span, Diagnostic)>,
    secrets: Vec<String>,
}

impl Variables {
    /// Leaves variables as they are.
    pub(crate) fn off() -> Self {
        Self { lookup: None, left: 0, faults: Vec::new(), secrets: Vec::new() }
    }

    /// Replaces variables. All texts that have some may together have `max` bytes.
    pub(crate) fn of(lookup: Environment, max: usize) -> Self {
        Self { lookup: Some(lookup), left: max, ..Self::off() }
    }

    /// Whether variables are replaced.
    pub(crate) fn are_replaced(&self) -> bool {
        self.lookup.is_some()
    }

    /// The errors since the last call.
    pub(crate) fn take_faults(&mut self) -> Vec<(Span, Diagnostic)> {
        std::mem::take(&mut self.faults)
    }

    /// The values of variables that are secrets by their name, since the last call.
    pub(crate) fn take_secrets(&mut self) -> Vec<String> {
        std::mem::take(&mut self.secrets)
    }

    /// The value that this text stands for. After an error it is the text itself.
    pub(crate) fn value(
        &mut self,
        text: String,
        style: Style,
        at: Span,
        is_word: fn(&str) -> bool,
    ) -> Value {
        let Some(lookup) = self.lookup.filter(|_| text.contains("${")) else {
            return Value::Text(text);
        };
        let replaced = self.replaced(&text, lookup).and_then(|replaced| {
            self.left = self.left.checked_sub(replaced.len()).ok_or_else(|| {
                let message = "too much text: the variables make the config too long";
                Diagnostic::new(message, "leave out what is no config")
            })?;
            Ok(replaced)
        });
        match replaced {
            Ok(word) if style == Style::Plain && is_word(&word) => Value::Word(word),
            Ok(text) => Value::Text(text),
            Err(fault) => {
                self.faults.push((at, fault));
                Value::Text(text)
            }
        }
    }

    fn replaced(&mut self, text: &str, lookup: Environment) -> Result<String, Diagnostic> {
        let (mut replaced, mut rest) = (String::new(), text);
        while let Some(begin) = rest.find("${") {
            let (before, from) = rest.split_at(begin);
            let text = before.trim_end_matches('$');
            // With the one that the search has found.
            let signs = before.len() - text.len() + 1;
            replaced.push_str(text);
            replaced.extend(std::iter::repeat_n('$', signs / 2));
            let inner = from.get("${".len()..).unwrap_or_default();
            if signs.is_multiple_of(2) {
                replaced.push('{');
                rest = inner;
                continue;
            }
            let Some((inner, after)) = inner.split_once('}') else {
                let message = "`${` has no `}` after it";
                return Err(Diagnostic::new(message, "write `${NAME}`; `$${` writes `${`"));
            };
            replaced.push_str(&self.variable(inner, lookup)?);
            // A bomb of defaults is stopped before it is built.
            if replaced.len() > self.left {
                return Ok(replaced);
            }
            rest = after;
        }
        replaced.push_str(rest);
        Ok(replaced)
    }

    /// What stands for the text between the braces.
    fn variable(&mut self, inner: &str, lookup: Environment) -> Result<String, Diagnostic> {
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let end = inner.find(|c| !is_part(c)).unwrap_or(inner.len());
        let (name, rest) = inner.split_at(end);
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            let message = format!("`${{{inner}}}` names no variable");
            let hint = "a name has letters, digits and `_`, and begins with no digit; `$${` writes \
                        the characters `${`";
            return Err(Diagnostic::new(message, hint));
        }
        let default = match rest.strip_prefix(":-") {
            Some(default) if default.contains("${") => {
                let message = format!("the default of `{name}` has a variable in it");
                return Err(Diagnostic::new(message, "write the default as it is"));
            }
            Some(default) => Some(default),
            None if rest.is_empty() => None,
            None => {
                let message = format!("`${{{inner}}}` is no form of a variable");
                let hint = format!(
                    "write `${{{name}}}`, or with a default for an unset or empty one: \
                     `${{{name}:-default}}`"
                );
                return Err(Diagnostic::new(message, hint));
            }
        };
        let Some(value) = lookup(name).filter(|it| default.is_none() || !it.is_empty()) else {
            return default.map(str::to_owned).ok_or_else(|| {
                let message = format!("the variable `{name}` is not set");
                let hint = format!(
                    "set it in the environment of tollgate, or write a default: \
                     `${{{name}:-default}}`"
                );
                Diagnostic::new(message, hint)
            });
        };
        let value = value.into_string().map_err(|_| {
            let message = format!("the value of the variable `{name}` is not UTF-8 text");
            Diagnostic::new(message, "set it to text")
        })?;
        if !value.is_empty() && is_secret(name) && !self.secrets.contains(&value) {
            self.secrets.push(value.clone());
        }
        Ok(value)
    }
}

/// Whether the value of a variable with this name must not be shown.
fn is_secret(name: &str) -> bool {
    let pair = format!("{name}: value");
    hide(&pair) != pair
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<OsString> {
        let value = match name {
            "HOST" => "db.example.net",
            "PORT" => "27017",
            "EMPTY" => "",
            "YAML" => "a: [1] # {x}",
            "NESTED" => "${HOST}",
            "DB_PASSWORD" => "hunter2",
            _ => return None,
        };
        Some(value.into())
    }

    fn is_word(text: &str) -> bool {
        text.parse::<u32>().is_ok()
    }

    fn replaced(text: &str) -> Result<String, Diagnostic> {
        Variables::of(lookup, 1000).replaced(text, lookup)
    }

    #[test]
    fn variables_are_replaced_in_a_text() {
        for (text, expected) in [
            ("${HOST}", "db.example.net"),
            ("${HOST}:${PORT}", "db.example.net:27017"),
            ("a${EMPTY}b", "ab"),
            ("${EMPTY:-x}${NONE:-y}${PORT:-z}", "xy27017"),
            ("${NONE:-}", ""),
            ("${NONE:-a:b -$c}", "a:b -$c"),
            ("${YAML}", "a: [1] # {x}"),
            ("${NESTED}", "${HOST}"),
        ] {
            assert_eq!(replaced(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_dollar_sign_is_text_unless_a_brace_follows() {
        for (text, expected) in [
            ("^a$", "^a$"),
            ("pa$$word $1 $HOST ${PORT}$", "pa$$word $1 $HOST 27017$"),
            ("$${HOST}", "${HOST}"),
            ("$${", "${"),
            ("$$${HOST}", "$db.example.net"),
            ("$$$${HOST}", "$${HOST}"),
            ("$${1}${PORT}", "${1}27017"),
        ] {
            assert_eq!(replaced(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_wrong_variable_is_an_error() {
        for (text, message) in [
            ("${NONE}", "the variable `NONE` is not set"),
            ("${HOST", "`${` has no `}` after it"),
            ("${}", "`${}` names no variable"),
            ("${1}", "`${1}` names no variable"),
            ("${ HOST }", "`${ HOST }` names no variable"),
            ("${HOST-x}", "`${HOST-x}` is no form of a variable"),
            ("${HOST:?x}", "`${HOST:?x}` is no form of a variable"),
            ("${HOST.a}", "`${HOST.a}` is no form of a variable"),
            ("${A:-${HOST}}", "the default of `A` has a variable in it"),
        ] {
            assert_eq!(replaced(text).unwrap_err().message, message, "{text}");
        }
    }

    #[test]
    fn only_a_value_without_quotes_becomes_a_number() {
        let mut variables = Variables::of(lookup, 1000);
        let at = Span::NOWHERE;
        let mut value = |text: &str, style| variables.value(text.to_owned(), style, at, is_word);
        assert_eq!(value("${PORT}", Style::Plain), Value::Word("27017".into()));
        assert_eq!(value("${NONE:-1}0", Style::Plain), Value::Word("10".into()));
        assert_eq!(value("${PORT}", Style::Quoted), Value::Text("27017".into()));
        assert_eq!(value("${HOST}", Style::Plain), Value::Text("db.example.net".into()));
        assert_eq!(value("${NONE:-}", Style::Plain), Value::Text("".into()));
        let mut off = Variables::off();
        let kept = off.value("${PORT}$${x}".to_owned(), Style::Plain, at, is_word);
        assert_eq!(kept, Value::Text("${PORT}$${x}".into()));
    }

    #[test]
    fn replaced_texts_are_bounded() {
        let mut variables = Variables::of(lookup, 20);
        let at = Span { line: 1, ..Span::NOWHERE };
        let mut value = |text: &str| variables.value(text.to_owned(), Style::Plain, at, is_word);
        assert_eq!(value("${HOST}"), Value::Text("db.example.net".into()));
        assert_eq!(value("${HOST}"), Value::Text("${HOST}".into()));
        let faults = variables.take_faults();
        assert!(faults[0].1.message.starts_with("too much text"), "{faults:?}");
        assert_eq!((faults[0].0, faults.len()), (at, 1));
    }

    #[test]
    fn a_secret_is_known_by_the_name_of_its_variable() {
        let mut variables = Variables::of(lookup, 1000);
        variables.replaced("${HOST} ${DB_PASSWORD} ${DB_PASSWORD}", lookup).unwrap();
        assert_eq!(variables.take_secrets(), ["hunter2"]);
    }
}
