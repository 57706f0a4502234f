//! MongoDB's messages, as much of them as a driver needs: OP_MSG, and OP_QUERY with OP_REPLY for
//! the handshakes of older drivers.

#[cfg(test)]
mod tests;

use bson::{Bson, Document, RawBsonRef, RawDocument};
use std::{io, time::Duration};
use tokio::io::{AsyncRead, AsyncReadExt};

/// The longest message, in bytes, its header included.
pub const MAX_MESSAGE_BYTES: usize = 48_000_000;
/// How deep documents may nest. Past this a reader that follows them could run out of stack.
pub const MAX_DEPTH: usize = 100;
/// How many values a message may hold, since each costs more in memory than on the wire.
const MAX_ELEMENTS: usize = 1_000_000;
/// How long a peer may take to send the rest of a message.
const REST_OF_MESSAGE: Duration = Duration::from_secs(30);

const HEADER_BYTES: usize = 16;
const OP_REPLY: i32 = 1;
const OP_QUERY: i32 = 2004;
const OP_MSG: i32 = 2013;

const CHECKSUM_PRESENT: u32 = 1;
const MORE_TO_COME: u32 = 1 << 1;
const EXHAUST_ALLOWED: u32 = 1 << 16;
/// The flags that a reader must know: an unknown one changes what the message means.
const REQUIRED_FLAGS: u32 = 0xffff;

/// The layout of a message on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// OP_MSG, either way.
    Msg,
    /// OP_QUERY, a request.
    Query,
    /// OP_REPLY, the answer to an OP_QUERY.
    Reply,
}

/// A request or a reply.
#[derive(Clone, Debug, PartialEq)]
pub struct WireMessage {
    /// The sender's number for it.
    pub id: i32,
    /// The `id` of the message that it answers; 0 in requests.
    pub reply_to: i32,
    /// Its shape on the wire.
    pub shape: Shape,
    /// A request that wants no reply, or a reply that is followed by another one.
    pub more_to_come: bool,
    /// A request that may be answered by a stream of replies.
    pub exhaust_allowed: bool,
    /// The command or its result. Document sequences are arrays in it.
    pub body: Document,
}

