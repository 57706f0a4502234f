//! Path templates: `/users/{id}/{rest=**}`.

use crate::normalize::{self, path_fault};
use std::sync::Arc;
use values::Diagnostic;

/// Captures of a match: parts of the path, percent-encoded as received. Costs nothing if no capture
/// is used.
#[derive(Clone, Debug, Default)]
pub struct Captures(pub(super) Vec<(Arc<str>, Box<str>)>);

impl Captures {
    /// The capture of this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(it, _)| **it == *name).map(|(_, piece)| &**piece)
    }
}

/// A path of literal and named segments.
#[derive(Clone, Debug)]
pub(super) struct PathTemplate {
    segments: Box<[TemplateSegment]>,
    /// Captures the rest of the path, if present.
    rest: Option<Arc<str>>,
}

#[derive(Clone, Debug, PartialEq)]
enum TemplateSegment {
    Text(Box<str>),
    Named(Arc<str>),
}

const SHAPE: &str = "write `/users/{id}/orders`, or `/files/{rest=**}` for all that follows";

impl PathTemplate {
    pub(super) fn new(text: &str) -> Result<Self, Diagnostic> {
        let segments = text.strip_prefix('/').ok_or_else(|| {
            Diagnostic::new(format!("`{text}` does not begin with a slash"), format!("`/{text}`"))
        })?;
        let mut list = Vec::new();
        let mut rest = None;
        let mut segments = segments.split('/').peekable();
        while let Some(segment) = segments.next() {
            let named = segment.strip_prefix('{').and_then(|inner| inner.strip_suffix('}'));
            let Some(named) = named else {
                if segment.contains(['{', '}', '*']) {
                    let message = format!("`{segment}` is neither text nor a name");
                    return Err(Diagnostic::new(message, SHAPE));
                }
                list.push(TemplateSegment::Text(literal(&format!("/{segment}"))?[1..].into()));
                continue;
            };
            match named.split_once('=') {
                None | Some((_, "*")) => {
                    let name = named.split('=').next().unwrap_or_default();
                    list.push(TemplateSegment::Named(capture_name(name)?));
                }
                Some((name, "**")) if segments.peek().is_none() => {
                    rest = Some(capture_name(name)?);
                }
                Some((_, "**")) => {
                    let message = format!("`{segment}` is not at the end");
                    return Err(Diagnostic::new(message, "what takes all that follows comes last"));
                }
                Some(_) => {
                    return Err(Diagnostic::new(
                        format!("`{segment}` is no name of a segment"),
                        SHAPE,
                    ));
                }
            }
        }
        let template = Self { segments: list.into(), rest };
        let mut seen: Vec<&str> = Vec::new();
        for name in template.names() {
            if seen.contains(&&**name) {
                let message = format!("`{name}` names two segments");
                return Err(Diagnostic::new(message, "give each a name of its own"));
            }
            seen.push(name);
        }
        Ok(template)
    }

    /// The names of its captures.
    pub(super) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        let named = self.segments.iter().filter_map(|segment| match segment {
            TemplateSegment::Named(name) => Some(name),
            TemplateSegment::Text(_) => None,
        });
        named.chain(&self.rest)
    }

    /// Its segments without the rest, `None` for one that is named.
    pub(super) fn segments(&self) -> impl Iterator<Item = Option<&str>> {
        self.segments.iter().map(|segment| match segment {
            TemplateSegment::Text(text) => Some(&**text),
            TemplateSegment::Named(_) => None,
        })
    }

    /// Whether all paths below its segments match too.
    pub(super) fn takes_rest(&self) -> bool {
        self.rest.is_some()
    }

    /// Whether a path matches; `named` is called with each capture.
    pub(super) fn matches<'p>(
        &self,
        path: &'p str,
        mut named: impl FnMut(&Arc<str>, &'p str),
    ) -> bool {
        let mut left = path;
        for segment in &self.segments {
            let Some(inner) = left.strip_prefix('/') else { return false };
            let (piece, rest) = inner.split_at(inner.find('/').unwrap_or(inner.len()));
            match segment {
                TemplateSegment::Text(text) if **text == *piece => {}
                TemplateSegment::Named(name) if !piece.is_empty() => named(name, piece),
                TemplateSegment::Text(_) | TemplateSegment::Named(_) => return false,
            }
            left = rest;
        }
        match &self.rest {
            Some(name) if left.is_empty() || left.starts_with('/') => {
                named(name, left.strip_prefix('/').unwrap_or(left));
                true
            }
            Some(_) => false,
            None => left.is_empty(),
        }
    }
}

