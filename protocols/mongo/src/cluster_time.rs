//! Removes what a deployment says of its time: `$clusterTime` and `operationTime`.
//!
//! Drivers send the newest `$clusterTime` that they have seen with every command, signed by the deployment.
//! Another deployment refuses the signature (code 211, `KeyNotFound`), so clients that are to be moved must
//! never see one. Sources: the driver specifications `sessions/driver-sessions` ("Gossipping the cluster
//! time") and `causal-consistency`.

use crate::{
    bson_writer::BsonWriter,
    element::{Element, elements, kind},
    message_edit::{
        ElementEdit, body_range, edit, editable_front, offset_in, replaced_front, splice,
    },
    number::u32_at,
};

/// The fields, which are the last ones of a reply.
const CLUSTER_TIME: &[u8] = b"$clusterTime";
const OPERATION_TIME: &[u8] = b"operationTime";

/// How many bytes at the end of a long reply are read for these fields. Servers write about 150 bytes.
pub(crate) const TAIL: usize = 1024;

/// What takes the place of these fields in a reply whose length has passed already.
const FILLER: &[u8] = b"stripped";

fn is_time(element: &Element<'_>) -> bool {
    matches!(element.name, CLUSTER_TIME | OPERATION_TIME)
}

/// A whole message without these fields; `None` if it has none.
pub(crate) fn strip(message: &[u8]) -> Option<Vec<u8>> {
    let body = body_range(message)?;
    let drop = |element: &Element<'_>| match is_time(element) {
        true => ElementEdit::Drop,
        false => ElementEdit::Keep,
    };
    let stripped = edit(&message[body.clone()], drop)?;
    splice(message, body, &stripped)
}

/// The front of a request without `$clusterTime`: how many bytes are replaced, and with which.
pub(crate) fn strip_front(front: &[u8]) -> Option<(usize, Vec<u8>)> {
    let message = editable_front(front)?;
    let time = elements(message.body).find(|field| field.name == CLUSTER_TIME)?;
    // A truncated document is not whole.
    let len = u32_at(time.value, 0)? as usize;
    if time.kind != kind::DOCUMENT || time.value.len() < len {
        return None;
    }
    // The kind precedes the name.
    let start = offset_in(front, time.name) - 1;
    let end = offset_in(front, time.value) + len;
    replaced_front(front, &message, end, front[..start].to_vec())
}

/// The end of a reply whose length has passed already, with binary data in the place of these fields;
/// `None` if it has none.
pub(crate) fn blank(tail: &[u8]) -> Option<Vec<u8>> {
    let begins = |at: usize| {
        let name = tail.get(at + 1..).unwrap_or_default();
        [CLUSTER_TIME, OPERATION_TIME].iter().any(|time| name.starts_with(time))
    };
    let at = (0..tail.len()).find(|at| begins(*at) && last_elements(&tail[*at..]).is_some())?;
    let mut kept = BsonWriter::new();
    for element in elements(&last_elements(&tail[at..])?).filter(|element| !is_time(element)) {
        kept.element(element.kind, element.name, element.value);
    }
    let mut kept = kept.finish().split_off(4);
    kept.pop();
    // Its kind, the NUL of its name, its length, and the kind of its data.
    let frame = FILLER.len() + 7;
    let zeros = vec![0; (tail.len() - at).checked_sub(kept.len() + frame + 1)?];
    let mut filler = (zeros.len() as u32).to_le_bytes().to_vec();
    filler.push(0);
    filler.extend(zeros);
    let mut out = tail[..at].to_vec();
    out.extend(kept);
    out.push(kind::BINARY);
    out.extend_from_slice(FILLER);
    out.push(0);
    out.extend(filler);
    out.push(0);
    Some(out)
}

/// A document of these elements and the NUL that ends them; `None` if the bytes are not that.
fn last_elements(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut document = (bytes.len() as u32 + 4).to_le_bytes().to_vec();
    document.extend_from_slice(bytes);
    let mut walk = elements(&document);
    while walk.next().is_some() {}
    walk.is_complete().then_some(document)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{body as section, msg};
    use bson::{Bson, Document, Timestamp, doc, spec::BinarySubtype};

    fn op_msg(document: &Document) -> Vec<u8> {
        msg(1, 0, 0, &[section(0, document)])
    }

    fn time() -> Document {
        let hash = bson::Binary { subtype: BinarySubtype::Generic, bytes: vec![7; 20] };
        let signature = doc! { "hash": hash, "keyId": 5_i64 };
        doc! { "clusterTime": Timestamp { time: 9, increment: 1 }, "signature": signature }
    }

    fn with_times(mut document: Document) -> Document {
        document.insert("$clusterTime", time());
        document.insert("operationTime", Timestamp { time: 9, increment: 1 });
        document
    }

    fn body(message: &[u8]) -> Document {
        let body = body_range(message).unwrap();
        Document::from_reader(&message[body]).unwrap()
    }

    #[test]
    fn a_reply_loses_its_times() {
        let reply = doc! { "n": 1, "ok": 1.0 };
        let stripped = strip(&op_msg(&with_times(reply.clone()))).unwrap();
        assert_eq!(body(&stripped), reply);
        assert_eq!(strip(&stripped), None);
        let nested = doc! { "value": with_times(doc! {}), "ok": 1.0 };
        assert_eq!(strip(&op_msg(&nested)), None, "these are the application's own");
    }

    #[test]
    fn the_front_of_a_request_loses_its_time() {
        let command = doc! { "insert": "orders", "$db": "shop" };
        let mut sent = doc! { "insert": "orders", "$clusterTime": time() };
        sent.insert("$db", "shop");
        let mut message = op_msg(&sent);
        let sequence = [&[1][..], &14_u32.to_le_bytes(), b"documents\0"].concat();
        message.extend_from_slice(&sequence);
        let len = (message.len() as u32).to_le_bytes();
        message[..4].copy_from_slice(&len);
        let (end, out) = strip_front(&message).unwrap();
        let stripped = [&out[..], &message[end..]].concat();
        assert_eq!(u32_at(&stripped, 0), Some(stripped.len() as u32));
        assert!(stripped.ends_with(&sequence));
        assert_eq!(Document::from_reader(&stripped[21..]).unwrap(), command);
        assert_eq!(strip_front(&stripped), None);
        for cut in 0..end {
            assert_eq!(strip_front(&message[..cut]), None, "{cut} bytes are here");
        }
    }

    #[test]
    fn the_end_of_a_long_reply_keeps_its_length() {
        let reply = doc! { "cursor": { "firstBatch": ["x".repeat(3000)] }, "ok": 1.0 };
        let whole = op_msg(&with_times(reply.clone()));
        let at = whole.len() - TAIL;
        let blanked = blank(&whole[at..]).unwrap();
        assert_eq!(blanked.len(), TAIL);
        let mut seen = body(&[&whole[..at], &blanked].concat());
        let Some(Bson::Binary(filler)) = seen.remove("stripped") else { panic!("{seen:?}") };
        assert!(filler.bytes.iter().all(|byte| *byte == 0));
        assert_eq!(seen, reply);
    }

    #[test]
    fn fields_of_the_application_are_not_blanked() {
        let nested = doc! { "cursor": { "firstBatch": [with_times(doc! {})] }, "ok": 1.0 };
        assert_eq!(blank(&op_msg(&nested)), None);
        let last = doc! { "ok": 1.0, "value": with_times(doc! {}) };
        assert_eq!(blank(&op_msg(&last)), None);
        assert_eq!(blank(b""), None);
    }
}
