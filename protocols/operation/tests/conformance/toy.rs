//! A toy protocol, and the ways in which its codec can be wrong.
//!
//! A message is the length of its text (four bytes, big end first) and the text. A request is
//! `VERB RESOURCE,ITEM,ITEM…`, and gets no reply if the verb ends in `!`. Replies keep the order
//! of their requests: `ok,ITEM,ITEM…`, `no …`, `down …`, `at HOST`; `wait …` has more to follow. `push …`
//! comes between replies and answers no request. A request that is rejected between `begin …` and `commit …`
//! is replaced by one that fails.

use bytes::{BufMut, Bytes, BytesMut};
use operation::{
    AttributeSet, AttributeValue, Codec, ConnectionInfo, Next, OperationNames, Outcome, Protocol,
    RejectionRef, Reply, Request, Tag, Violation,
};
use std::{collections::VecDeque, sync::Arc};

const HEADER: usize = 4;
/// How much of a text is looked at for its words.
const FRONT: usize = 64;
const LONGEST: usize = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    NamesTheWrongThing,
    MissesAnOutcome,
    MissesRequestsAfterTheFirst,
    MiscountsItems,
    AnswersTheSameRequestAgain,
    AnswersNobody,
    NamesWhatIsHereAlready,
    CountsWhatIsHereAlready,
    ReadsAttributesPastTheMessage,
    HoldsForNothing,
    HoldsForWhatIsClaimed,
    PassesNothing,
    SwapsWhatIsNotHere,
    GoesRoundInCircles,
    MarksInTheMidst,
    AsksUnsolicited,
    DeniesItsCallsite,
    DeniesItsLast,
    TrustsTheText,
    StillExpectsARefusedReply,
    RefusesTheOldest,
    ForgetsWhatItReplaced,
    RefusesWithAYes,
    RefusesWithoutWords,
    RefusesWithHalfAMessage,
    RefusesTooLong,
    LetsLateRepliesThrough,
    DropsOnlyTheFirstOfALateReply,
    DropsWhatComesNext,
    GivesUpWhatHasBegun,
    GivesUpWithoutWords,
    ForgetsTheLateReply,
    DropsWithoutNeed,
    RereadsUnderAnotherTag,
    RereadsNoMore,
    NamesWhatWasReread,
}

pub(crate) struct Toy {
    flaw: Option<Flaw>,
    asked: u64,
    /// How much of the request marked last was read, and whether more of it is to be.
    read: usize,
    rereads: bool,
    /// Requests whose reply is due, oldest first.
    due: VecDeque<Due>,
    request: Walk,
    reply: Walk,
    /// The current reply is to an abandoned request.
    late: bool,
    /// The current message answers no request.
    unsolicited: bool,
    in_transaction: bool,
    outcome: Option<Outcome>,
}

/// A request whose reply is due.
#[derive(Clone)]
struct Due {
    tag: Tag,
    /// Some of its reply has passed.
    begun: bool,
    /// It is answered already.
    late: bool,
    /// The error that the client gets instead of the service's reply.
    error: Option<Bytes>,
}

/// How far a message has been walked.
#[derive(Default)]
struct Walk {
    left: usize,
    items: u64,
}

impl Walk {
    /// Passes what is here of the message.
    fn on(&mut self, bytes: &[u8]) -> usize {
        let here = self.left.min(bytes.len());
        self.items += bytes[..here].iter().filter(|byte| **byte == b',').count() as u64;
        self.left -= here;
        here
    }
}

/// The front of a message: how long it is, and its first words.
fn front(bytes: &[u8]) -> Result<Result<(usize, &[u8]), usize>, Violation> {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else {
        return Ok(Err(HEADER));
    };
    let len = u32::from_be_bytes(*header) as usize;
    if len > LONGEST {
        return Err(Violation("length"));
    }
    match rest.get(..len.min(FRONT)) {
        Some(text) => Ok(Ok((HEADER + len, text))),
        None => Ok(Err(HEADER + len.min(FRONT))),
    }
}

