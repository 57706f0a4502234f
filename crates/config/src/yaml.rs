//! Parses YAML into a tree with spans. The only file that uses the parser.

use super::variables::{Style, Variables};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, Error, Options, Spanned};
use std::fmt;
use values::{Diagnostic, Node, Span, Value};

/// The most values in a document. A thousand listeners and clusters with twenty keys each have
/// about 80,000; this many take about 40 MB while they are read.
pub(crate) const MAX_VALUES: usize = 250_000;

/// The text of a file.
#[derive(Clone, Copy)]
pub(crate) struct Document<'t> {
    /// The number of the file.
    pub(crate) file: u32,
    /// Its text.
    pub(crate) text: &'t str,
}

/// Reads one YAML document, and replaces the variables in its values. At most 32 levels and as many
/// values as are `left`, including expanded aliases.
pub(crate) fn read(
    document: Document<'_>,
    variables: &mut Variables,
    left: &mut usize,
) -> Result<Node, (Span, Diagnostic)> {
    match serde_saphyr::from_str_with_options::<Spanned<Raw>>(document.text, options(*left)) {
        Ok(raw) => Ok(TreeBuilder { document, variables, left }.node(raw)),
        Err(error) => Err(document.diagnostic(&error)),
    }
}

/// Whether a text without quotes is a number or a boolean.
fn is_word(text: &str) -> bool {
    let may_be = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '+' | '-');
    let raw = || serde_saphyr::from_str_with_options(text, options(1));
    text.chars().all(may_be) && matches!(raw(), Ok(Raw::Word))
}

fn options(max_nodes: usize) -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_nodes: max_nodes,
            max_depth: 32,
            flow_nesting_limit: 32,
        },
        // `decode` reports them all, with the place of the first.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        strict_booleans: true,
        with_snippet: false,
    }
}

/// A parsed value without its span.
enum Raw {
    Null,
    /// The parser converts numbers and booleans; the original text is found by its span.
    Word,
    Text(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<MapKey>, Spanned<Raw>)>),
}

/// A key: any word, also one that would be a number or null as a value.
enum MapKey {
    Text(String),
    /// As with [`Raw::Word`].
    Word,
}

impl<'de> Deserialize<'de> for MapKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Raw::deserialize(deserializer)? {
            Raw::Text(text) => Ok(MapKey::Text(text)),
            Raw::Null | Raw::Word => Ok(MapKey::Word),
            Raw::List(_) => Err(D::Error::custom("a list can't be a key")),
            Raw::Map(_) => Err(D::Error::custom("keys and values can't be a key")),
        }
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Raw, E> {
        Ok(Raw::Word)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Raw, E> {
        Ok(Raw::Word)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Raw, E> {
        Ok(Raw::Word)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Raw, E> {
        Ok(Raw::Word)
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }
}

/// Makes a tree of what the parser returns.
struct TreeBuilder<'a> {
    document: Document<'a>,
    variables: &'a mut Variables,
    left: &'a mut usize,
}

impl TreeBuilder<'_> {
    fn node(&mut self, raw: Spanned<Raw>) -> Node {
        *self.left = self.left.saturating_sub(1);
        let at = self.document.place(raw.referenced);
        let written = self.document.written(raw.defined);
        let value = match raw.value {
            Raw::Null => Value::Null,
            Raw::Word => Value::Word(written.to_owned()),
            Raw::Text(text) => {
                let quoted = written.starts_with(['"', '\'']);
                let style = if quoted { Style::Quoted } else { Style::Plain };
                self.variables.value(text, style, at, is_word)
            }
            Raw::List(items) => Value::List(items.into_iter().map(|it| self.node(it)).collect()),
            Raw::Map(entries) => {
                let entry = |(key, value)| (self.key(key), self.node(value));
                Value::Map(entries.into_iter().map(entry).collect())
            }
        };
        Node { at, value }
    }

    /// A key, in which no variables are replaced.
    fn key(&mut self, key: Spanned<MapKey>) -> Node {
        *self.left = self.left.saturating_sub(1);
        let at = self.document.place(key.referenced);
        let word = match key.value {
            MapKey::Text(word) => word,
            MapKey::Word => self.document.written(key.defined).to_owned(),
        };
        Node { at, value: Value::Text(word) }
    }
}

