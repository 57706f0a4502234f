//! The commands that are known by name: what their first value means, and what is secret.

/// Where a command's namespace is found (mongodb.com/docs, "Database Commands").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// The first value names a collection of `$db`; where it is no string, the database is meant.
    Collection,
    /// `$db` itself.
    Database,
    /// The first value is a whole `database.collection`.
    Namespace,
    /// `getMore`: the first value is a cursor, `collection` names the collection.
    GetMore,
    /// `explain`: the first value is another command.
    Explain,
    /// `bulkWrite`: the first namespace of `nsInfo`.
    Bulk,
}

/// What a command's reply is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Only its outcome, and the documents in it.
    Plain,
    /// A cursor that `getMore` goes on with.
    Cursor,
    /// More of a cursor.
    GetMore,
    /// How many documents it wrote.
    Write,
    /// How many documents it wrote, and one result for each of its operations.
    Bulk,
    /// Who the server is, and perhaps the first step of an authentication.
    Hello,
    /// The first step of an authentication.
    SaslStart,
    /// A further step of an authentication.
    SaslContinue,
    /// An authentication in one step (X.509).
    Authenticate,
    /// A legacy `OP_QUERY` or `OP_GET_MORE`, whose reply is documents and no command's answer.
    Query,
}

/// What a command may do to documents, to what is known of them (indexes, users, settings), or to
/// the server itself. Where that is doubtful, it writes: `validate` can repair, for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It changes nothing that another connection would see.
    Reads,
    /// It may change something.
    Writes,
    /// `aggregate`: it writes if one of its stages does.
    Stages,
    /// `mapReduce`: it writes unless its results come back `inline`.
    Output,
    /// `explain`: taken for what it explains, though servers only plan writes then.
    Explains,
}

/// A command, as it is written on the wire and as it is reported.
#[derive(Debug)]
pub(crate) struct Command {
    word: &'static str,
    /// The one name for all its spellings.
    pub(crate) name: &'static str,
    /// Where its namespace is found.
    pub(crate) target: Target,
    /// What its reply is read for.
    pub(crate) role: Role,
    /// What it may do to data.
    pub(crate) effect: Effect,
    /// Neither its fields nor its reply may be shown (specifications,
    /// command-logging-and-monitoring, "Security").
    pub(crate) secret: bool,
}

impl Command {
    /// Whether the request carries documents worth counting.
    pub(crate) fn carries_documents(&self) -> bool {
        matches!(self.role, Role::Write | Role::Bulk)
    }

    /// Whether it costs the server nothing, or gives back what it holds.
    pub(crate) fn is_light(&self) -> bool {
        self.answers_anybody() || matches!(self.name, "abortTransaction" | "killCursors")
    }

    /// Whether a server answers it to clients that have not logged in (`requiresAuth` in its
    /// source), whatever database they name: that it went well confirms no name.
    pub(crate) fn answers_anybody(&self) -> bool {
        let open = matches!(self.role, Role::Hello | Role::SaslStart | Role::SaslContinue);
        open || matches!(
            self.name,
            "authenticate"
                | "availableQueryOptions"
                | "buildInfo"
                | "connectionStatus"
                | "copydbgetnonce"
                | "driverOIDCTest"
                | "endSessions"
                | "features"
                | "getLastError"
                | "getPrevError"
                | "getlasterror"
                | "getnonce"
                | "isdbgrid"
                | "listCommands"
                | "logout"
                | "ping"
                | "refreshSessions"
                | "resetError"
                | "startSession"
                | "whatsmyuri"
        )
    }
}

/// Every command that isn't in the table: clients choose names, so names must not be kept.
pub(crate) static OTHER: Command = plain("other", "other", Target::Database, Effect::Writes);

/// The command that is written `word`, or [`OTHER`].
pub(crate) fn find(word: &[u8]) -> &'static Command {
    let Some(first) = word.first() else { return &OTHER };
    let at = usize::from(*first);
    let (from, to) = (usize::from(BEGINS[at]), usize::from(BEGINS[at + 1]));
    let found = COMMANDS[from..to].iter().find(|known| known.word.as_bytes() == word);
    found.unwrap_or(&OTHER)
}

/// Where in the table the words begin that begin with this byte or a later one. That leaves so few
/// that comparing lengths nearly always tells them apart.
static BEGINS: [u16; 257] = {
    let mut begins = [0; 257];
    let (mut byte, mut at) = (0, 0);
    while byte < begins.len() {
        while at < COMMANDS.len() && (COMMANDS[at].word.as_bytes()[0] as usize) < byte {
            at += 1;
        }
        begins[byte] = at as u16;
        byte += 1;
    }
    begins
};

const fn plain(word: &'static str, name: &'static str, target: Target, effect: Effect) -> Command {
    Command { word, name, target, role: Role::Plain, effect, secret: false }
}

