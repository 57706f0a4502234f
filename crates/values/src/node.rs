//! What a config text is parsed into: a tree of values with their spans.

use crate::Span;

/// A value and its span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its span.
    pub at: Span,
    /// Its value.
    pub value: Value,
}

/// The subset of YAML that configs need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Nothing.
    Null,
    /// A number or a boolean, as written: `007` stays `007`.
    Word(String),
    /// Any other text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// Keys (each a `Text`) and values, in the order of the text. Keys may repeat.
    Map(Vec<(Node, Node)>),
}

impl Node {
    /// Text without a span.
    pub fn text(text: &str) -> Node {
        Node { at: Span::NOWHERE, value: Value::Text(text.to_owned()) }
    }

    /// A number or a boolean without a span.
    pub fn word(word: &str) -> Node {
        Node { at: Span::NOWHERE, value: Value::Word(word.to_owned()) }
    }

    /// A list without a span.
    pub fn list<const N: usize>(items: [Node; N]) -> Node {
        Node { at: Span::NOWHERE, value: Value::List(items.into()) }
    }

    /// A map without spans.
    pub fn map<const N: usize>(entries: [(&str, Node); N]) -> Node {
        let entries = entries.map(|(key, value)| (Node::text(key), value));
        Node { at: Span::NOWHERE, value: Value::Map(entries.into()) }
    }

    /// The text of a key.
    pub fn as_text(&self) -> &str {
        match &self.value {
            Value::Text(text) | Value::Word(text) => text,
            Value::Null | Value::List(_) | Value::Map(_) => "",
        }
    }

    /// The span to report for the value at the end of this path: the value if it fits in a line,
    /// otherwise its key. A number is an index in a list, from 0. Goes as far as the path exists.
    pub fn place<S: AsRef<str>>(&self, path: &[S]) -> Span {
        let (mut node, mut at) = (self, self.at);
        for step in path {
            let Some((key, value)) = node.child(step.as_ref()) else { break };
            node = value;
            at = value.place_under(key.map(|key| key.at));
        }
        at
    }

    /// The value of a key, or the item of a list.
    pub fn child(&self, step: &str) -> Option<(Option<&Node>, &Node)> {
        match &self.value {
            Value::Map(entries) => {
                let (key, value) = entries.iter().find(|(key, _)| key.as_text() == step)?;
                Some((Some(key), value))
            }
            Value::List(items) => Some((None, items.get(step.parse::<usize>().ok()?)?)),
            Value::Null | Value::Word(_) | Value::Text(_) => None,
        }
    }

    /// The value at the end of these keys, if they exist.
    pub fn descend<S: AsRef<str>>(&self, path: &[S]) -> Option<&Node> {
        path.iter().try_fold(self, |node, step| Some(node.child(step.as_ref())?.1))
    }

    /// The same without this key.
    pub fn without(mut self, key: &str) -> Node {
        if let Value::Map(entries) = &mut self.value {
            entries.retain(|(known, _)| known.as_text() != key);
        }
        self
    }

    /// Removes the user's own keys, which begin with `x-`, such as anchors for aliases.
    pub fn without_own(mut self) -> Node {
        if let Value::Map(entries) = &mut self.value {
            entries.retain(|(key, _)| !key.as_text().starts_with("x-"));
        }
        self
    }

    /// The span of this value, or that of its `key` if the value is a block or empty.
    pub fn place_under(&self, key: Option<Span>) -> Span {
        match self.value {
            Value::Word(_) | Value::Text(_) => self.at,
            Value::Null | Value::List(_) | Value::Map(_) => key.unwrap_or(self.at),
        }
    }
}
