//! The collections that a command names in addition to its own: those of its pipeline, the target
//! of a rename, the rest of a `bulkWrite`.

use crate::{
    commands::{self, Command, NamespaceSource},
    element::{Element, Elements, elements, is_complete, kind},
    message_view::MessageView,
    pipeline,
};
use operation::AttributeValue;
use std::borrow::Cow;

/// How many are collected. A command with more counts as possibly using any.
const MAX_NAMESPACES: usize = 1000;

/// How deep the operations of an `applyOps` are read.
const DEPTH: usize = 32;

/// Collects the other collections that a command names.
struct NamespaceCollector<'b> {
    database: &'b str,
    found: Vec<Cow<'b, str>>,
    /// There may be more.
    incomplete: bool,
}

/// The other resources of a command of `database`.
pub(crate) fn other_namespaces<'b>(
    message: &MessageView<'b>,
    database: &'b str,
) -> AttributeValue<'b> {
    let Some((command, body)) = effective_command(message.body) else {
        return AttributeValue::Absent;
    };
    if !command.names_other_namespaces() {
        return AttributeValue::Absent;
    }
    // A pipeline may also be a sequence after the bytes that are here. No driver sends one so.
    let apart =
        message.sequence(b"pipeline").is_some() || message.truncated && !message.sections_located;
    let doubt = apart || !is_complete(body);
    let mut names = NamespaceCollector { database, found: Vec::new(), incomplete: doubt };
    names.read_command(command, body, message);
    match names {
        NamespaceCollector { incomplete: true, .. } if message.truncated => AttributeValue::Unread,
        NamespaceCollector { incomplete: true, .. } => AttributeValue::Unknown,
        NamespaceCollector { found, .. } if found.is_empty() => AttributeValue::Absent,
        NamespaceCollector { found, .. } => AttributeValue::Multiple(found),
    }
}

/// A command and its body: for `explain` those inside it.
fn effective_command(body: &[u8]) -> Option<(&'static Command, &[u8])> {
    let first = elements(body).next()?;
    let command = commands::find(first.name);
    if command.namespace_source != NamespaceSource::Explain || first.kind != kind::DOCUMENT {
        return Some((command, body));
    }
    let inner = elements(first.value).next()?;
    Some((commands::find(inner.name), first.value))
}

/// The namespaces of a `bulkWrite`, its first one first. `None` if not all of them can be read.
pub(crate) fn bulk_write_namespaces<'b>(
    message: &MessageView<'b>,
    body: &'b [u8],
) -> Option<Vec<&'b str>> {
    let inside = elements(body).find(|field| field.name == b"nsInfo");
    let read = |namespaces: &mut dyn Iterator<Item = Option<&'b str>>| {
        let all: Option<Vec<&'b str>> = namespaces.take(MAX_NAMESPACES + 1).collect();
        all.filter(|all| all.len() <= MAX_NAMESPACES && !all.is_empty())
    };
    match inside {
        Some(array) if array.kind == kind::ARRAY && is_complete(array.value) => {
            read(&mut elements(array.value).map(|info| namespace(info.value)))
        }
        Some(_) => None,
        None => {
            let documents = message.sequence(b"nsInfo").filter(|_| message.complete)?;
            read(&mut sequence_namespaces(documents))
        }
    }
}

/// The namespaces in the documents of the sequence `nsInfo`.
fn sequence_namespaces(mut documents: &[u8]) -> impl Iterator<Item = Option<&str>> {
    std::iter::from_fn(move || {
        let len = documents.first_chunk().map_or(0, |len| u32::from_le_bytes(*len) as usize);
        let whole = documents.split_at_checked(len).filter(|_| len >= 5);
        let (document, rest) = whole.unwrap_or((&[], &[]));
        let over = std::mem::replace(&mut documents, rest).is_empty();
        (!over).then(|| namespace(document))
    })
}

/// The `ns` of a document; `None` if it occurs twice, because servers differ in which one they use.
fn namespace(document: &[u8]) -> Option<&str> {
    let mut found = elements(document).filter(|field| field.name == b"ns");
    let first = found.next()?.name_text();
    first.filter(|_| found.next().is_none() && is_complete(document))
}

impl<'b> NamespaceCollector<'b> {
    fn read_command(&mut self, command: &Command, body: &'b [u8], message: &MessageView<'b>) {
        match command.name {
            "bulkWrite" => {
                let all = bulk_write_namespaces(message, body);
                self.incomplete |= all.is_none();
                for namespace in all.unwrap_or_default().into_iter().skip(1) {
                    self.add(namespace.into());
                }
            }
            // Each operation names its own namespace, at any depth.
            "applyOps" => {
                let whole =
                    elements(body).next().is_some_and(|ops| self.applied_operations(&ops, DEPTH));
                self.incomplete |= !whole;
            }
            _ => {
                for field in elements(body).skip(1) {
                    self.field(command, &field);
                }
            }
        }
    }

