//! The command of a request: its name, its namespace, and what its reply is read for.

use crate::{
    commands::{self, Command, NamespaceSource, OTHER, ReplyKind, UNREAD_COMMAND},
    comment,
    element::{Element, elements, has_duplicates, is_complete, kind},
    header::{Header, flag, opcode},
    message_view::MessageView,
    namespaces,
    violations::{
        DUPLICATE_FIELD, MISPLACED_QUERY, NO_BODY, NO_COMMAND, TOO_MANY_FIELDS, UNKNOWN_SECTION,
    },
};
use operation::Violation;

/// The longest resource that is kept, in bytes; the server's limit for a namespace is 255.
const MAX_RESOURCE_LEN: usize = 320;

/// Stands for a name that could not be read; see [`operation::Operation::resource`].
pub(crate) const UNREAD: &str = "?";

/// How many fields a command may have. Drivers send less than a tenth of this.
const MAX_FIELDS: usize = 256;

/// A parsed request. Its namespace is written to a string of the caller.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ParsedCommand {
    pub(crate) command: &'static Command,
    /// The reported name: that of the command, also for the legacy opcode that preceded it.
    pub(crate) name: &'static str,
    pub(crate) reply_kind: ReplyKind,
    /// The server sends no reply.
    pub(crate) unacknowledged: bool,
    /// The reply is sent when an event occurs (specifications, server-discovery-and-monitoring,
    /// "Streaming protocol"; or a tailable cursor).
    pub(crate) long_poll: bool,
    /// The cursor that the reply opens is tailable: its `getMore`s are long polls.
    pub(crate) tailable: bool,
    /// The cursor that a `getMore` continues.
    pub(crate) cursor_id: i64,
    /// It has a `$readPreference`.
    pub(crate) has_read_preference: bool,
    /// It belongs to a transaction.
    pub(crate) in_transaction: bool,
    /// It has a comment, or may have one.
    pub(crate) has_comment: bool,
    /// It has a `maxTimeMS`, as far as it was read.
    pub(crate) has_time_limit: bool,
    /// Nothing of it may be shown.
    pub(crate) sensitive: bool,
    /// A successful reply shows that the namespace exists.
    pub(crate) confirms_names: bool,
    /// More bytes of the request follow the front, and may contain further facts.
    pub(crate) partial: bool,
    pub(crate) violation: Option<Violation>,
}

impl ParsedCommand {
    /// A request that cannot be read.
    pub(crate) fn unreadable(header: Header, violation: Option<Violation>) -> Self {
        Self { violation, ..Self::new(&OTHER, header) }
    }

    fn new(command: &'static Command, header: Header) -> Self {
        Self {
            command,
            name: command.name,
            reply_kind: command.reply_kind,
            unacknowledged: matches!(
                header.opcode,
                opcode::INSERT | opcode::UPDATE | opcode::DELETE | opcode::KILL_CURSORS
            ),
            long_poll: false,
            tailable: false,
            cursor_id: 0,
            has_read_preference: false,
            in_transaction: false,
            has_comment: false,
            has_time_limit: false,
            sensitive: command.sensitive,
            confirms_names: true,
            partial: false,
            violation: None,
        }
    }

    /// A request whose command has not been read; `missing` is the violation if all of it is here.
    fn without_command(
        message: &MessageView<'_>,
        missing: Violation,
        resource: &mut String,
    ) -> Self {
        resource.push_str(UNREAD);
        if !message.truncated {
            let violation = if message.has_unknown_section { UNKNOWN_SECTION } else { missing };
            return Self::unreadable(message.header, Some(violation));
        }
        // It may have a comment, or be sensitive.
        let unread = Self::new(&UNREAD_COMMAND, message.header);
        Self { has_comment: true, partial: true, ..unread }
    }