/// Why a connection can't be read any further.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The peer went away, or sent nothing for too long.
    #[error("the connection is gone")]
    Gone(#[from] io::Error),
    /// Bytes that are not a message.
    #[error("not a message: {0}")]
    Malformed(&'static str),
}

impl WireMessage {
    /// A request, or a reply, in OP_MSG's shape.
    pub fn new(id: i32, reply_to: i32, body: Document) -> Self {
        Self { id, reply_to, shape: Shape::Msg, more_to_come: false, exhaust_allowed: false, body }
    }

    /// The reply to this message: OP_MSG for OP_MSG, OP_REPLY for OP_QUERY.
    pub fn answer(&self, id: i32, body: Document) -> WireMessage {
        let shape = if self.shape == Shape::Msg { Shape::Msg } else { Shape::Reply };
        WireMessage { shape, ..WireMessage::new(id, self.id, body) }
    }

    /// Its bytes. Fails if a key holds a NUL, or if it would be too long.
    pub fn to_bytes(&self) -> Result<Vec<u8>, WireError> {
        let body = self.body.to_vec().map_err(|_| WireError::Malformed("a key holds a NUL"))?;
        let mut bytes = vec![0; HEADER_BYTES];
        let opcode = match self.shape {
            Shape::Msg => {
                let mut flags = 0;
                if self.more_to_come {
                    flags |= MORE_TO_COME;
                }
                if self.exhaust_allowed {
                    flags |= EXHAUST_ALLOWED;
                }
                bytes.extend(flags.to_le_bytes());
                bytes.push(0);
                OP_MSG
            }
            Shape::Query => {
                bytes.extend([0; 4]);
                bytes.extend(b"admin.$cmd\0");
                bytes.extend(0i32.to_le_bytes());
                bytes.extend((-1i32).to_le_bytes());
                OP_QUERY
            }
            Shape::Reply => {
                bytes.extend([0; 16]);
                bytes.extend(1i32.to_le_bytes());
                OP_REPLY
            }
        };
        bytes.extend(body);
        if bytes.len() > MAX_MESSAGE_BYTES {
            return Err(WireError::Malformed("longer than a message may be"));
        }
        let length = bytes.len() as i32;
        let header = [length, self.id, self.reply_to, opcode];
        for (field, value) in bytes.chunks_exact_mut(4).zip(header) {
            field.copy_from_slice(&value.to_le_bytes());
        }
        Ok(bytes)
    }
}

/// The next message; `None` when the peer closed between two of them.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<WireMessage>, WireError> {
    let mut header = [0; HEADER_BYTES];
    if stream.read(&mut header[..1]).await? == 0 {
        return Ok(None);
    }
    let rest = async {
        stream.read_exact(&mut header[1..]).await?;
        let [length, id, reply_to, opcode] = header_fields(&header);
        let length = usize::try_from(length).unwrap_or(0);
        if !(HEADER_BYTES..=MAX_MESSAGE_BYTES).contains(&length) {
            return Err(WireError::Malformed("a length out of range"));
        }
        // Grows with the bytes that arrive, whatever the stated length.
        let mut payload = Vec::new();
        let wanted = length - HEADER_BYTES;
        if stream.take(wanted as u64).read_to_end(&mut payload).await? < wanted {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        parse(id, reply_to, opcode, &payload).map(Some)
    };
    let timed_out = |_| io::Error::from(io::ErrorKind::TimedOut);
    tokio::time::timeout(REST_OF_MESSAGE, rest).await.map_err(timed_out)?
}

fn header_fields(header: &[u8; HEADER_BYTES]) -> [i32; 4] {
    let mut fields = [0; 4];
    for (field, bytes) in fields.iter_mut().zip(header.chunks_exact(4)) {
        *field = Reader { rest: bytes, elements: 0 }.int().unwrap_or_default();
    }
    fields
}

fn parse(id: i32, reply_to: i32, opcode: i32, payload: &[u8]) -> Result<WireMessage, WireError> {
    let mut reader = Reader { rest: payload, elements: MAX_ELEMENTS };
    let mut message = WireMessage::new(id, reply_to, Document::new());
    match opcode {
        OP_MSG => read_msg(&mut message, &mut reader)?,
        OP_QUERY => {
            message.shape = Shape::Query;
            reader.take(4)?;
            let namespace = reader.cstring()?;
            reader.take(8)?;
            message.body = reader.document()?;
            if let Some(Bson::Document(wrapped)) = message.body.remove("$query") {
                message.body = wrapped;
            }
            let db = namespace.strip_suffix(".$cmd").unwrap_or(&namespace).to_owned();
            message.body.insert("$db", db);
        }
        OP_REPLY => {
            message.shape = Shape::Reply;
            reader.take(20)?;
            message.body = reader.document()?;
        }
        _ => return Err(WireError::Malformed("an unknown opcode")),
    }
    Ok(message)
}

fn read_msg(message: &mut WireMessage, reader: &mut Reader<'_>) -> Result<(), WireError> {
    let flags = reader.int()? as u32;
    if flags & REQUIRED_FLAGS & !(CHECKSUM_PRESENT | MORE_TO_COME) != 0 {
        return Err(WireError::Malformed("an unknown flag"));
    }
    message.more_to_come = flags & MORE_TO_COME != 0;
    message.exhaust_allowed = flags & EXHAUST_ALLOWED != 0;
    let trailer = if flags & CHECKSUM_PRESENT != 0 { 4 } else { 0 };
    let mut body = None;
    let mut sequences = Vec::new();
    while reader.rest.len() > trailer {
        match reader.take(1)? {
            [0] if body.is_none() => body = Some(reader.document()?),
            [1] => sequences.push(reader.sequence()?),
            // 2 is the servers' own, 3 is telemetry; both are one document.
            [2 | 3] => drop(reader.document()?),
            _ => return Err(WireError::Malformed("an unknown section")),
        }
    }
    message.body = body.ok_or(WireError::Malformed("no body"))?;
    for (name, documents) in sequences {
        if message.body.insert(name, documents).is_some() {
            return Err(WireError::Malformed("a field given twice"));
        }
    }
    Ok(())
}

/// Walks a payload; every step is checked against what is left.
struct Reader<'a> {
    rest: &'a [u8],
    /// How many more values may be decoded.
    elements: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) =
            self.rest.split_at_checked(count).ok_or(WireError::Malformed("cut short"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn int(&mut self) -> Result<i32, WireError> {
        let bytes = self.take(4)?.first_chunk().ok_or(WireError::Malformed("cut short"))?;
        Ok(i32::from_le_bytes(*bytes))
    }

    fn cstring(&mut self) -> Result<String, WireError> {
        let end = self.rest.iter().position(|&byte| byte == 0);
        let text = self.take(end.ok_or(WireError::Malformed("a string without an end"))?)?;
        self.take(1)?;
        String::from_utf8(text.to_vec()).map_err(|_| WireError::Malformed("not UTF-8"))
    }

    fn document(&mut self) -> Result<Document, WireError> {
        const BROKEN: WireError = WireError::Malformed("a broken document");
        let length = Reader { rest: self.rest, elements: 0 }.int()?;
        let bytes = self.take(usize::try_from(length).map_err(|_| BROKEN)?)?;
        let raw = RawDocument::from_bytes(bytes).map_err(|_| BROKEN)?;
        // Decoding recurses and allocates, so depth and number are checked on the bytes first.
        walk(raw, MAX_DEPTH, &mut self.elements).ok_or(BROKEN)?;
        Document::try_from(raw).map_err(|_| BROKEN)
    }

    fn sequence(&mut self) -> Result<(String, Vec<Bson>), WireError> {
        let size = usize::try_from(self.int()?).ok().and_then(|size| size.checked_sub(4));
        let bytes = self.take(size.ok_or(WireError::Malformed("a sequence out of range"))?)?;
        let mut reader = Reader { rest: bytes, elements: self.elements };
        let name = reader.cstring()?;
        let mut documents = Vec::new();
        while !reader.rest.is_empty() {
            documents.push(Bson::Document(reader.document()?));
        }
        self.elements = reader.elements;
        Ok((name, documents))
    }
}

/// `None` if the document is broken, nests deeper than `depth` or holds more than `elements`.
fn walk(document: &RawDocument, depth: usize, elements: &mut usize) -> Option<()> {
    let depth = depth.checked_sub(1)?;
    *elements = elements.checked_sub(1)?;
    for element in document {
        let (_, value) = element.ok()?;
        *elements = elements.checked_sub(1)?;
        match value {
            RawBsonRef::Document(inner) => walk(inner, depth, elements)?,
            RawBsonRef::Array(inner) => {
                walk(RawDocument::from_bytes(inner.as_bytes()).ok()?, depth, elements)?;
            }
            RawBsonRef::JavaScriptCodeWithScope(code) => walk(code.scope, depth, elements)?,
            _ => {}
        }
    }
    Some(())
}
