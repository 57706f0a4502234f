//! How a request goes on whose server steps down, shuts down, can't be reached or is lost.
//!
//! | | read | retryable write | other write | in a transaction | commit, abort | `getMore` |
//! |---|---|---|---|---|---|---|
//! | can't be reached | waits | waits | waits | waits if it begins one, else error | error | error |
//! | refused: is no primary | again | again | again | again if it begins one | error | – |
//! | interrupted by a step-down | again | again | error | error | error | error |
//! | lost before the reply | again | again | closed, or error | error | error | error |
//!
//! Errors are what a mongos answers (`HostUnreachable`), with the label that has the driver do the right
//! thing. Sources: the driver specifications `retryable-reads`, `retryable-writes`, `transactions`
//! ("Error Labels", "When to unpin") and `change-streams` ("Resumable Error").

use crate::{
    commands::ReplyKind, element::elements, header::opcode, message_view::MessageView,
    parsed_command::ParsedCommand, placement::RequestPlace, scan::MessageFacts,
};

/// What a request is, as far as a failure of its server matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum RequestKind {
    /// None of the others: it is not acknowledged, or can't be read.
    #[default]
    Other,
    Read,
    /// The server does it once however often it arrives.
    RetryableWrite {
        /// The driver has made it so, and not the proxy.
        by_driver: bool,
    },
    Write,
    /// It begins a transaction.
    TransactionStart,
    /// It belongs to a transaction that another request has begun.
    InTransaction,
    /// It commits or aborts a transaction.
    TransactionEnd,
    GetMore {
        /// It waits for news, so its cursor may be that of a change stream.
        awaits: bool,
    },
}

/// How a server fails to do a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerFailure {
    /// It refuses the request as a whole: it is no primary. Nothing was done.
    Refused,
    /// A step-down or a shutdown has interrupted it: it may have been done.
    Interrupted,
    /// Its connection was lost before the reply began: it may have been done.
    Lost,
}

impl RequestKind {
    pub(crate) fn of(
        message: &MessageView<'_>,
        asked: &ParsedCommand,
        place: &RequestPlace,
    ) -> Self {
        if asked.unacknowledged || message.header.opcode != opcode::MSG {
            return Self::Other;
        }
        match place {
            RequestPlace::Read(_) => Self::Read,
            RequestPlace::Cursor(_) if asked.reply_kind == ReplyKind::GetMore => {
                Self::GetMore { awaits: false }
            }
            RequestPlace::Cursor(_) => Self::Other,
            RequestPlace::Transaction { ends: true, .. } => Self::TransactionEnd,
            RequestPlace::Transaction { begins: true, .. } => Self::TransactionStart,
            RequestPlace::Transaction { .. } => Self::InTransaction,
            RequestPlace::Write if has_field(message.body, b"txnNumber") => {
                Self::RetryableWrite { by_driver: true }
            }
            RequestPlace::Write => Self::Write,
        }
    }

    /// Whether the request is sent again after this failure.
    pub(crate) fn is_resent_after(self, failure: ServerFailure) -> bool {
        match self {
            Self::Read | Self::RetryableWrite { .. } => true,
            Self::Write | Self::TransactionStart => failure == ServerFailure::Refused,
            Self::InTransaction | Self::TransactionEnd | Self::GetMore { .. } | Self::Other => {
                false
            }
        }
    }

    /// Whether it may wait until a server can be reached.
    pub(crate) fn waits_when_unreachable(self) -> bool {
        !matches!(self, Self::InTransaction | Self::TransactionEnd | Self::GetMore { .. })
    }

    /// Whether a client whose request was lost gets an error. `reports_writes`: also of a write that may
    /// have been done, and must not be repeated without knowing that.
    pub(crate) fn reports_loss(self, reports_writes: bool) -> bool {
        match self {
            Self::Write | Self::RetryableWrite { by_driver: false } => reports_writes,
            Self::Other => false,
            _ => true,
        }
    }

    /// Whether the server may end it although its client has vanished.
    pub(crate) fn outlives_client(self) -> bool {
        matches!(
            self,
            Self::Write
                | Self::RetryableWrite { .. }
                | Self::TransactionStart
                | Self::InTransaction
                | Self::TransactionEnd
        )
    }