    /// The name by which the shape of its query is read: the body of a legacy query is its filter.
    pub(crate) fn shape_name(&self) -> &'static str {
        if self.reply_kind == ReplyKind::Query { "query" } else { self.name }
    }

    /// Whether it carries documents that are counted, or may carry some.
    pub(crate) fn counts_documents(&self) -> bool {
        self.command.carries_documents() || self.name == UNREAD
    }

    /// Parses the front of a request, and replaces `resource` with its namespace.
    pub(crate) fn parse(message: &MessageView<'_>, resource: &mut String) -> Self {
        resource.clear();
        match message.header.opcode {
            opcode::MSG => {
                let asked = match message.body {
                    [] => Self::without_command(message, NO_BODY, resource),
                    _ => Self::parse_command(message, None, resource),
                };
                Self { unacknowledged: message.flags & flag::MORE_TO_COME != 0, ..asked }
            }
            // A wrapped command may be anywhere, and occur twice; current drivers send only `hello`
            // this way.
            opcode::QUERY if message.legacy_command() && message.truncated => {
                Self::without_command(message, NO_COMMAND, resource)
            }
            opcode::QUERY if message.legacy_command() => {
                let namespace = String::from_utf8_lossy(message.namespace);
                let database = namespace.strip_suffix(".$cmd");
                let asked = Self::parse_command(message, database, resource);
                let commented =
                    asked.has_comment || message.query_fields().any(comment::is_comment);
                // Some servers run the wrapped command, others the one around it.
                let around = message.has_misplaced_query();
                let violation = asked.violation.or(around.then_some(MISPLACED_QUERY));
                Self { has_comment: commented, violation, ..asked }
            }
            code => {
                // The namespace of an unknown opcode cannot be found.
                match message.namespace {
                    [] => resource.push_str(UNREAD),
                    _ if !opcode::has_namespace(code) => resource.push_str(UNREAD),
                    namespace => append_bounded(resource, &String::from_utf8_lossy(namespace)),
                }
                Self::parse_legacy(code, message)
            }
        }
    }

    /// Parses a command: its first element is its name (specifications, message/OP_MSG).
    fn parse_command(
        message: &MessageView<'_>,
        database: Option<&str>,
        resource: &mut String,
    ) -> Self {
        let mut fields = elements(message.body);
        let Some(first) = fields.next() else {
            return Self::without_command(message, NO_COMMAND, resource);
        };
        let command = commands::find(first.name);
        let mut asked = Self::new(command, message.header);
        let inner = ExplainedCommand::read(command, &first);
        let mut database = inner.database.or(database);
        let mut collection = Namespace::of(command, &first);
        let mut known = DuplicateFields::default();
        let [mut tailable, mut await_data, mut version, mut limit] = [false; 4];
        let mut twice = message.has_duplicate_section
            | known.is_duplicate(message, &first)
            | inner.has_duplicate_field;
        asked.has_comment |= inner.has_comment;
        for field in fields.by_ref() {
            twice |= known.is_duplicate(message, &field);
            match field.name {
                b"$db" => {
                    // Servers differ in which of two databases they use; the second may also be in
                    // the namespace of an `OP_QUERY`, or in an explained command.
                    let another = database.is_some() && database != field.name_text();
                    database = if another { Some(UNREAD) } else { field.name_text() };
                }
                b"collection" if command.namespace_source == NamespaceSource::GetMore => {
                    collection = Namespace::Collection(field);
                }
                b"tailable" => tailable = field.number() == Some(1),
                b"awaitData" => await_data = field.number() == Some(1),
                b"pipeline" => asked.tailable |= opens_change_stream(&field),
                b"$readPreference" | b"autocommit" => asked.note_placement(&field),
                b"topologyVersion" => version = true,
                b"maxAwaitTimeMS" => limit = true,
                b"speculativeAuthenticate" => asked.sensitive = true,
                b"comment" | b"$comment" => asked.has_comment = true,
                b"maxTimeMS" => asked.has_time_limit = true,
                _ => {}
            }
        }
        asked.violation = known.violation(message, twice);
        asked.partial = message.truncated && !(message.sections_located && fields.is_complete());
        match command.reply_kind {
            ReplyKind::Cursor => asked.tailable |= tailable && await_data,
            ReplyKind::GetMore => asked.cursor_id = first.number().unwrap_or_default(),
            ReplyKind::Hello => asked.long_poll = version && limit,
            ReplyKind::Bulk => {
                let all = namespaces::bulk_write_namespaces(message, message.body);
                asked.partial |= all.is_none() && message.truncated;
                collection = all
                    .and_then(|all| all.first().map(|it| Namespace::Full(it)))
                    .unwrap_or(collection);
            }
            _ => {}
        }
        // What follows may be a comment.
        asked.has_comment |= asked.partial;
        asked.tailable &= command.reply_kind == ReplyKind::Cursor;
        asked.confirms_names = !command.pre_auth || database.is_some_and(is_builtin_database);
        collection.write(database, resource);
        asked
    }

    /// Records that a field decides where the request may go.
    fn note_placement(&mut self, field: &Element<'_>) {
        self.has_read_preference |= field.name == b"$readPreference";
        // Drivers send it with every command of a transaction, and only there.
        self.in_transaction |= field.name == b"autocommit";
    }

    /// The operations that had opcodes of their own until MongoDB 5.1.
    fn parse_legacy(code: i32, message: &MessageView<'_>) -> Self {
        let word: &[u8] = match code {
            opcode::INSERT => b"insert",
            opcode::UPDATE => b"update",
            opcode::DELETE => b"delete",
            opcode::KILL_CURSORS => b"killCursors",
            opcode::GET_MORE => b"getMore",
            // `$cmd.sys.killop` and similar namespaces were commands in old servers.
            opcode::QUERY if !is_pseudo_command(message.namespace) => b"find",
            _ => b"",
        };
        let command = match code {
            // `OP_COMMAND` of MongoDB 3.2 to 4.0 contains a command, which is not read.
            opcode::COMMAND => &UNREAD_COMMAND,
            _ => commands::find(word),
        };
        let asked = Self::new(command, message.header);
        let commented = || {
            elements(message.body).any(comment::is_comment)
                || message.query_fields().any(comment::is_comment)
        };
        match code {
            opcode::QUERY => {
                Self { reply_kind: ReplyKind::Query, has_comment: commented(), ..asked }
            }
            opcode::GET_MORE => Self { reply_kind: ReplyKind::Query, ..asked },
            opcode::INSERT | opcode::UPDATE | opcode::DELETE | opcode::KILL_CURSORS => asked,
            // Only the server's own old commands are known to be answered, not an unknown opcode.
            _ => Self { unacknowledged: code != opcode::COMMAND, ..asked },
        }
    }
}

