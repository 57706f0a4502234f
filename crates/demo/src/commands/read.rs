//! Commands that read documents, and the cursors that they leave.

use super::{Request, cursor_reply, next_batch};
use crate::{
    command_error::CommandError,
    pipeline,
    query::{project, sort},
    store::{Namespace, Store},
    value::{OrderedValue, as_whole, values_at},
};
use bson::{Bson, Document, doc};
use std::{collections::BTreeSet, rc::Rc};

/// How many bytes the values of a `distinct` may take.
const MAX_DISTINCT_BYTES: usize = 16 << 20;

/// `find`.
pub fn find(store: &mut Store, request: Request<'_>) -> Result<Document, CommandError> {
    let ns = request.namespace()?;
    let order = request.object("sort")?;
    let projection = request.object("projection")?;
    let skip = request.number("skip")?.unwrap_or(0);
    let limit = request.number("limit")?.filter(|limit| *limit > 0).unwrap_or(usize::MAX);
    let wanted = if order.is_empty() { limit.saturating_add(skip) } else { usize::MAX };
    let found = store.find(&ns, &request.object("filter")?, wanted)?;
    let mut documents: Vec<Rc<Document>> = found.into_iter().map(|(_, found)| found).collect();
    if !order.is_empty() {
        sort(&mut documents, &order, |document| document)?;
    }
    let mut result = Vec::new();
    for document in documents.into_iter().skip(skip).take(limit) {
        result.push(match projection.is_empty() {
            true => document,
            false => Rc::new(project(&projection, &document)?),
        });
    }
    cursor_reply(store, ns, result, request)
}

/// `getMore`.
pub fn get_more(store: &mut Store, request: Request<'_>) -> Result<Document, CommandError> {
    let id = request.body.get("getMore").and_then(as_whole).unwrap_or(0);
    let size = request.number("batchSize")?.filter(|size| *size > 0).unwrap_or(usize::MAX);
    let missing = || CommandError::new(43, "CursorNotFound", format!("cursor id {id} not found"));
    let cursor = store.cursor(id).ok_or_else(missing)?;
    let ns = cursor.ns.to_string();
    let collection = request.body.get_str("collection").unwrap_or_default();
    if request.namespace_of(collection) != cursor.ns {
        let message = format!("the cursor {id} is of {ns}");
        return Err(CommandError::new(13, "Unauthorized", message));
    }
    let batch = next_batch(&mut cursor.rest, size);
    let finished = cursor.rest.is_empty();
    if finished {
        store.close_cursor(id);
    }
    let id = if finished { 0 } else { id };
    Ok(doc! { "cursor": { "nextBatch": batch, "id": id, "ns": ns } })
}

/// `killCursors`.
pub(crate) fn kill_cursors(
    store: &mut Store,
    request: Request<'_>,
) -> Result<Document, CommandError> {
    let ids =
        request.body.get_array("cursors").map_err(|_| CommandError::bad_value("no cursors"))?;
    let (killed, missing): (Vec<Bson>, Vec<Bson>) =
        ids.iter().cloned().partition(|id| as_whole(id).is_some_and(|id| store.close_cursor(id)));
    Ok(doc! {
        "cursorsKilled": killed, "cursorsNotFound": missing,
        "cursorsAlive": [], "cursorsUnknown": [],
    })
}

/// `count`.
pub fn count(store: &mut Store, request: Request<'_>) -> Result<Document, CommandError> {
    let skip = request.number("skip")?.unwrap_or(0);
    let limit = request.number("limit")?.filter(|limit| *limit > 0).unwrap_or(usize::MAX);
    let found = store.find(&request.namespace()?, &request.object("query")?, usize::MAX)?;
    Ok(doc! { "n": found.len().saturating_sub(skip).min(limit) as i32 })
}

/// `distinct`.
pub fn distinct(store: &mut Store, request: Request<'_>) -> Result<Document, CommandError> {
    let key = request
        .body
        .get_str("key")
        .map_err(|_| CommandError::wrong_type("'key' must be a path"))?;
    let mut values = BTreeSet::new();
    let mut bytes = 0;
    for (_, document) in store.find(&request.namespace()?, &request.object("query")?, usize::MAX)? {
        for value in values_at(&document, key) {
            let several =
                value.as_array().map(Vec::as_slice).unwrap_or(std::slice::from_ref(value));
            for value in several {
                if values.insert(OrderedValue(value.clone())) {
                    bytes += crate::value::value_weight(value);
                }
            }
        }
        if bytes > MAX_DISTINCT_BYTES {
            return Err(CommandError::new(17217, "Location17217", "distinct too big, 16mb cap"));
        }
    }
    Ok(doc! { "values": values.into_iter().map(|key| key.0).collect::<Vec<_>>() })
}

/// `aggregate`.
pub fn aggregate(store: &mut Store, request: Request<'_>) -> Result<Document, CommandError> {
    let wrong = |_| CommandError::wrong_type("'pipeline' must be an array");
    let stages = request.body.get_array("pipeline").map_err(wrong)?;
    if !matches!(request.body.get("cursor"), Some(Bson::Document(_))) {
        let message =
            "The 'cursor' option is required, except for aggregate with the explain argument";
        return Err(CommandError::new(9, "FailedToParse", message));
    }
    let (ns, documents) = match request.body.get("aggregate") {
        Some(Bson::String(name)) => {
            let ns = request.namespace_of(name);
            let found = store.find(&ns, &Document::new(), usize::MAX)?;
            (ns, found.into_iter().map(|(_, found)| found).collect())
        }
        _ => (Namespace { db: request.db.to_owned(), collection: "$cmd.aggregate".into() }, vec![]),
    };
    let result = pipeline::run(documents, stages)?;
    cursor_reply(store, ns, result, request)
}
