//! The commands of the demonstration server: from a request's document to the reply's.

mod catalog;
pub mod diagnostic;
pub mod read;
#[cfg(test)]
mod tests;
pub mod write;

use super::{
    command_error::CommandError,
    store::{Namespace, Store},
    value::{as_whole, weight},
};
use bson::{Bson, Document, doc};
use std::{collections::VecDeque, rc::Rc};

/// How long a reply's batch may get, in bytes of BSON.
const MAX_BATCH_BYTES: usize = 16 << 20;
/// How many documents come with the first reply, unless it was asked for another number.
const FIRST_BATCH: usize = 101;

/// A command, and who sent it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Its name, the first key of its document.
    pub name: &'a str,
    /// The database that it is for.
    pub db: &'a str,
    /// All of it.
    pub body: &'a Document,
    /// The server's number for the connection.
    pub connection: i32,
}

impl<'a> Request<'a> {
    /// Reads a command's name and database.
    pub fn new(body: &'a Document, connection: i32) -> Result<Self, CommandError> {
        let Some(name) = body.keys().next() else {
            return Err(CommandError::new(59, "CommandNotFound", "no command was given"));
        };
        let db = body.get_str("$db").map_err(|_| {
            let message = "OP_MSG requests require a $db argument";
            CommandError::new(40571, "Location40571", message)
        })?;
        Ok(Self { name, db, body, connection })
    }

    /// The collection that the command names.
    pub fn namespace(&self) -> Result<Namespace, CommandError> {
        match self.body.get(self.name) {
            Some(Bson::String(name)) => Ok(self.namespace_of(name)),
            _ => {
                let message = format!("collection name has invalid type in {}", self.name);
                Err(CommandError::new(73, "InvalidNamespace", message))
            }
        }
    }

    /// A collection in the command's database.
    pub(crate) fn namespace_of(&self, collection: &str) -> Namespace {
        Namespace { db: self.db.to_owned(), collection: collection.to_owned() }
    }

    /// An object among the command's fields; empty if it is not there.
    pub fn object(&self, field: &str) -> Result<Document, CommandError> {
        match self.body.get(field) {
            None | Some(Bson::Null) => Ok(Document::new()),
            Some(Bson::Document(object)) => Ok(object.clone()),
            Some(_) => Err(CommandError::wrong_type(format!("'{field}' must be an object"))),
        }
    }

    /// An array of objects among the command's fields.
    pub(crate) fn objects(&self, field: &str) -> Result<Vec<&'a Document>, CommandError> {
        let missing = || CommandError::new(40414, "Location40414", format!("'{field}' is missing"));
        let items = self.body.get_array(field).map_err(|_| missing())?;
        if items.is_empty() || items.len() > diagnostic::MAX_WRITE_BATCH {
            let message =
                format!("'{field}' must hold between 1 and {} items", diagnostic::MAX_WRITE_BATCH);
            return Err(CommandError::new(16, "InvalidLength", message));
        }
        let wrong = || CommandError::wrong_type(format!("'{field}' must hold objects"));
        items.iter().map(|item| item.as_document().ok_or_else(wrong)).collect()
    }

    /// A number that can't be negative; `None` if it is not there.
    pub fn number(&self, field: &str) -> Result<Option<usize>, CommandError> {
        let Some(value) = self.body.get(field) else { return Ok(None) };
        let number = as_whole(value).and_then(|number| usize::try_from(number).ok());
        let wrong = || CommandError::bad_value(format!("'{field}' must be a number, not negative"));
        number.map(Some).ok_or_else(wrong)
    }
}

/// Runs the command of a request.
pub fn run(store: &mut Store, request: Request<'_>) -> Result<Document, CommandError> {
    if request.body.contains_key("txnNumber") {
        let message = "Transaction numbers are only allowed on a replica set member or mongos";
        return Err(CommandError::new(20, "IllegalOperation", message));
    }
    let mut reply = match request.name {
        "find" => read::find(store, request)?,
        "getMore" => read::get_more(store, request)?,
        "killCursors" => read::kill_cursors(store, request)?,
        "count" => read::count(store, request)?,
        "distinct" => read::distinct(store, request)?,
        "aggregate" => read::aggregate(store, request)?,
        "insert" => write::insert(store, request)?,
        "update" => write::update(store, request)?,
        "delete" => write::delete(store, request)?,
        "findAndModify" | "findandmodify" => write::find_and_modify(store, request)?,
        "create" => catalog::create(store, request)?,
        "drop" => catalog::drop_collection(store, request)?,
        "dropDatabase" => catalog::drop_database(store, request),
        "listDatabases" => catalog::list_databases(store, request)?,
        "listCollections" => catalog::list_collections(store, request)?,
        "createIndexes" => catalog::create_indexes(store, request)?,
        "dropIndexes" => catalog::drop_indexes(store, request)?,
        "listIndexes" => catalog::list_indexes(store, request)?,
        "serverStatus" => diagnostic::server_status(store),
        "dbStats" | "dbstats" => diagnostic::db_stats(store, request),
        _ => diagnostic::answer(request).ok_or_else(|| {
            let message = format!("no such command: '{}'", request.name);
            CommandError::new(59, "CommandNotFound", message)
        })?,
    };
    reply.insert("ok", 1.0);
    Ok(reply)
}

/// A reply with as much of a result as fits, and a cursor for the rest.
pub(crate) fn cursor_reply(
    store: &mut Store,
    ns: Namespace,
    result: Vec<Rc<Document>>,
    request: Request<'_>,
) -> Result<Document, CommandError> {
    let options = match request.name {
        "find" => request.body,
        _ => request.body.get_document("cursor").unwrap_or(request.body),
    };
    let size = match options.get("batchSize").and_then(as_whole) {
        Some(size) => {
            usize::try_from(size).map_err(|_| CommandError::bad_value("batchSize is negative"))?
        }
        None => FIRST_BATCH,
    };
    let mut rest = VecDeque::from(result);
    let batch = next_batch(&mut rest, size);
    let name = ns.to_string();
    let single = request.body.get_bool("singleBatch").unwrap_or(false);
    let id = if single { 0 } else { store.open_cursor(ns, rest) };
    Ok(doc! { "cursor": { "firstBatch": batch, "id": id, "ns": name } })
}

/// Takes up to `size` documents, as far as a reply has space for them.
pub(crate) fn next_batch(rest: &mut VecDeque<Rc<Document>>, size: usize) -> Vec<Bson> {
    let mut batch = Vec::new();
    let mut bytes = 0;
    while let Some(next) = rest.front().filter(|_| batch.len() < size) {
        // A document weighs more in memory than in a message, so this is on the safe side.
        bytes += weight(next);
        if bytes > MAX_BATCH_BYTES && !batch.is_empty() {
            break;
        }
        batch.extend(rest.pop_front().map(|next| Bson::Document(Rc::unwrap_or_clone(next))));
    }
    batch
}