impl<'t> Document<'t> {
    /// The text at this place.
    fn written(self, location: serde_saphyr::Location) -> &'t str {
        let span = location.span();
        let bytes = span.byte_offset().zip(span.byte_len()).and_then(|(from, len)| {
            let from = usize::try_from(from).ok()?;
            self.text.get(from..from.checked_add(usize::try_from(len).ok()?)?)
        });
        bytes.unwrap_or_default()
    }

    fn place(self, location: serde_saphyr::Location) -> Span {
        let number = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        Span {
            file: self.file,
            line: number(location.line()),
            column: number(location.column()),
            width: number(location.span().len()),
        }
    }

    /// Rewords an error of the parser for users.
    fn diagnostic(self, error: &Error) -> (Span, Diagnostic) {
        let at = error
            .location()
            .map_or_else(|| Span::end_of(self.file, self.text), |it| self.place(it));
        let at = Span { width: 1, ..at };
        let rendered = error.to_string();
        // The parser appends the place to its message; here it comes first.
        let what = rendered.split_once(" at line ").map_or(rendered.as_str(), |(what, _)| what);
        let too_much = what.contains("budget") || what.contains("recursion limit");
        let diagnostic = match error {
            _ if too_much => Diagnostic::new(
                "too much in a config: at most 250,000 values, nested at most 32 deep",
                "aliases (`*name`) count as what they stand for; leave out what is no config",
            ),
            Error::MultipleDocuments { .. } => Diagnostic::new(
                "a second YAML document begins here",
                "a config is one document: leave out the `---` before it",
            ),
            _ if what.starts_with("tabs") => {
                Diagnostic::new("a tab can't indent YAML", "indent with spaces, two for each level")
            }
            _ if what.contains("invalid u64") || what.contains("invalid i64") => {
                Diagnostic::new("what is tagged `!!int` is not a whole number", "leave the tag out")
            }
            _ if what.contains("non-finite") => {
                Diagnostic::new("`.inf` and `.nan` are no numbers here", "write a number")
            }
            _ if what.contains("floating point") || what.contains("invalid f64") => {
                Diagnostic::new("what is tagged `!!float` is not a number", "leave the tag out")
            }
            _ if what.contains("boolean") || what.contains("bool ") => Diagnostic::new(
                "what is tagged `!!bool` is neither `true` nor `false`",
                "leave the tag out",
            ),
            _ if what.contains("flow") && self.has_variable(at) => Diagnostic::new(
                format!("not valid YAML: {what}"),
                "inside of { } and [ ] a variable needs quotes around it: `{ cluster: \"${NAME}\" }`",
            ),
            _ => Diagnostic::new(format!("not valid YAML: {what}"), syntax_hint(what)),
        };
        (at, diagnostic)
    }

    /// Whether the line of this span has a variable.
    fn has_variable(self, at: Span) -> bool {
        let index = (at.line as usize).checked_sub(1);
        index.and_then(|index| self.text.lines().nth(index)).is_some_and(|it| it.contains("${"))
    }
}

