use super::*;
use bson::doc;

async fn parsed(bytes: &[u8]) -> Result<Option<WireMessage>, WireError> {
    read(&mut &bytes[..]).await
}

fn framed(opcode: i32, payload: &[u8]) -> Vec<u8> {
    let length = (HEADER_BYTES + payload.len()) as i32;
    let mut bytes: Vec<u8> =
        [length, 7, 0, opcode].iter().flat_map(|field| field.to_le_bytes()).collect();
    bytes.extend(payload);
    bytes
}

fn sequence(name: &str, documents: &[Document]) -> Vec<u8> {
    let mut content = name.as_bytes().to_vec();
    content.push(0);
    for document in documents {
        content.extend(document.to_vec().unwrap());
    }
    let mut bytes = vec![1];
    bytes.extend((content.len() as i32 + 4).to_le_bytes());
    bytes.extend(content);
    bytes
}

#[tokio::test]
async fn what_was_written_is_read_back_in_every_shape() {
    for shape in [Shape::Msg, Shape::Query, Shape::Reply] {
        let body = doc! { "ping": 1, "$db": "admin" };
        let message = WireMessage { shape, ..WireMessage::new(3, 9, body) };
        let read = parsed(&message.to_bytes().unwrap()).await.unwrap().unwrap();
        assert_eq!(read, message, "{shape:?}");
    }
}

#[tokio::test]
async fn a_sequence_before_the_body_and_a_checksum_are_understood() {
    let mut payload = (CHECKSUM_PRESENT | MORE_TO_COME).to_le_bytes().to_vec();
    payload.extend(sequence("documents", &[doc! { "a": 1 }, doc! { "a": 2 }]));
    payload.push(0);
    payload.extend(doc! { "insert": "orders", "$db": "shop" }.to_vec().unwrap());
    payload.extend([1, 2, 3, 4]);
    let message = parsed(&framed(OP_MSG, &payload)).await.unwrap().unwrap();
    assert!(message.more_to_come);
    assert_eq!(
        message.body,
        doc! { "insert": "orders", "$db": "shop", "documents": [{ "a": 1 }, { "a": 2 }] }
    );
}

#[tokio::test]
async fn a_wrapped_query_is_unwrapped_and_named_its_database() {
    let wrapped = doc! { "$query": { "isMaster": 1 }, "$readPreference": {} };
    let message = WireMessage { shape: Shape::Query, ..WireMessage::new(1, 0, wrapped) };
    let read = parsed(&message.to_bytes().unwrap()).await.unwrap().unwrap();
    assert_eq!(read.body, doc! { "isMaster": 1, "$db": "admin" });
}

#[tokio::test]
async fn a_telemetry_section_is_passed_over() {
    let mut payload = vec![0; 4];
    for (kind, document) in [(3, doc! { "otel": {} }), (0, doc! { "ping": 1 })] {
        payload.push(kind);
        payload.extend(document.to_vec().unwrap());
    }
    let message = parsed(&framed(OP_MSG, &payload)).await.unwrap().unwrap();
    assert_eq!(message.body, doc! { "ping": 1 });
}

#[tokio::test]
async fn lengths_out_of_range_are_refused_before_anything_is_read() {
    for length in [i32::MIN, -1, 0, 15, 48_000_001, i32::MAX] {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend([0; 12]);
        assert!(matches!(parsed(&bytes).await, Err(WireError::Malformed(_))), "{length}");
    }
}

#[tokio::test]
async fn a_truncated_message_is_an_error_and_no_message_is_the_end() {
    let bytes = WireMessage::new(1, 0, doc! { "ping": 1, "$db": "a" }).to_bytes().unwrap();
    assert!(parsed(&[]).await.unwrap().is_none());
    for end in 1..bytes.len() {
        assert!(matches!(parsed(&bytes[..end]).await, Err(WireError::Gone(_))), "{end}");
    }
}

#[tokio::test]
async fn a_changed_byte_never_panics() {
    let body = doc! { "insert": "c", "documents": [{ "a": { "b": [1, "x", 2.5] } }], "$db": "d" };
    let bytes = WireMessage::new(1, 0, body).to_bytes().unwrap();
    let mut refused = 0;
    for at in HEADER_BYTES..bytes.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut changed = bytes.clone();
            changed[at] = value;
            refused += usize::from(parsed(&changed).await.is_err());
        }
    }
    assert!(refused > 100, "only {refused} were noticed");
}

#[tokio::test]
async fn nesting_past_the_limit_is_refused_however_deep() {
    for (depth, fine) in [(50, true), (MAX_DEPTH + 1, false), (200_000, false)] {
        // {"": {"": … {} … }}; as a Document it would take the stack that is being saved.
        let total = 5 + (depth - 1) * 7;
        let mut bytes = Vec::with_capacity(total);
        for level in 0..depth {
            bytes.extend(((total - level * 7) as i32).to_le_bytes());
            if level + 1 < depth {
                bytes.extend([3, 0]);
            }
        }
        bytes.resize(total, 0);
        let mut payload = vec![0; 5];
        payload.extend(bytes);
        assert_eq!(parsed(&framed(OP_MSG, &payload)).await.is_ok(), fine, "{depth}");
    }
}
