//! Makes JSON of messages and of errors.

use super::{
    print::{Printer, Style, Unprintable},
    rules::Rule,
    slot::Slot,
    wire::{Payload, Unreadable, next},
};
use crate::{
    settings::Transcode,
    status::{Code, GRPC_STATUS_DETAILS, Status},
};
use base64::{
    Engine as _,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use prost::Message as _;
use prost_reflect::{DescriptorPool, prost_types::Any};
use serde_json::{Value, json};

/// The type of what is answered as it is.
const HTTP_BODY: &str = "google.api.HttpBody";

/// The type of a file that says none.
pub(crate) const BINARY: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// How much longer than a message its JSON may be: names take more bytes than numbers.
const LONGER: usize = 4;
/// How long one detail of an error may be as JSON, in bytes.
const LONGEST_DETAIL: usize = 1 << 20;

/// How messages are written.
pub(crate) fn style(settings: &Transcode) -> Style {
    Style { defaults: settings.print_defaults, proto_names: settings.proto_names }
}

/// Whether what a rule's call answers is a file, or pieces of one, and no JSON.
pub(crate) fn is_file(rule: &Rule) -> bool {
    rule.call.output.full_name() == HTTP_BODY
}

/// A body, and its type where it is not JSON.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) bytes: Bytes,
    pub(crate) content_type: Option<HeaderValue>,
}

/// Writes a message, or the field of it that its rule names. `limit` is how long a message may be,
/// in bytes.
///
/// # Errors
/// The service's message is not what the descriptor set says, or too long.
pub(crate) fn message(
    rule: &Rule,
    style: Style,
    limit: usize,
    bytes: Bytes,
) -> Result<Written, Status> {
    let output = &rule.call.output;
    if is_file(rule) {
        return as_it_is(&bytes).map_err(|Unreadable(why)| misread(rule, why));
    }
    let mut to = Printer::new(output.parent_pool(), style, limit.saturating_mul(LONGER));
    let printed = match &rule.response {
        None => to.message(output, &[&bytes], 0),
        // A field alone is written even where it has its default.
        Some(field) => to.alone(output, &Slot::field(field.clone()), &bytes),
    };
    match printed {
        Ok(()) => Ok(Written { bytes: to.out.into(), content_type: None }),
        Err(Unprintable::Wrong(why)) => Err(misread(rule, &why)),
        Err(Unprintable::TooLong(most)) => {
            let message = format!(
                "the answer has over {most} bytes as JSON, {LONGER} times what `max_message` allows"
            );
            Err(Status::new(Code::ResourceExhausted, message))
        }
    }
}

fn misread(rule: &Rule, why: &str) -> Status {
    let name = rule.call.output.full_name();
    Status::new(Code::Internal, format!("the service's message is no `{name}`: {why}"))
}

/// `google.api.HttpBody`: its type and its bytes.
fn as_it_is(bytes: &Bytes) -> Result<Written, Unreadable> {
    let (mut said, mut data) = (&[][..], &[][..]);
    let mut rest = &bytes[..];
    while let Some((number, payload)) = next(&mut rest)? {
        match (number, payload) {
            (1, Payload::Bytes(text)) => said = text,
            (2, Payload::Bytes(bytes)) => data = bytes,
            _ => {}
        }
    }
    let known = HeaderValue::from_bytes(said).ok().filter(|_| !said.is_empty());
    Ok(Written { bytes: bytes.slice_ref(data), content_type: Some(known.unwrap_or(BINARY)) })
}

/// `google.rpc.Status`, as far as it is needed.
#[derive(Clone, PartialEq, prost::Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// A status as JSON: `google.rpc.Status`, with the details that its trailers hold.
pub(crate) fn error(pool: &DescriptorPool, status: &Status, trailers: &HeaderMap) -> Value {
    let mut tree = bare_error(status);
    let details: Vec<_> = details(trailers).iter().map(|any| detail(pool, any)).collect();
    if !details.is_empty() {
        tree["details"] = details.into();
    }
    tree
}

/// A status as JSON that has no details.
pub(crate) fn bare_error(status: &Status) -> Value {
    json!({ "code": status.code.number(), "message": status.message })
}

fn details(trailers: &HeaderMap) -> Vec<Any> {
    const EITHER: GeneralPurpose = GeneralPurpose::new(
        &base64::alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let coded = trailers.get(GRPC_STATUS_DETAILS);
    let bytes = coded.and_then(|coded| EITHER.decode(coded.as_bytes()).ok());
    let status = bytes.and_then(|bytes| RpcStatus::decode(bytes.as_slice()).ok());
    status.map(|status| status.details).unwrap_or_default()
}

/// One detail; of a type that nobody has told of, its bytes.
fn detail(pool: &DescriptorPool, any: &Any) -> Value {
    let mut to = Printer::new(pool, Style::default(), LONGEST_DETAIL);
    let printed = to.any_of(&any.type_url, &any.value, 0);
    let known = printed.ok().and_then(|()| serde_json::from_slice(&to.out).ok());
    let unknown = || json!({ "@type": any.type_url, "value": STANDARD.encode(&any.value) });
    known.unwrap_or_else(unknown)
}