/// A path made of text and captures.
#[derive(Clone, Debug)]
pub(super) struct PathFormat(Box<[TemplateSegment]>);

impl PathFormat {
    /// Parses it; `names` are the captures of the match.
    pub(super) fn new(text: &str, names: &[Arc<str>]) -> Result<Self, Diagnostic> {
        let mut pieces = Vec::new();
        let mut left = text;
        while let Some((before, after)) = left.split_once('{') {
            let Some((name, after)) = after.split_once('}') else {
                return Err(Diagnostic::new(
                    format!("`{text}` has an open `{{`"),
                    "write `{name}`",
                ));
            };
            let Some(name) = names.iter().find(|known| ***known == *name) else {
                return Err(unknown_capture(name, names));
            };
            pieces.extend([
                TemplateSegment::Text(before.into()),
                TemplateSegment::Named(Arc::clone(name)),
            ]);
            left = after;
        }
        pieces.push(TemplateSegment::Text(left.into()));
        let plain: String = pieces.iter().map(TemplateSegment::sample).collect();
        literal(&plain)?;
        Ok(Self(pieces.into()))
    }

    /// Whether it uses no capture.
    pub(super) fn is_fixed(&self) -> bool {
        self.0.len() == 1
    }

    /// The path with these captures.
    pub(super) fn fill(&self, captures: &Captures) -> String {
        let mut path = String::new();
        for piece in &self.0 {
            path.push_str(match piece {
                TemplateSegment::Text(text) => text,
                TemplateSegment::Named(name) => captures.get(name).unwrap_or_default(),
            });
        }
        path
    }
}

impl TemplateSegment {
    /// A sample in place of a capture, to check the whole path.
    fn sample(&self) -> &str {
        match self {
            TemplateSegment::Text(text) => text,
            TemplateSegment::Named(_) => "x",
        }
    }
}

/// The match has no capture of this name.
pub(super) fn unknown_capture(name: &str, names: &[Arc<str>]) -> Diagnostic {
    let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    let hint = match names.as_slice() {
        [] => {
            "name pieces of the path by `match: { path_template: \"/users/{id}\" }` or by groups \
             `(?<id>…)` of a `path_regex`"
                .to_owned()
        }
        names => format!("the match names {}", names.join(", ")),
    };
    Diagnostic::new(format!("the match names nothing `{name}`"), hint)
}

fn capture_name(text: &str) -> Result<Arc<str>, Diagnostic> {
    let odd = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    if text.is_empty() || text.contains(odd) || text.starts_with(|c: char| c.is_ascii_digit()) {
        let message = format!("`{text}` can't be a name here");
        return Err(Diagnostic::new(
            message,
            "letters, digits and `_`, a letter first: `{user_id}`",
        ));
    }
    Ok(text.into())
}

