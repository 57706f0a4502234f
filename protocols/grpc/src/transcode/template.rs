//! Path templates of `google.api.http`: `/v1/{name=shelves/*/books/*}:lend`.

use crate::status::percent;

/// A decoded value is not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotText;

/// A path segment. The order is the match priority: literals before wildcards.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Segment {
    /// This text.
    Literal(String),
    /// Any text: `*`.
    One,
    /// The rest of the path, possibly empty: `**`.
    Rest,
}

/// A variable: a field and the segments of its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Variable {
    /// The field's path: `book.name`.
    pub(crate) field: String,
    /// Its first segment, and the one after its last.
    segments: (usize, usize),
}

/// A parsed template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    pub(crate) segments: Vec<Segment>,
    pub(crate) variables: Vec<Variable>,
    verb: Option<String>,
}

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// What is wrong with the template.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| format!("the path template `{text}` {what}");
        let rest = text.strip_prefix('/').ok_or_else(|| wrong("begins with no `/`"))?;
        // A verb follows the last variable.
        let after = rest.rfind(['}', '/']).map_or(0, |at| at + 1);
        let (rest, verb) = match rest[after..].rfind(':') {
            Some(at) => (&rest[..after + at], Some(rest[after + at + 1..].to_owned())),
            None => (rest, None),
        };
        if verb.as_ref().is_some_and(String::is_empty) {
            return Err(wrong("ends with an empty verb"));
        }
        let mut it = Self { segments: Vec::new(), variables: Vec::new(), verb };
        for part in outer_parts(rest).ok_or_else(|| wrong("has braces that don't match"))? {
            let Some(variable) = part.strip_prefix('{') else {
                it.segments.push(segment(part).ok_or_else(|| wrong("has a segment that is none"))?);
                continue;
            };
            let inner = variable.strip_suffix('}').ok_or_else(|| wrong("has text beside a `}`"))?;
            let (field, pattern) = inner.split_once('=').unwrap_or((inner, "*"));
            if field.is_empty() || field.split('.').any(str::is_empty) {
                return Err(wrong("has a variable without a field"));
            }
            let from = it.segments.len();
            for part in pattern.split('/') {
                it.segments.push(segment(part).ok_or_else(|| wrong("has a segment that is none"))?);
            }
            let segments = (from, it.segments.len());
            it.variables.push(Variable { field: field.to_owned(), segments });
        }
        match it.segments.iter().position(|segment| *segment == Segment::Rest) {
            Some(at) if at + 1 < it.segments.len() => Err(wrong("has `**` before its end")),
            _ => Ok(it),
        }
    }

    /// Matches a path. Returns the values of the variables in order, or `None`.
    pub(crate) fn matches(&self, path: &str) -> Option<Result<Vec<String>, NotText>> {
        let mut path = path.strip_prefix('/')?;
        if let Some(verb) = &self.verb {
            path = path.strip_suffix(verb.as_str())?.strip_suffix(':')?;
        }
        let parts: Vec<&str> = path.split('/').collect();
        let rest = self.segments.last() == Some(&Segment::Rest);
        let fixed = self.segments.len() - usize::from(rest);
        if parts.len() < fixed || (parts.len() > fixed && !rest) {
            return None;
        }
        let fits = |(segment, part): (&Segment, &&str)| match segment {
            Segment::Literal(text) => percent::decode(part.as_bytes()) == text.as_bytes(),
            Segment::One => !part.is_empty(),
            Segment::Rest => true,
        };
        if !self.segments.iter().zip(&parts).all(fits) {
            return None;
        }
        let value = |variable: &Variable| {
            let (from, to) = variable.segments;
            let to = if to == self.segments.len() && rest { parts.len() } else { to };
            let text = parts[from.min(to)..to].join("/");
            match self.segments[from..variable.segments.1] {
                [Segment::One] => decoded(&text),
                // A coded slash is part of a name and must not become a path separator.
                _ => decoded(&text.replace("%2F", "%252F").replace("%2f", "%252f")),
            }
        };
        Some(self.variables.iter().map(value).collect())
    }

    /// The sort key: templates with more literals are tried first.
    pub(crate) fn order(&self) -> (&[Segment], bool, &Option<String>) {
        (&self.segments, self.verb.is_none(), &self.verb)
    }
}

fn decoded(text: &str) -> Result<String, NotText> {
    String::from_utf8(percent::decode(text.as_bytes())).map_err(|_| NotText)
}

