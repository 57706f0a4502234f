//! Commands that change documents.

use super::Request;
use crate::{
    command_error::CommandError,
    query::{project, sort},
    store::{Namespace, Store},
    update::{apply, is_replacement, seed},
    value::{as_whole, flag},
};
use bson::{Bson, Document, doc};

/// `insert`.
pub fn insert(store: &mut Store, request: Request<'_>) -> Result<Document, CommandError> {
    let ns = request.namespace()?;
    let documents = request.objects("documents")?;
    let mut inserted = 0;
    let errors = each(request, &documents, |_, document| {
        store.insert(&ns, document.clone())?;
        inserted += 1;
        Ok(())
    });
    Ok(write_reply(doc! { "n": inserted }, errors))
}

/// `update`.
pub fn update(store: &mut Store, request: Request<'_>) -> Result<Document, CommandError> {
    let ns = request.namespace()?;
    let updates = request.objects("updates")?;
    let mut total = Updated::default();
    let mut upserted = Vec::new();
    let errors = each(request, &updates, |index, update| {
        let one = update_one(store, &ns, update)?;
        total.matched += one.matched;
        total.modified += one.modified;
        if let Some(id) = one.upserted {
            upserted.push(Bson::Document(doc! { "index": index as i32, "_id": id }));
        }
        Ok(())
    });
    let matched = total.matched + upserted.len() as i32;
    let mut reply = doc! { "n": matched, "nModified": total.modified };
    if !upserted.is_empty() {
        reply.insert("upserted", upserted);
    }
    Ok(write_reply(reply, errors))
}

/// `delete`.
pub fn delete(store: &mut Store, request: Request<'_>) -> Result<Document, CommandError> {
    let ns = request.namespace()?;
    let deletes = request.objects("deletes")?;
    let mut deleted = 0;
    let errors = each(request, &deletes, |_, delete| {
        let limit = match delete.get("limit").and_then(as_whole) {
            Some(1) => 1,
            Some(0) => usize::MAX,
            _ => {
                return Err(CommandError::new(
                    9,
                    "FailedToParse",
                    "The limit field must be 0 or 1",
                ));
            }
        };
        let found = store.find(&ns, object(delete, "q")?, limit)?;
        deleted += found.len() as i32;
        found.iter().for_each(|(at, _)| store.remove(&ns, *at));
        Ok(())
    });
    Ok(write_reply(doc! { "n": deleted }, errors))
}

/// Runs each write of a batch; the first error ends an ordered one.
fn each(
    request: Request<'_>,
    writes: &[&Document],
    mut write: impl FnMut(usize, &Document) -> Result<(), CommandError>,
) -> Vec<Bson> {
    let ordered = request.body.get("ordered") != Some(&Bson::Boolean(false));
    let mut errors = Vec::new();
    for (index, one) in writes.iter().enumerate() {
        if let Err(failure) = write(index, one) {
            errors.push(Bson::Document(failure.write_error(index)));
            if ordered {
                break;
            }
        }
    }
    errors
}

fn write_reply(mut reply: Document, errors: Vec<Bson>) -> Document {
    if !errors.is_empty() {
        reply.insert("writeErrors", errors);
    }
    reply
}

fn object<'a>(write: &'a Document, field: &str) -> Result<&'a Document, CommandError> {
    write
        .get_document(field)
        .map_err(|_| CommandError::wrong_type(format!("'{field}' must be an object")))
}

#[derive(Default)]
struct Updated {
    matched: i32,
    modified: i32,
    upserted: Option<Bson>,
}

fn update_one(
    store: &mut Store,
    ns: &Namespace,
    update: &Document,
) -> Result<Updated, CommandError> {
    let filter = object(update, "q")?;
    let change = update.get("u").unwrap_or(&Bson::Null);
    let multi = flag(update, "multi");
    if multi && change.as_document().is_some_and(is_replacement) {
        let message = "multi update is not supported for replacement-style update";
        return Err(CommandError::new(9, "FailedToParse", message));
    }
    if update.get_array("arrayFilters").is_ok_and(|filters| !filters.is_empty()) {
        return Err(CommandError::new(9, "FailedToParse", "arrayFilters are not supported here"));
    }
    let found = store.find(ns, filter, if multi { usize::MAX } else { 1 })?;
    let mut updated = Updated { matched: found.len() as i32, ..Updated::default() };
    for (at, document) in &found {
        let changed = apply(document, change, false)?;
        if changed != **document {
            store.replace(ns, *at, changed)?;
            updated.modified += 1;
        }
    }
    if found.is_empty() && flag(update, "upsert") {
        updated.upserted = Some(upsert(store, ns, filter, change)?.0);
    }
    Ok(updated)
}

/// Inserts the document of an upsert; returns its `_id` and the document.
fn upsert(
    store: &mut Store,
    ns: &Namespace,
    filter: &Document,
    change: &Bson,
) -> Result<(Bson, Document), CommandError> {
    let mut start = seed(filter)?;
    if change.as_document().is_some_and(is_replacement) {
        start = start.remove("_id").map(|id| doc! { "_id": id }).unwrap_or_default();
    }
    let mut document = apply(&start, change, true)?;
    let id = document.get("_id").cloned().unwrap_or_else(|| bson::oid::ObjectId::new().into());
    document.insert("_id", id.clone());
    store.insert(ns, document.clone())?;
    Ok((id, document))
}

/// `findAndModify`.
pub fn find_and_modify(store: &mut Store, request: Request<'_>) -> Result<Document, CommandError> {
    let ns = request.namespace()?;
    let filter = request.object("query")?;
    let order = request.object("sort")?;
    let fields = request.object("fields")?;
    let mut found = store.find(&ns, &filter, if order.is_empty() { 1 } else { usize::MAX })?;
    if !order.is_empty() {
        sort(&mut found, &order, |(_, document)| document)?;
    }
    let shown = |document: &Document| project(&fields, document).map(Bson::Document);
    let remove = flag(request.body, "remove");
    let Some((at, document)) = found.first() else {
        if remove || !flag(request.body, "upsert") {
            let last = doc! { "n": 0, "updatedExisting": false };
            return Ok(doc! { "lastErrorObject": last, "value": null });
        }
        let change = request.body.get("update").unwrap_or(&Bson::Null);
        let (id, made) = upsert(store, &ns, &filter, change)?;
        let value = if flag(request.body, "new") { shown(&made)? } else { Bson::Null };
        let last = doc! { "n": 1, "updatedExisting": false, "upserted": id };
        return Ok(doc! { "lastErrorObject": last, "value": value });
    };
    if remove {
        store.remove(&ns, *at);
        return Ok(doc! { "lastErrorObject": { "n": 1 }, "value": shown(document)? });
    }
    let changed = apply(document, request.body.get("update").unwrap_or(&Bson::Null), false)?;
    let value = shown(if flag(request.body, "new") { &changed } else { document })?;
    store.replace(&ns, *at, changed)?;
    Ok(doc! { "lastErrorObject": { "n": 1, "updatedExisting": true }, "value": value })
}
