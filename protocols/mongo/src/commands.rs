//! The known commands: where their namespace is, what their reply is read for, and which are sensitive.

mod table;

use table::COMMANDS;

/// Where a command's namespace is found (mongodb.com/docs, "Database Commands").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NamespaceSource {
    /// The first value names a collection of `$db`; the number 1 means the whole database.
    Collection,
    /// `$db` itself.
    Database,
    /// The first value is a whole `database.collection`, or the name of a database.
    Namespace,
    /// The first value may name anything, as in a command that is not in the table.
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
    /// A cursor that `getMore` continues.
    Cursor,
    /// The next batch of a cursor.
    GetMore,
    /// How many documents it wrote.
    Write,
    /// How many documents it wrote, and one result for each of its operations.
    Bulk,
    /// The server's description, and perhaps the first step of an authentication.
    Hello,
    /// The first step of an authentication.
    SaslStart,
    /// A further step of an authentication.
    SaslContinue,
    /// The end of a user's session.
    Logout,
    /// An authentication in one step (X.509).
    Authenticate,
    /// A legacy `OP_QUERY` or `OP_GET_MORE`: the reply is documents, not a command reply.
    Query,
}

/// What a command may change: documents, metadata (indexes, users, settings), or the server
/// itself. In doubt it counts as a write: `validate` can repair, for example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteEffect {
    /// It changes nothing that another connection can see.
    Reads,
    /// It may change something.
    Writes,
    /// `aggregate`: it writes if one of its stages does.
    ByPipeline,
    /// `mapReduce`: it writes unless its results come back `inline`.
    ByOutput,
    /// `explain`: as the command inside it, although servers only plan that.
    ByExplained,
}

/// A command: its spellings, how its request and its reply are read, and what it may change.
#[derive(Debug)]
pub(crate) struct Command {
    /// The name that is reported, whichever spelling the client used.
    pub(crate) name: &'static str,
    /// Other spellings that servers accept.
    aliases: &'static [&'static str],
    /// Where its namespace is found.
    pub(crate) namespace_source: NamespaceSource,
    /// What its reply is read for.
    pub(crate) reply_kind: ReplyKind,
    /// What it may do to data.
    pub(crate) write_effect: WriteEffect,
    /// Neither its fields nor its reply may be logged (specifications,
    /// command-logging-and-monitoring, "Security").
    pub(crate) sensitive: bool,
    /// Servers answer it before authentication (`requiresAuth` is false in their source), whatever
    /// database it names: a successful reply confirms no name.
    pub(crate) pre_auth: bool,
}

impl Command {
    /// Whether the table has it.
    pub(crate) fn is_known(&self) -> bool {
        self.name != OTHER.name
    }

    /// Whether the request carries documents that are counted.
    pub(crate) fn carries_documents(&self) -> bool {
        matches!(self.reply_kind, ReplyKind::Write | ReplyKind::Bulk)
    }

    /// Whether it may name collections other than the one that it runs on.
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

    /// Whether limits let it pass: it costs the server nothing, or releases what the server holds.
    pub(crate) fn is_limit_exempt(&self) -> bool {
        self.pre_auth || matches!(self.name, "abortTransaction" | "killCursors")
    }

    /// The spelling with this number; 0 is the name.
    const fn spelling(&self, number: usize) -> &'static str {
        if number == 0 { self.name } else { self.aliases[number - 1] }
    }
}

/// Stands for every command that is not in the table: clients choose command names, so unknown
/// ones must not become label values.
pub(crate) static OTHER: Command = Command {
    name: "other",
    aliases: &[],
    namespace_source: NamespaceSource::Unknown,
    reply_kind: ReplyKind::Plain,
    write_effect: WriteEffect::Writes,
    sensitive: false,
    pre_auth: false,
};

/// Stands for the command of a request of which too little has been read to find it. The command
/// may be a sensitive one.
pub(crate) static UNREAD_COMMAND: Command = Command { name: "?", sensitive: true, ..OTHER };

/// The command that is spelled `spelling`, or [`OTHER`].
pub(crate) fn find(spelling: &[u8]) -> &'static Command {
    let Some(first) = spelling.first() else { return &OTHER };
    let at = usize::from(*first);
    let (from, to) = (usize::from(FIRST_BYTE_INDEX[at]), usize::from(FIRST_BYTE_INDEX[at + 1]));
    let found = SPELLINGS[from..to].iter().find(|(known, _)| known.as_bytes() == spelling);
    found.map_or(&OTHER, |(_, command)| command)
}

/// The names of all known commands, each once.
pub(crate) fn commands() -> impl Iterator<Item = &'static str> {
    COMMANDS.iter().map(|command| command.name)
}

/// How many spellings the table has.
const SPELLING_COUNT: usize = {
    let (mut count, mut at) = (0, 0);
    while at < COMMANDS.len() {
        count += 1 + COMMANDS[at].aliases.len();
        at += 1;
    }
    count
};

/// Where in [`SPELLINGS`] the spellings start whose first byte is this one. So few share a first
/// byte that comparing lengths nearly always decides.
static FIRST_BYTE_INDEX: [u16; 257] = {
    let mut index = [0; 257];
    let mut at = 0;
    while at < COMMANDS.len() {
        let mut number = 0;
        while number <= COMMANDS[at].aliases.len() {
            index[COMMANDS[at].spelling(number).as_bytes()[0] as usize + 1] += 1;
            number += 1;
        }
        at += 1;
    }
    let mut byte = 1;
    while byte < index.len() {
        index[byte] += index[byte - 1];
        byte += 1;
    }
    index
};

/// Every spelling with its command, grouped by first byte.
static SPELLINGS: [(&str, &Command); SPELLING_COUNT] = {
    let mut spellings: [(&str, &Command); SPELLING_COUNT] = [("", &OTHER); SPELLING_COUNT];
    let (mut next, mut at) = (FIRST_BYTE_INDEX, 0);
    while at < COMMANDS.len() {
        let mut number = 0;
        while number <= COMMANDS[at].aliases.len() {
            let spelling = COMMANDS[at].spelling(number);
            let first = spelling.as_bytes()[0] as usize;
            spellings[next[first] as usize] = (spelling, &COMMANDS[at]);
            next[first] += 1;
            number += 1;
        }
        at += 1;
    }
    spellings
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_found_and_belongs_to_one_command() {
        assert!(COMMANDS.is_sorted_by(|a, b| a.name < b.name));
        let mut spellings = Vec::new();
        for command in COMMANDS {
            for number in 0..=command.aliases.len() {
                spellings.push(command.spelling(number));
                assert_eq!(find(command.spelling(number).as_bytes()).name, command.name);
            }
        }
        let count = spellings.len();
        spellings.sort_unstable();
        spellings.dedup();
        assert_eq!((spellings.len(), SPELLINGS.len()), (count, count));
    }

    #[test]
    fn spellings_share_a_name_and_unknown_commands_share_other() {
        assert_eq!(find(b"ismaster").name, "isMaster");
        assert_eq!(find(b"findandmodify").name, "findAndModify");
        assert_eq!(find(b"mapreduce").name, "mapReduce");
        assert_eq!(find(b"buildinfo").name, "buildInfo");
        assert_eq!(find(b"FIND").name, "other");
        assert_eq!(find(b"").name, "other");
    }

    #[test]
    fn what_the_specification_calls_sensitive_is_sensitive() {
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
