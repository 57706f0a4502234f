//! What a message can hold: a field or an extension, and the well-known types that have a JSON form
//! of their own (protobuf, "ProtoJSON Format").

use prost_reflect::{
    EnumDescriptor, ExtensionDescriptor, FieldDescriptor, Kind, MessageDescriptor, OneofDescriptor,
};

/// How deep messages may lie within one another, in levels. Decoders of protobuf stop there too.
pub(crate) const DEPTH: usize = 100;
/// How many levels an `Any` counts as: what it holds is read a second time to find its type.
pub(crate) const ANY_DEPTH: usize = 10;

/// A field or an extension.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    of: Of,
    pub(crate) number: u32,
    pub(crate) kind: Kind,
    pub(crate) list: bool,
    pub(crate) map: bool,
    pub(crate) packed: bool,
    pub(crate) group: bool,
    /// It can be told apart whether it has its default or is not there.
    pub(crate) presence: bool,
    pub(crate) oneof: Option<OneofDescriptor>,
}

#[derive(Clone, Debug)]
enum Of {
    Field(FieldDescriptor),
    Extension(ExtensionDescriptor),
}

impl Slot {
    pub(crate) fn field(field: FieldDescriptor) -> Self {
        Self {
            number: field.number(),
            kind: field.kind(),
            list: field.is_list(),
            map: field.is_map(),
            packed: field.is_packed(),
            group: field.is_group(),
            presence: field.supports_presence(),
            oneof: field.containing_oneof().filter(|oneof| !oneof.is_synthetic()),
            of: Of::Field(field),
        }
    }

    fn extension(extension: ExtensionDescriptor) -> Self {
        Self {
            number: extension.number(),
            kind: extension.kind(),
            list: extension.is_list(),
            map: extension.is_map(),
            packed: extension.is_packed(),
            group: extension.is_group(),
            presence: extension.supports_presence(),
            oneof: None,
            of: Of::Extension(extension),
        }
    }

    /// The one that JSON calls by this name; fields have two.
    pub(crate) fn named(message: &MessageDescriptor, name: &str) -> Option<Self> {
        let field = message.get_field_by_json_name(name);
        match field.or_else(|| message.get_field_by_name(name)) {
            Some(field) => Some(Self::field(field)),
            None => message.get_extension_by_json_name(name).map(Self::extension),
        }
    }

    /// The one with this number.
    pub(crate) fn numbered(message: &MessageDescriptor, number: u32) -> Option<Self> {
        match message.get_field(number) {
            Some(field) => Some(Self::field(field)),
            None => message.get_extension(number).map(Self::extension),
        }
    }

    /// What JSON calls it.
    pub(crate) fn name(&self, proto_names: bool) -> &str {
        match &self.of {
            Of::Field(field) if proto_names => field.name(),
            Of::Field(field) => field.json_name(),
            Of::Extension(extension) => extension.json_name(),
        }
    }
}

/// A type with a JSON form of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    Any,
    Timestamp,
    Duration,
    FieldMask,
    Struct,
    List,
    Value,
    Empty,
    /// `StringValue` and its like: written as what it wraps.
    Wrapper,
}

impl Known {
    pub(crate) fn of(message: &MessageDescriptor) -> Option<Self> {
        Some(match message.full_name().strip_prefix("google.protobuf.")? {
            "Any" => Known::Any,
            "Timestamp" => Known::Timestamp,
            "Duration" => Known::Duration,
            "FieldMask" => Known::FieldMask,
            "Struct" => Known::Struct,
            "ListValue" => Known::List,
            "Value" => Known::Value,
            "Empty" => Known::Empty,
            "FloatValue" | "DoubleValue" | "Int32Value" | "Int64Value" | "UInt32Value"
            | "UInt64Value" | "BoolValue" | "StringValue" | "BytesValue" => Known::Wrapper,
            _ => return None,
        })
    }
}

/// Whether it is the enum that JSON writes as null.
pub(crate) fn is_null(of: &EnumDescriptor) -> bool {
    of.full_name() == "google.protobuf.NullValue"
}

/// The name of the type that an `Any`'s URL ends with.
///
/// # Errors
/// It is no such URL.
pub(crate) fn type_name(url: &str) -> Result<&str, String> {
    let name = url.rsplit_once('/').map(|(_, name)| name);
    name.ok_or_else(|| "an `@type` has no `/`: it is `type.googleapis.com/package.Message`".into())
}
