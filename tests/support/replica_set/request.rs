//! What a request asks of a member.

use super::super::wire::{EXHAUST_ALLOWED, MORE_TO_COME, Message, OP_MSG, OP_QUERY};
use bson::{Bson, Document};

/// Commands that only a primary takes.
const WRITES: [&str; 16] = [
    "insert",
    "update",
    "delete",
    "findAndModify",
    "findandmodify",
    "bulkWrite",
    "create",
    "createIndexes",
    "collMod",
    "drop",
    "dropDatabase",
    "dropIndexes",
    "renameCollection",
    "createUser",
    "dropUser",
    "updateUser",
];

/// Commands that a secondary takes only from a client that says so.
const READS: [&str; 11] = [
    "find",
    "aggregate",
    "count",
    "distinct",
    "mapReduce",
    "explain",
    "listCollections",
    "listIndexes",
    "listDatabases",
    "collStats",
    "dbStats",
];

pub(super) struct Request {
    pub(super) message: Message,
    pub(super) body: Document,
    pub(super) name: String,
}

impl Request {
    /// Reads a message; `None` if it is of a kind that members don't offer to read.
    pub(super) fn of(message: Message) -> Option<Self> {
        if ![OP_MSG, OP_QUERY].contains(&message.opcode()) {
            return None;
        }
        let body = message.document();
        let name = body.keys().next()?.clone();
        Some(Self { message, body, name })
    }

    pub(super) fn is_hello(&self) -> bool {
        ["hello", "isMaster", "ismaster"].contains(&self.name.as_str())
    }

    /// Whether the client wants no reply.
    pub(super) fn is_unacknowledged(&self) -> bool {
        self.has_flag(MORE_TO_COME)
    }

    /// Whether the client takes further replies to this one request.
    pub(super) fn allows_exhaust(&self) -> bool {
        self.has_flag(EXHAUST_ALLOWED)
    }

    fn has_flag(&self, flag: u32) -> bool {
        self.message.opcode() == OP_MSG && self.message.flags() & flag != 0
    }

    pub(super) fn is_in_transaction(&self) -> bool {
        self.body.get_bool("autocommit").is_ok_and(|it| !it)
    }

    pub(super) fn begins_transaction(&self) -> bool {
        self.body.get_bool("startTransaction").unwrap_or(false)
    }

    /// Whether it commits or aborts a transaction.
    pub(super) fn ends_transaction(&self) -> bool {
        self.is_in_transaction()
            && ["commitTransaction", "abortTransaction"].contains(&self.name.as_str())
    }

    /// Whether it changes data at once: not what a transaction does before its end.
    pub(super) fn is_write(&self) -> bool {
        self.ends_transaction() || !self.is_in_transaction() && self.writes()
    }

    /// Whether only a primary does it.
    pub(super) fn needs_primary(&self) -> bool {
        self.is_in_transaction() || self.writes()
    }

    fn writes(&self) -> bool {
        let stages = self.body.get_array("pipeline").map(Vec::as_slice).unwrap_or_default();
        let stages = stages.iter().filter_map(|stage| stage.as_document()?.keys().next());
        WRITES.contains(&self.name.as_str())
            || self.name == "aggregate"
                && stages.into_iter().any(|it| it == "$out" || it == "$merge")
    }

    /// Whether it is a read of a client that expects a primary.
    pub(super) fn reads_from_primary(&self) -> bool {
        READS.contains(&self.name.as_str()) && self.read_mode() == "primary"
    }

    /// Whether it needs a member with data.
    pub(super) fn reads(&self) -> bool {
        READS.contains(&self.name.as_str()) || self.name == "getMore"
    }

    fn read_mode(&self) -> &str {
        let preference = self.body.get_document("$readPreference").ok();
        preference.and_then(|it| it.get_str("mode").ok()).unwrap_or("primary")
    }

    /// The cursors that a `killCursors` names.
    pub(super) fn cursors_to_kill(&self) -> impl Iterator<Item = i64> {
        let named = self.body.get_array("cursors").ok().filter(|_| self.name == "killCursors");
        named.into_iter().flatten().filter_map(Bson::as_i64)
    }

    /// Whether drivers may send it a second time: servers label its errors for that.
    pub(super) fn is_retryable_write(&self) -> bool {
        self.ends_transaction() || !self.is_in_transaction() && self.body.contains_key("txnNumber")
    }

    /// The id of its session and the number of its transaction or retryable write.
    pub(super) fn session(&self) -> Option<(Vec<u8>, i64)> {
        let Bson::Binary(id) = self.body.get_document("lsid").ok()?.get("id")? else { return None };
        Some((id.bytes.clone(), self.body.get_i64("txnNumber").ok()?))
    }
}
