//! Changes the first document of a whole message, or the front of one.

use crate::{
    bson_writer::BsonWriter,
    checksum,
    element::{Element, elements},
    header::{self, HEADER_LEN, Header, REPLY_PREFIX_LEN, flag, opcode},
    message_view::{MessageView, document},
    number::u32_at,
    sections::{section_kind, sections},
};
use std::ops::Range;

/// The position of the first document of a whole message: an `OP_MSG`'s body, a legacy command or
/// its reply.
pub(crate) fn body_range(message: &[u8]) -> Option<Range<usize>> {
    let header = Header::read(message).ok()??;
    if header.len as usize != message.len() || !checksum::valid(message) {
        return None;
    }
    let rest = &message[HEADER_LEN..];
    let document = match header.opcode {
        opcode::MSG => {
            sections(rest.get(4..)?).find(|section| section.kind == section_kind::BODY)?.bytes
        }
        opcode::QUERY => document(header::query(rest)?.1)?,
        opcode::REPLY => document(rest.get(REPLY_PREFIX_LEN..)?)?,
        _ => return None,
    };
    let start = document.as_ptr().addr() - message.as_ptr().addr();
    (document.len() == u32_at(document, 0)? as usize).then(|| start..start + document.len())
}

/// The message with `document` at this position, with its length and checksum updated.
pub(crate) fn splice(message: &[u8], at: Range<usize>, document: &[u8]) -> Option<Vec<u8>> {
    let mut out = [&message[..at.start], document, &message[at.end..]].concat();
    let len = i32::try_from(out.len()).ok()?;
    out[..4].copy_from_slice(&len.to_le_bytes());
    checksum::seal(&mut out);
    Some(out)
}

/// The front of a request that may be changed without its end: an `OP_MSG` without a checksum, which would be
/// at the end.
pub(crate) fn editable_front(front: &[u8]) -> Option<MessageView<'_>> {
    let message = MessageView::read(front)?;
    let is_editable =
        message.header.opcode == opcode::MSG && message.flags & flag::CHECKSUM_PRESENT == 0;
    is_editable.then_some(message)
}

/// Where `part` begins in `front`, of which it is a part.
pub(crate) fn offset_in(front: &[u8], part: &[u8]) -> usize {
    part.as_ptr().addr() - front.as_ptr().addr()
}

/// A changed front, whose first `end` bytes `out` replaces: how many bytes are replaced, and with which. The
/// lengths of the message and of its body are updated.
pub(crate) fn replaced_front(
    front: &[u8],
    message: &MessageView<'_>,
    end: usize,
    mut out: Vec<u8>,
) -> Option<(usize, Vec<u8>)> {
    let body = offset_in(front, message.body);
    let (added, removed) = (u32::try_from(out.len()).ok()?, u32::try_from(end).ok()?);
    let changed = |at: usize| {
        Some(u32_at(front, at)?.checked_add(added)?.checked_sub(removed)?.to_le_bytes())
    };
    let (message_len, body_len) = (changed(0)?, changed(body)?);
    out[..4].copy_from_slice(&message_len);
    out[body..body + 4].copy_from_slice(&body_len);
    debug_assert!(body >= HEADER_LEN, "the body follows the header");
    Some((end, out))
}

/// A change of an element.
pub(crate) enum ElementEdit {
    Keep,
    /// Another value of the same kind.
    Put(Vec<u8>),
    Drop,
}

/// The document with some elements changed, and the others byte for byte as they were; `None` if
/// nothing changes, or if the document cannot be read to its end.
pub(crate) fn edit<'a>(
    document: &'a [u8],
    change: impl Fn(&Element<'a>) -> ElementEdit,
) -> Option<Vec<u8>> {
    let mut out = BsonWriter::new();
    let mut walk = elements(document);
    for element in &mut walk {
        match change(&element) {
            ElementEdit::Keep => out.element(element.kind, element.name, element.value),
            ElementEdit::Put(value) => out.element(element.kind, element.name, &value),
            ElementEdit::Drop => {}
        }
    }
    let out = out.finish();
    (walk.is_complete() && out != document).then_some(out)
}
