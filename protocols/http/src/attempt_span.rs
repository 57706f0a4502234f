//! The span of one attempt at an endpoint.

use crate::request_attributes::{RequestAttributes, RequestFlags, version_name};
use http::{HeaderMap, StatusCode, Version};
use operation::{Attempt, AttemptLink, Outcome, SpanContext};
use std::{rc::Rc, sync::Arc, time::Instant};

/// The span of an attempt that is under way. On drop it ends as cancelled.
pub(crate) struct AttemptSpan {
    attributes: Rc<RequestAttributes>,
    /// `None` once it has ended. Boxed, since most attempts have no span.
    attempt: Option<Box<Attempt>>,
    /// The operation's name, if the attempt may end after the operation.
    late: Option<Box<str>>,
}

impl AttemptSpan {
    /// Begins the span of an attempt; `None` if none is recorded.
    pub(crate) fn begin(attributes: &Rc<RequestAttributes>, cluster: &Arc<str>) -> Option<Self> {
        attributes.span.get().filter(|span| span.records_attempts)?;
        let (now, span_id) = (Instant::now(), fastrand::u64(1..));
        attributes.last_attempt.set(span_id);
        let attempt = Box::new(Attempt {
            span_id,
            began: now,
            ended: now,
            resends: attributes.progress.attempts.get(),
            cluster: Some(Arc::clone(cluster)),
            endpoint: None,
            status: None,
            version: None,
            outcome: Outcome::Cancelled,
            link: None,
        });
        Some(Self { attributes: Rc::clone(attributes), attempt: Some(attempt), late: None })
    }

    /// Begins the span of a copy of the last attempt. `name` is the operation's.
    pub(crate) fn mirror(
        attributes: &Rc<RequestAttributes>,
        cluster: &Arc<str>,
        name: &str,
    ) -> Option<Self> {
        let original = attributes.last_attempt.get();
        let mut span = Self::begin(attributes, cluster)?;
        attributes.last_attempt.set(original);
        let attempt = span.attempt.as_mut()?;
        (attempt.link, attempt.resends) = (Some(AttemptLink::Mirror(original)), 0);
        span.late = Some(name.into());
        Some(span)
    }

    /// Sets where the attempt goes.
    pub(crate) fn set_endpoint(&mut self, endpoint: &Arc<str>) {
        if let Some(attempt) = &mut self.attempt {
            attempt.endpoint = Some(Arc::clone(endpoint));
        }
    }

    /// Sets what the endpoint has answered.
    pub(crate) fn set_response(&mut self, status: StatusCode, version: Version) {
        if let Some(attempt) = &mut self.attempt {
            attempt.status = Some(status.as_u16());
            attempt.version = Some(version_name(version));
        }
    }

    /// Names the attempt as the sender of a request with these headers.
    pub(crate) fn send_in(&self, headers: &mut HeaderMap) {
        if let (Some(open), Some(attempt)) = (self.attributes.span.get(), &self.attempt) {
            let context = SpanContext { span_id: attempt.span_id, ..open.context };
            crate::header_policy::set_sender(headers, context);
        }
    }

    /// The attempt has ended at this time.
    pub(crate) fn finish(mut self, outcome: Outcome, now: Instant) {
        self.end(outcome, now);
    }

    fn end(&mut self, outcome: Outcome, now: Instant) {
        let Some(mut attempt) = self.attempt.take() else { return };
        (attempt.outcome, attempt.ended) = (outcome, now);
        let is_abandoned = outcome == Outcome::Cancelled;
        if attempt.link.is_none()
            && is_abandoned
            && self.attributes.progress.has_flag(RequestFlags::HEDGED)
        {
            attempt.link = Some(AttemptLink::Hedge);
        }
        match (&self.late, self.attributes.span.get()) {
            (Some(name), Some(open)) => open.sink.record_late(open, name, &attempt),
            _ => self.attributes.ended_attempts.borrow_mut().push(*attempt),
        }
    }
}

impl Drop for AttemptSpan {
    fn drop(&mut self) {
        self.end(Outcome::Cancelled, Instant::now());
    }
}