fn words(text: &[u8]) -> (&str, &str) {
    let text = text.split(|byte| *byte == b',').next().and_then(|t| std::str::from_utf8(t).ok());
    text.and_then(|text| text.split_once(' ')).unwrap_or(("unknown", ""))
}

pub(crate) fn message(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u32).to_be_bytes().to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

impl Toy {
    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    fn settle(&mut self, outcome: Outcome, items: u64) -> Option<Reply> {
        let due = self.due.pop_front()?;
        if self.has(Flaw::AnswersTheSameRequestAgain) {
            self.due.push_front(due.clone());
        }
        if self.has(Flaw::DropsWhatComesNext) && due.late {
            self.due.iter_mut().take(1).for_each(|next| next.late = true);
        }
        Some(Reply { items, confirms_names: true, ..Reply::new(due.tag, outcome) })
    }

    /// What a broken codec says first of a request.
    fn botch(&mut self, bytes: &[u8]) -> Option<Next<Request>> {
        let mark = Request::default();
        match self.flaw? {
            Flaw::HoldsForNothing if bytes.len() > 9 => Some(Next::Hold(9)),
            Flaw::HoldsForWhatIsClaimed => {
                let len = bytes.first_chunk::<HEADER>().map(|len| u32::from_be_bytes(*len))?;
                let whole = HEADER + len as usize;
                (bytes.len() < whole).then_some(Next::Hold(whole))
            }
            Flaw::PassesNothing if bytes.is_empty() => Some(Next::more(0)),
            Flaw::GoesRoundInCircles if bytes.is_empty() => Some(Next::whole(0, mark)),
            Flaw::AsksUnsolicited if bytes.len() > HEADER => {
                Some(Next::PassUnsolicited { len: bytes.len() as u64, ends: true })
            }
            Flaw::MarksInTheMidst if self.request.left > 0 => Some(Next::start(1, mark)),
            Flaw::TrustsTheText if bytes.len() > HEADER => {
                assert!(bytes[HEADER].is_ascii(), "a name is ASCII, is it not?");
                None
            }
            _ => None,
        }
    }
}

impl Codec for Toy {
    const PROTOCOL: Protocol = Protocol {
        name: "toy",
        stream: false,
        items: None,
        codes: None,
        shapes: None,
        item_name: "items",
        attributes: &["last"],
        logged: &["last"],
        logged_when_slow: &[],
        logged_with_values: &[],
        span: operation::SpanConventions::PLAIN,
        log_only: &[],
        unknown_operation: "",
        value_formats: &[],
    };
    type Shared = Option<Flaw>;

    fn new(shared: &Arc<Self::Shared>, _: ConnectionInfo) -> Self {
        let (request, reply) = (Walk::default(), Walk::default());
        let (due, late, outcome, unsolicited) = (VecDeque::new(), false, None, false);
        let (read, rereads) = (0, false);
        let flaw = **shared;
        let in_transaction = false;
        Self {
            flaw,
            asked: 0,
            read,
            rereads,
            due,
            request,
            reply,
            late,
            unsolicited,
            in_transaction,
            outcome,
        }
    }

