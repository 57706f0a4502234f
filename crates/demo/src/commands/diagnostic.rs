//! Commands about the server itself: handshakes, and what shells request at start.

use super::Request;
use crate::{store::Store, value::as_whole, wire::MAX_MESSAGE_BYTES};
use bson::{Bson, DateTime, Document, doc, oid::ObjectId};
use std::sync::OnceLock;

/// The version that the server reports.
pub const VERSION: &str = "8.2.0-tollgate-demo";
/// How many writes one command may hold.
pub(crate) const MAX_WRITE_BATCH: usize = 100_000;
const MAX_DOCUMENT_BYTES: i32 = 16 << 20;
/// MongoDB 8.2.
const MAX_WIRE_VERSION: i32 = 27;

/// Whether a command is a handshake, under any of its names.
pub(crate) fn is_handshake(name: &str) -> bool {
    matches!(name, "hello" | "isMaster" | "ismaster")
}

/// The `topologyVersion` of a `hello` reply. It never changes, so that a client that awaits a
/// change waits for its whole time-out.
pub(crate) fn topology_version() -> Document {
    static PROCESS: OnceLock<ObjectId> = OnceLock::new();
    doc! { "processId": *PROCESS.get_or_init(ObjectId::new), "counter": 0i64 }
}

/// The replies that depend on nothing but the request; `None` for an unknown command.
pub fn answer(request: Request<'_>) -> Option<Document> {
    Some(match request.name {
        name if is_handshake(name) => hello(request),
        "ping" | "endSessions" | "killSessions" | "killAllSessions" | "refreshSessions"
        | "logout" => Document::new(),
        "startSession" => doc! {
            "id": { "id": bson::Uuid::new() }, "timeoutMinutes": 30,
        },
        "buildInfo" | "buildinfo" => doc! {
            "version": VERSION,
            "versionArray": [8, 2, 0, 0],
            "gitVersion": "tollgate-demo",
            "modules": ["tollgate-demo"],
            "allocator": "system",
            "javascriptEngine": "none",
            "sysInfo": "deprecated",
            "openssl": { "running": "none" },
            "bits": 64,
            "debug": cfg!(debug_assertions),
            "maxBsonObjectSize": MAX_DOCUMENT_BYTES,
            "storageEngines": ["memory"],
            "tollgateDemo": true,
        },
        "hostInfo" => doc! {
            "system": { "currentTime": DateTime::now(), "hostname": "tollgate-demo" },
            "os": { "type": std::env::consts::OS, "name": std::env::consts::OS },
            "extra": {},
        },
        "whatsmyuri" => doc! { "you": "tollgate-demo" },
        "connectionStatus" => doc! {
            "authInfo": {
                "authenticatedUsers": [], "authenticatedUserRoles": [],
                "authenticatedUserPrivileges": [],
            },
        },
        "getCmdLineOpts" => doc! { "argv": ["tollgate", "demo"], "parsed": {} },
        "getLog" => get_log(request),
        "getParameter" => doc! {
            "featureCompatibilityVersion": { "version": "8.2" }, "authenticationMechanisms": [],
        },
        _ => return None,
    })
}

fn hello(request: Request<'_>) -> Document {
    let writable = if request.name == "hello" { "isWritablePrimary" } else { "ismaster" };
    let mut reply = doc! {
        "helloOk": true,
        "topologyVersion": topology_version(),
        "maxBsonObjectSize": MAX_DOCUMENT_BYTES,
        "maxMessageSizeBytes": MAX_MESSAGE_BYTES as i32,
        "maxWriteBatchSize": MAX_WRITE_BATCH as i32,
        "localTime": DateTime::now(),
        "logicalSessionTimeoutMinutes": 30,
        "connectionId": request.connection,
        "minWireVersion": 0,
        "maxWireVersion": MAX_WIRE_VERSION,
        "readOnly": false,
        "tollgateDemo": true,
    };
    reply.insert(writable, true);
    reply
}

fn get_log(request: Request<'_>) -> Document {
    if request.body.get_str("getLog").is_ok_and(|log| log == "*") {
        return doc! { "names": ["global", "startupWarnings"] };
    }
    let line = serde_json::json!({
        "t": { "$date": DateTime::now().try_to_rfc3339_string().unwrap_or_default() },
        "s": "W", "c": "CONTROL", "id": 1, "ctx": "demo",
        "msg": "This is Tollgate's demonstration server: it keeps everything in memory, and a \
                fraction of what MongoDB can do",
    });
    doc! { "totalLinesWritten": 1, "log": [line.to_string()] }
}

/// `serverStatus`, as far as there is anything to report.
pub(crate) fn server_status(store: &Store) -> Document {
    doc! {
        "host": "tollgate-demo",
        "version": VERSION,
        "process": "tollgate",
        "localTime": DateTime::now(),
        "metrics": { "cursor": { "open": { "total": store.open_cursors() as i64 } } },
        "tollgateDemo": true,
    }
}

/// The size of the request's database.
pub(crate) fn db_stats(store: &Store, request: Request<'_>) -> Document {
    let mut totals = [0i64; 4];
    for (_, collection) in store.collections().filter(|(ns, _)| ns.db == request.db) {
        let of_one = [
            1,
            collection.count() as i64,
            collection.bytes() as i64,
            collection.indexes().len() as i64,
        ];
        totals.iter_mut().zip(of_one).for_each(|(total, one)| *total += one);
    }
    let [collections, objects, bytes, indexes] = totals;
    doc! {
        "db": request.db, "collections": collections, "views": 0, "objects": objects,
        "dataSize": bytes, "storageSize": bytes, "indexes": indexes, "indexSize": 0,
        "totalSize": bytes,
    }
}

/// How long a `hello` waits for a change; `None` if it is answered at once.
pub fn awaited(body: &Document) -> Option<std::time::Duration> {
    let known = body.get_document("topologyVersion").ok()?.get("processId");
    if known != topology_version().get("processId") {
        return None;
    }
    let wait =
        body.get("maxAwaitTimeMS").and_then(as_whole).and_then(|ms| u64::try_from(ms).ok())?;
    Some(std::time::Duration::from_millis(wait.min(60_000)))
}

/// How long a query is delayed, as `{$where: "sleep(150) || true"}` in its filter requests: the
/// demonstration needs slow queries. At most ten seconds.
pub(crate) fn wanted_pause(request: Request<'_>) -> Option<std::time::Duration> {
    let filter = match request.name {
        "find" => request.body.get_document("filter").ok()?,
        "count" | "distinct" => request.body.get_document("query").ok()?,
        "aggregate" => {
            let first = request.body.get_array("pipeline").ok()?.first()?;
            first.as_document()?.get_document("$match").ok()?
        }
        _ => return None,
    };
    let (Bson::String(code) | Bson::JavaScriptCode(code)) = filter.get("$where")? else {
        return None;
    };
    let (_, after) = code.split_once("sleep(")?;
    let (number, _) = after.split_once(')')?;
    let millis: u64 = number.trim().parse().ok()?;
    Some(std::time::Duration::from_millis(millis.min(10_000)))
}