fn syntax_hint(what: &str) -> &'static str {
    if what.contains("mapping values are not allowed") {
        "one `key: value` a line, a space after the colon, the same indent as its neighbours; \
         look at the line above too"
    } else if what.contains("':'") {
        "write `key: value`, with a space after the colon"
    } else if what.contains("unclosed") || what.contains("did not find expected") {
        "close what is open; text with [ ] { } : # or quotes in it needs quotes around it: \"[::1]:80\""
    } else if what.contains("unexpected character") {
        "put quotes around text that begins with a special character"
    } else if what.contains("anchor") {
        "name it first: `&name` before a value, then `*name`"
    } else {
        "check the indentation and the quotes here and in the line above"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Node, (Span, Diagnostic)> {
        super::read(Document { file: 0, text }, &mut Variables::off(), &mut MAX_VALUES.clone())
    }

    fn values(text: &str) -> Vec<Value> {
        match read(text) {
            Ok(Node { value: Value::Map(entries), .. }) => {
                entries.into_iter().map(|(_, node)| node.value).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn numbers_and_booleans_stay_as_written() {
        let words =
            |list: &[&str]| list.iter().map(|w| Value::Word((*w).into())).collect::<Vec<_>>();
        let read = values("a: 007\nb: 1_000\nc: 1.50\nd: 0x10\ne: true\nf: -3\n");
        assert_eq!(read, words(&["007", "1_000", "1.50", "0x10", "true", "-3"]));
        assert_eq!(values("a: &x 007\nb: *x\n"), words(&["007", "007"]));
    }

    #[test]
    fn only_numbers_and_booleans_are_words() {
        for word in ["7", "-3", "1.5", "1_000", "0x10", "1e3", "true", "false"] {
            assert!(is_word(word), "{word}");
        }
        for text in
            ["", "a", "1 # b", "~", "null", "a: 1", "[1]", "&a 1", "5s", "off", "1\n", ".inf"]
        {
            assert!(!is_word(text), "{text}");
        }
    }

    #[test]
    fn variables_are_replaced_in_values_and_not_in_keys() {
        let text = "${X}: ${X}\na: \"${X}\"\nb: '${X}'\nc: &n ${X}\nd: *n\ne: [ \"${X}\" ]\nf: >-\n  ${X}\n  y\n";
        let mut variables = Variables::of(|name| (name == "X").then(|| "5".into()), 100);
        let document = Document { file: 3, text };
        let tree = super::read(document, &mut variables, &mut MAX_VALUES.clone()).unwrap();
        let (word, text) = (Value::Word("5".into()), Value::Text("5".into()));
        for (key, value) in [
            ("${X}", &word),
            ("a", &text),
            ("b", &text),
            ("c", &word),
            ("d", &word),
            ("f", &Value::Text("5 y".into())),
        ] {
            assert_eq!(&tree.child(key).unwrap().1.value, value, "{key}");
        }
        assert_eq!(tree.descend(&["e", "0"]).unwrap().value, text);
        let at = tree.place(&["d"]);
        assert_eq!((at.file, at.line, at.column), (3, 5, 4));
    }

    #[test]
    fn booleans_of_older_yaml_are_text() {
        let text = |word: &str| Value::Text(word.into());
        assert_eq!(values("a: off\nb: yes\nc: 'é'\n"), [text("off"), text("yes"), text("é")]);
    }

    #[test]
    fn a_span_is_a_scalars_own_or_the_key_of_a_block() {
        let tree = read("a:\n  b: 1\n  c: []\n").unwrap();
        let place = |path: &[&str]| {
            let at = tree.place(path);
            (at.line, at.column)
        };
        assert_eq!(place(&["a"]), (1, 1));
        assert_eq!(place(&["a", "b"]), (2, 6));
        assert_eq!(place(&["a", "c"]), (3, 3));
        assert_eq!(place(&["a", "nothing"]), (1, 1));
        let tree = read("a:\n  - b: 1\n  - b: 2\n    c: [3, 4]\n").unwrap();
        let place = |path: &[&str]| {
            let at = tree.place(path);
            (at.line, at.column)
        };
        assert_eq!(place(&["a", "1"]), (3, 5));
        assert_eq!(place(&["a", "1", "b"]), (3, 8));
        assert_eq!(place(&["a", "1", "c", "1"]), (4, 12));
        assert_eq!(place(&["a", "2", "c"]), (1, 1));
    }

    #[test]
    fn aliases_that_multiply_are_refused() {
        let mut bomb = String::from("a: &a [x, x, x, x, x, x, x, x, x, x]\n");
        for (this, next) in ('a'..'g').zip('b'..'h') {
            let line = format!("{next}: &{next} [{}]\n", vec![format!("*{this}"); 10].join(", "));
            bomb.push_str(&line);
        }
        let (_, error) = read(&bomb).unwrap_err();
        assert!(error.message.starts_with("too much"), "{error:?}");
    }

    #[test]
    fn deep_nesting_is_refused() {
        for text in ["[".repeat(100_000), "{a: ".repeat(100_000), "- ".repeat(100_000)] {
            assert!(read(&text).is_err());
        }
        let closed = format!("{}{}", "[".repeat(40), "]".repeat(40));
        let (_, error) = read(&closed).unwrap_err();
        assert!(error.message.contains("32 deep") || error.message.contains("nest"), "{error:?}");
    }

    #[test]
    fn any_word_can_be_a_key() {
        let Value::Map(entries) = read("null: 1\ntrue: 2\n007: 3\n~: 4\na: 5\n").unwrap().value
        else {
            panic!()
        };
        let keys: Vec<&str> = entries.iter().map(|(key, _)| key.as_text()).collect();
        assert_eq!(keys, ["null", "true", "007", "~", "a"]);
    }

    #[test]
    fn yaml_errors_are_reported_without_the_parser_s_own_words() {
        for text in [
            "? [a, b]\n: c\n",
            "? {a: b}\n: c\n",
            "a: !!int b\n",
            "a: !!float b\n",
            "a: !!bool b\n",
            "a: !!null b\n",
            "a: !!binary \"@\"\n",
            "a: !!set {b, c}\n",
            "a: !!omap [b: c]\n",
            "a: !Mine {b: c}\n",
            "<<: 5\n",
            "<<: [5]\n",
            "a: *b\n",
            "a: &b *b\n",
            "%YAML 3.0\n---\na: b\n",
            "a: \"\\x\"\n",
            "a: |9\n b\n",
            "- a\nb: c\n",
            "a: 'b\n",
            "a: {b\n",
            "a: b: c\n",
            "\u{0}",
            "...\n...\n",
            "@a",
            "`a`",
            "a: 99999999999999999999999999999999999999999999\n",
            "a: .inf\nb: .nan\n",
            "a: 2001-12-14t21:59:43.10-05:00\n",
        ] {
            let Err((_, error)) = read(text) else { continue };
            for word in [
                "deserial", "Option", "u64", "i64", "f64", "bool ", "enum", "tuple", "serde",
                "visit", "Spanned",
            ] {
                let shown = format!("{} {}", error.message, error.hint);
                assert!(!shown.contains(word), "{text:?}: {shown}");
            }
        }
    }
}
