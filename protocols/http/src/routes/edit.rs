//! Edits of headers, with variables in their values.

use super::template::{Captures, unknown_capture};
use http::{HeaderMap, HeaderName, HeaderValue, request};
use std::{fmt::Write, net::SocketAddr, sync::Arc};
use values::Fault;

/// What variables stand for, beside what the request's head tells itself.
#[derive(Clone, Copy, Debug)]
pub struct Variables<'a> {
    /// `%{peer}` and `%{peer_ip}`: the client, as far as it is known by trusted hops.
    pub peer: SocketAddr,
    /// `%{host}`: the host that the request is for, without its port.
    pub host: &'a str,
    /// `%{request_id}`: empty if it has none.
    pub request_id: &'a str,
    /// `%{cluster}`: the cluster that was picked; empty if the proxy answers itself.
    pub cluster: &'a str,
}

/// Values of an answer's headers, their variables filled in while the request was at hand.
#[derive(Clone, Debug, Default)]
pub struct Rendered(Vec<Option<HeaderValue>>);

/// Edits of headers: what is removed, what is set, what is added.
#[derive(Clone, Debug, Default)]
pub(super) struct Edits {
    pub(super) remove: Box<[HeaderName]>,
    pub(super) set: Box<[(HeaderName, Value)]>,
    pub(super) add: Box<[(HeaderName, Value)]>,
}

/// A header's value.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Fixed(HeaderValue),
    Made(Made),
}

/// Text with variables.
#[derive(Clone, Debug)]
pub(super) struct Made {
    pieces: Box<[Piece]>,
    /// The route, which does not change.
    route: Box<str>,
}

#[derive(Clone, Debug)]
enum Piece {
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

const VARIABLES: [(&str, Piece); 8] = [
    ("peer", Piece::Peer),
    ("peer_ip", Piece::PeerIp),
    ("host", Piece::Host),
    ("path", Piece::Path),
    ("method", Piece::Method),
    ("request_id", Piece::RequestId),
    ("route", Piece::Route),
    ("cluster", Piece::Cluster),
];

impl Value {
    /// Reads a value; `names` is what the match names.
    pub(super) fn new(text: &str, route: &str, names: &[Arc<str>]) -> Result<Self, Fault> {
        let pieces = pieces(text, names)?;
        let plain: String = pieces.iter().filter_map(Piece::text).collect();
        let Ok(fixed) = HeaderValue::from_str(&plain) else {
            let message = format!("a header can't have the value {text:?}");
            return Err(Fault::new(message, "one line, of printable ASCII characters"));
        };
        if pieces.iter().all(|piece| piece.text().is_some()) {
            return Ok(Value::Fixed(fixed));
        }
        Ok(Value::Made(Made { pieces: pieces.into(), route: route.into() }))
    }

    /// Whether it needs what the match names.
    pub(super) fn captures(&self) -> bool {
        let Value::Made(made) = self else { return false };
        made.pieces.iter().any(|piece| matches!(piece, Piece::Capture(_)))
    }
}

fn pieces(text: &str, names: &[Arc<str>]) -> Result<Vec<Piece>, Fault> {
    let mut pieces = Vec::new();
    let mut left = text;
    while let Some((before, after)) = left.split_once('%') {
        pieces.push(Piece::Text(before.into()));
        if let Some(after) = after.strip_prefix('%') {
            pieces.push(Piece::Text("%".into()));
            left = after;
            continue;
        }
        let variable = after.strip_prefix('{').and_then(|after| after.split_once('}'));
        let Some((variable, after)) = variable else {
            let message = format!("`{text}` has a `%` that begins no variable");
            return Err(Fault::new(message, "write `%%` for a percent sign, or `%{peer_ip}`"));
        };
        pieces.push(Piece::variable(variable, names)?);
        left = after;
    }
    pieces.push(Piece::Text(left.into()));
    Ok(pieces)
}

impl Piece {
    fn variable(name: &str, names: &[Arc<str>]) -> Result<Self, Fault> {
        if let Some((_, piece)) = VARIABLES.iter().find(|(it, _)| *it == name) {
            return Ok(piece.clone());
        }
        if let Some(header) = name.strip_prefix("header.") {
            let wrong =
                || Fault::new(format!("`{header}` can't be a header"), "`%{header.accept}`");
            return header.parse().map(Piece::Header).map_err(|_| wrong());
        }
        if let Some(capture) = name.strip_prefix("capture.") {
            let found = names.iter().find(|known| ***known == *capture);
            let found = found.map(|name| Piece::Capture(Arc::clone(name)));
            return found.ok_or_else(|| unknown_capture(capture, names));
        }
        let known: Vec<_> = VARIABLES.iter().map(|(name, _)| *name).collect();
        let hint = format!("there are {}, header.NAME and capture.NAME", known.join(", "));
        Err(Fault::new(format!("there is no variable `{name}`"), hint))
    }

