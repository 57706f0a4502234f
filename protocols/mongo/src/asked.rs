//! What a request asks for: its command, what that is about, and what its reply will mean.

use crate::{
    commands::{self, Command, OTHER, Role, Target},
    comment,
    element::{Element, complete, elements, kind},
    header::{Header, flag, opcode},
    message::Message,
};
use operation::Violation;

/// The longest resource that is kept, in bytes; the server's own limit for a namespace is 255.
const RESOURCE: usize = 320;

/// Stands for what could not be read; see [`operation::Operation::resource`].
pub(crate) const UNREAD: &str = "?";

/// What a request asks for. What it is about is written to a string beside it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) command: &'static Command,
    /// The name that is reported; a legacy message may have one that is no command.
    pub(crate) name: &'static str,
    pub(crate) role: Role,
    /// No reply will come.
    pub(crate) silent: bool,
    /// The reply comes when something happens, and not before (specifications,
    /// server-discovery-and-monitoring, "Streaming protocol"; or a tailing cursor).
    pub(crate) awaits: bool,
    /// The cursor that the reply brings will tail: its `getMore`s await.
    pub(crate) tails: bool,
    /// The cursor that a `getMore` goes on with.
    pub(crate) cursor: i64,
    /// It carries a comment.
    pub(crate) commented: bool,
    /// Nothing of it may be shown.
    pub(crate) secret: bool,
    /// A good answer says that what it is about exists.
    pub(crate) confirmable: bool,
    pub(crate) violation: Option<Violation>,
}

impl Asked {
    /// A request that can't be read.
    pub(crate) fn unreadable(header: Header, violation: Option<Violation>) -> Self {
        Self { violation, ..Self::bare(&OTHER, header) }
    }

    fn bare(command: &'static Command, header: Header) -> Self {
        Self {
            command,
            name: command.name,
            role: command.role,
            silent: matches!(
                header.opcode,
                opcode::INSERT | opcode::UPDATE | opcode::DELETE | opcode::KILL_CURSORS
            ),
            awaits: false,
            tails: false,
            cursor: 0,
            commented: false,
            secret: command.secret,
            confirmable: true,
            violation: None,
        }
    }

    /// Reads the front of a request, and writes what it is about over `resource`.
    pub(crate) fn read(message: &Message<'_>, resource: &mut String) -> Self {
        resource.clear();
        match message.header.opcode {
            opcode::MSG => Self::message(message, resource),
            opcode::QUERY if message.legacy_command() => {
                let namespace = String::from_utf8_lossy(message.namespace);
                let database = namespace.strip_suffix(".$cmd");
                let asked = Self::command(message, database, resource);
                let commented = asked.commented || message.wrapper().any(comment::is_comment);
                Self { commented, ..asked }
            }
            code => {
                // Of a stranger nobody knows what it names.
                match message.namespace {
                    [] => resource.push_str(UNREAD),
                    _ if !opcode::has_namespace(code) => resource.push_str(UNREAD),
                    namespace => put(resource, &String::from_utf8_lossy(namespace)),
                }
                Self::legacy(code, message)
            }
        }
    }

    fn message(message: &Message<'_>, resource: &mut String) -> Self {
        let silent = message.flags & flag::MORE_TO_COME != 0;
        if message.body.is_empty() {
            // The body comes after more than is looked at: the sequence tells the command.
            let carried = [("documents", "insert"), ("updates", "update"), ("deletes", "delete")];
            let command = carried
                .iter()
                .chain(&[("ops", "bulkWrite"), ("nsInfo", "bulkWrite")])
                .find(|(identifier, _)| message.sequence(identifier.as_bytes()).is_some())
                .map_or(&OTHER, |(_, command)| commands::find(command.as_bytes()));
            let violation = message.whole.then_some(Violation("no_body"));
            resource.push_str(UNREAD);
            return Self { silent, violation, ..Self::bare(command, message.header) };
        }
        Self { silent, ..Self::command(message, None, resource) }
    }

    /// Reads a command: the first element names it (specifications, message/OP_MSG).
    fn command(message: &Message<'_>, database: Option<&str>, resource: &mut String) -> Self {
        let mut fields = elements(message.body);
        let Some(first) = fields.next() else {
            let violation = message.whole.then_some(Violation("no_command"));
            resource.push_str(UNREAD);
            return Self::unreadable(message.header, violation);
        };
        let command = commands::find(first.name);
        let mut asked = Self::bare(command, message.header);
        let mut database = database;
        let mut collection = Subject::of(command, &first);
        let (mut tailable, mut await_data, mut version, mut limit) = (false, false, false, false);
        for field in fields {
            match field.name {
                b"$db" if message.namespace.is_empty() => {
                    // Which of two counts is the server's to say.
                    let another = database.is_some() && database != field.text();
                    database = if another { Some(UNREAD) } else { field.text() };
                }
                b"collection" if command.target == Target::GetMore => {
                    collection = Subject::Collection(field);
                }
                b"nsInfo" if command.target == Target::Bulk => {
                    collection = Subject::Whole(only(namespaces(&field)));
                }
                b"tailable" => tailable = field.number() == Some(1),
                b"awaitData" => await_data = field.number() == Some(1),
                b"pipeline" => asked.tails |= watches(&field),
                b"topologyVersion" => version = true,
                b"maxAwaitTimeMS" => limit = true,
                b"speculativeAuthenticate" => asked.secret = true,
                b"comment" | b"$comment" => asked.commented = true,
                _ => {}
            }
        }
        match command.role {
            Role::Cursor => asked.tails |= tailable && await_data,
            Role::GetMore => asked.cursor = first.number().unwrap_or_default(),
            Role::Hello => asked.awaits = version && limit,
            Role::Bulk => {
                if let Some(documents) = message.sequence(b"nsInfo").filter(|_| message.whole) {
                    collection = Subject::Whole(only(sequence(documents)));
                }
            }
            _ => {}
        }
        asked.tails &= command.role == Role::Cursor;
        asked.confirmable = !command.answers_anybody() || database.is_some_and(known_to_all);
        collection.write(database, resource);
        asked
    }