fn segment(text: &str) -> Option<Segment> {
    match text {
        "*" => Some(Segment::One),
        "**" => Some(Segment::Rest),
        _ if text.is_empty() || text.contains(['*', '{', '}', '=']) => None,
        _ => Some(Segment::Literal(text.to_owned())),
    }
}

/// Splits at slashes outside of braces.
fn outer_parts(text: &str) -> Option<Vec<&str>> {
    let (mut parts, mut from, mut inside) = (Vec::new(), 0, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' if inside => return None,
            b'}' if !inside => return None,
            b'{' | b'}' => inside = !inside,
            b'/' if !inside => {
                parts.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    (!inside).then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(template: &str, path: &str) -> Option<Vec<String>> {
        Template::parse(template).unwrap().matches(path).map(Result::unwrap)
    }

    #[test]
    fn a_value_that_is_not_utf_8_is_an_error() {
        for (template, path) in [("/v1/{id}", "/v1/a%FF"), ("/v1/{id=**}", "/v1/a/%C3%28/b")] {
            let matched = Template::parse(template).unwrap().matches(path);
            assert_eq!(matched, Some(Err(NotText)), "{path}");
        }
    }

    #[test]
    fn paths_match_as_the_specification_says() {
        for (template, path, values) in [
            ("/v1/books", "/v1/books", Some(vec![])),
            ("/v1/books", "/v1/books/", None),
            ("/v1/books", "/v1", None),
            ("/v1/books/{id}", "/v1/books/7", Some(vec!["7"])),
            ("/v1/books/{id}", "/v1/books/", None),
            ("/v1/books/{id}", "/v1/books/a%2Fb%20c", Some(vec!["a/b c"])),
            ("/v1/{name=shelves/*}", "/v1/shelves/1", Some(vec!["shelves/1"])),
            ("/v1/{name=shelves/*}", "/v1/boxes/1", None),
            (
                "/v1/{name=shelves/*}/books/{b.id}",
                "/v1/shelves/1/books/2",
                Some(vec!["shelves/1", "2"]),
            ),
            ("/v1/{name=shelves/*}", "/v1/shelves/a%2Fb%20c", Some(vec!["shelves/a%2Fb c"])),
            ("/v1/{path=**}", "/v1/a/b/c", Some(vec!["a/b/c"])),
            ("/v1/{path=**}", "/v1", Some(vec![""])),
            ("/v1/{path=files/**}", "/v1/files/a/b", Some(vec!["files/a/b"])),
            ("/v1/{path=files/**}", "/v1/files", Some(vec!["files"])),
            ("/v1/*/x", "/v1/any/x", Some(vec![])),
            ("/v1/**", "/v1/a/b", Some(vec![])),
            ("/v1/{id}:cancel", "/v1/7:cancel", Some(vec!["7"])),
            ("/v1/{id}:cancel", "/v1/7", None),
            ("/v1/{id}:cancel", "/v1/:cancel", None),
            ("/v1/{id}", "/v1/7:cancel", Some(vec!["7:cancel"])),
            ("/v1/books:batch", "/v1/books:batch", Some(vec![])),
            ("/v1/{path=**}:get", "/v1/a/b:get", Some(vec!["a/b"])),
            ("/", "/x", None),
        ] {
            if template == "/" {
                assert!(Template::parse(template).is_err());
                continue;
            }
            let values = values.map(|it: Vec<&str>| it.into_iter().map(str::to_owned).collect());
            assert_eq!(matches(template, path), values, "{template} {path}");
        }
    }

    #[test]
    fn invalid_templates_are_errors() {
        for text in [
            "",
            "v1",
            "/v1//x",
            "/v1/{",
            "/v1/}",
            "/v1/{a",
            "/v1/{}",
            "/v1/{=x}",
            "/v1/{a.}",
            "/v1/{a}b",
            "/v1/a{b}",
            "/v1/{a={b}}",
            "/v1/**/x",
            "/v1/{a=**}/x",
            "/v1/a*",
            "/v1/x:",
        ] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_written_out_is_tried_first() {
        let sorted = ["/v1/a/b", "/v1/a/*:go", "/v1/a/*", "/v1/a/**", "/v1/*/b", "/v1/**"];
        let templates: Vec<_> = sorted.iter().map(|it| Template::parse(it).unwrap()).collect();
        assert!(templates.is_sorted_by(|a, b| a.order() < b.order()));
    }
}