    /// The label of an error by which the driver learns that it may repeat the request, or what it is part
    /// of.
    pub(crate) fn error_label(self) -> Option<&'static str> {
        match self {
            Self::TransactionStart | Self::InTransaction => Some("TransientTransactionError"),
            Self::TransactionEnd | Self::RetryableWrite { by_driver: true } => {
                Some("RetryableWriteError")
            }
            Self::GetMore { awaits: true } => Some("ResumableChangeStreamError"),
            _ => None,
        }
    }
}

/// How the server has failed, by its reply; `None`: it has not, or not because of its state.
pub(crate) fn failure_of(facts: &MessageFacts) -> Option<ServerFailure> {
    if facts.is_refused_by_role() {
        return Some(ServerFailure::Refused);
    }
    facts.is_state_change().then_some(ServerFailure::Interrupted)
}

fn has_field(body: &[u8], name: &[u8]) -> bool {
    elements(body).any(|field| field.name == name)
}

#[cfg(test)]
mod tests {
    use super::{RequestKind as Kind, ServerFailure as Failure, *};
    use crate::testing::command;
    use bson::{Document, doc};

    fn kind_of(document: Document) -> Kind {
        let bytes = command(1, document);
        let message = MessageView::read(&bytes).unwrap();
        let asked = ParsedCommand::parse(&message, &mut String::new());
        Kind::of(&message, &asked, &RequestPlace::of(&message, &asked))
    }

    fn in_transaction(mut command: Document) -> Document {
        command.extend(doc! { "lsid": { "id": 1 }, "txnNumber": 1_i64, "autocommit": false });
        command
    }

    #[test]
    fn a_request_is_known_by_what_it_does() {
        let insert = || doc! { "insert": "orders", "$db": "shop", "documents": [{}] };
        let commit = || doc! { "commitTransaction": 1, "$db": "admin" };
        let numbered = doc! { "insert": "orders", "$db": "shop", "txnNumber": 4_i64 };
        let mut begins = in_transaction(insert());
        begins.insert("startTransaction", true);
        for (command, kind) in [
            (doc! { "find": "orders", "$db": "shop" }, Kind::Read),
            (insert(), Kind::Write),
            (numbered, Kind::RetryableWrite { by_driver: true }),
            (doc! { "createIndexes": "orders", "$db": "shop" }, Kind::Write),
            (begins, Kind::TransactionStart),
            (in_transaction(insert()), Kind::InTransaction),
            (in_transaction(commit()), Kind::TransactionEnd),
            (
                doc! { "getMore": 7_i64, "collection": "c", "$db": "d" },
                Kind::GetMore { awaits: false },
            ),
            (doc! { "killCursors": "c", "cursors": [7_i64], "$db": "d" }, Kind::Other),
        ] {
            assert_eq!(kind_of(command.clone()), kind, "{command}");
        }
    }

    /// The table of the module, one row a failure; the columns are in its order.
    #[test]
    fn what_is_sent_again_follows_the_table() {
        let columns = [
            Kind::Read,
            Kind::RetryableWrite { by_driver: true },
            Kind::RetryableWrite { by_driver: false },
            Kind::Write,
            Kind::TransactionStart,
            Kind::InTransaction,
            Kind::TransactionEnd,
            Kind::GetMore { awaits: true },
            Kind::Other,
        ];
        for (failure, expected) in [
            (Failure::Refused, [true, true, true, true, true, false, false, false, false]),
            (Failure::Interrupted, [true, true, true, false, false, false, false, false, false]),
            (Failure::Lost, [true, true, true, false, false, false, false, false, false]),
        ] {
            assert_eq!(columns.map(|kind| kind.is_resent_after(failure)), expected, "{failure:?}");
        }
        let waits = columns.map(Kind::waits_when_unreachable);
        assert_eq!(waits, [true, true, true, true, true, false, false, false, true]);
        let reports = columns.map(|kind| kind.reports_loss(false));
        assert_eq!(reports, [true, true, false, false, true, true, true, true, false]);
        let labels = columns.map(|kind| kind.error_label().unwrap_or_default());
        let (transient, retry) = ("TransientTransactionError", "RetryableWriteError");
        let resume = "ResumableChangeStreamError";
        assert_eq!(labels, ["", retry, "", "", transient, transient, retry, resume, ""]);
    }
}