/// A path from a config, in normal form.
pub(super) fn literal(text: &str) -> Result<Box<str>, Diagnostic> {
    if !text.starts_with('/') {
        let message = format!("`{text}` does not begin with a slash");
        return Err(Diagnostic::new(message, format!("write `/{text}`")));
    }
    if text.contains(['?', '#']) {
        let message = format!("`{text}` has more to it than a path");
        return Err(Diagnostic::new(message, "leave out the query: `query` matches by that"));
    }
    if let Some(fault) = path_fault(text) {
        let message = format!("`{text}` is refused wherever it comes from: {fault}");
        return Err(Diagnostic::new(message, "write it without, `%25` for a percent sign"));
    }
    let odd = |c: char| !c.is_ascii_graphic() || matches!(c, '"' | '<' | '>' | '^' | '`' | '|');
    if let Some(odd) = text.chars().find(|c| odd(*c)) {
        let encoded: String =
            odd.encode_utf8(&mut [0; 4]).bytes().map(|byte| format!("%{byte:02X}")).collect();
        let message = format!("`{text}` has a character that a path can't have: {odd:?}");
        return Err(Diagnostic::new(message, format!("write `{encoded}` for it")));
    }
    Ok(normalize::path(text).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn captured(template: &str, path: &str) -> Option<String> {
        let mut pieces = Vec::new();
        let fits = PathTemplate::new(template)
            .unwrap()
            .matches(path, |name, piece| pieces.push(format!("{name}={piece}")));
        fits.then(|| pieces.join(" "))
    }

    #[test]
    fn a_template_captures_whole_segments() {
        for (template, path, pieces) in [
            ("/users/{id}", "/users/7", Some("id=7")),
            ("/users/{id=*}", "/users/7", Some("id=7")),
            ("/users/{id}", "/users/", None),
            ("/users/{id}", "/users", None),
            ("/users/{id}", "/users/7/", None),
            ("/users/{id}", "/users/7/orders", None),
            ("/users/{id}/orders", "/users/a%2Fb/orders", Some("id=a%2Fb")),
            ("/{a}/{b}", "/x/y", Some("a=x b=y")),
            ("/files/{rest=**}", "/files", Some("rest=")),
            ("/files/{rest=**}", "/files/", Some("rest=")),
            ("/files/{rest=**}", "/files/a/b/", Some("rest=a/b/")),
            ("/files/{rest=**}", "/filesystem", None),
            ("/{rest=**}", "/a/b", Some("rest=a/b")),
            ("/", "/", Some("")),
            ("/", "/x", None),
            ("/a", "*", None),
        ] {
            assert_eq!(captured(template, path).as_deref(), pieces, "{template} {path}");
        }
    }

    #[test]
    fn an_unmatchable_template_is_a_mistake() {
        for (template, message) in [
            ("users", "does not begin with a slash"),
            ("/users/id-{id}", "is neither text nor a name"),
            ("/users/*", "is neither text nor a name"),
            ("/{rest=**}/x", "is not at the end"),
            ("/{a}/{a}", "`a` names two segments"),
            ("/{a}/{a=**}", "`a` names two segments"),
            ("/{}", "can't be a name"),
            ("/{7up}", "can't be a name"),
            ("/{id=[0-9]}", "is no name of a segment"),
            ("/a?b", "has more to it than a path"),
            ("/a/../b", "is refused"),
            ("/a b", "a character that a path can't have: ' '"),
        ] {
            let fault = PathTemplate::new(template).unwrap_err();
            assert!(fault.message.contains(message), "{template}: {fault:?}");
            assert!(!fault.hint.is_empty(), "{template}");
        }
    }

    #[test]
    fn a_path_format_is_filled_with_captures() {
        let names: [Arc<str>; 2] = ["id".into(), "rest".into()];
        let captures = Captures(vec![("id".into(), "7%2F8".into()), ("rest".into(), "a/b".into())]);
        for (text, path) in [
            ("/v2/{id}", "/v2/7%2F8"),
            ("/v2/{rest}/{id}x", "/v2/a/b/7%2F8x"),
            ("/plain", "/plain"),
        ] {
            assert_eq!(PathFormat::new(text, &names).unwrap().fill(&captures), path, "{text}");
        }
        let fault = PathFormat::new("/{idd}", &names).unwrap_err();
        assert_eq!(fault.message, "the match names nothing `idd`");
        assert_eq!(fault.hint, "the match names `id`, `rest`");
        assert!(PathFormat::new("/{id}", &[]).unwrap_err().hint.contains("path_template"));
        assert!(PathFormat::new("/{id", &names).unwrap_err().message.contains("open"));
        assert!(PathFormat::new("{id}", &names).is_err(), "it might not begin with a slash");
    }
}
