//! Builds a message from a path, a query and a JSON body.
//!
//! The three are written as protobuf in sequence: a later value wins (protobuf, "Last One Wins"), so
//! the path overrides the query, and the query overrides the body.

use super::{
    field::{Field, WellKnown},
    from_json::{self, MessageSeed},
    rules::{FieldPathError, HttpRule, MAX_FIELD_PATH, RequestBody, field_path},
    wire::{GROUP, GROUP_END, LEN, MessageWriter},
};
use crate::{
    body::too_long,
    frame::MessageTooLong,
    status::{Code, Status, percent, truncate},
};
use prost_reflect::{FieldDescriptor, Kind};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    string::FromUtf8Error,
};

/// The parts of a request besides its body.
#[derive(Clone, Debug, Default)]
pub(crate) struct RequestInput {
    /// Values of the path variables.
    pub(crate) path: Vec<String>,
    /// The query.
    pub(crate) query: String,
    /// Whether to ignore unknown parameters.
    pub(crate) lenient: bool,
}

/// Maximum bytes of request text in an error message: the status of a response is a header.
const MAX_ECHO_BYTES: usize = 512;

fn invalid(mut message: String) -> Status {
    message.truncate(truncate(&message, MAX_ECHO_BYTES).len());
    Status::new(Code::InvalidArgument, message)
}

/// Builds the message. `limit`: maximum length, in bytes.
///
/// # Errors
/// A client error that describes what is wrong with the request.
pub(crate) fn message(
    rule: &HttpRule,
    said: &RequestInput,
    body: &[u8],
    limit: usize,
) -> Result<Vec<u8>, Status> {
    let mut to = MessageWriter::new(limit);
    let over = |to: &MessageWriter| too_long(MessageTooLong { len: to.bytes.len() as u64, limit });
    let written = json(&mut to, rule, body);
    if to.is_over() {
        return Err(over(&to));
    }
    written?;
    let mut given = SetFields::default();
    for parameter in parameters(&said.query) {
        let (name, value) = parameter.map_err(|_| {
            invalid("the query is not UTF-8 once its percent signs are read".to_owned())
        })?;
        query(&mut to, rule, (&name, &value), said.lenient, &mut given)?;
    }
    for (fields, value) in rule.variables.iter().zip(&said.path) {
        put(&mut to, fields, leaf(fields, value)?)?;
    }
    if to.is_over() { Err(over(&to)) } else { Ok(to.bytes) }
}

/// Writes a body; an empty one sets no fields.
fn json(to: &mut MessageWriter, rule: &HttpRule, body: &[u8]) -> Result<(), Status> {
    let body = body.trim_ascii();
    if body.is_empty() || body == b"null" || matches!(rule.body, RequestBody::None) {
        return Ok(());
    }
    let mut from = serde_json::Deserializer::from_slice(body);
    let written = match &rule.body {
        RequestBody::Field(field) => {
            from_json::field(to, &Field::of_field(field.clone()), &mut from)
        }
        _ if body.first() != Some(&b'{') => {
            return Err(invalid("the body is not a JSON object".to_owned()));
        }
        _ => from_json::content(MessageSeed { to, message: &rule.call.input, depth: 0 }, &mut from),
    };
    written.and_then(|()| from.end()).map_err(|error| match error.is_data() {
        true => invalid(format!("the request does not fit: {}{error}", to.error_path())),
        false => invalid(format!("the body is not JSON: {error}")),
    })
}

/// The decoded names and values of a query.
fn parameters(query: &str) -> impl Iterator<Item = Result<(String, String), FromUtf8Error>> {
    let decode = |text: &str| String::from_utf8(percent::decode(text.replace('+', " ").as_bytes()));
    query.split('&').filter(|part| !part.is_empty()).map(move |part| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        Ok((decode(name)?, decode(value)?))
    })
}

/// The fields that a query has set.
#[derive(Default)]
struct SetFields {
    /// Singular fields, by their path of numbers.
    single: BTreeSet<Vec<u32>>,
    /// Oneofs, by their path of numbers and their names, with the field that was set.
    oneofs: BTreeMap<(Vec<u32>, String), u32>,
}

