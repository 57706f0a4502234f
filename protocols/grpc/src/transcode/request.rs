//! Makes a message of a path, a query and a JSON body.
//!
//! Each of the three is written as protobuf, one after the other: what comes later counts (protobuf,
//! "Last One Wins"), so that a path is stronger than a query, and a query than a body.

use super::{
    encode::{self, Content},
    rules::{Inside, LONGEST_PATH, NoField, Rule, field_path},
    slot::{Known, Slot},
    wire::{GROUP, GROUP_END, LEN, Output},
};
use crate::{
    body::too_long,
    frame::TooLong,
    status::{Code, Status, cut, percent},
};
use prost_reflect::{FieldDescriptor, Kind};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    string::FromUtf8Error,
};

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

/// How much of a client's own words is told back to it, in bytes: an answer's status is a header.
const LONGEST_WORDS: usize = 512;

fn wrong(mut message: String) -> Status {
    message.truncate(cut(&message, LONGEST_WORDS).len());
    Status::new(Code::InvalidArgument, message)
}

/// The message, as bytes. `limit` is how long it may be, in bytes.
///
/// # Errors
/// What is wrong with the request: the client's fault.
pub(crate) fn message(
    rule: &Rule,
    said: &Said,
    body: &[u8],
    limit: usize,
) -> Result<Vec<u8>, Status> {
    let mut to = Output::new(limit);
    let over = |to: &Output| too_long(TooLong { len: to.bytes.len() as u64, limit });
    let written = json(&mut to, rule, body);
    if to.is_over() {
        return Err(over(&to));
    }
    written?;
    let mut given = Given::default();
    for parameter in parameters(&said.query) {
        let (name, value) = parameter.map_err(|_| {
            wrong("the query is no UTF-8 once its percent signs are read".to_owned())
        })?;
        query(&mut to, rule, (&name, &value), said.lenient, &mut given)?;
    }
    for (fields, value) in rule.variables.iter().zip(&said.path) {
        put(&mut to, fields, leaf(fields, value)?)?;
    }
    if to.is_over() { Err(over(&to)) } else { Ok(to.bytes) }
}

/// Writes a body; one that is empty says nothing.
fn json(to: &mut Output, rule: &Rule, body: &[u8]) -> Result<(), Status> {
    let body = body.trim_ascii();
    if body.is_empty() || body == b"null" || matches!(rule.body, Inside::None) {
        return Ok(());
    }
    let mut from = serde_json::Deserializer::from_slice(body);
    let written = match &rule.body {
        Inside::Field(field) => encode::field(to, &Slot::field(field.clone()), &mut from),
        _ if body.first() != Some(&b'{') => {
            return Err(wrong("the body is no JSON object".to_owned()));
        }
        _ => encode::content(Content { to, message: &rule.call.input, depth: 0 }, &mut from),
    };
    written.and_then(|()| from.end()).map_err(|error| match error.is_data() {
        true => wrong(format!("the request does not fit: {}{error}", to.place())),
        false => wrong(format!("the body is no JSON: {error}")),
    })
}

/// The names and values of a query, decoded.
fn parameters(query: &str) -> impl Iterator<Item = Result<(String, String), FromUtf8Error>> {
    let decode = |text: &str| String::from_utf8(percent::decode(text.replace('+', " ").as_bytes()));
    query.split('&').filter(|part| !part.is_empty()).map(move |part| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        Ok((decode(name)?, decode(value)?))
    })
}

/// What a query has given.
#[derive(Default)]
struct Given {
    /// The fields that take one value, by the numbers that lead there.
    single: BTreeSet<Vec<u32>>,
    /// The oneofs, by the numbers that lead to them and their names, and which field was given.
    oneofs: BTreeMap<(Vec<u32>, String), u32>,
}

impl Given {
    /// Notes a field. What is given twice is refused: readers differ in which they take.
    fn take(&mut self, name: &str, fields: &[FieldDescriptor]) -> Result<(), Status> {
        let mut above = Vec::new();
        for field in fields {
            let oneof = field.containing_oneof().filter(|oneof| !oneof.is_synthetic());
            if let Some(oneof) = oneof {
                let key = (above.clone(), oneof.name().to_owned());
                if *self.oneofs.entry(key).or_insert(field.number()) != field.number() {
                    let of = oneof.name();
                    return Err(wrong(format!(
                        "`{name}` is one of `{of}`, of which another is given"
                    )));
                }
            }
            above.push(field.number());
        }
        let single = fields.last().is_some_and(|field| !field.is_list());
        if single && !self.single.insert(above) {
            return Err(wrong(format!("the query parameter `{name}` is given twice")));
        }
        Ok(())
    }
}

/// Writes one parameter as the field that it names.
fn query(
    to: &mut Output,
    rule: &Rule,
    (name, value): (&str, &str),
    lenient: bool,
    given: &mut Given,
) -> Result<(), Status> {
    let unknown = || wrong(format!("the query parameter `{name}` is no field of the request"));
    let fields = match field_path(&rule.call.input, name) {
        Ok(fields) => fields,
        Err(NoField::TooDeep) => {
            let most = format!("the query parameter is deeper than {LONGEST_PATH} names: `{name}`");
            return Err(wrong(most));
        }
        Err(NoField::Unknown) if lenient => return Ok(()),
        Err(NoField::Unknown) => return Err(unknown()),
    };
    let takes = match &rule.body {
        Inside::None => true,
        Inside::All => false,
        Inside::Field(body) => fields.first() != Some(body),
    };
    if !takes {
        return if lenient { Ok(()) } else { Err(unknown()) };
    }
    let value = leaf(&fields, value)?;
    given.take(name, &fields)?;
    put(to, &fields, value)
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
        Kind::Message(message) => match Known::of(&message) {
            Some(Known::Wrapper) if message.name() == "BoolValue" => boolean(),
            Some(Known::Timestamp | Known::Duration | Known::FieldMask | Known::Wrapper) => {
                Ok(text.into())
            }
            _ => Err(wrong(format!("`{}` is a message: name a field of it", field.name()))),
        },
        // Numbers may be written as text in this JSON.
        _ => Ok(text.into()),
    }
}

/// Writes a field that lies in others. A list gets one value more.
fn put(to: &mut Output, fields: &[FieldDescriptor], value: Value) -> Result<(), Status> {
    let Some((last, above)) = fields.split_last() else { return Ok(()) };
    let mut open = Vec::new();
    for field in above {
        let wire = if field.is_group() { GROUP } else { LEN };
        to.tag(field.number(), wire);
        open.push((field, if field.is_group() { None } else { Some(to.begin()) }));
    }
    let written = encode::one(to, &Slot::field(last.clone()), value);
    written.map_err(|error| {
        let names: Vec<_> = fields.iter().map(FieldDescriptor::name).collect();
        wrong(format!("the request does not fit: `{}`: {error}", names.join(".")))
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
