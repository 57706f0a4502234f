//! Header edits with variables.

use super::{
    RequestHead,
    template::{Captures, unknown_capture},
};
use crate::header_lines::HeaderLines;
use http::{HeaderName, HeaderValue};
use std::{fmt::Write, net::SocketAddr, sync::Arc};
use values::Diagnostic;

/// Values of variables that the request's head does not have.
#[derive(Clone, Copy, Debug)]
pub struct Variables<'a> {
    /// `%{peer}` and `%{peer_ip}`: the client's address.
    pub peer: SocketAddr,
    /// `%{host}`: the request's host without port.
    pub host: &'a str,
    /// `%{request_id}`: empty if there is none.
    pub request_id: &'a str,
    /// `%{cluster}`: the chosen cluster; empty for local replies.
    pub cluster: &'a str,
}

/// Values of response headers, rendered while the request was available.
#[derive(Clone, Debug, Default)]
pub(crate) struct RenderedValues(Vec<Option<HeaderValue>>);

/// Headers to remove, set and add.
#[derive(Clone, Debug, Default)]
pub(super) struct HeaderEdits {
    pub(super) remove: Box<[HeaderName]>,
    pub(super) set: Box<[(HeaderName, EditValue)]>,
    pub(super) add: Box<[(HeaderName, EditValue)]>,
}

/// A header's value.
#[derive(Clone, Debug)]
pub(super) enum EditValue {
    Fixed(HeaderValue),
    Made(ValueTemplate),
}

/// Text with variables.
#[derive(Clone, Debug)]
pub(super) struct ValueTemplate {
    pieces: Box<[ValuePiece]>,
    /// The route's name.
    route: Box<str>,
}

#[derive(Clone, Debug)]
enum ValuePiece {
    Text(Box<str>),
    Peer,
    PeerIp,
    Host,
    Path,
    Method,
    RequestId,
    Route,
    Cluster,
    Header(HeaderName),
    Capture(Arc<str>),
}

const VARIABLES: [(&str, ValuePiece); 8] = [
    ("peer", ValuePiece::Peer),
    ("peer_ip", ValuePiece::PeerIp),
    ("host", ValuePiece::Host),
    ("path", ValuePiece::Path),
    ("method", ValuePiece::Method),
    ("request_id", ValuePiece::RequestId),
    ("route", ValuePiece::Route),
    ("cluster", ValuePiece::Cluster),
];

impl EditValue {
    /// Parses a value; `names` are the captures of the match.
    pub(super) fn new(text: &str, route: &str, names: &[Arc<str>]) -> Result<Self, Diagnostic> {
        let pieces = pieces(text, names)?;
        let plain: String = pieces.iter().filter_map(ValuePiece::text).collect();
        let Ok(fixed) = HeaderValue::from_str(&plain) else {
            let message = format!("a header can't have the value {text:?}");
            return Err(Diagnostic::new(message, "one line, of printable ASCII characters"));
        };
        if pieces.iter().all(|piece| piece.text().is_some()) {
            return Ok(EditValue::Fixed(fixed));
        }
        Ok(EditValue::Made(ValueTemplate { pieces: pieces.into(), route: route.into() }))
    }

    /// The value; that of a template is the next rendered one.
    fn of<'v>(
        &'v self,
        rendered: &mut impl Iterator<Item = &'v Option<HeaderValue>>,
    ) -> Option<&'v HeaderValue> {
        match self {
            EditValue::Fixed(value) => Some(value),
            EditValue::Made(_) => rendered.next()?.as_ref(),
        }
    }

    /// Whether it uses captures of the match.
    pub(super) fn captures(&self) -> bool {
        let EditValue::Made(made) = self else { return false };
        made.pieces.iter().any(|piece| matches!(piece, ValuePiece::Capture(_)))
    }
}

fn pieces(text: &str, names: &[Arc<str>]) -> Result<Vec<ValuePiece>, Diagnostic> {
    let mut pieces = Vec::new();
    let mut left = text;
    while let Some((before, after)) = left.split_once('%') {
        pieces.push(ValuePiece::Text(before.into()));
        if let Some(after) = after.strip_prefix('%') {
            pieces.push(ValuePiece::Text("%".into()));
            left = after;
            continue;
        }
        let variable = after.strip_prefix('{').and_then(|after| after.split_once('}'));
        let Some((variable, after)) = variable else {
            let message = format!("`{text}` has a `%` that begins no variable");
            return Err(Diagnostic::new(message, "write `%%` for a percent sign, or `%{peer_ip}`"));
        };
        pieces.push(ValuePiece::variable(variable, names)?);
        left = after;
    }
    pieces.push(ValuePiece::Text(left.into()));
    Ok(pieces)
}