/// The first field of a request: enough to know whether the request may be shown.
pub(crate) struct CommandHead {
    /// Not enough of the request was read to find its command.
    pub(crate) unread: bool,
    pub(crate) reply_kind: ReplyKind,
    /// See [`ParsedCommand::sensitive`].
    pub(crate) sensitive: bool,
    /// See [`ParsedCommand::cursor_id`].
    pub(crate) cursor_id: i64,
}

impl CommandHead {
    /// Reads the first field of a request, and all fields of a `hello`.
    pub(crate) fn read(message: &MessageView<'_>) -> Self {
        let unread =
            Self { unread: true, reply_kind: ReplyKind::Plain, sensitive: true, cursor_id: 0 };
        let first = match message.header.opcode {
            opcode::MSG => elements(message.body).next(),
            opcode::COMMAND => return unread,
            opcode::QUERY if message.legacy_command() && message.truncated => return unread,
            opcode::QUERY if message.legacy_command() => elements(message.body).next(),
            opcode::QUERY | opcode::GET_MORE => {
                return Self {
                    unread: false,
                    reply_kind: ReplyKind::Query,
                    sensitive: false,
                    cursor_id: 0,
                };
            }
            _ => {
                return Self {
                    unread: false,
                    reply_kind: ReplyKind::Plain,
                    sensitive: false,
                    cursor_id: 0,
                };
            }
        };
        let Some(first) = first else { return Self { unread: message.truncated, ..unread } };
        let Command { reply_kind: role, sensitive: secret, .. } = *commands::find(first.name);
        let logs_in = |field: Element<'_>| field.name == b"speculativeAuthenticate";
        let secret = secret || role == ReplyKind::Hello && elements(message.body).any(logs_in);
        let cursor =
            if role == ReplyKind::GetMore { first.number().unwrap_or_default() } else { 0 };
        Self { unread: false, reply_kind: role, sensitive: secret, cursor_id: cursor }
    }
}

/// Detects a field that occurs twice in a command.
#[derive(Default)]
struct DuplicateFields {
    /// One bit for a hash of each name. If two names share a bit, they are compared.
    seen: u64,
    count: usize,
}

impl DuplicateFields {
    /// Records the next field of a message's body. Returns whether it occurred before, or is the
    /// identifier of a sequence.
    fn is_duplicate(&mut self, message: &MessageView<'_>, field: &Element<'_>) -> bool {
        let before = self.count;
        self.count += 1;
        let [.., last] = field.name else { return message.has_sequence_named(field.name) };
        let first = field.name.first().copied().unwrap_or_default();
        let mix = usize::from(first) * 7 + usize::from(*last) * 3 + field.name.len();
        let bit = 1_u64 << (mix % 64);
        let shared = self.seen & bit != 0 && before < MAX_FIELDS;
        self.seen |= bit;
        let same = |earlier: Element<'_>| earlier.name == field.name;
        shared && elements(message.body).take(before).any(same)
            || message.has_sequence_named(field.name)
    }

    /// The violation of a command with these fields; `twice`: one of them occurs twice.
    fn violation(&self, message: &MessageView<'_>, twice: bool) -> Option<Violation> {
        match () {
            () if self.count > MAX_FIELDS => Some(TOO_MANY_FIELDS),
            () if twice => Some(DUPLICATE_FIELD),
            () => message.has_unknown_section.then_some(UNKNOWN_SECTION),
        }
    }
}

