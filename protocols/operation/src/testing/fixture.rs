//! Recorded connections, and their text format.

use crate::Outcome;
use std::{fs, path::Path};

/// A side of the proxied connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client.
    Client,
    /// The service.
    Upstream,
}

/// The bytes that one side sent before the other side sent more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The sender.
    pub from: Side,
    /// The bytes on the wire.
    pub bytes: Vec<u8>,
}

/// An operation that a codec should find.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// The operation's name.
    pub name: String,
    /// The operation's target.
    pub resource: String,
    /// Whether it gets a reply.
    pub tagged: bool,
    /// How it ends; `None` if the recording stops before that, or it gets no reply.
    pub outcome: Option<Outcome>,
    /// See [`crate::Operation::long_poll`].
    pub long_poll: bool,
    /// The error's name; `None` to leave it unchecked.
    pub code: Option<String>,
    /// The number of items in the request; `None` to leave it unchecked.
    pub sent: Option<u64>,
    /// The number of items in its replies; `None` to leave it unchecked.
    pub items: Option<u64>,
}

impl Expected {
    /// An operation that gets a reply with this outcome.
    pub fn settled(name: &str, resource: &str, outcome: Outcome) -> Self {
        Self { outcome: Some(outcome), ..Self::open(name, resource) }
    }

    /// An operation whose end the recording does not reach.
    pub fn open(name: &str, resource: &str) -> Self {
        Self { tagged: true, ..Self::silent(name, resource) }
    }

    /// An operation that gets no reply.
    pub fn silent(name: &str, resource: &str) -> Self {
        Self { name: name.into(), resource: resource.into(), ..Self::default() }
    }

    /// Reads `find shop.orders ok items=3`; see [`Fixture::parse`].
    fn parse(words: &str) -> Result<Self, String> {
        let mut words = words.split_whitespace();
        let (Some(name), Some(resource), Some(end)) = (words.next(), words.next(), words.next())
        else {
            return Err("an expectation is a name, a resource and an end".into());
        };
        let resource = if resource == "-" { "" } else { resource };
        let mut expected = match end {
            "silent" => Self::silent(name, resource),
            "open" => Self::open(name, resource),
            word => {
                let outcome = Outcome::ALL.into_iter().find(|o| o.as_str() == word);
                Self::settled(name, resource, outcome.ok_or(format!("no such end: {word}"))?)
            }
        };
        let number = |text: &str| text.parse().map_err(|_| format!("no number: {text}"));
        for word in words {
            match word.split_once('=') {
                None if word == "awaits" => expected.long_poll = true,
                Some(("code", code)) => expected.code = Some(code.into()),
                Some(("sent", count)) => expected.sent = Some(number(count)?),
                Some(("items", count)) => expected.items = Some(number(count)?),
                _ => return Err(format!("no such fact: {word}")),
            }
        }
        Ok(expected)
    }
}

/// One recorded connection, and the operations in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fixture {
    /// Its name in failures.
    pub name: String,
    /// The bytes of both sides, in order.
    pub turns: Vec<Turn>,
    /// The operations, in the order of their requests.
    pub expect: Vec<Expected>,
}

impl Fixture {
    /// An empty recording.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// Adds bytes from the client.
    pub fn client(self, bytes: &[u8]) -> Self {
        self.add(Side::Client, bytes)
    }

    /// Adds bytes from the upstream.
    pub fn upstream(self, bytes: &[u8]) -> Self {
        self.add(Side::Upstream, bytes)
    }

    /// Adds the expectation for the next request.
    pub fn expects(mut self, expected: Expected) -> Self {
        self.expect.push(expected);
        self
    }

    /// The number of bytes from both sides.
    pub fn len(&self) -> usize {
        self.turns.iter().map(|turn| turn.bytes.len()).sum()
    }

    /// Whether neither side sent a byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Parses a recording. Each line is one of
    ///
    /// - `# …`, a comment, or empty
    /// - `> HEX`, bytes from the client, and `< HEX`, bytes from the upstream, in order
    /// - `expect: NAME RESOURCE END [awaits] [code=NAME] [sent=N] [items=N]` for each request in
    ///   turn. `RESOURCE` is `-` if there is none; `END` is an outcome, or `open` if the recording stops
    ///   before it, or `silent` if the request gets no reply.
    ///
    /// The error names the line and the reason.
    pub fn parse(name: &str, text: &str) -> Result<Self, String> {
        let mut fixture = Self::new(name);
        for (index, line) in text.lines().enumerate() {
            let wrong = |why: String| format!("{name}:{}: {why}", index + 1);
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(words) = line.strip_prefix("expect:") {
                fixture.expect.push(Expected::parse(words).map_err(wrong)?);
            } else if let Some(hex) = line.strip_prefix('>') {
                fixture = fixture.client(&unhex(hex.trim()).map_err(wrong)?);
            } else if let Some(hex) = line.strip_prefix('<') {
                fixture = fixture.upstream(&unhex(hex.trim()).map_err(wrong)?);
            } else {
                return Err(wrong("neither `>`, `<`, `#` nor `expect:`".into()));
            }
        }
        Ok(fixture)
    }

    fn add(mut self, from: Side, bytes: &[u8]) -> Self {
        match self.turns.last_mut() {
            Some(turn) if turn.from == from => turn.bytes.extend_from_slice(bytes),
            _ => self.turns.push(Turn { from, bytes: bytes.to_vec() }),
        }
        self
    }
}

/// Parses every `.hex` file of a directory, in the order of names. The error names the file.
pub fn load(directory: impl AsRef<Path>) -> Result<Vec<Fixture>, String> {
    let directory = directory.as_ref();
    let unreadable = |error| format!("{}: {error}", directory.display());
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).map_err(unreadable)? {
        paths.push(entry.map_err(unreadable)?.path());
    }
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "hex"));
    paths.sort();
    let read = |path: &std::path::PathBuf| {
        let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        Fixture::parse(&name, &text)
    };
    paths.iter().map(read).collect()
}

fn unhex(hex: &str) -> Result<Vec<u8>, String> {
    let digit =
        |byte: u8| (byte as char).to_digit(16).ok_or(format!("no hex digit: {:?}", byte as char));
    let (pairs, []) = hex.as_bytes().as_chunks::<2>() else {
        return Err("half a byte".into());
    };
    pairs.iter().map(|[high, low]| Ok((digit(*high)? << 4 | digit(*low)?) as u8)).collect()
}