    fn request(&mut self, bytes: &[u8]) -> Result<Next<Request>, Violation> {
        if let Some(botched) = self.botch(bytes) {
            return Ok(botched);
        }
        if self.request.left > 0 {
            let len = self.request.on(bytes);
            let ends = self.request.left == 0;
            let more = Next::Pass { len: len as u64, mark: None, ends };
            return Ok(if len == 0 { Next::Hold(1) } else { more });
        }
        let early = self.has(Flaw::NamesWhatIsHereAlready) && bytes.len() > HEADER;
        let (len, text) = match front(bytes)? {
            Ok(front) => front,
            Err(_) if early => {
                let len = bytes.first_chunk::<HEADER>().map(|len| u32::from_be_bytes(*len));
                (HEADER + len.unwrap_or(0) as usize, &bytes[HEADER..])
            }
            Err(wanted) => return Ok(Next::Hold(wanted)),
        };
        let tag = (!words(text).0.ends_with('!')).then_some(Tag(self.asked));
        self.asked += 1;
        self.due.extend(tag.map(|tag| Due { tag, begun: false, late: false, error: None }));
        self.in_transaction |= words(text).0 == "begin";
        self.in_transaction &= words(text).0 != "commit";
        let missed = self.has(Flaw::MissesRequestsAfterTheFirst) && self.asked > 1;
        let early = self.has(Flaw::NamesWhatWasReread) && self.rereads;
        // Of a request that is read again all is read that is here.
        self.read = if self.rereads { bytes.len() } else { HEADER + FRONT }.min(len);
        self.rereads = false;
        let partial = self.read < len && !early;
        let denied = AttributeSet::of(if self.has(Flaw::DeniesItsLast) { 0 } else { 1 });
        let mark = Request { tag, partial, absent: denied, ..Request::default() };
        let mark = (!missed).then_some(mark);
        self.request = Walk { left: len, items: 0 };
        let here = self.request.on(bytes);
        if self.has(Flaw::CountsWhatIsHereAlready) {
            self.request.left = 0;
            return Ok(Next::Pass { len: len as u64, mark, ends: true });
        }
        Ok(Next::Pass { len: here as u64, mark, ends: self.request.left == 0 })
    }

    fn names<'b>(&'b self, bytes: &'b [u8]) -> OperationNames<'b> {
        let text = match front(bytes) {
            Ok(Ok((_, text))) => text,
            _ => bytes.get(HEADER..).unwrap_or_default(),
        };
        let (name, resource) = words(text);
        let half = self.has(Flaw::NamesWhatWasReread) && self.read > HEADER + FRONT;
        let name = if half && self.read < 2000 { "half" } else { name };
        let name = if self.has(Flaw::NamesTheWrongThing) { resource } else { name };
        OperationNames { name, resource }
    }

    fn reread(&mut self, tag: Option<Tag>, bytes: &[u8]) -> usize {
        self.due.retain(|due| Some(due.tag) != tag);
        self.asked -= u64::from(!self.has(Flaw::RereadsUnderAnotherTag));
        (self.request.left, self.rereads) = (0, true);
        let len = front(bytes).ok().and_then(Result::ok).map_or(0, |(len, _)| len);
        if self.has(Flaw::RereadsNoMore) { self.read } else { len.min(self.read * 2) }
    }

    fn request_items(&self) -> u64 {
        self.request.items + u64::from(self.has(Flaw::MiscountsItems))
    }

    fn reply(&mut self, bytes: &[u8]) -> Result<Next<Reply>, Violation> {
        if self.reply.left == 0 {
            let (len, text) = match front(bytes)? {
                Ok(front) => front,
                Err(wanted) => return Ok(Next::Hold(wanted)),
            };
            self.unsolicited = text.starts_with(b"push");
            let replaced = self.due.front().filter(|_| !self.unsolicited);
            if let Some(with) = replaced.and_then(|due| due.error.clone()) {
                if bytes.len() < len {
                    return Ok(Next::Hold(len));
                }
                return Ok(Next::Swap { len, with, mark: self.settle(Outcome::Rejected, 0) });
            }
            self.late = self.due.front().is_some_and(|due| due.late);
            self.late &= !self.has(Flaw::LetsLateRepliesThrough);
            self.late |= self.has(Flaw::DropsWithoutNeed);
            if text.starts_with(b"at ") && len - HEADER <= FRONT && !self.late {
                let len = len + usize::from(self.has(Flaw::SwapsWhatIsNotHere));
                let mark = self.settle(Outcome::Ok, 0);
                return Ok(Next::Swap { len, with: Bytes::from(message("at proxy")), mark });
            }
            let nobody = self.has(Flaw::AnswersNobody).then_some(Outcome::Ok);
            if nobody.is_some() && text.starts_with(b"wait") {
                let tag = Tag(u64::MAX);
                self.due.push_front(Due { tag, begun: true, late: false, error: None });
            }
            self.outcome = match text {
                [b'w', b'a', b'i', b't', ..] => nobody,
                [b'n', b'o', ..] if self.has(Flaw::MissesAnOutcome) => Some(Outcome::Ok),
                [b'n', b'o', ..] => Some(Outcome::Rejected),
                [b'd', b'o', b'w', b'n', ..] => Some(Outcome::Failed),
                _ => Some(Outcome::Ok),
            };
            self.reply = Walk { left: len, items: 0 };
        }
        let here = self.reply.on(bytes);
        if here == 0 {
            return Ok(Next::Hold(1));
        }
        if self.unsolicited {
            return Ok(Next::PassUnsolicited { len: here as u64, ends: self.reply.left == 0 });
        }
        self.due.iter_mut().take(1).for_each(|due| due.begun = true);
        let (ends, items) = (self.reply.left == 0, self.reply.items);
        let outcome = self.outcome.filter(|_| ends);
        let mark = outcome.and_then(|outcome| self.settle(outcome, items));
        if self.late {
            if ends && mark.is_none() && self.has(Flaw::DropsOnlyTheFirstOfALateReply) {
                self.due.iter_mut().take(1).for_each(|due| due.late = false);
            }
            return Ok(Next::Drop { len: here as u64, ends });
        }
        Ok(Next::Pass { len: here as u64, mark, ends })
    }