/// What the command inside an `explain` adds; empty for other commands.
struct ExplainedCommand<'b> {
    /// A field occurs twice.
    has_duplicate_field: bool,
    has_comment: bool,
    database: Option<&'b str>,
}

impl<'b> ExplainedCommand<'b> {
    fn read(command: &Command, first: &Element<'b>) -> Self {
        let explains =
            command.namespace_source == NamespaceSource::Explain && first.kind == kind::DOCUMENT;
        let inner = if explains { first.value } else { &[] };
        let (mut names, mut database, mut commented) = (Vec::new(), None, false);
        for field in elements(inner).take(MAX_FIELDS + 1) {
            names.push(field.name);
            commented |= comment::is_comment(field) || field.name == b"explain";
            if field.name == b"$db" {
                database = Some(field.name_text().unwrap_or(UNREAD));
            }
        }
        Self {
            has_duplicate_field: names.len() > MAX_FIELDS || has_duplicates(names),
            has_comment: commented,
            database,
        }
    }
}

/// The namespace of a command.
#[derive(Clone, Copy)]
enum Namespace<'b> {
    Database,
    Collection(Element<'b>),
    /// A collection of the database whose name is not in the command.
    UnnamedCollection,
    Full(&'b str),
}

impl<'b> Namespace<'b> {
    fn of(command: &Command, first: &Element<'b>) -> Self {
        match command.namespace_source {
            NamespaceSource::Collection => match first.kind {
                kind::STRING | kind::SYMBOL => Namespace::Collection(*first),
                // `{aggregate: 1}` runs on the whole database.
                kind::DOUBLE | kind::INT32 | kind::INT64 if first.number() == Some(1) => {
                    Namespace::Database
                }
                // A UUID may also identify a collection.
                _ => Namespace::UnnamedCollection,
            },
            NamespaceSource::GetMore => Namespace::UnnamedCollection,
            // Given by its `nsInfo`, wherever that is.
            NamespaceSource::Bulk => Namespace::Full(UNREAD),
            NamespaceSource::Namespace => Namespace::Full(first.name_text().unwrap_or(UNREAD)),
            // The namespace may occur twice in the rest, or be in another database.
            NamespaceSource::Explain
                if first.kind == kind::DOCUMENT && !is_complete(first.value) =>
            {
                Namespace::Full(UNREAD)
            }
            NamespaceSource::Explain => {
                let inner = first.elements().and_then(|mut inner| inner.next());
                let known = inner.map(|inner| (commands::find(inner.name), inner));
                match known {
                    // Only one level: the server does not explain an `explain`.
                    Some((command, inner))
                        if command.namespace_source != NamespaceSource::Explain =>
                    {
                        Namespace::of(command, &inner)
                    }
                    _ => Namespace::UnnamedCollection,
                }
            }
            // An unknown command may name a collection in any way.
            NamespaceSource::Unknown => match first.kind {
                kind::DOUBLE | kind::INT32 | kind::INT64 | kind::BOOLEAN | kind::NULL => {
                    Namespace::Database
                }
                _ => Namespace::Full(UNREAD),
            },
            NamespaceSource::Database => Namespace::Database,
        }
    }

    fn write(self, database: Option<&str>, resource: &mut String) {
        let collection = match self {
            Namespace::Full(name) => return append_bounded(resource, name),
            Namespace::Database => return append_bounded(resource, database.unwrap_or(UNREAD)),
            Namespace::Collection(element) => element.name_text().unwrap_or(UNREAD),
            Namespace::UnnamedCollection => UNREAD,
        };
        append_bounded(resource, database.unwrap_or(UNREAD));
        resource.push('.');
        append_bounded(resource, collection);
    }
}

/// Whether a legacy query of this namespace is something other than a query for documents.
pub(crate) fn is_pseudo_command(namespace: &[u8]) -> bool {
    namespace.is_empty() || namespace.windows(5).any(|window| window == b".$cmd")
}

/// Whether every server has this database: a client cannot invent it.
fn is_builtin_database(database: &str) -> bool {
    matches!(database, "admin" | "$external" | "local" | "config")
}

/// Appends a name, truncated to the space that is left.
fn append_bounded(resource: &mut String, name: &str) {
    let room = MAX_RESOURCE_LEN.saturating_sub(resource.len());
    resource.push_str(if name.len() <= room { name } else { comment::truncate(name, room) });
}

/// Whether a pipeline begins with `$changeStream`: its cursor waits for events.
fn opens_change_stream(pipeline: &Element<'_>) -> bool {
    let stage = pipeline.elements().and_then(|mut stages| stages.next());
    let operator = stage.and_then(|stage| stage.elements()).and_then(|mut stage| stage.next());
    operator.is_some_and(|operator| operator.name == b"$changeStream")
}

#[cfg(test)]
mod tests;
