//! The commands that are known by name: what their first value means, and what is secret.

mod table;

use table::COMMANDS;

/// Where a command's namespace is found (mongodb.com/docs, "Database Commands").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NamespaceSource {
    /// The first value names a collection of `$db`; the number 1 stands for the whole database.
    Collection,
    /// `$db` itself.
    Database,
    /// The first value is a whole `database.collection`, or the name of a database.
    Namespace,
    /// The first value may name anything, as that of a command that is not known.
    Unknown,
    /// `getMore`: the first value is a cursor, `collection` names the collection.
    GetMore,
    /// `explain`: the first value is another command.
    Explain,
    /// `bulkWrite`: the first namespace of `nsInfo`.
    Bulk,
}

/// What a command's reply is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplyKind {
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
    /// The end of a user's being logged in.
    Logout,
    /// An authentication in one step (X.509).
    Authenticate,
    /// A legacy `OP_QUERY` or `OP_GET_MORE`, whose reply is documents and no command's answer.
    Query,
}

/// What a command may do to documents, to what is known of them (indexes, users, settings), or to
/// the server itself. Where that is doubtful, it writes: `validate` can repair, for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteEffect {
    /// It changes nothing that another connection would see.
    Reads,
    /// It may change something.
    Writes,
    /// `aggregate`: it writes if one of its stages does.
    ByPipeline,
    /// `mapReduce`: it writes unless its results come back `inline`.
    ByOutput,
    /// `explain`: taken for what it explains, though servers only plan writes then.
    ByExplained,
}

/// A command, as it is written on the wire and as it is reported.
#[derive(Debug)]
pub(crate) struct Command {
    spelling: &'static str,
    /// The one name for all its spellings.
    pub(crate) name: &'static str,
    /// Where its namespace is found.
    pub(crate) namespace_source: NamespaceSource,
    /// What its reply is read for.
    pub(crate) reply_kind: ReplyKind,
    /// What it may do to data.
    pub(crate) write_effect: WriteEffect,
    /// Neither its fields nor its reply may be shown (specifications,
    /// command-logging-and-monitoring, "Security").
    pub(crate) sensitive: bool,
}

impl Command {
    /// Whether the request carries documents worth counting.
    pub(crate) fn carries_documents(&self) -> bool {
        matches!(self.reply_kind, ReplyKind::Write | ReplyKind::Bulk)
    }

    /// Whether it may name collections beside the one that it is about.
    pub(crate) fn names_other_namespaces(&self) -> bool {
        match self.namespace_source {
            NamespaceSource::Bulk | NamespaceSource::Explain => true,
            NamespaceSource::Collection
            | NamespaceSource::Namespace
            | NamespaceSource::Database => matches!(
                self.name,
                "aggregate"
                    | "applyOps"
                    | "cloneCollectionAsCapped"
                    | "collMod"
                    | "create"
                    | "filemd5"
                    | "mapReduce"
                    | "renameCollection"
            ),
            NamespaceSource::GetMore | NamespaceSource::Unknown => false,
        }
    }

    /// Whether it costs the server nothing, or gives back what it holds.
    pub(crate) fn is_limit_exempt(&self) -> bool {
        self.pre_auth() || matches!(self.name, "abortTransaction" | "killCursors")
    }

    /// Whether a server answers it to clients that have not logged in (`requiresAuth` in its
    /// source), whatever database they name: that it went well confirms no name.
    pub(crate) fn pre_auth(&self) -> bool {
        let open = matches!(
            self.reply_kind,
            ReplyKind::Hello | ReplyKind::SaslStart | ReplyKind::SaslContinue
        );
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
pub(crate) static OTHER: Command = Command {
    spelling: "other",
    name: "other",
    namespace_source: NamespaceSource::Unknown,
    reply_kind: ReplyKind::Plain,
    write_effect: WriteEffect::Writes,
    sensitive: false,
};

/// The command of a request of which too little has been read to tell it. It may be one that
/// nothing of may be shown.
pub(crate) static UNREAD_COMMAND: Command =
    Command { spelling: "?", name: "?", sensitive: true, ..OTHER };

/// The command that is written `word`, or [`OTHER`].
pub(crate) fn find(word: &[u8]) -> &'static Command {
    let Some(first) = word.first() else { return &OTHER };
    let at = usize::from(*first);
    let (from, to) = (usize::from(FIRST_BYTE_INDEX[at]), usize::from(FIRST_BYTE_INDEX[at + 1]));
    let found = COMMANDS[from..to].iter().find(|known| known.spelling.as_bytes() == word);
    found.unwrap_or(&OTHER)
}

/// The names of all commands that are known, some of them more than once.
pub fn commands() -> impl Iterator<Item = &'static str> {
    COMMANDS.iter().map(|known| known.name)
}

/// Where in the table the words begin that begin with this byte or a later one. That leaves so few
/// that comparing lengths nearly always tells them apart.
static FIRST_BYTE_INDEX: [u16; 257] = {
    let mut begins = [0; 257];
    let (mut byte, mut at) = (0, 0);
    while byte < begins.len() {
        while at < COMMANDS.len() && (COMMANDS[at].spelling.as_bytes()[0] as usize) < byte {
            at += 1;
        }
        begins[byte] = at as u16;
        byte += 1;
    }
    begins
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_so_that_every_command_is_found() {
        assert!(COMMANDS.is_sorted_by(|a, b| a.spelling < b.spelling));
        for command in COMMANDS {
            assert_eq!(find(command.spelling.as_bytes()).spelling, command.spelling);
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
            assert!(find(word.as_bytes()).sensitive, "{word}");
        }
        assert!(!find(b"find").sensitive);
    }
}
