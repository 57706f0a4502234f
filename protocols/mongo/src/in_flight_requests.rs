//! The requests of one connection whose replies are still to come.

use crate::{commands::ReplyKind, parsed_command::ParsedCommand};
use std::collections::VecDeque;

/// How many requests are remembered; drivers have one under way, or a few.
const MAX_IN_FLIGHT: usize = 1000;

/// How many replies may be late at once: a server that owes more has stopped to answer.
const MAX_ABANDONED: usize = 100;

/// A request whose reply is still to come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InFlightRequest {
    /// The request's own number.
    pub(crate) id: u32,
    /// The reply is an `OP_REPLY`, as the request was legacy.
    pub(crate) legacy: bool,
    pub(crate) reply_kind: ReplyKind,
    /// A good reply confirms the request's names.
    pub(crate) confirms_names: bool,
    /// A server that does no work answers it as well.
    pub(crate) pre_auth: bool,
    /// The cursor that the reply brings will tail.
    pub(crate) tailable: bool,
    /// The call site of the request, in [`crate::names::Names`]; 0 is none.
    pub(crate) callsite: u16,
    /// The cursor that it goes on with.
    pub(crate) cursor_id: i64,
    /// Which claim to a user's name its reply may prove; 0 is none.
    pub(crate) login: u32,
    /// Documents in the replies so far.
    pub(crate) documents: u64,
    /// Somebody else answered; the server's own reply is dropped when it comes.
    pub(crate) abandoned: bool,
    /// A reply came that announced another; its number.
    exhaust_reply: Option<u32>,
}

impl InFlightRequest {
    pub(crate) fn new(id: u32, legacy: bool, asked: &ParsedCommand) -> Self {
        Self {
            id,
            legacy,
            reply_kind: asked.reply_kind,
            confirms_names: asked.confirms_names,
            pre_auth: asked.command.pre_auth,
            tailable: asked.tailable,
            callsite: 0,
            cursor_id: asked.cursor_id,
            login: 0,
            documents: 0,
            abandoned: false,
            exhaust_reply: None,
        }
    }
}

/// Every open request of a connection, oldest first.
#[derive(Debug, Default)]
pub(crate) struct InFlightRequests {
    requests: VecDeque<InFlightRequest>,
}

impl InFlightRequests {
    /// Remembers a request; `false` if there are too many.
    pub(crate) fn add(&mut self, open: InFlightRequest) -> bool {
        let room = self.requests.len() < MAX_IN_FLIGHT;
        if room {
            if self.requests.capacity() == 0 {
                // Most connections never have a second, and many connections are idle.
                self.requests.reserve_exact(1);
            }
            self.requests.push_back(open);
        }
        room
    }

    /// The request that a reply answers.
    ///
    /// Where replies stream, each one names the reply before (specifications,
    /// message/OP_MSG, "exhaustAllowed"); some servers go on naming the request. Nothing else
    /// can come in between, so a number that fits nothing belongs to the stream as well, unless
    /// that means to drop what may be somebody else's.
    ///
    /// Where a client used a number twice, the older request is answered first: servers work on
    /// one after the other.
    pub(crate) fn by_response_to(&self, answers: u32) -> Option<&InFlightRequest> {
        const NO_FIT: u8 = 3;
        let fit = |open: &InFlightRequest| match open.exhaust_reply {
            Some(before) if before == answers => 0,
            _ if open.id == answers => 1,
            Some(_) if !open.abandoned => 2,
            _ => NO_FIT,
        };
        self.requests.iter().min_by_key(|open| fit(open)).filter(|open| fit(open) < NO_FIT)
    }

    /// Gives up the request with this number: its reply is to be dropped. `None`, and nothing
    /// has happened, if there is none, if its reply has begun, or if too many are late already.
    ///
    /// `coming` is the number that the reply under way names.
    pub(crate) fn abandon(&mut self, id: u32, coming: Option<u32>) -> Option<InFlightRequest> {
        let late = self.requests.iter().filter(|open| open.abandoned).count();
        let at = self.position(|open| open.id == id && !open.abandoned)?;
        let answered = coming.and_then(|answers| self.by_response_to(answers));
        let open = self.requests.get(at)?;
        let begun =
            open.exhaust_reply.is_some() || answered.is_some_and(|it| std::ptr::eq(it, open));
        if begun || late >= MAX_ABANDONED {
            return None;
        }
        let open = self.requests.get_mut(at)?;
        open.abandoned = true;
        Some(*open)
    }