    /// The operations that were opcodes of their own, until MongoDB 5.1.
    fn legacy(code: i32, message: &Message<'_>) -> Self {
        let word: &[u8] = match code {
            opcode::INSERT => b"insert",
            opcode::UPDATE => b"update",
            opcode::DELETE => b"delete",
            opcode::KILL_CURSORS => b"killCursors",
            opcode::GET_MORE => b"getMore",
            _ => b"",
        };
        let asked = Self::bare(commands::find(word), message.header);
        let commented = || {
            elements(message.body).any(comment::is_comment)
                || message.wrapper().any(comment::is_comment)
        };
        match code {
            opcode::QUERY => {
                Self { name: "query", role: Role::Query, commented: commented(), ..asked }
            }
            opcode::GET_MORE => Self { role: Role::Query, ..asked },
            opcode::INSERT | opcode::UPDATE | opcode::DELETE | opcode::KILL_CURSORS => asked,
            // No reply is known to come for a stranger, save for the server's own old commands.
            _ => Self { silent: code != opcode::COMMAND, ..asked },
        }
    }
}

/// What a command is about.
#[derive(Clone, Copy)]
enum Subject<'b> {
    Database,
    Collection(Element<'b>),
    Whole(&'b str),
}

impl<'b> Subject<'b> {
    fn of(command: &Command, first: &Element<'b>) -> Self {
        match command.target {
            Target::Collection if first.kind == kind::STRING => Subject::Collection(*first),
            // Named by its namespaces, wherever they are.
            Target::Bulk => Subject::Whole(UNREAD),
            Target::Namespace => first.text().map_or(Subject::Database, Subject::Whole),
            Target::Explain => {
                let inner = first.elements().and_then(|mut inner| inner.next());
                let known = inner.map(|inner| (commands::find(inner.name), inner));
                match known {
                    // Once is enough: the server explains no explanations.
                    Some((command, inner)) if command.target != Target::Explain => {
                        Subject::of(command, &inner)
                    }
                    _ => Subject::Database,
                }
            }
            _ => Subject::Database,
        }
    }

    fn write(self, database: Option<&str>, resource: &mut String) {
        match self {
            Subject::Whole(name) => put(resource, name),
            Subject::Database => put(resource, database.unwrap_or(UNREAD)),
            Subject::Collection(element) => {
                put(resource, database.unwrap_or(UNREAD));
                resource.push('.');
                put(resource, element.text().unwrap_or(UNREAD));
            }
        }
    }
}

/// Whether every server has this database, so that naming it invents nothing.
fn known_to_all(database: &str) -> bool {
    matches!(database, "admin" | "$external" | "local" | "config")
}

/// Appends a name, cut where none can go on.
fn put(resource: &mut String, name: &str) {
    let room = RESOURCE.saturating_sub(resource.len());
    resource.push_str(if name.len() <= room { name } else { comment::cut(name, room) });
}

/// Whether a pipeline begins with `$changeStream`: its cursor waits for what is to come.
fn watches(pipeline: &Element<'_>) -> bool {
    let stage = pipeline.elements().and_then(|mut stages| stages.next());
    let operator = stage.and_then(|stage| stage.elements()).and_then(|mut stage| stage.next());
    operator.is_some_and(|operator| operator.name == b"$changeStream")
}

/// What a `bulkWrite` is about: its one namespace. Of several, no name would be all.
fn only<'b>(mut namespaces: impl Iterator<Item = Option<&'b str>>) -> &'b str {
    let first = namespaces.next().flatten();
    first.filter(|first| namespaces.all(|other| other == Some(*first))).unwrap_or(UNREAD)
}

/// The namespaces in the array `nsInfo`.
fn namespaces<'b>(array: &Element<'b>) -> impl Iterator<Item = Option<&'b str>> {
    let here = complete(array.value);
    elements(array.value).map(move |info| namespace(info.value).filter(|_| here))
}

/// The namespaces in the sequence `nsInfo`, document after document.
fn sequence(mut documents: &[u8]) -> impl Iterator<Item = Option<&str>> {
    std::iter::from_fn(move || {
        let len = documents.first_chunk().map_or(0, |len| u32::from_le_bytes(*len) as usize);
        let whole = documents.split_at_checked(len).filter(|_| len >= 5);
        let (document, rest) = whole.unwrap_or((&[], &[]));
        let over = std::mem::replace(&mut documents, rest).is_empty();
        (!over).then(|| namespace(document))
    })
}

/// The `ns` of a document.
fn namespace(document: &[u8]) -> Option<&str> {
    elements(document).find(|field| field.name == b"ns")?.text()
}

#[cfg(test)]
mod tests;
