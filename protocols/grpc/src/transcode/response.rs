//! Converts response messages and errors to JSON.

use super::{
    field::Field,
    rules::HttpRule,
    to_json::{PrintError, PrintOptions, Printer},
    wire::{Payload, WireError, next},
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

/// The type whose content is sent unchanged.
const HTTP_BODY: &str = "google.api.HttpBody";

/// The default content type of a file.
pub(crate) const BINARY: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// Maximum ratio of JSON to message length: field names are longer than field numbers.
const JSON_GROWTH: usize = 4;
/// Maximum JSON length of an error detail, in bytes.
const MAX_DETAIL_BYTES: usize = 1 << 20;

/// Options of the JSON output.
pub(crate) fn print_options(settings: &Transcode) -> PrintOptions {
    PrintOptions { defaults: settings.print_defaults, proto_names: settings.proto_names }
}

/// Whether the method returns a file or chunks of one instead of JSON.
pub(crate) fn is_file(rule: &HttpRule) -> bool {
    rule.call.output.full_name() == HTTP_BODY
}

/// A body, with its content type unless it is JSON.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct EncodedBody {
    pub(crate) bytes: Bytes,
    pub(crate) content_type: Option<HeaderValue>,
}

/// Converts a message, or the field that its rule names. `limit`: maximum message length, in bytes.
///
/// # Errors
/// The service's message does not match the descriptor set, or is too long.
pub(crate) fn message(
    rule: &HttpRule,
    style: PrintOptions,
    limit: usize,
    bytes: Bytes,
) -> Result<EncodedBody, Status> {
    let output = &rule.call.output;
    if is_file(rule) {
        return http_body(&bytes).map_err(|WireError(why)| invalid_message(rule, why));
    }
    let mut to = Printer::new(output.parent_pool(), style, limit.saturating_mul(JSON_GROWTH));
    let printed = match &rule.response {
        None => to.message(output, &[&bytes], 0),
        // A single field is written even with its default value.
        Some(field) => to.single_field(output, &Field::of_field(field.clone()), &bytes),
    };
    match printed {
        Ok(()) => Ok(EncodedBody { bytes: to.out.into(), content_type: None }),
        Err(PrintError::Wrong(why)) => Err(invalid_message(rule, &why)),
        Err(PrintError::TooLong(most)) => {
            let message = format!(
                "the answer has over {most} bytes as JSON, {JSON_GROWTH} times what `max_message` allows"
            );
            Err(Status::new(Code::ResourceExhausted, message))
        }
    }
}

fn invalid_message(rule: &HttpRule, why: &str) -> Status {
    let name = rule.call.output.full_name();
    Status::new(Code::Internal, format!("the service's message is no `{name}`: {why}"))
}

/// `google.api.HttpBody`: its type and its bytes.
fn http_body(bytes: &Bytes) -> Result<EncodedBody, WireError> {
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
    Ok(EncodedBody { bytes: bytes.slice_ref(data), content_type: Some(known.unwrap_or(BINARY)) })
}

/// The needed part of `google.rpc.Status`.
#[derive(Clone, PartialEq, prost::Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// A status as JSON: `google.rpc.Status`, with the details from the trailers.
pub(crate) fn error(pool: &DescriptorPool, status: &Status, trailers: &HeaderMap) -> Value {
    let mut tree = bare_error(status);
    let details: Vec<_> = details(trailers).iter().map(|any| detail(pool, any)).collect();
    if !details.is_empty() {
        tree["details"] = details.into();
    }
    tree
}

/// A status as JSON without details.
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

/// One detail as JSON. A type that is not in the descriptor set is written as base64.
fn detail(pool: &DescriptorPool, any: &Any) -> Value {
    let mut to = Printer::new(pool, PrintOptions::default(), MAX_DETAIL_BYTES);
    let printed = to.any_of(&any.type_url, &any.value, 0);
    let known = printed.ok().and_then(|()| serde_json::from_slice(&to.out).ok());
    let unknown = || json!({ "@type": any.type_url, "value": STANDARD.encode(&any.value) });
    known.unwrap_or_else(unknown)
}