    /// Notes that the reply with this number announced another to the same request, and how many
    /// documents came so far.
    pub(crate) fn expect_another_reply(&mut self, request: u32, reply: u32, items: u64) {
        if let Some(open) = self.requests.iter_mut().find(|open| open.id == request) {
            (open.exhaust_reply, open.documents) = (Some(reply), items);
        }
    }

    /// Notes what the rest of a request told.
    pub(crate) fn update(&mut self, id: u32, asked: &ParsedCommand, claim: u32, callsite: u16) {
        let newest = self.requests.iter_mut().rev().find(|open| open.id == id);
        if let Some(open) = newest {
            let learned = InFlightRequest::new(id, open.legacy, asked);
            open.reply_kind = learned.reply_kind;
            (open.confirms_names, open.pre_auth) = (learned.confirms_names, learned.pre_auth);
            (open.tailable, open.cursor_id) = (learned.tailable, learned.cursor_id);
            (open.login, open.callsite) = (claim, callsite);
        }
    }

    /// The request that came last, of those with this number.
    pub(crate) fn newest(&self, id: u32) -> Option<&InFlightRequest> {
        self.requests.iter().rev().find(|open| open.id == id && !open.abandoned)
    }

    /// Whether every request is answered.
    pub(crate) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Forgets a request.
    pub(crate) fn remove(&mut self, id: u32) -> Option<InFlightRequest> {
        let at = self.position(|open| open.id == id)?;
        self.remove_at(at)
    }

    /// Forgets the request that came last, of those with this number: clients choose numbers,
    /// and may choose one twice.
    pub(crate) fn remove_newest(&mut self, id: u32) -> Option<InFlightRequest> {
        let at = self.requests.iter().rposition(|open| open.id == id && !open.abandoned)?;
        self.remove_at(at)
    }

    fn remove_at(&mut self, at: usize) -> Option<InFlightRequest> {
        let open = self.requests.remove(at);
        if self.requests.is_empty() && self.requests.capacity() > 16 {
            // A burst is over: an idle connection keeps no memory of it.
            self.requests = VecDeque::new();
        }
        open
    }

    fn position(&self, is: impl FnMut(&InFlightRequest) -> bool) -> Option<usize> {
        self.requests.iter().position(is)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::{Header, opcode};

    fn opens(ids: impl IntoIterator<Item = u32>) -> InFlightRequests {
        let mut opens = InFlightRequests::default();
        for id in ids {
            let header = Header { len: 16, request_id: id, response_to: 0, opcode: opcode::MSG };
            assert!(opens.add(InFlightRequest::new(
                id,
                false,
                &ParsedCommand::unreadable(header, None)
            )));
        }
        opens
    }

    #[test]
    fn replies_find_their_requests_in_any_order() {
        let mut opens = opens([7, 8, 9]);
        assert_eq!(opens.by_response_to(9).map(|open| open.id), Some(9));
        assert_eq!(opens.remove(8).map(|open| open.id), Some(8));
        assert!(opens.by_response_to(8).is_none());
        assert!(opens.remove(8).is_none());
    }

    #[test]
    fn a_stream_goes_on_by_its_last_reply_by_its_request_or_by_any_number() {
        let mut opens = opens([7]);
        opens.expect_another_reply(7, 100, 1);
        for answers in [100, 7, 12345] {
            assert_eq!(opens.by_response_to(answers).map(|open| open.id), Some(7), "{answers}");
        }
    }

    #[test]
    fn a_reply_in_a_stream_is_not_taken_for_the_answer_to_a_request_with_that_number() {
        let mut opens = opens([100, 7]);
        opens.expect_another_reply(7, 100, 1);
        assert_eq!(opens.by_response_to(100).map(|open| open.id), Some(7));
    }

    #[test]
    fn a_flood_of_requests_is_not_remembered() {
        let mut opens = opens(0..MAX_IN_FLIGHT as u32);
        let header = Header { len: 16, request_id: 5000, response_to: 0, opcode: opcode::MSG };
        assert!(!opens.add(InFlightRequest::new(
            5000,
            false,
            &ParsedCommand::unreadable(header, None)
        )));
        for id in 0..MAX_IN_FLIGHT as u32 {
            assert!(opens.remove(id).is_some());
        }
        assert!(opens.requests.capacity() <= 16);
    }
}