    fn text(&self) -> Option<&str> {
        match self {
            Piece::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl Made {
    /// The value; `None` if there is nothing in it, or nothing that a header can have.
    fn fill(
        &self,
        head: &request::Parts,
        captures: &Captures,
        variables: &Variables<'_>,
    ) -> Option<HeaderValue> {
        let mut value = Vec::new();
        for piece in &self.pieces {
            let text = match piece {
                Piece::Text(text) => text,
                Piece::Host => variables.host,
                Piece::Path => head.uri.path(),
                Piece::Method => head.method.as_str(),
                Piece::RequestId => variables.request_id,
                Piece::Route => &self.route,
                Piece::Cluster => variables.cluster,
                Piece::Capture(name) => captures.get(name).unwrap_or_default(),
                Piece::Header(name) => {
                    value.extend(head.headers.get(name).map_or(&[][..], HeaderValue::as_bytes));
                    continue;
                }
                Piece::Peer | Piece::PeerIp => {
                    let mut text = String::new();
                    // To text this can't fail.
                    let _ = match piece {
                        Piece::PeerIp => write!(text, "{}", variables.peer.ip().to_canonical()),
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

impl Edits {
    /// Fills in the variables, in the order of `set` and `add`.
    pub(super) fn render(
        &self,
        head: &request::Parts,
        captures: &Captures,
        variables: &Variables<'_>,
    ) -> Rendered {
        let values = self.set.iter().chain(&self.add).map(|(_, value)| value);
        let made = values.filter_map(|value| match value {
            Value::Fixed(_) => None,
            Value::Made(made) => Some(made.fill(head, captures, variables)),
        });
        Rendered(made.collect())
    }

    /// Whether there is nothing to do.
    pub(super) fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }

    /// The headers that they take away or write.
    pub(super) fn names(&self) -> impl Iterator<Item = &HeaderName> {
        self.remove.iter().chain(self.set.iter().chain(&self.add).map(|(name, _)| name))
    }

    /// Whether they need what the match names.
    pub(super) fn captures(&self) -> bool {
        self.set.iter().chain(&self.add).any(|(_, value)| value.captures())
    }

    /// Edits headers with the values that `render` made. A value with nothing in it takes a
    /// header away, and adds none.
    pub(super) fn apply(&self, headers: &mut HeaderMap, rendered: &Rendered) {
        for name in &self.remove {
            headers.remove(name);
        }
        let mut made = rendered.0.iter();
        let mut value_of = |value: &Value| match value {
            Value::Fixed(value) => Some(value.clone()),
            Value::Made(_) => made.next().cloned().flatten(),
        };
        for (name, value) in &self.set {
            match value_of(value) {
                Some(value) => drop(headers.insert(name, value)),
                None => drop(headers.remove(name)),
            }
        }
        for (name, value) in &self.add {
            if let Some(value) = value_of(value) {
                headers.append(name, value);
            }
        }
    }
}
