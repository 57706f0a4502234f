//! The data of the demonstration server: databases, collections, unique indexes and open cursors,
//! all in memory and bounded.

#[cfg(test)]
mod tests;

use super::{
    command_error::CommandError,
    query::{demanded, matches},
    value::{MAX_STORED_DEPTH, OrderedValue, depth, values_at, weight},
};
use bson::{Bson, Document, doc};
use std::{
    collections::{BTreeMap, VecDeque},
    rc::Rc,
};

/// The limits. Bytes are of memory, approximately.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Documents, in all collections together.
    pub documents: usize,
    /// Bytes of documents and their index keys, and the same number for cursors.
    pub bytes: usize,
    /// Open cursors. One more closes the oldest.
    pub cursors: usize,
    /// Collections, in all databases together.
    pub collections: usize,
    /// Indexes of one collection.
    pub indexes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { documents: 100_000, bytes: 64 << 20, cursors: 1000, collections: 1000, indexes: 16 }
    }
}

/// How long names may be, in bytes.
const MAX_NAME: usize = 255;

/// A database and a collection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Namespace {
    /// The database.
    pub db: String,
    /// The collection.
    pub collection: String,
}

impl std::fmt::Display for Namespace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.db, self.collection)
    }
}

/// A document, and its place in the order of insertion.
pub type Found = (u64, Rc<Document>);

/// One collection.
#[derive(Debug)]
pub struct Collection {
    documents: BTreeMap<u64, Rc<Document>>,
    /// The first is always that on `_id`.
    indexes: Vec<Index>,
    next: u64,
    bytes: usize,
}

/// An index. Only unique ones hold entries: they refuse duplicates, and find by `_id`.
#[derive(Debug)]
pub struct Index {
    /// Its name.
    pub name: String,
    /// `{field: 1, …}`
    pub key: Document,
    /// Whether it refuses duplicates.
    pub unique: bool,
    entries: BTreeMap<OrderedValue, u64>,
}

impl Index {
    /// An empty index.
    pub fn new(name: impl Into<String>, key: Document, unique: bool) -> Self {
        Self { name: name.into(), key, unique, entries: BTreeMap::new() }
    }

    fn key_of(&self, document: &Document) -> OrderedValue {
        let value = |field: &String| {
            values_at(document, field).first().map_or(Bson::Null, |value| (*value).clone())
        };
        let mut values: Vec<Bson> = self.key.keys().map(value).collect();
        match values.pop() {
            Some(only) if values.is_empty() => OrderedValue(only),
            last => OrderedValue(values.into_iter().chain(last).collect::<Vec<_>>().into()),
        }
    }

    /// Fails if another document than that at `own` has the key of `document`.
    fn check(&self, ns: &Namespace, document: &Document, own: u64) -> Result<(), CommandError> {
        let key = self.key_of(document);
        if !self.unique || self.entries.get(&key).is_none_or(|holder| *holder == own) {
            return Ok(());
        }
        let shown: Document = match (&key.0, self.key.len()) {
            (Bson::Array(values), 2..) => self.key.keys().cloned().zip(values.clone()).collect(),
            (value, _) => self.key.keys().cloned().zip([value.clone()]).collect(),
        };
        let message = format!(
            "E11000 duplicate key error collection: {ns} index: {} dup key: {shown}",
            self.name
        );
        let mut failure = CommandError::new(11000, "DuplicateKey", message);
        *failure.detail = doc! { "keyPattern": self.key.clone(), "keyValue": shown };
        Err(failure)
    }
}

impl Collection {
    fn new() -> Self {
        let id = Index::new("_id_", doc! { "_id": 1 }, true);
        Self { documents: BTreeMap::new(), indexes: vec![id], next: 1, bytes: 0 }
    }

    /// How many documents it holds.
    pub fn count(&self) -> usize {
        self.documents.len()
    }

    /// Its indexes, that on `_id` first.
    pub fn indexes(&self) -> &[Index] {
        &self.indexes
    }

    /// About how many bytes of memory its documents take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Its size against the limit of documents: once, and once more for each index with entries.
    fn charge(&self) -> usize {
        self.bytes * (1 + self.indexes.iter().filter(|index| index.unique).count())
    }

    fn put(&mut self, at: u64, document: Document) {
        for index in self.indexes.iter_mut().filter(|index| index.unique) {
            let key = index.key_of(&document);
            index.entries.insert(key, at);
        }
        self.bytes += weight(&document);
        self.documents.insert(at, Rc::new(document));
    }