impl SetFields {
    /// Records a field. Rejects duplicates, since parsers differ in which value they use.
    fn take(&mut self, name: &str, fields: &[FieldDescriptor]) -> Result<(), Status> {
        let mut above = Vec::new();
        for field in fields {
            let oneof = field.containing_oneof().filter(|oneof| !oneof.is_synthetic());
            if let Some(oneof) = oneof {
                let key = (above.clone(), oneof.name().to_owned());
                if *self.oneofs.entry(key).or_insert(field.number()) != field.number() {
                    let of = oneof.name();
                    return Err(invalid(format!(
                        "`{name}` is one of `{of}`, of which another is given"
                    )));
                }
            }
            above.push(field.number());
        }
        let single = fields.last().is_some_and(|field| !field.is_list());
        if single && !self.single.insert(above) {
            return Err(invalid(format!("the query parameter `{name}` is given twice")));
        }
        Ok(())
    }
}

/// Writes a parameter as the field that it names.
fn query(
    to: &mut MessageWriter,
    rule: &HttpRule,
    (name, value): (&str, &str),
    lenient: bool,
    given: &mut SetFields,
) -> Result<(), Status> {
    let unknown = || invalid(format!("the query parameter `{name}` is not a field of the request"));
    let fields = match field_path(&rule.call.input, name) {
        Ok(fields) => fields,
        Err(FieldPathError::TooDeep) => {
            let most =
                format!("the query parameter is deeper than {MAX_FIELD_PATH} names: `{name}`");
            return Err(invalid(most));
        }
        Err(FieldPathError::Unknown) if lenient => return Ok(()),
        Err(FieldPathError::Unknown) => return Err(unknown()),
    };
    let takes = match &rule.body {
        RequestBody::None => true,
        RequestBody::All => false,
        RequestBody::Field(body) => fields.first() != Some(body),
    };
    if !takes {
        return if lenient { Ok(()) } else { Err(unknown()) };
    }
    let value = leaf(&fields, value)?;
    given.take(name, &fields)?;
    put(to, &fields, value)
}

/// Converts a parameter to the field's JSON value.
fn leaf(fields: &[FieldDescriptor], text: &str) -> Result<Value, Status> {
    let Some(field) = fields.last() else { return Ok(Value::Null) };
    let unfit =
        |what: &str| Err(invalid(format!("`{text}` is no {what}, as `{}` is", field.name())));
    let boolean = || match text {
        "true" => Ok(Value::Bool(true)),
        "false" => Ok(Value::Bool(false)),
        _ => unfit("`true` or `false`"),
    };
    if field.is_map() {
        return Err(invalid(format!("`{}` is a map: it goes into the body", field.name())));
    }
    match field.kind() {
        Kind::Bool => boolean(),
        Kind::Enum(_) => Ok(text.parse::<i32>().map_or_else(|_| text.into(), Value::from)),
        Kind::Message(message) => match WellKnown::of(&message) {
            Some(WellKnown::Wrapper) if message.name() == "BoolValue" => boolean(),
            Some(
                WellKnown::Timestamp
                | WellKnown::Duration
                | WellKnown::FieldMask
                | WellKnown::Wrapper,
            ) => Ok(text.into()),
            _ => Err(invalid(format!("`{}` is a message: name a field of it", field.name()))),
        },
        // ProtoJSON accepts numbers as strings.
        _ => Ok(text.into()),
    }
}

/// Writes a nested field. Appends to a list.
fn put(to: &mut MessageWriter, fields: &[FieldDescriptor], value: Value) -> Result<(), Status> {
    let Some((last, above)) = fields.split_last() else { return Ok(()) };
    let mut open = Vec::new();
    for field in above {
        let wire = if field.is_group() { GROUP } else { LEN };
        to.tag(field.number(), wire);
        open.push((field, if field.is_group() { None } else { Some(to.begin()) }));
    }
    let written = from_json::one(to, &Field::of_field(last.clone()), value);
    written.map_err(|error| {
        let names: Vec<_> = fields.iter().map(FieldDescriptor::name).collect();
        invalid(format!("the request does not fit: `{}`: {error}", names.join(".")))
    })?;
    for (field, from) in open.into_iter().rev() {
        match from {
            Some(from) => to.end(from),
            None => to.tag(field.number(), GROUP_END),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