    /// A field of a command that may name a collection.
    fn field(&mut self, command: &Command, field: &Element<'b>) {
        match (command.name, field.name) {
            ("aggregate" | "create" | "collMod", b"pipeline") => self.pipeline(field),
            // An empty name means that it is no longer a view.
            ("create" | "collMod", b"viewOn") => self.collection(field),
            ("cloneCollectionAsCapped", b"toCollection") => self.collection(field),
            ("renameCollection", b"to") => self.full_namespace(field),
            ("mapReduce", b"out") => self.output(field),
            ("filemd5", b"root") => match field.name_text() {
                Some(root) => self.add(format!("{}.{root}.chunks", self.database).into()),
                None => self.incomplete = true,
            },
            _ => {}
        }
    }

    fn pipeline(&mut self, pipeline: &Element<'b>) {
        let whole = pipeline::each_operator(pipeline, &mut |operator| match operator.name {
            b"$lookup" | b"$graphLookup" => self.each_field(operator, b"from"),
            b"$unionWith" if operator.is_container() => self.each_field(operator, b"coll"),
            b"$merge" if operator.is_container() => self.each_field(operator, b"into"),
            b"$unionWith" | b"$merge" | b"$out" => self.target(operator),
            _ => {}
        });
        self.incomplete |= !whole;
    }

    /// Every field `name` of an operator. Without one it reads no collection, as a `$unionWith` of
    /// inline documents.
    fn each_field(&mut self, operator: &Element<'b>, name: &[u8]) {
        let fields = operator.elements().into_iter().flatten();
        fields.filter(|field| field.name == name).for_each(|field| self.target(&field));
    }

    /// A collection of the command's database, or `{db: …, coll: …}`.
    fn target(&mut self, target: &Element<'b>) {
        let Some(fields) = target.elements().filter(|_| target.kind == kind::DOCUMENT) else {
            return self.collection(target);
        };
        let placed = self.database_and_collection(fields, &[b"coll"]);
        self.incomplete |= !placed;
    }

    /// The output of a `mapReduce`: a collection, or `{replace: …, db: …}`.
    fn output(&mut self, out: &Element<'b>) {
        let Some(fields) = out.elements() else { return self.collection(out) };
        // Without a collection its results come back inline.
        self.database_and_collection(fields, &[b"replace", b"merge", b"reduce"]);
    }

    /// Adds the collection that these fields name under one of `keys`, in the database `db` if that
    /// is given. Returns whether there is one.
    fn database_and_collection(&mut self, fields: Elements<'b>, keys: &[&[u8]]) -> bool {
        let (mut database, mut collection) = (None, None);
        for field in fields {
            let place = match field.name {
                b"db" => &mut database,
                name if keys.contains(&name) => &mut collection,
                _ => continue,
            };
            self.incomplete |= place.is_some() || field.name_text().is_none();
            *place = field.name_text();
        }
        let Some(collection) = collection else { return false };
        let database = database.unwrap_or(self.database);
        self.add(format!("{database}.{collection}").into());
        true
    }

    /// The namespaces of operations in an `applyOps`. Returns whether all of them were read.
    fn applied_operations(&mut self, outer: &Element<'b>, depth: usize) -> bool {
        let (Some(depth), Some(mut fields)) = (depth.checked_sub(1), outer.elements()) else {
            return false;
        };
        let mut whole = true;
        for field in fields.by_ref() {
            if field.name == b"ns" {
                self.full_namespace(&field);
                if let Some(database) = field.name_text().and_then(|it| it.strip_suffix(".$cmd")) {
                    self.applied_command(outer, database);
                }
            }
            // The collection's UUID takes precedence over `ns`.
            self.incomplete |= field.name == b"ui";
            whole &= !field.is_container() || self.applied_operations(&field, depth);
        }
        whole && fields.is_complete()
    }

    /// A command in an `applyOps`: it names its collection as it does on its own.
    fn applied_command(&mut self, operation: &Element<'b>, database: &str) {
        for command in operation.elements().into_iter().flatten().filter(|it| it.name == b"o") {
            let Some(mut fields) = command.elements() else { return self.incomplete = true };
            let Some(first) = fields.next() else { return self.incomplete = true };
            let known = commands::find(first.name);
            match first.name_text() {
                Some(collection) if !known.names_other_namespaces() => {
                    self.add(format!("{database}.{collection}").into());
                }
                // Operations inside it are read on their own; other commands run on the database.
                None if known.namespace_source == NamespaceSource::Database => {}
                _ => self.incomplete = true,
            }
            self.incomplete |= fields.any(|field| field.name == first.name);
        }
    }

    fn collection(&mut self, field: &Element<'b>) {
        match field.name_text() {
            Some("") => {}
            Some(collection) => self.add(format!("{}.{collection}", self.database).into()),
            None => self.incomplete = true,
        }
    }

    /// A full `database.collection`.
    fn full_namespace(&mut self, field: &Element<'b>) {
        match field.name_text() {
            Some(namespace) => self.add(namespace.into()),
            None => self.incomplete = true,
        }
    }

    fn add(&mut self, namespace: Cow<'b, str>) {
        if self.found.len() < MAX_NAMESPACES {
            self.found.push(namespace);
        } else {
            self.incomplete = true;
        }
    }
}

#[cfg(test)]
mod tests;
