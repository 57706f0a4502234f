//! What is shown of a literal, by its context: a value of the application, a name, or a path.
//!
//! In an expression, a string that begins with `$` is a field or a variable, and in a stage such as
//! `$lookup` some strings are names (mongodb.com/docs, "Aggregation Stages"). Like keys, these are
//! part of the query. Every other string is a value, whatever it begins with.

use crate::element::{Element, kind};

/// What is shown of a literal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Literals {
    /// The name of its type.
    Types,
    /// The same, except -1, 0, 1 and booleans, which are directions of `sort` and flags of
    /// `projection`, and except paths.
    Directions,
    /// The name of its type, except for paths.
    Expression,
    /// An element of `updates` or `ops`, whose update may be a pipeline.
    Statement,
    /// The arguments of a stage or operator: its strings are names, also those under these keys;
    /// the others are expressions.
    Stage(&'static [&'static str]),
    /// A string itself: it is a name, and so are strings inside it.
    Names,
    /// The value itself, as relaxed Extended JSON if that is short.
    Values,
}

/// Stages and operators whose strings are names: directly, and under these keys.
const NAME_ARGUMENTS: [(&str, &[&str]); 18] = [
    ("$bucketAuto", &["granularity"]),
    ("$count", &[]),
    ("$densify", &["field", "partitionByFields"]),
    ("$fill", &["partitionByFields"]),
    ("$geoNear", &["distanceField", "includeLocs", "key"]),
    ("$getField", &["field"]),
    ("$graphLookup", &["from", "connectFromField", "connectToField", "as", "depthField"]),
    ("$lookup", &["from", "localField", "foreignField", "as"]),
    ("$merge", &["into", "on", "whenMatched", "whenNotMatched"]),
    ("$meta", &[]),
    ("$out", &["db", "coll", "timeseries"]),
    ("$setField", &["field"]),
    ("$sortByCount", &[]),
    ("$unionWith", &["coll"]),
    ("$unset", &[]),
    ("$unsetField", &["field"]),
    ("$unwind", &["path", "includeArrayIndex"]),
    ("$rename", &[]),
];

impl Literals {
    /// What is shown of the literals in a field of the command.
    pub(super) fn of_field(self, field: &Element<'_>) -> Self {
        match field.name {
            _ if self == Literals::Values => self,
            b"sort" | b"projection" | b"fields" => Literals::Directions,
            b"pipeline" => Literals::Expression,
            // The output of `mapReduce`, and the namespaces of `bulkWrite`.
            b"out" | b"nsInfo" => Literals::Names,
            b"updates" | b"ops" => Literals::Statement,
            b"update" if field.kind == kind::ARRAY => Literals::Expression,
            _ => self,
        }
    }

    /// What is shown of the literals in an element of a document in this context.
    pub(super) fn under(self, element: &Element<'_>) -> Self {
        let name = element.name;
        match (self, name) {
            // The server's field for a password: never shown.
            (_, b"pwd") => Literals::Types,
            (Literals::Values, _) => self,
            (_, b"$expr") => Literals::Expression,
            (Literals::Names, _) => self,
            (Literals::Statement, b"u" | b"updateMods") if element.kind == kind::ARRAY => {
                Literals::Expression
            }
            (Literals::Types | Literals::Statement, b"$rename") => Literals::Names,
            (Literals::Types | Literals::Statement, _) => Literals::Types,
            (Literals::Stage(names), _) if names.iter().any(|it| it.as_bytes() == name) => {
                // A pipeline is allowed instead of a name.
                let pipeline = name == b"whenMatched" && element.kind == kind::ARRAY;
                if pipeline { Literals::Expression } else { Literals::Names }
            }
            (
                _,
                b"$match"
                | b"$literal"
                | b"$elemMatch"
                | b"$search"
                | b"$searchMeta"
                | b"$vectorSearch"
                | b"restrictSearchWithMatch",
            ) => Literals::Types,
            (Literals::Stage(names), b"query") if names.contains(&"distanceField") => {
                Literals::Types
            }
            (_, b"$sort" | b"$project" | b"sortBy") => Literals::Directions,
            (Literals::Directions, _) if !name.starts_with(b"$") => self,
            _ => {
                let named = NAME_ARGUMENTS.iter().find(|(stage, _)| stage.as_bytes() == name);
                named.map_or(Literals::Expression, |(_, names)| Literals::Stage(names))
            }
        }
    }

    /// Whether a string is shown as it is.
    pub(super) fn shows(self, text: &str) -> bool {
        match self {
            Literals::Types | Literals::Statement => false,
            Literals::Directions | Literals::Expression => text.starts_with('$'),
            Literals::Stage(_) | Literals::Names | Literals::Values => true,
        }
    }
}
