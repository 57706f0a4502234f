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
    /// Neither its fields nor its reply may be shown (specifications,
    /// command-logging-and-monitoring, "Security").
    pub(crate) secret: bool,
}

impl Command {
    /// Whether the request carries documents worth counting.
    pub(crate) fn carries_documents(&self) -> bool {
        matches!(self.role, Role::Write | Role::Bulk)
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
pub(crate) static OTHER: Command = plain("other", "other", Target::Database);

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

const fn plain(word: &'static str, name: &'static str, target: Target) -> Command {
    Command { word, name, target, role: Role::Plain, secret: false }
}

const fn role(word: &'static str, name: &'static str, target: Target, role: Role) -> Command {
    Command { word, name, target, role, secret: false }
}

const fn secret(word: &'static str, role: Role) -> Command {
    Command { word, name: word, target: Target::Database, role, secret: true }
}

use Role::{Authenticate, Bulk, Cursor, Hello, Plain, SaslContinue, SaslStart, Write};
use Target::{Collection, Database, Explain, GetMore, Namespace};

/// Sorted by `word`.
#[rustfmt::skip]
static COMMANDS: &[Command] = &[
    plain("_isSelf", "_isSelf", Database),
    plain("abortTransaction", "abortTransaction", Database),
    plain("addShard", "addShard", Database),
    plain("addShardToZone", "addShardToZone", Database),
    role("aggregate", "aggregate", Collection, Cursor),
    plain("analyze", "analyze", Collection),
    plain("analyzeShardKey", "analyzeShardKey", Namespace),
    plain("appendOplogNote", "appendOplogNote", Database),
    plain("applyOps", "applyOps", Database),
    secret("authenticate", Authenticate),
    plain("autoCompact", "autoCompact", Collection),
    plain("availableQueryOptions", "availableQueryOptions", Database),
    plain("balancerCollectionStatus", "balancerCollectionStatus", Namespace),
    plain("balancerStart", "balancerStart", Database),
    plain("balancerStatus", "balancerStatus", Database),
    plain("balancerStop", "balancerStop", Database),
    plain("buildInfo", "buildInfo", Database),
    plain("buildinfo", "buildInfo", Database),
    role("bulkWrite", "bulkWrite", Target::Bulk, Bulk),
    plain("checkMetadataConsistency", "checkMetadataConsistency", Database),
    plain("cleanupOrphaned", "cleanupOrphaned", Collection),
    plain("clearJumboFlag", "clearJumboFlag", Namespace),
    plain("cloneCollectionAsCapped", "cloneCollectionAsCapped", Collection),
    plain("collMod", "collMod", Collection),
    plain("collStats", "collStats", Collection),
    plain("commitTransaction", "commitTransaction", Database),
    plain("compact", "compact", Collection),
    plain("compactStructuredEncryptionData", "compactStructuredEncryptionData", Collection),
    plain("configureCollectionBalancing", "configureCollectionBalancing", Namespace),
    plain("configureFailPoint", "configureFailPoint", Database),
    plain("configureQueryAnalyzer", "configureQueryAnalyzer", Namespace),
    plain("connPoolStats", "connPoolStats", Database),
    plain("connectionStatus", "connectionStatus", Database),
    plain("convertToCapped", "convertToCapped", Collection),
    plain("coordinateCommitTransaction", "coordinateCommitTransaction", Database),
    secret("copydb", Plain),
    secret("copydbgetnonce", Plain),
    secret("copydbsaslstart", Plain),
    plain("count", "count", Collection),
    plain("create", "create", Collection),
    plain("createIndexes", "createIndexes", Collection),
    plain("createRole", "createRole", Database),
    plain("createSearchIndexes", "createSearchIndexes", Collection),
    secret("createUser", Plain),
    plain("currentOp", "currentOp", Database),
    plain("dataSize", "dataSize", Collection),
    plain("dbHash", "dbHash", Database),
    plain("dbStats", "dbStats", Database),
    role("delete", "delete", Collection, Write),
    plain("deleteIndexes", "deleteIndexes", Collection),
    plain("distinct", "distinct", Collection),
    plain("driverOIDCTest", "driverOIDCTest", Database),
    plain("drop", "drop", Collection),
    plain("dropAllRolesFromDatabase", "dropAllRolesFromDatabase", Database),
    plain("dropAllUsersFromDatabase", "dropAllUsersFromDatabase", Database),
    plain("dropDatabase", "dropDatabase", Database),
    plain("dropIndexes", "dropIndexes", Collection),
    plain("dropRole", "dropRole", Database),
    plain("dropSearchIndex", "dropSearchIndex", Collection),
    plain("dropUser", "dropUser", Database),
    plain("enableSharding", "enableSharding", Database),
    plain("endSessions", "endSessions", Database),
    plain("eval", "eval", Database),
    plain("explain", "explain", Explain),
    plain("features", "features", Database),
    plain("filemd5", "filemd5", Collection),
    role("find", "find", Collection, Cursor),
    plain("findAndModify", "findAndModify", Collection),
    plain("findandmodify", "findAndModify", Collection),
    plain("flushRouterConfig", "flushRouterConfig", Database),
    plain("fsync", "fsync", Database),
    plain("fsyncUnlock", "fsyncUnlock", Database),
    plain("geoSearch", "geoSearch", Collection),
    plain("getClusterParameter", "getClusterParameter", Database),
    plain("getCmdLineOpts", "getCmdLineOpts", Database),
    plain("getDefaultRWConcern", "getDefaultRWConcern", Database),
    plain("getFreeMonitoringStatus", "getFreeMonitoringStatus", Database),
    plain("getLastError", "getLastError", Database),
    plain("getLog", "getLog", Database),
    role("getMore", "getMore", GetMore, Role::GetMore),
    plain("getParameter", "getParameter", Database),
    plain("getPrevError", "getPrevError", Database),
    plain("getShardMap", "getShardMap", Database),
    plain("getlasterror", "getlasterror", Database),
    secret("getnonce", Plain),
    plain("grantPrivilegesToRole", "grantPrivilegesToRole", Database),
    plain("grantRolesToRole", "grantRolesToRole", Database),
    plain("grantRolesToUser", "grantRolesToUser", Database),
    role("hello", "hello", Database, Hello),
    plain("hostInfo", "hostInfo", Database),
    role("insert", "insert", Collection, Write),
    plain("invalidateUserCache", "invalidateUserCache", Database),
    role("isMaster", "isMaster", Database, Hello),
    plain("isSelf", "isSelf", Database),
    plain("isdbgrid", "isdbgrid", Database),
    role("ismaster", "isMaster", Database, Hello),
    plain("killAllSessions", "killAllSessions", Database),
    plain("killAllSessionsByPattern", "killAllSessionsByPattern", Database),
    plain("killCursors", "killCursors", Collection),
    plain("killOp", "killOp", Database),
    plain("killSessions", "killSessions", Database),
    role("listCollections", "listCollections", Database, Cursor),
    plain("listCommands", "listCommands", Database),
    plain("listDatabases", "listDatabases", Database),
    role("listIndexes", "listIndexes", Collection, Cursor),
    plain("listSearchIndexes", "listSearchIndexes", Collection),
    plain("listShards", "listShards", Database),
    plain("lockInfo", "lockInfo", Database),
    plain("logRotate", "logRotate", Database),
    plain("logout", "logout", Database),
    plain("mapReduce", "mapReduce", Collection),
    plain("mapreduce", "mapReduce", Collection),
    plain("mergeChunks", "mergeChunks", Namespace),
    plain("moveChunk", "moveChunk", Namespace),
    plain("moveCollection", "moveCollection", Namespace),
    plain("movePrimary", "movePrimary", Database),
    plain("moveRange", "moveRange", Namespace),
    plain("netstat", "netstat", Database),
    plain("parallelCollectionScan", "parallelCollectionScan", Collection),
    plain("ping", "ping", Database),
    plain("planCacheClear", "planCacheClear", Collection),
    plain("planCacheClearFilters", "planCacheClearFilters", Collection),
    plain("planCacheListFilters", "planCacheListFilters", Collection),
    plain("planCacheSetFilter", "planCacheSetFilter", Collection),
    plain("profile", "profile", Database),
    plain("reIndex", "reIndex", Collection),
    plain("refineCollectionShardKey", "refineCollectionShardKey", Namespace),
    plain("refreshSessions", "refreshSessions", Database),
    plain("removeQuerySettings", "removeQuerySettings", Database),
    plain("removeShard", "removeShard", Database),
    plain("removeShardFromZone", "removeShardFromZone", Database),
    plain("renameCollection", "renameCollection", Namespace),
    plain("replSetAbortPrimaryCatchUp", "replSetAbortPrimaryCatchUp", Database),
    plain("replSetFreeze", "replSetFreeze", Database),
    plain("replSetGetConfig", "replSetGetConfig", Database),
    plain("replSetGetStatus", "replSetGetStatus", Database),
    plain("replSetInitiate", "replSetInitiate", Database),
    plain("replSetMaintenance", "replSetMaintenance", Database),
    plain("replSetReconfig", "replSetReconfig", Database),
    plain("replSetResizeOplog", "replSetResizeOplog", Database),
    plain("replSetStepDown", "replSetStepDown", Database),
    plain("replSetStepUp", "replSetStepUp", Database),
    plain("replSetSyncFrom", "replSetSyncFrom", Database),
    plain("resetError", "resetError", Database),
    plain("reshardCollection", "reshardCollection", Namespace),
    plain("revokePrivilegesFromRole", "revokePrivilegesFromRole", Database),
    plain("revokeRolesFromRole", "revokeRolesFromRole", Database),
    plain("revokeRolesFromUser", "revokeRolesFromUser", Database),
    plain("rolesInfo", "rolesInfo", Database),
    plain("rotateCertificates", "rotateCertificates", Database),
    secret("saslContinue", SaslContinue),
    secret("saslStart", SaslStart),
    plain("serverStatus", "serverStatus", Database),
    plain("setClusterParameter", "setClusterParameter", Database),
    plain("setDefaultRWConcern", "setDefaultRWConcern", Database),
    plain("setFeatureCompatibilityVersion", "setFeatureCompatibilityVersion", Database),
    plain("setFreeMonitoring", "setFreeMonitoring", Database),
    plain("setIndexCommitQuorum", "setIndexCommitQuorum", Database),
    plain("setParameter", "setParameter", Database),
    plain("setQuerySettings", "setQuerySettings", Database),
    plain("setUserWriteBlockMode", "setUserWriteBlockMode", Database),
    plain("shardCollection", "shardCollection", Namespace),
    plain("shardingState", "shardingState", Database),
    plain("shutdown", "shutdown", Database),
    plain("split", "split", Namespace),
    plain("splitVector", "splitVector", Namespace),
    plain("startSession", "startSession", Database),
    plain("top", "top", Database),
    plain("transitionFromDedicatedConfigServer", "transitionFromDedicatedConfigServer", Database),
    plain("transitionToDedicatedConfigServer", "transitionToDedicatedConfigServer", Database),
    plain("unshardCollection", "unshardCollection", Namespace),
    role("update", "update", Collection, Write),
    plain("updateRole", "updateRole", Database),
    plain("updateSearchIndex", "updateSearchIndex", Collection),
    secret("updateUser", Plain),
    plain("updateZoneKeyRange", "updateZoneKeyRange", Database),
    plain("usersInfo", "usersInfo", Database),
    plain("validate", "validate", Collection),
    plain("validateDBMetadata", "validateDBMetadata", Database),
    plain("waitForFailPoint", "waitForFailPoint", Database),
    plain("whatsmyuri", "whatsmyuri", Database),
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
