//! Makes a message of a path, a query and a JSON body.
//!
//! All three become one JSON tree, which is read as the message: the JSON mapping of protobuf knows
//! how each kind of field is written as text.

use super::rules::{Inside, Rule, field_path};
use crate::status::{Code, Status, percent};
use bytes::Bytes;
use prost::Message as _;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind};
use serde_json::{Map, Value};

/// What a request says besides its body.
#[derive(Clone, Debug, Default)]
pub(crate) struct Said {
    /// The values of the path's variables.
    pub(crate) path: Vec<String>,
    /// The query.
    pub(crate) query: String,
    /// Parameters that are no fields may pass.
    pub(crate) lenient: bool,
}

fn wrong(message: String) -> Status {
    Status::new(Code::InvalidArgument, message)
}

/// The message, as bytes.
///
/// # Errors
/// What is wrong with the request: the client's fault.
pub(crate) fn message(rule: &Rule, said: &Said, body: &[u8]) -> Result<Bytes, Status> {
    let mut tree = Map::new();
    match &rule.body {
        Inside::None => {}
        Inside::All => match json(body)? {
            Value::Object(all) => tree = all,
            Value::Null => {}
            _ => return Err(wrong("the body is no JSON object".to_owned())),
        },
        Inside::Field(field) => match json(body)? {
            Value::Null => {}
            value => _ = tree.insert(field.json_name().to_owned(), value),
        },
    }
    for (name, value) in parameters(&said.query) {
        query(&mut tree, rule, &name, &value, said.lenient)?;
    }
    for (fields, value) in rule.variables.iter().zip(&said.path) {
        set(&mut tree, fields, leaf(fields, value)?);
    }
    let unfit = |error: serde_json::Error| wrong(format!("the request does not fit: {error}"));
    let message = DynamicMessage::deserialize(rule.call.input.clone(), Value::Object(tree));
    Ok(message.map_err(unfit)?.encode_to_vec().into())
}

/// A body; one that is empty says nothing.
fn json(body: &[u8]) -> Result<Value, Status> {
    if body.trim_ascii().is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(body).map_err(|error| wrong(format!("the body is no JSON: {error}")))
}

/// The names and values of a query, decoded.
fn parameters(query: &str) -> impl Iterator<Item = (String, String)> {
    let decode = |text: &str| percent::decode_text(text.replace('+', " ").as_bytes());
    query.split('&').filter(|part| !part.is_empty()).map(move |part| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        (decode(name), decode(value))
    })
}

/// Puts one parameter into the field that it names.
fn query(
    tree: &mut Map<String, Value>,
    rule: &Rule,
    name: &str,
    value: &str,
    lenient: bool,
) -> Result<(), Status> {
    let fields = field_path(&rule.call.input, name).filter(|fields| match &rule.body {
        Inside::None => true,
        Inside::All => false,
        Inside::Field(body) => fields.first() != Some(body),
    });
    let Some(fields) = fields else {
        let message = format!("the query parameter `{name}` is no field of the request");
        return if lenient { Ok(()) } else { Err(wrong(message)) };
    };
    let value = leaf(&fields, value)?;
    match fields.last().is_some_and(FieldDescriptor::is_list) {
        true => push(tree, &fields, value),
        false => set(tree, &fields, value),
    }
    Ok(())
}

/// A field's value as JSON has it.
fn leaf(fields: &[FieldDescriptor], text: &str) -> Result<Value, Status> {
    let Some(field) = fields.last() else { return Ok(Value::Null) };
    let unfit = |what: &str| Err(wrong(format!("`{text}` is no {what}, as `{}` is", field.name())));
    let boolean = || match text {
        "true" => Ok(Value::Bool(true)),
        "false" => Ok(Value::Bool(false)),
        _ => unfit("`true` or `false`"),
    };
    if field.is_map() {
        return Err(wrong(format!("`{}` is a map: it goes into the body", field.name())));
    }
    match field.kind() {
        Kind::Bool => boolean(),
        Kind::Enum(_) => Ok(text.parse::<i32>().map_or_else(|_| text.into(), Value::from)),
        Kind::Message(message) => match message.full_name() {
            "google.protobuf.BoolValue" => boolean(),
            "google.protobuf.Timestamp"
            | "google.protobuf.Duration"
            | "google.protobuf.FieldMask"
            | "google.protobuf.StringValue"
            | "google.protobuf.BytesValue"
            | "google.protobuf.Int32Value"
            | "google.protobuf.Int64Value"
            | "google.protobuf.UInt32Value"
            | "google.protobuf.UInt64Value"
            | "google.protobuf.FloatValue"
            | "google.protobuf.DoubleValue" => Ok(text.into()),
            _ => Err(wrong(format!("`{}` is a message: name a field of it", field.name()))),
        },
        // Numbers may be written as text in this JSON.
        _ => Ok(text.into()),
    }
}

/// Hands `change` the object that these fields lead to, which is made where there is none.
fn within(
    tree: &mut Map<String, Value>,
    fields: &[FieldDescriptor],
    change: impl FnOnce(&mut Map<String, Value>),
) {
    let Some((field, deeper)) = fields.split_first() else { return change(tree) };
    own_name(tree, field);
    let mut inner = match tree.remove(field.json_name()) {
        Some(Value::Object(inner)) => inner,
        None | Some(Value::Null) => Map::new(),
        // What the body says there can't be read as a message, and will be told so.
        Some(other) => {
            tree.insert(field.json_name().to_owned(), other);
            return;
        }
    };
    within(&mut inner, deeper, change);
    tree.insert(field.json_name().to_owned(), Value::Object(inner));
}

/// A body may call a field by its name in the `.proto` file.
fn own_name(tree: &mut Map<String, Value>, field: &FieldDescriptor) {
    if field.name() != field.json_name()
        && let Some(value) = tree.remove(field.name())
    {
        tree.entry(field.json_name()).or_insert(value);
    }
}

fn set(tree: &mut Map<String, Value>, fields: &[FieldDescriptor], value: Value) {
    let Some((last, above)) = fields.split_last() else { return };
    within(tree, above, |holder| {
        own_name(holder, last);
        holder.insert(last.json_name().to_owned(), value);
    });
}

fn push(tree: &mut Map<String, Value>, fields: &[FieldDescriptor], value: Value) {
    let Some((last, above)) = fields.split_last() else { return };
    within(tree, above, |holder| {
        match holder.entry(last.json_name()).or_insert(Value::Array(Vec::new())) {
            Value::Array(values) => values.push(value),
            other => *other = Value::Array(vec![value]),
        }
    });
}

#[cfg(test)]
mod tests;
