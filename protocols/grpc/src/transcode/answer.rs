//! Makes JSON of messages and of errors.

use super::rules::Rule;
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
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions, prost_types::Any};
use serde_json::{Value, json};

/// The type of what is answered as it is.
const HTTP_BODY: &str = "google.api.HttpBody";

/// How messages are written.
pub(crate) fn options(settings: &Transcode) -> SerializeOptions {
    SerializeOptions::new()
        .skip_default_fields(!settings.print_defaults)
        .use_proto_field_name(settings.proto_names)
}

/// A body, and its type where it is not JSON.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) bytes: Bytes,
    pub(crate) content_type: Option<HeaderValue>,
}

/// Writes a message, or the field of it that its rule names.
///
/// # Errors
/// The service's message is not what the descriptor set says.
pub(crate) fn message(
    rule: &Rule,
    options: &SerializeOptions,
    bytes: Bytes,
) -> Result<Written, Status> {
    let wrong = |error: &dyn std::fmt::Display| {
        let name = rule.call.output.full_name();
        Status::new(Code::Internal, format!("the service's message is no `{name}`: {error}"))
    };
    let message = DynamicMessage::decode(rule.call.output.clone(), bytes);
    let message = message.map_err(|error| wrong(&error))?;
    if rule.call.output.full_name() == HTTP_BODY {
        return Ok(as_it_is(&message));
    }
    let Some(field) = &rule.response else {
        let mut out = serde_json::Serializer::new(Vec::new());
        message.serialize_with_options(&mut out, options).map_err(|error| wrong(&error))?;
        return Ok(Written { bytes: out.into_inner().into(), content_type: None });
    };
    // A field alone is written even where it has its default.
    let options = options.clone().skip_default_fields(false);
    let tree = message.serialize_with_options(serde_json::value::Serializer, &options);
    let mut tree = tree.map_err(|error| wrong(&error))?;
    let own = tree.get_mut(field.json_name()).map(Value::take);
    let value = own.or_else(|| tree.get_mut(field.name()).map(Value::take)).unwrap_or_default();
    Ok(Written { bytes: value.to_string().into(), content_type: None })
}

fn as_it_is(message: &DynamicMessage) -> Written {
    let said = message.get_field_by_name("content_type");
    let said = said.as_deref().and_then(|it| it.as_str()).unwrap_or_default();
    let data = message.get_field_by_name("data");
    let bytes = data.as_deref().and_then(|it| it.as_bytes()).cloned().unwrap_or_default();
    let binary = HeaderValue::from_static("application/octet-stream");
    let known = HeaderValue::try_from(said).ok().filter(|_| !said.is_empty());
    Written { bytes, content_type: Some(known.unwrap_or(binary)) }
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
    let mut tree = json!({ "code": status.code.number(), "message": status.message });
    let details: Vec<_> = details(trailers).iter().map(|any| detail(pool, any)).collect();
    if !details.is_empty() {
        tree["details"] = details.into();
    }
    tree
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
    let name = any.type_url.rsplit('/').next().unwrap_or_default();
    let known = pool.get_message_by_name(name).and_then(|message| {
        let message = DynamicMessage::decode(message, any.value.as_slice()).ok()?;
        serde_json::to_value(message).ok()
    });
    match known {
        Some(Value::Object(mut tree)) => {
            tree.insert("@type".to_owned(), any.type_url.clone().into());
            Value::Object(tree)
        }
        // A type with a form of its own, such as a time.
        Some(value) => json!({ "@type": any.type_url, "value": value }),
        None => json!({ "@type": any.type_url, "value": STANDARD.encode(&any.value) }),
    }
}
