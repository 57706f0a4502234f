//! Message fields and extensions, and the well-known types with a special JSON form (protobuf,
//! "ProtoJSON Format").

use prost_reflect::{
    EnumDescriptor, ExtensionDescriptor, FieldDescriptor, Kind, MessageDescriptor, OneofDescriptor,
};

/// Maximum message nesting, in levels. Protobuf decoders use the same limit.
pub(crate) const MAX_DEPTH: usize = 100;
/// Levels that an `Any` counts as: its content is read twice to find its type.
pub(crate) const ANY_DEPTH: usize = 10;

/// A field or an extension.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    of: FieldKind,
    pub(crate) number: u32,
    pub(crate) kind: Kind,
    pub(crate) list: bool,
    pub(crate) map: bool,
    pub(crate) packed: bool,
    pub(crate) group: bool,
    /// Whether the field tracks presence: a default value differs from an absent field.
    pub(crate) presence: bool,
    pub(crate) oneof: Option<OneofDescriptor>,
}

#[derive(Clone, Debug)]
enum FieldKind {
    Field(FieldDescriptor),
    Extension(ExtensionDescriptor),
}

impl Field {
    pub(crate) fn of_field(field: FieldDescriptor) -> Self {
        Self {
            number: field.number(),
            kind: field.kind(),
            list: field.is_list(),
            map: field.is_map(),
            packed: field.is_packed(),
            group: field.is_group(),
            presence: field.supports_presence(),
            oneof: field.containing_oneof().filter(|oneof| !oneof.is_synthetic()),
            of: FieldKind::Field(field),
        }
    }

    fn of_extension(extension: ExtensionDescriptor) -> Self {
        Self {
            number: extension.number(),
            kind: extension.kind(),
            list: extension.is_list(),
            map: extension.is_map(),
            packed: extension.is_packed(),
            group: extension.is_group(),
            presence: extension.supports_presence(),
            oneof: None,
            of: FieldKind::Extension(extension),
        }
    }

    /// Finds a field by its JSON name or its `.proto` name.
    pub(crate) fn named(message: &MessageDescriptor, name: &str) -> Option<Self> {
        let field = message.get_field_by_json_name(name);
        match field.or_else(|| message.get_field_by_name(name)) {
            Some(field) => Some(Self::of_field(field)),
            None => message.get_extension_by_json_name(name).map(Self::of_extension),
        }
    }

    /// Finds a field by number.
    pub(crate) fn numbered(message: &MessageDescriptor, number: u32) -> Option<Self> {
        match message.get_field(number) {
            Some(field) => Some(Self::of_field(field)),
            None => message.get_extension(number).map(Self::of_extension),
        }
    }

    /// Its name in JSON.
    pub(crate) fn name(&self, proto_names: bool) -> &str {
        match &self.of {
            FieldKind::Field(field) if proto_names => field.name(),
            FieldKind::Field(field) => field.json_name(),
            FieldKind::Extension(extension) => extension.json_name(),
        }
    }
}

/// A type with a special JSON form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WellKnown {
    Any,
    Timestamp,
    Duration,
    FieldMask,
    Struct,
    List,
    Value,
    Empty,
    /// `StringValue` and similar: written as the wrapped value.
    Wrapper,
}

impl WellKnown {
    pub(crate) fn of(message: &MessageDescriptor) -> Option<Self> {
        Some(match message.full_name().strip_prefix("google.protobuf.")? {
            "Any" => WellKnown::Any,
            "Timestamp" => WellKnown::Timestamp,
            "Duration" => WellKnown::Duration,
            "FieldMask" => WellKnown::FieldMask,
            "Struct" => WellKnown::Struct,
            "ListValue" => WellKnown::List,
            "Value" => WellKnown::Value,
            "Empty" => WellKnown::Empty,
            "FloatValue" | "DoubleValue" | "Int32Value" | "Int64Value" | "UInt32Value"
            | "UInt64Value" | "BoolValue" | "StringValue" | "BytesValue" => WellKnown::Wrapper,
            _ => return None,
        })
    }
}

/// Whether this is `NullValue`, which JSON writes as null.
pub(crate) fn is_null(of: &EnumDescriptor) -> bool {
    of.full_name() == "google.protobuf.NullValue"
}

/// The type name at the end of an `Any`'s URL.
///
/// # Errors
/// The URL has no `/`.
pub(crate) fn type_name(url: &str) -> Result<&str, String> {
    let name = url.rsplit_once('/').map(|(_, name)| name);
    name.ok_or_else(|| "an `@type` has no `/`: it is `type.googleapis.com/package.Message`".into())
}