    fn take(&mut self, at: u64) -> Option<Rc<Document>> {
        let document = self.documents.remove(&at)?;
        for index in self.indexes.iter_mut().filter(|index| index.unique) {
            index.entries.remove(&index.key_of(&document));
        }
        self.bytes -= weight(&document);
        Some(document)
    }

    /// The first `limit` documents that match `filter`, in the order of insertion.
    pub fn find(&self, filter: &Document, limit: usize) -> Result<Vec<Found>, CommandError> {
        let mut found = Vec::new();
        if let Some(id) = filter.get("_id").and_then(demanded) {
            let at =
                self.indexes.first().and_then(|ids| ids.entries.get(&OrderedValue(id.clone())));
            let only = at.and_then(|at| self.documents.get_key_value(at));
            // An array also equals its elements, which an index on whole values cannot find.
            if only.is_some() || !matches!(id, Bson::Null | Bson::Array(_)) {
                collect(only.into_iter(), filter, limit, &mut found)?;
                return Ok(found);
            }
        }
        collect(self.documents.iter(), filter, limit, &mut found)?;
        Ok(found)
    }
}

fn collect<'a>(
    candidates: impl Iterator<Item = (&'a u64, &'a Rc<Document>)>,
    filter: &Document,
    limit: usize,
    found: &mut Vec<Found>,
) -> Result<(), CommandError> {
    for (at, document) in candidates {
        if found.len() >= limit {
            break;
        }
        if matches(filter, document)? {
            found.push((*at, document.clone()));
        }
    }
    Ok(())
}

/// The rest of a result that did not fit into one reply.
#[derive(Debug)]
pub struct Cursor {
    /// What was read.
    pub ns: Namespace,
    /// What has not been fetched yet.
    pub rest: VecDeque<Rc<Document>>,
    bytes: usize,
}

/// Everything that the server keeps.
#[derive(Debug, Default)]
pub struct Store {
    limits: Limits,
    collections: BTreeMap<Namespace, Collection>,
    cursors: BTreeMap<i64, Cursor>,
    last_cursor: i64,
}