impl ValuePiece {
    fn variable(name: &str, names: &[Arc<str>]) -> Result<Self, Diagnostic> {
        if let Some((_, piece)) = VARIABLES.iter().find(|(it, _)| *it == name) {
            return Ok(piece.clone());
        }
        if let Some(header) = name.strip_prefix("header.") {
            let wrong =
                || Diagnostic::new(format!("`{header}` can't be a header"), "`%{header.accept}`");
            return header.parse().map(ValuePiece::Header).map_err(|_| wrong());
        }
        if let Some(capture) = name.strip_prefix("capture.") {
            let found = names.iter().find(|known| ***known == *capture);
            let found = found.map(|name| ValuePiece::Capture(Arc::clone(name)));
            return found.ok_or_else(|| unknown_capture(capture, names));
        }
        let known: Vec<_> = VARIABLES.iter().map(|(name, _)| *name).collect();
        let hint = format!("there are {}, header.NAME and capture.NAME", known.join(", "));
        Err(Diagnostic::new(format!("there is no variable `{name}`"), hint))
    }

    fn text(&self) -> Option<&str> {
        match self {
            ValuePiece::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl ValueTemplate {
    /// The rendered value; `None` if it is empty or invalid.
    fn fill(
        &self,
        head: &dyn RequestHead,
        captures: &Captures,
        variables: &Variables<'_>,
    ) -> Option<HeaderValue> {
        let mut value = Vec::new();
        for piece in &self.pieces {
            let text = match piece {
                ValuePiece::Text(text) => text,
                ValuePiece::Host => variables.host,
                ValuePiece::Path => head.path(),
                ValuePiece::Method => head.method(),
                ValuePiece::RequestId => variables.request_id,
                ValuePiece::Route => &self.route,
                ValuePiece::Cluster => variables.cluster,
                ValuePiece::Capture(name) => captures.get(name).unwrap_or_default(),
                ValuePiece::Header(name) => {
                    value.extend(head.header(name).unwrap_or_default());
                    continue;
                }
                ValuePiece::Peer | ValuePiece::PeerIp => {
                    let mut text = String::new();
                    // Writing to a string cannot fail.
                    let _ = match piece {
                        ValuePiece::PeerIp => {
                            write!(text, "{}", variables.peer.ip().to_canonical())
                        }
                        _ => write!(text, "{}", variables.peer),
                    };
                    value.extend(text.into_bytes());
                    continue;
                }
            };
            value.extend_from_slice(text.as_bytes());
        }
        if value.is_empty() {
            return None;
        }
        HeaderValue::from_maybe_shared(bytes::Bytes::from(value)).ok()
    }
}

impl HeaderEdits {
    /// Renders the variables, in the order of `set` and `add`.
    pub(super) fn render(
        &self,
        head: &dyn RequestHead,
        captures: &Captures,
        variables: &Variables<'_>,
    ) -> RenderedValues {
        let values = self.set.iter().chain(&self.add).map(|(_, value)| value);
        let made = values.filter_map(|value| match value {
            EditValue::Fixed(_) => None,
            EditValue::Made(made) => Some(made.fill(head, captures, variables)),
        });
        RenderedValues(made.collect())
    }

    /// Whether there are no edits.
    pub(super) fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }

    /// The headers that are removed or written.
    pub(super) fn names(&self) -> impl Iterator<Item = &HeaderName> {
        self.remove.iter().chain(self.set.iter().chain(&self.add).map(|(name, _)| name))
    }

    /// Whether they use captures of the match.
    pub(super) fn captures(&self) -> bool {
        self.set.iter().chain(&self.add).any(|(_, value)| value.captures())
    }

    /// Edits headers, with the values of `render`. An empty value removes a header that is set, and
    /// is not added.
    pub(super) fn apply(&self, headers: &mut dyn HeaderLines, rendered: &RenderedValues) {
        for name in &self.remove {
            headers.remove(name);
        }
        let mut made = rendered.0.iter();
        for (name, value) in &self.set {
            match value.of(&mut made) {
                Some(value) => headers.set(name, value),
                None => headers.remove(name),
            }
        }
        for (name, value) in &self.add {
            if let Some(value) = value.of(&mut made) {
                headers.add(name, value);
            }
        }
    }
}