const fn role(
    word: &'static str,
    name: &'static str,
    target: Target,
    role: Role,
    effect: Effect,
) -> Command {
    Command { word, name, target, role, effect, secret: false }
}

const fn secret(word: &'static str, role: Role, effect: Effect) -> Command {
    Command { word, name: word, target: Target::Database, role, effect, secret: true }
}

use Effect::{Explains, Output, Reads, Stages, Writes};
use Role::{Authenticate, Bulk, Cursor, Hello, Plain, SaslContinue, SaslStart, Write};
use Target::{Collection, Database, Explain, GetMore, Namespace};

/// Sorted by `word`.
#[rustfmt::skip]
static COMMANDS: &[Command] = &[
    plain("_isSelf", "_isSelf", Database, Reads),
    plain("abortTransaction", "abortTransaction", Database, Reads),
    plain("addShard", "addShard", Database, Writes),
    plain("addShardToZone", "addShardToZone", Database, Writes),
    role("aggregate", "aggregate", Collection, Cursor, Stages),
    plain("analyze", "analyze", Collection, Writes),
    plain("analyzeShardKey", "analyzeShardKey", Namespace, Writes),
    plain("appendOplogNote", "appendOplogNote", Database, Writes),
    plain("applyOps", "applyOps", Database, Writes),
    secret("authenticate", Authenticate, Reads),
    plain("autoCompact", "autoCompact", Collection, Writes),
    plain("availableQueryOptions", "availableQueryOptions", Database, Reads),
    plain("balancerCollectionStatus", "balancerCollectionStatus", Namespace, Reads),
    plain("balancerStart", "balancerStart", Database, Writes),
    plain("balancerStatus", "balancerStatus", Database, Reads),
    plain("balancerStop", "balancerStop", Database, Writes),
    plain("buildInfo", "buildInfo", Database, Reads),
    plain("buildinfo", "buildInfo", Database, Reads),
    role("bulkWrite", "bulkWrite", Target::Bulk, Bulk, Writes),
    plain("checkMetadataConsistency", "checkMetadataConsistency", Database, Reads),
    plain("cleanupOrphaned", "cleanupOrphaned", Collection, Writes),
    plain("clearJumboFlag", "clearJumboFlag", Namespace, Writes),
    plain("cloneCollectionAsCapped", "cloneCollectionAsCapped", Collection, Writes),
    plain("collMod", "collMod", Collection, Writes),
    plain("collStats", "collStats", Collection, Reads),
    plain("commitTransaction", "commitTransaction", Database, Reads),
    plain("compact", "compact", Collection, Writes),
    plain("compactStructuredEncryptionData", "compactStructuredEncryptionData", Collection, Writes),
    plain("configureCollectionBalancing", "configureCollectionBalancing", Namespace, Writes),
    plain("configureFailPoint", "configureFailPoint", Database, Writes),
    plain("configureQueryAnalyzer", "configureQueryAnalyzer", Namespace, Writes),
    plain("connPoolStats", "connPoolStats", Database, Reads),
    plain("connectionStatus", "connectionStatus", Database, Reads),
    plain("convertToCapped", "convertToCapped", Collection, Writes),
    plain("coordinateCommitTransaction", "coordinateCommitTransaction", Database, Writes),
    secret("copydb", Plain, Writes),
    secret("copydbgetnonce", Plain, Reads),
    secret("copydbsaslstart", Plain, Reads),
    plain("count", "count", Collection, Reads),
    plain("create", "create", Collection, Writes),
    plain("createIndexes", "createIndexes", Collection, Writes),
    plain("createRole", "createRole", Database, Writes),
    plain("createSearchIndexes", "createSearchIndexes", Collection, Writes),
    secret("createUser", Plain, Writes),
    plain("currentOp", "currentOp", Database, Reads),
    plain("dataSize", "dataSize", Collection, Reads),
    plain("dbHash", "dbHash", Database, Reads),
    plain("dbStats", "dbStats", Database, Reads),
    role("delete", "delete", Collection, Write, Writes),
    plain("deleteIndexes", "deleteIndexes", Collection, Writes),
    plain("distinct", "distinct", Collection, Reads),
    plain("driverOIDCTest", "driverOIDCTest", Database, Reads),
    plain("drop", "drop", Collection, Writes),
    plain("dropAllRolesFromDatabase", "dropAllRolesFromDatabase", Database, Writes),
    plain("dropAllUsersFromDatabase", "dropAllUsersFromDatabase", Database, Writes),
    plain("dropDatabase", "dropDatabase", Database, Writes),
    plain("dropIndexes", "dropIndexes", Collection, Writes),
    plain("dropRole", "dropRole", Database, Writes),
    plain("dropSearchIndex", "dropSearchIndex", Collection, Writes),
    plain("dropUser", "dropUser", Database, Writes),
    plain("enableSharding", "enableSharding", Database, Writes),
    plain("endSessions", "endSessions", Database, Reads),
    plain("eval", "eval", Database, Writes),
    plain("explain", "explain", Explain, Explains),
    plain("features", "features", Database, Reads),
    plain("filemd5", "filemd5", Collection, Reads),
    role("find", "find", Collection, Cursor, Reads),
    plain("findAndModify", "findAndModify", Collection, Writes),
    plain("findandmodify", "findAndModify", Collection, Writes),
    plain("flushRouterConfig", "flushRouterConfig", Database, Writes),
    plain("fsync", "fsync", Database, Writes),
    plain("fsyncUnlock", "fsyncUnlock", Database, Writes),
    plain("geoSearch", "geoSearch", Collection, Reads),
    plain("getClusterParameter", "getClusterParameter", Database, Reads),
    plain("getCmdLineOpts", "getCmdLineOpts", Database, Reads),
    plain("getDefaultRWConcern", "getDefaultRWConcern", Database, Reads),
    plain("getFreeMonitoringStatus", "getFreeMonitoringStatus", Database, Reads),
    plain("getLastError", "getLastError", Database, Reads),
    plain("getLog", "getLog", Database, Reads),
    role("getMore", "getMore", GetMore, Role::GetMore, Reads),
    plain("getParameter", "getParameter", Database, Reads),
    plain("getPrevError", "getPrevError", Database, Reads),
    plain("getShardMap", "getShardMap", Database, Reads),
    plain("getlasterror", "getlasterror", Database, Reads),
    secret("getnonce", Plain, Reads),
    plain("grantPrivilegesToRole", "grantPrivilegesToRole", Database, Writes),
    plain("grantRolesToRole", "grantRolesToRole", Database, Writes),
    plain("grantRolesToUser", "grantRolesToUser", Database, Writes),
    role("hello", "hello", Database, Hello, Reads),
    plain("hostInfo", "hostInfo", Database, Reads),
    role("insert", "insert", Collection, Write, Writes),
    plain("invalidateUserCache", "invalidateUserCache", Database, Writes),
    role("isMaster", "isMaster", Database, Hello, Reads),
    plain("isSelf", "isSelf", Database, Reads),
    plain("isdbgrid", "isdbgrid", Database, Reads),
    role("ismaster", "isMaster", Database, Hello, Reads),
    plain("killAllSessions", "killAllSessions", Database, Writes),
    plain("killAllSessionsByPattern", "killAllSessionsByPattern", Database, Writes),
    plain("killCursors", "killCursors", Collection, Reads),
    plain("killOp", "killOp", Database, Writes),
    plain("killSessions", "killSessions", Database, Reads),
    role("listCollections", "listCollections", Database, Cursor, Reads),
    plain("listCommands", "listCommands", Database, Reads),
    plain("listDatabases", "listDatabases", Database, Reads),
    role("listIndexes", "listIndexes", Collection, Cursor, Reads),
    plain("listSearchIndexes", "listSearchIndexes", Collection, Reads),
    plain("listShards", "listShards", Database, Reads),
    plain("lockInfo", "lockInfo", Database, Reads),
    plain("logRotate", "logRotate", Database, Writes),
    plain("logout", "logout", Database, Reads),
    plain("mapReduce", "mapReduce", Collection, Output),
    plain("mapreduce", "mapReduce", Collection, Output),
    plain("mergeChunks", "mergeChunks", Namespace, Writes),
    plain("moveChunk", "moveChunk", Namespace, Writes),
    plain("moveCollection", "moveCollection", Namespace, Writes),
    plain("movePrimary", "movePrimary", Database, Writes),
    plain("moveRange", "moveRange", Namespace, Writes),
    plain("netstat", "netstat", Database, Reads),
    plain("parallelCollectionScan", "parallelCollectionScan", Collection, Reads),
    plain("ping", "ping", Database, Reads),
    plain("planCacheClear", "planCacheClear", Collection, Writes),
    plain("planCacheClearFilters", "planCacheClearFilters", Collection, Writes),
    plain("planCacheListFilters", "planCacheListFilters", Collection, Reads),
    plain("planCacheSetFilter", "planCacheSetFilter", Collection, Writes),
    plain("profile", "profile", Database, Writes),
    plain("reIndex", "reIndex", Collection, Writes),
    plain("refineCollectionShardKey", "refineCollectionShardKey", Namespace, Writes),
    plain("refreshSessions", "refreshSessions", Database, Reads),
    plain("removeQuerySettings", "removeQuerySettings", Database, Writes),
    plain("removeShard", "removeShard", Database, Writes),
    plain("removeShardFromZone", "removeShardFromZone", Database, Writes),
    plain("renameCollection", "renameCollection", Namespace, Writes),
    plain("replSetAbortPrimaryCatchUp", "replSetAbortPrimaryCatchUp", Database, Writes),
    plain("replSetFreeze", "replSetFreeze", Database, Writes),
    plain("replSetGetConfig", "replSetGetConfig", Database, Reads),
    plain("replSetGetStatus", "replSetGetStatus", Database, Reads),
    plain("replSetInitiate", "replSetInitiate", Database, Writes),
    plain("replSetMaintenance", "replSetMaintenance", Database, Writes),
    plain("replSetReconfig", "replSetReconfig", Database, Writes),
    plain("replSetResizeOplog", "replSetResizeOplog", Database, Writes),
    plain("replSetStepDown", "replSetStepDown", Database, Writes),
    plain("replSetStepUp", "replSetStepUp", Database, Writes),
    plain("replSetSyncFrom", "replSetSyncFrom", Database, Writes),
    plain("resetError", "resetError", Database, Reads),
    plain("reshardCollection", "reshardCollection", Namespace, Writes),
    plain("revokePrivilegesFromRole", "revokePrivilegesFromRole", Database, Writes),
    plain("revokeRolesFromRole", "revokeRolesFromRole", Database, Writes),
    plain("revokeRolesFromUser", "revokeRolesFromUser", Database, Writes),
    plain("rolesInfo", "rolesInfo", Database, Reads),
    plain("rotateCertificates", "rotateCertificates", Database, Writes),
    secret("saslContinue", SaslContinue, Reads),
    secret("saslStart", SaslStart, Reads),
    plain("serverStatus", "serverStatus", Database, Reads),
    plain("setClusterParameter", "setClusterParameter", Database, Writes),
    plain("setDefaultRWConcern", "setDefaultRWConcern", Database, Writes),
    plain("setFeatureCompatibilityVersion", "setFeatureCompatibilityVersion", Database, Writes),
    plain("setFreeMonitoring", "setFreeMonitoring", Database, Writes),
    plain("setIndexCommitQuorum", "setIndexCommitQuorum", Database, Writes),
    plain("setParameter", "setParameter", Database, Writes),
    plain("setQuerySettings", "setQuerySettings", Database, Writes),
    plain("setUserWriteBlockMode", "setUserWriteBlockMode", Database, Writes),
    plain("shardCollection", "shardCollection", Namespace, Writes),
    plain("shardingState", "shardingState", Database, Reads),
    plain("shutdown", "shutdown", Database, Writes),
    plain("split", "split", Namespace, Writes),
    plain("splitVector", "splitVector", Namespace, Reads),
    plain("startSession", "startSession", Database, Reads),
    plain("top", "top", Database, Reads),
    plain("transitionFromDedicatedConfigServer", "transitionFromDedicatedConfigServer", Database, Writes),
    plain("transitionToDedicatedConfigServer", "transitionToDedicatedConfigServer", Database, Writes),
    plain("unshardCollection", "unshardCollection", Namespace, Writes),
    role("update", "update", Collection, Write, Writes),
    plain("updateRole", "updateRole", Database, Writes),
    plain("updateSearchIndex", "updateSearchIndex", Collection, Writes),
    secret("updateUser", Plain, Writes),
    plain("updateZoneKeyRange", "updateZoneKeyRange", Database, Writes),
    plain("usersInfo", "usersInfo", Database, Reads),
    plain("validate", "validate", Collection, Writes),
    plain("validateDBMetadata", "validateDBMetadata", Database, Reads),
    plain("waitForFailPoint", "waitForFailPoint", Database, Reads),
    plain("whatsmyuri", "whatsmyuri", Database, Reads),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_so_that_every_command_is_found() {
        assert!(COMMANDS.is_sorted_by(|a, b| a.word < b.word));
        for command in COMMANDS {
            assert_eq!(find(command.word.as_bytes()).word, command.word);
        }
    }

    #[test]
    fn spellings_share_a_name_and_strangers_share_other() {
        assert_eq!(find(b"ismaster").name, "isMaster");
        assert_eq!(find(b"findandmodify").name, "findAndModify");
        assert_eq!(find(b"mapreduce").name, "mapReduce");
        assert_eq!(find(b"buildinfo").name, "buildInfo");
        assert_eq!(find(b"FIND").name, "other");
        assert_eq!(find(b"").name, "other");
    }

    #[test]
    fn what_the_specification_calls_secret_is_secret() {
        for word in [
            "authenticate",
            "saslStart",
            "saslContinue",
            "getnonce",
            "createUser",
            "updateUser",
            "copydbgetnonce",
            "copydbsaslstart",
            "copydb",
        ] {
            assert!(find(word.as_bytes()).secret, "{word}");
        }
        assert!(!find(b"find").secret);
    }
}
