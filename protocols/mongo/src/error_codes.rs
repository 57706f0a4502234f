//! The server's error codes: their names, and which of them count against the node.

use operation::Outcome;
use operation::Outcome::{Failed, Rejected};

/// The name of an error without a code.
const UNKNOWN: &str = "unknown";
/// The name of every code that is not in the table: names become label values.
const OTHER: &str = "other";

/// The outcome and the name of an error with this code.
///
/// `Failed` is only what counts against the node: it shuts down, is not the primary, or cannot do
/// its work. Unknown codes are `Rejected`.
pub(crate) fn classify(code: Option<i32>) -> (Outcome, &'static str) {
    let Some(code) = code else { return (Rejected, UNKNOWN) };
    find(code).map_or((Rejected, OTHER), |(_, name, whose)| (*whose, *name))
}

/// The server's name for this code, if it is known.
pub(crate) fn name(code: i32) -> Option<&'static str> {
    find(code).map(|(_, name, _)| *name)
}

fn find(code: i32) -> Option<&'static (i32, &'static str, Outcome)> {
    CODES.get(CODES.binary_search_by_key(&code, |(known, ..)| *known).ok()?)
}

/// `base/error_codes.yml` of the server, sorted by code.
#[rustfmt::skip]
pub(crate) const CODES: &[(i32, &str, Outcome)] = &[
    (1, "InternalError", Failed),
    (2, "BadValue", Rejected),
    (4, "NoSuchKey", Rejected),
    (5, "GraphContainsCycle", Rejected),
    (6, "HostUnreachable", Failed),
    (7, "HostNotFound", Failed),
    (8, "UnknownError", Failed),
    (9, "FailedToParse", Rejected),
    (10, "CannotMutateObject", Rejected),
    (11, "UserNotFound", Rejected),
    (13, "Unauthorized", Rejected),
    (14, "TypeMismatch", Rejected),
    (15, "Overflow", Rejected),
    (16, "InvalidLength", Rejected),
    (17, "ProtocolError", Rejected),
    (18, "AuthenticationFailed", Rejected),
    (20, "IllegalOperation", Rejected),
    (22, "InvalidBSON", Rejected),
    (23, "AlreadyInitialized", Rejected),
    (24, "LockTimeout", Rejected),
    (26, "NamespaceNotFound", Rejected),
    (27, "IndexNotFound", Rejected),
    (28, "PathNotViable", Rejected),
    (29, "NonExistentPath", Rejected),
    (31, "RoleNotFound", Rejected),
    (40, "ConflictingUpdateOperators", Rejected),
    (43, "CursorNotFound", Rejected),
    (46, "LockBusy", Rejected),
    (48, "NamespaceExists", Rejected),
    (50, "MaxTimeMSExpired", Rejected),
    (52, "DollarPrefixedFieldName", Rejected),
    (53, "InvalidIdField", Rejected),
    (57, "DottedFieldName", Rejected),
    (59, "CommandNotFound", Rejected),
    (61, "ShardKeyNotFound", Rejected),
    (63, "StaleShardVersion", Rejected),
    (64, "WriteConcernFailed", Rejected),
    (66, "ImmutableField", Rejected),
    (67, "CannotCreateIndex", Rejected),
    (68, "IndexAlreadyExists", Rejected),
    (72, "InvalidOptions", Rejected),
    (73, "InvalidNamespace", Rejected),
    (74, "NodeNotFound", Rejected),
    (76, "NoReplicationEnabled", Rejected),
    (79, "UnknownReplWriteConcern", Rejected),
    (85, "IndexOptionsConflict", Rejected),
    (86, "IndexKeySpecsConflict", Rejected),
    (89, "NetworkTimeout", Failed),
    (91, "ShutdownInProgress", Failed),
    (93, "InvalidPipelineOperator", Rejected),
    (94, "NotYetInitialized", Rejected),
    (96, "OperationFailed", Rejected),
    (100, "UnsatisfiableWriteConcern", Rejected),
    (107, "TransactionCoordinatorSteppingDown", Rejected),
    (109, "ClientMarkedKilled", Rejected),
    (112, "WriteConflict", Rejected),
    (117, "ConflictingOperationInProgress", Rejected),
    (121, "DocumentValidationFailure", Rejected),
    (125, "CommandFailed", Rejected),
    (133, "FailedToSatisfyReadPreference", Rejected),
    (134, "ReadConcernMajorityNotAvailableYet", Rejected),
    (136, "CappedPositionLost", Rejected),
    (146, "ExceededMemoryLimit", Rejected),
    (148, "ReadConcernMajorityNotEnabled", Rejected),
    (150, "StaleEpoch", Rejected),
    (165, "ViewDepthLimitExceeded", Rejected),
    (166, "CommandNotSupportedOnView", Rejected),
    (175, "QueryPlanKilled", Rejected),
    (189, "PrimarySteppedDown", Failed),
    (202, "NetworkInterfaceExceededTimeLimit", Rejected),
    (206, "NoSuchSession", Rejected),
    (211, "KeyNotFound", Rejected),
    (217, "IncompleteTransactionHistory", Rejected),
    (222, "CloseChangeStream", Rejected),
    (223, "IllegalOpMsgFlag", Rejected),
    (225, "TransactionTooOld", Rejected),
    (234, "RetryChangeStream", Rejected),
    (237, "CursorKilled", Rejected),
    (238, "NotImplemented", Rejected),
    (239, "SnapshotTooOld", Rejected),
    (244, "TransactionAborted", Rejected),
    (246, "SnapshotUnavailable", Rejected),
    (251, "NoSuchTransaction", Rejected),
    (256, "TransactionCommitted", Rejected),
    (257, "TransactionTooLarge", Rejected),
    (262, "ExceededTimeLimit", Rejected),
    (263, "OperationNotSupportedInTransaction", Rejected),
    (276, "IndexBuildAborted", Rejected),
    (279, "ClientDisconnect", Rejected),
    (280, "ChangeStreamFatalError", Rejected),
    (285, "IndexBuildAlreadyInProgress", Rejected),
    (286, "ChangeStreamHistoryLost", Rejected),
    (288, "ChecksumMismatch", Rejected),
    (290, "TransactionExceededLifetimeLimitSeconds", Rejected),
    (292, "QueryExceededMemoryLimitNoDiskUseAllowed", Rejected),
    (301, "DataCorruptionDetected", Failed),
    (314, "ObjectIsBusy", Rejected),
    (322, "APIVersionError", Rejected),
    (323, "APIStrictError", Rejected),
    (324, "APIDeprecationError", Rejected),
    (352, "UnsupportedOpQueryCommand", Rejected),
    (354, "LoadBalancerSupportMismatch", Rejected),
    (371, "UserWritesBlocked", Rejected),
    (391, "ReauthenticationRequired", Rejected),
    (402, "ResourceExhausted", Failed),
    (411, "QueryRejectedBySettings", Rejected),
    (433, "AdmissionQueueOverflow", Rejected),
    (449, "RateLimitExceeded", Rejected),
    (450, "PooledConnectionAcquisitionRejected", Rejected),
    (462, "IngressRequestRateLimitExceeded", Rejected),
    (9001, "SocketException", Failed),
    (10003, "CannotGrowDocumentInCappedNamespace", Rejected),
    (10058, "LegacyNotPrimary", Failed),
    (10107, "NotWritablePrimary", Failed),
    (10334, "BSONObjectTooLarge", Rejected),
    (11000, "DuplicateKey", Rejected),
    (11600, "InterruptedAtShutdown", Failed),
    (11601, "Interrupted", Rejected),
    (11602, "InterruptedDueToReplStateChange", Failed),
    (13297, "DatabaseDifferCase", Rejected),
    (13388, "StaleConfig", Rejected),
    (13435, "NotPrimaryNoSecondaryOk", Failed),
    (13436, "NotPrimaryOrSecondary", Failed),
    (14031, "OutOfDiskSpace", Failed),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_so_that_every_code_is_found() {
        assert!(CODES.is_sorted_by(|a, b| a.0 < b.0));
        for (code, name, whose) in CODES {
            assert_eq!(classify(Some(*code)), (*whose, *name));
        }
    }

    #[test]
    fn only_what_speaks_against_the_node_is_its_failure() {
        let failed = [
            1, 6, 7, 8, 89, 91, 189, 301, 402, 9001, 10058, 10107, 11600, 11602, 13435, 13436,
            14031,
        ];
        for (code, ..) in CODES {
            let whose = if failed.contains(code) { Failed } else { Rejected };
            assert_eq!(classify(Some(*code)).0, whose, "{code}");
        }
        for code in [11000, 112, 121, 50, 262, 24, 462, 433, 449, 450, 64, 100, 13, 26, 59] {
            assert_eq!(classify(Some(code)).0, Rejected, "{code}");
        }
    }

    #[test]
    fn unknown_codes_blame_neither_side() {
        assert_eq!(classify(Some(123_456)), (Rejected, "other"));
        assert_eq!(classify(Some(-1)), (Rejected, "other"));
        assert_eq!(classify(None), (Rejected, "unknown"));
    }
}