    fn attribute<'b>(&'b self, bytes: &'b [u8], name: &str) -> AttributeValue<'b> {
        let Ok(Ok((len, text))) = front(bytes) else { return AttributeValue::Absent };
        let text = match self.flaw {
            Some(Flaw::ReadsAttributesPastTheMessage) => &bytes[HEADER..],
            _ => &text[..text.len().min(len)],
        };
        if self.has(Flaw::DeniesItsCallsite) && name == "callsite" {
            return AttributeValue::known("nowhere");
        }
        let last = text.rsplit(|byte| *byte == b',').next().filter(|_| name == "last");
        last.map(String::from_utf8_lossy).into()
    }

    fn replace_rejected(&mut self, tag: Tag, why: &RejectionRef<'_>) -> Option<Bytes> {
        let due = self.due.iter_mut().find(|due| due.tag == tag && self.in_transaction)?;
        if self.flaw != Some(Flaw::ForgetsWhatItReplaced) {
            due.error = Some(message(&format!("no {}: {}", why.reason, why.message)).into());
        }
        Some(message("fail now").into())
    }

    fn reject(&mut self, tag: Tag, why: &RejectionRef<'_>, out: &mut BytesMut) -> bool {
        if self.has(Flaw::RefusesTheOldest) {
            self.due.pop_front();
        } else if !self.has(Flaw::StillExpectsARefusedReply) {
            self.due.retain(|due| due.tag != tag);
        }
        let words = format!("no {}: {}", why.reason, why.message);
        match self.flaw {
            Some(Flaw::RefusesWithoutWords) => {}
            Some(Flaw::RefusesWithAYes) => out.put_slice(&message("ok")),
            Some(Flaw::RefusesWithHalfAMessage) => out.put_slice(&message(&words)[..9]),
            Some(Flaw::RefusesTooLong) => {
                out.put_slice(&message(&words));
                out.put_u8(0);
            }
            _ => out.put_slice(&message(&words)),
        }
        true
    }

    /// Replies keep order, so that only the oldest request can be answered now.
    fn give_up(&mut self, tag: Tag, why: &RejectionRef<'_>, out: &mut BytesMut) -> bool {
        let begun = self.has(Flaw::GivesUpWhatHasBegun);
        let Some(due) = self.due.iter_mut().find(|due| !due.late) else { return false };
        if due.tag != tag || due.begun && !begun {
            return false;
        }
        due.late = true;
        if self.has(Flaw::ForgetsTheLateReply) {
            self.due.retain(|due| due.tag != tag);
        }
        if !self.has(Flaw::GivesUpWithoutWords) {
            out.put_slice(&message(&format!("no {}: {}", why.reason, why.message)));
        }
        true
    }
}
