//! A request as policies see it, and their decision about it.

use crate::dialect::Dialect;
use operation::{Attributes, Operation, Rejection, Ticket, Verdict};
use session::Session;
use std::time::Instant;

/// The operation of this name and resource, as policies see it.
pub(crate) fn operation<'a>(
    dialect: &dyn Dialect,
    (name, resource): (&'a str, &'a str),
    attributes: &'a dyn Attributes,
) -> Operation<'a> {
    Operation {
        protocol: dialect.protocol(),
        name,
        resource,
        head: &[],
        attributes,
        long_poll: false,
        limit_exempt: false,
        may_have_callsite: false,
        known_names: dialect.is_known_name(name),
        partial: false,
        may_have_other_resources: false,
        query_shape: None,
    }
}

/// Asks all policies, and waits for those that decide later. `began` is when the request arrived. The error is the
/// rejection, if there is one.
pub(crate) async fn ask_policies(
    session: &dyn Session,
    operation: &Operation<'_>,
    began: Instant,
) -> Result<Ticket, Option<Rejection>> {
    let mut verdict = session.admit(operation, began);
    loop {
        verdict = match verdict {
            Verdict::Admit(ticket) => return Ok(ticket),
            Verdict::Reject(rejection) => return Err(Some(rejection)),
            // Only partial requests need more bytes, and a head is complete.
            Verdict::NeedMore => return Err(None),
            Verdict::Pending(question) => {
                let answer = question.decision.await;
                session.resume(question.ticket, answer, operation, Instant::now())
            }
        };
    }
}
