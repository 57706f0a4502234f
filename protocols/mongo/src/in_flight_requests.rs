//! The requests of one connection that await replies.

use crate::{commands::ReplyKind, parsed_command::ParsedCommand};
use operation::MAX_IN_FLIGHT;
use std::collections::VecDeque;

/// How many replies may be late at once: with more, the server has stopped answering.
const MAX_ABANDONED: usize = 100;

/// A request that awaits its reply.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InFlightRequest {
    /// The request's id.
    pub(crate) id: u32,
    /// The reply is an `OP_REPLY`, because the request was legacy.
    pub(crate) legacy: bool,
    pub(crate) reply_kind: ReplyKind,
    /// A successful reply shows that the namespace exists.
    pub(crate) confirms_names: bool,
    /// The server answers it without authentication, so a reply does not show that it works.
    pub(crate) pre_auth: bool,
    /// The cursor that the reply opens is tailable.
    pub(crate) tailable: bool,
    /// The call site of the request, in [`crate::call_sites::CallSites`]; 0 means none.
    pub(crate) callsite: u16,
    /// The cursor that it continues.
    pub(crate) cursor_id: i64,
    /// The login attempt that its reply may confirm; 0 means none.
    pub(crate) login: u32,
    /// The number of documents in the replies so far.
    pub(crate) documents: u64,
    /// The proxy answered; the server's reply is dropped when it comes.
    pub(crate) abandoned: bool,
    /// The request id of the last reply, if that announced another one.
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

/// All requests in flight of a connection, oldest first.
#[derive(Debug, Default)]
pub(crate) struct InFlightRequests {
    requests: VecDeque<InFlightRequest>,
}

impl InFlightRequests {
    /// Tracks a request; `false` if there are too many.
    pub(crate) fn add(&mut self, open: InFlightRequest) -> bool {
        let room = self.requests.len() < MAX_IN_FLIGHT;
        if room {
            if self.requests.capacity() == 0 {
                // Most connections never have a second request in flight, and many are idle.
                self.requests.reserve_exact(1);
            }
            self.requests.push_back(open);
        }
        room
    }

    /// The request that a reply answers.
    ///
    /// With exhaust replies, each one names the previous reply (specifications, message/OP_MSG,
    /// "exhaustAllowed"); some servers keep naming the request. No other reply can come in between,
    /// so an unknown number also belongs to the exhaust request, unless that was given up: then the
    /// reply may belong to another request and must not be dropped.
    ///
    /// If a client used an id twice, the older request is answered first: servers process them in
    /// order.
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

    /// Gives up the request with this id: its reply will be dropped. Returns `None` and changes
    /// nothing if there is none, if its reply has begun, or if too many are late already.
    ///
    /// `coming` is the `responseTo` of the reply that is arriving.
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

    /// Records that this reply announced another one to the same request, and the number of
    /// documents so far.
    pub(crate) fn expect_another_reply(&mut self, request: u32, reply: u32, items: u64) {
        if let Some(open) = self.requests.iter_mut().find(|open| open.id == request) {
            (open.exhaust_reply, open.documents) = (Some(reply), items);
        }
    }

    /// Updates a request from what its rest contained.
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

    /// The newest request with this id.
    pub(crate) fn newest(&self, id: u32) -> Option<&InFlightRequest> {
        self.requests.iter().rev().find(|open| open.id == id && !open.abandoned)
    }

    /// Whether every request is answered.
    pub(crate) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Removes a request.
    pub(crate) fn remove(&mut self, id: u32) -> Option<InFlightRequest> {
        let at = self.position(|open| open.id == id)?;
        self.remove_at(at)
    }

    /// Removes the newest request with this id: clients choose ids, and may use one twice.
    pub(crate) fn remove_newest(&mut self, id: u32) -> Option<InFlightRequest> {
        let at = self.requests.iter().rposition(|open| open.id == id && !open.abandoned)?;
        self.remove_at(at)
    }

    fn remove_at(&mut self, at: usize) -> Option<InFlightRequest> {
        let open = self.requests.remove(at);
        if self.requests.is_empty() && self.requests.capacity() > 16 {
            // After a burst, an idle connection keeps no memory of it.
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
    fn a_stream_continues_by_any_of_its_request_ids() {
        let mut opens = opens([7]);
        opens.expect_another_reply(7, 100, 1);
        for answers in [100, 7, 12345] {
            assert_eq!(opens.by_response_to(answers).map(|open| open.id), Some(7), "{answers}");
        }
    }

    #[test]
    fn a_streamed_reply_does_not_answer_another_request() {
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