impl Store {
    /// An empty store with limits of its own.
    #[cfg(test)]
    pub(crate) fn with_limits(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// The collection, if there is one.
    pub fn collection(&self, ns: &Namespace) -> Option<&Collection> {
        self.collections.get(ns)
    }

    /// Every collection, by name.
    pub fn collections(&self) -> impl Iterator<Item = (&Namespace, &Collection)> {
        self.collections.iter()
    }

    /// The first `limit` documents that match `filter`; none if there is no such collection.
    pub fn find(
        &self,
        ns: &Namespace,
        filter: &Document,
        limit: usize,
    ) -> Result<Vec<Found>, CommandError> {
        self.collection(ns).map_or(Ok(Vec::new()), |collection| collection.find(filter, limit))
    }

    /// Creates a collection, if it does not exist.
    pub fn create(&mut self, ns: &Namespace) -> Result<&mut Collection, CommandError> {
        let names = [&ns.db, &ns.collection];
        if names.iter().any(|name| name.is_empty() || name.contains(['\0', '$'])) {
            let message = format!("Invalid namespace specified '{ns}'");
            return Err(CommandError::new(73, "InvalidNamespace", message));
        }
        if ns.db.len() + ns.collection.len() >= MAX_NAME {
            return Err(CommandError::new(73, "InvalidNamespace", "the namespace is too long"));
        }
        let full = self.collections.len() >= self.limits.collections;
        if full && !self.collections.contains_key(ns) {
            return Err(CommandError::full("collections"));
        }
        Ok(self.collections.entry(ns.clone()).or_insert_with(Collection::new))
    }

    /// Adds a document, giving it an `_id` if it has none.
    pub fn insert(&mut self, ns: &Namespace, document: Document) -> Result<(), CommandError> {
        let document = with_id(document);
        self.check_room(&document, 1)?;
        let collection = self.create(ns)?;
        let at = collection.next;
        for index in &collection.indexes {
            index.check(ns, &document, at)?;
        }
        collection.next += 1;
        collection.put(at, document);
        Ok(())
    }

    /// Replaces the document at `at`.
    pub fn replace(
        &mut self,
        ns: &Namespace,
        at: u64,
        document: Document,
    ) -> Result<(), CommandError> {
        self.check_room(&document, 0)?;
        let collection = self.create(ns)?;
        for index in &collection.indexes {
            index.check(ns, &document, at)?;
        }
        collection.take(at);
        collection.put(at, document);
        Ok(())
    }

    /// Removes a document.
    pub fn remove(&mut self, ns: &Namespace, at: u64) {
        if let Some(collection) = self.collections.get_mut(ns) {
            collection.take(at);
        }
    }

    /// Removes a collection; `None` if there is none.
    pub(crate) fn drop_collection(&mut self, ns: &Namespace) -> Option<Collection> {
        self.collections.remove(ns)
    }

    /// Removes every collection of a database.
    pub fn drop_database(&mut self, db: &str) {
        self.collections.retain(|ns, _| ns.db != db);
    }

    /// Adds an index. Returns `false` if the name is taken.
    pub(crate) fn create_index(
        &mut self,
        ns: &Namespace,
        mut index: Index,
    ) -> Result<bool, CommandError> {
        let limits = self.limits;
        let used = self.used().1;
        let collection = self.create(ns)?;
        if collection.indexes.iter().any(|there| there.name == index.name) {
            return Ok(false);
        }
        if collection.indexes.len() >= limits.indexes {
            return Err(CommandError::new(67, "CannotCreateIndex", "too many indexes"));
        }
        if index.unique && used + collection.bytes > limits.bytes {
            return Err(CommandError::full("indexes"));
        }
        for (at, document) in collection.documents.iter().filter(|_| index.unique) {
            index.check(ns, document, *at)?;
            index.entries.insert(index.key_of(document), *at);
        }
        collection.indexes.push(index);
        Ok(true)
    }

    /// Removes the index of that name, or all except that on `_id` for `*`. Returns `false` if
    /// there is none.
    pub(crate) fn drop_index(&mut self, ns: &Namespace, name: &str) -> bool {
        let Some(collection) = self.collections.get_mut(ns) else { return false };
        let before = collection.indexes.len();
        collection
            .indexes
            .retain(|index| index.name == "_id_" || (name != "*" && index.name != name));
        collection.indexes.len() < before || name == "*"
    }

    /// Keeps the rest of a result, and returns its cursor id; 0 if there is no rest.
    pub(crate) fn open_cursor(&mut self, ns: Namespace, rest: VecDeque<Rc<Document>>) -> i64 {
        if rest.is_empty() {
            return 0;
        }
        let bytes = rest.iter().map(|document| weight(document)).sum();
        self.last_cursor += 1;
        self.cursors.insert(self.last_cursor, Cursor { ns, rest, bytes });
        let mut total: usize = self.cursors.values().map(|cursor| cursor.bytes).sum();
        while self.cursors.len() > self.limits.cursors || total > self.limits.bytes {
            let Some((_, oldest)) = self.cursors.pop_first() else { break };
            total -= oldest.bytes;
        }
        self.last_cursor
    }

    /// An open cursor.
    pub fn cursor(&mut self, id: i64) -> Option<&mut Cursor> {
        self.cursors.get_mut(&id)
    }

    /// How many cursors are open.
    pub(crate) fn open_cursors(&self) -> usize {
        self.cursors.len()
    }

    /// Closes a cursor. Returns `false` if it was not open.
    pub(crate) fn close_cursor(&mut self, id: i64) -> bool {
        self.cursors.remove(&id).is_some()
    }

    /// Documents and bytes of all collections. Computed each time, so that it cannot be wrong;
    /// there are few collections.
    fn used(&self) -> (usize, usize) {
        let sum = |(documents, bytes), collection: &Collection| {
            (documents + collection.count(), bytes + collection.charge())
        };
        self.collections.values().fold((0, 0), sum)
    }

    fn check_room(&self, document: &Document, more: usize) -> Result<(), CommandError> {
        let (documents, bytes) = self.used();
        if documents + more > self.limits.documents {
            return Err(CommandError::full("documents"));
        }
        if bytes + 2 * weight(document) > self.limits.bytes {
            return Err(CommandError::full("bytes"));
        }
        if depth(document) > MAX_STORED_DEPTH {
            return Err(CommandError::new(15, "Overflow", "the document nests too deep"));
        }
        Ok(())
    }
}

/// The document with its `_id` first, as the server stores it.
fn with_id(mut document: Document) -> Document {
    let id = document.remove("_id").unwrap_or_else(|| bson::oid::ObjectId::new().into());
    std::iter::once(("_id".to_owned(), id)).chain(document).collect()
}
