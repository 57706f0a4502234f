//! Commands about databases, collections and indexes.

use super::{Request, cursor_reply};
use crate::{
    command_error::CommandError,
    query::matches,
    store::{Index, Namespace, Store},
    value::flag,
};
use bson::{Bson, Document, doc};
use std::{collections::BTreeMap, rc::Rc};

/// `create`.
pub(crate) fn create(store: &mut Store, request: Request<'_>) -> Result<Document, CommandError> {
    let ns = request.namespace()?;
    if store.collection(&ns).is_some() {
        let message = format!("namespace {ns} already exists");
        return Err(CommandError::new(48, "NamespaceExists", message));
    }
    store.create(&ns)?;
    Ok(Document::new())
}

/// `drop`. Fine without a collection too, as since MongoDB 7.0.
pub(crate) fn drop_collection(
    store: &mut Store,
    request: Request<'_>,
) -> Result<Document, CommandError> {
    let ns = request.namespace()?;
    Ok(match store.drop_collection(&ns) {
        Some(dropped) => {
            doc! { "nIndexesWas": dropped.indexes().len() as i32, "ns": ns.to_string() }
        }
        None => Document::new(),
    })
}

/// `dropDatabase`.
pub(crate) fn drop_database(store: &mut Store, request: Request<'_>) -> Document {
    store.drop_database(request.db);
    doc! { "dropped": request.db }
}

/// `listDatabases`.
pub(crate) fn list_databases(
    store: &mut Store,
    request: Request<'_>,
) -> Result<Document, CommandError> {
    let filter = request.object("filter")?;
    let mut sizes: BTreeMap<&str, i64> = BTreeMap::new();
    for (ns, collection) in store.collections() {
        *sizes.entry(&ns.db).or_default() += collection.bytes() as i64;
    }
    let names_only = flag(request.body, "nameOnly");
    let mut total = 0;
    let mut databases = Vec::new();
    for (name, size) in sizes {
        let full = doc! { "name": name, "sizeOnDisk": size, "empty": size == 0 };
        if matches(&filter, &full)? {
            total += size;
            let shown = if names_only {
                doc! { "name": name }
            } else {
                full
            };
            databases.push(Bson::Document(shown));
        }
    }
    Ok(if names_only {
        doc! { "databases": databases }
    } else {
        doc! { "databases": databases, "totalSize": total, "totalSizeMb": total >> 20 }
    })
}

/// `listCollections`.
pub(crate) fn list_collections(
    store: &mut Store,
    request: Request<'_>,
) -> Result<Document, CommandError> {
    let filter = request.object("filter")?;
    let names_only = flag(request.body, "nameOnly");
    let mut result = Vec::new();
    for (ns, _) in store.collections().filter(|(ns, _)| ns.db == request.db) {
        let mut shown = doc! { "name": &ns.collection, "type": "collection" };
        if !names_only {
            shown.insert("options", Document::new());
            shown.insert("info", doc! { "readOnly": false });
            shown.insert("idIndex", doc! { "v": 2, "key": { "_id": 1 }, "name": "_id_" });
        }
        if matches(&filter, &shown)? {
            result.push(Rc::new(shown));
        }
    }
    let ns = Namespace { db: request.db.to_owned(), collection: "$cmd.listCollections".into() };
    cursor_reply(store, ns, result, request)
}

/// `createIndexes`.
pub(crate) fn create_indexes(
    store: &mut Store,
    request: Request<'_>,
) -> Result<Document, CommandError> {
    let ns = request.namespace()?;
    let known = store.collection(&ns).map(|collection| collection.indexes().len());
    let mut added = 0;
    for spec in request.objects("indexes")? {
        let (Ok(key), Ok(name)) = (spec.get_document("key"), spec.get_str("name")) else {
            return Err(CommandError::new(9, "FailedToParse", "an index needs a key and a name"));
        };
        if key.is_empty() {
            return Err(CommandError::new(
                67,
                "CannotCreateIndex",
                "Index keys cannot be an empty object",
            ));
        }
        let unique = flag(spec, "unique") && !flag(spec, "sparse");
        added += i32::from(store.create_index(&ns, Index::new(name, key.clone(), unique))?);
    }
    let before = known.unwrap_or(1) as i32;
    Ok(doc! {
        "numIndexesBefore": before, "numIndexesAfter": before + added,
        "createdCollectionAutomatically": known.is_none(),
    })
}

/// `dropIndexes`.
pub(crate) fn drop_indexes(
    store: &mut Store,
    request: Request<'_>,
) -> Result<Document, CommandError> {
    let ns = request.namespace()?;
    let before = existing(store, &ns)?.len() as i32;
    let name = match request.body.get("index") {
        Some(Bson::String(name)) => name.clone(),
        Some(Bson::Document(key)) => {
            let found = existing(store, &ns)?.iter().find(|index| index.key == *key);
            found.map(|index| index.name.clone()).unwrap_or_default()
        }
        _ => return Err(CommandError::wrong_type("'index' must be a name or a key")),
    };
    if name == "_id_" {
        return Err(CommandError::new(72, "InvalidOptions", "cannot drop _id index"));
    }
    if !store.drop_index(&ns, &name) {
        let message = format!("index not found with name [{name}]");
        return Err(CommandError::new(27, "IndexNotFound", message));
    }
    Ok(doc! { "nIndexesWas": before })
}

/// `listIndexes`.
pub(crate) fn list_indexes(
    store: &mut Store,
    request: Request<'_>,
) -> Result<Document, CommandError> {
    let ns = request.namespace()?;
    let show = |index: &Index| {
        let mut shown = doc! { "v": 2, "key": index.key.clone(), "name": &index.name };
        if index.unique && index.name != "_id_" {
            shown.insert("unique", true);
        }
        Rc::new(shown)
    };
    let result = existing(store, &ns)?.iter().map(show).collect();
    cursor_reply(store, ns, result, request)
}

fn existing<'a>(store: &'a Store, ns: &Namespace) -> Result<&'a [Index], CommandError> {
    let missing = || CommandError::new(26, "NamespaceNotFound", format!("ns does not exist: {ns}"));
    Ok(store.collection(ns).ok_or_else(missing)?.indexes())
}
