//! Makes spans of operations, where the proxy traces.

mod attributes;

use crate::{PolicyEnv, SeriesPolicy, Settled, WorkerPolicy, series_key::SeriesKey};
use attributes::Describe;
use operation::{
    Attempt, AttemptLink, AttemptSink, Decision, OpenSpan, Operation, Outcome, SpanContext,
    SpanConventions, SpanKind, TRACEPARENT, TRACESTATE,
};
use std::{
    rc::Rc,
    sync::Arc,
    time::{Instant, SystemTime},
};
use tollgate_metrics::{ExemplarSlot, Metrics, table as names};
use traces::{Link, Span, SpanBuffer, attribute, id_bytes};

/// The state of an operation that has no span: a handshake, a ping.
const EXEMPT: u64 = 1;

/// The attribute for why a span was made whose trace is not recorded.
const KEPT: &str = "tollgate.kept";

/// The spans of one listener on one worker.
pub(crate) struct Spans(Rc<ListenerSpans>);

struct ListenerSpans {
    buffer: Rc<SpanBuffer>,
    listener: Arc<str>,
    conventions: &'static SpanConventions,
    metrics: Metrics,
}

/// The same for the operations of a series.
struct SeriesSpans {
    listener: Rc<ListenerSpans>,
    /// Where the histogram of durations shows a trace; `None` if the series has none of its own.
    exemplar: Option<Arc<ExemplarSlot>>,
}

impl Spans {
    /// Makes spans of a listener's operations; `None` if the proxy does not trace them.
    pub(crate) fn new(env: &PolicyEnv) -> Option<Self> {
        let tracer = env.tracer.load_full()?;
        if env.protocol.stream && !tracer.plan().sessions {
            return None;
        }
        let (buffer, listener) = (SpanBuffer::new(tracer), Arc::clone(&env.listener));
        let (conventions, metrics) = (&env.protocol.span, env.metrics.clone());
        Some(Self(Rc::new(ListenerSpans { buffer, listener, conventions, metrics })))
    }
}

impl Spans {
    fn series(&self, key: &SeriesKey) -> SeriesSpans {
        let labels = [
            ("listener", &*self.0.listener),
            ("protocol", key.protocol.name),
            ("operation", &key.name),
            ("resource", &key.resource),
        ];
        let exemplar = || self.0.metrics.exemplar(names::OPERATION_DURATION_SECONDS, &labels);
        let exemplar = key.confirmed.then(exemplar).flatten();
        SeriesSpans { listener: Rc::clone(&self.0), exemplar }
    }
}

impl WorkerPolicy for Spans {
    fn bind(&self, key: &SeriesKey) -> Option<Box<dyn SeriesPolicy>> {
        Some(Box::new(self.series(key)))
    }
}

impl SeriesPolicy for SeriesSpans {
    fn admit(&self, operation: &Operation<'_>, _: Instant, state: &mut u64) -> Decision {
        if operation.limit_exempt {
            *state = EXEMPT;
        } else if self.listener.conventions.kind == SpanKind::Server {
            operation.attributes.on_traced(self.listener.begin(operation));
        }
        Decision::Admit
    }

    fn settle(&self, done: &Settled<'_>, state: u64) {
        let spans = if state == EXEMPT { Vec::new() } else { self.listener.spans(done) };
        let Some(own) = spans.first() else { return };
        let (ids, is_recorded) = (own.ids(), own.flags & Span::SAMPLED != 0);
        if self.listener.buffer.push(spans)
            && is_recorded
            && !done.long_poll
            && let Some(exemplar) = &self.exemplar
        {
            exemplar.record(done.took(), ids, SystemTime::now());
        }
    }
}

impl ListenerSpans {
    /// Begins the span of an operation whose request carries it on.
    fn begin(self: &Rc<Self>, operation: &Operation<'_>) -> OpenSpan {
        let received = operation.attribute(TRACEPARENT).text();
        let received = received.and_then(|text| SpanContext::read(text.as_bytes()));
        let (context, parent) = self.context(received);
        let tracestate = match received {
            Some(_) => operation.attribute(TRACESTATE).text().map(|text| text.into()),
            None => context.sampled.then(|| Arc::clone(self.buffer.tracer().sampler().state())),
        };
        let records_attempts = context.sampled || self.buffer.tracer().plan().always.is_any();
        let sink = Rc::clone(self) as Rc<dyn AttemptSink>;
        OpenSpan { context, parent, tracestate, records_attempts, sink }
    }

    /// A new span: below the received one, whose decision holds, or at the beginning of a trace.
    fn context(&self, received: Option<SpanContext>) -> (SpanContext, Option<u64>) {
        let span_id = self.buffer.span_id();
        match received {
            Some(parent) => (SpanContext { span_id, ..parent }, Some(parent.span_id)),
            None => {
                let trace_id = self.buffer.trace_id();
                let sampled = self.buffer.tracer().sampler().samples(trace_id);
                (SpanContext { trace_id, span_id, sampled }, None)
            }
        }
    }

    /// The spans of an operation that ended; none if it is not recorded.
    fn spans(self: &Rc<Self>, done: &Settled<'_>) -> Vec<Span> {
        match self.conventions.kind {
            SpanKind::Server => match done.how.attributes.span() {
                Some((span, attempts)) => self.describe(done, span, &attempts),
                None => Vec::new(),
            },
            SpanKind::Client => self.client_span(done),
        }
    }

    /// The span of an operation whose request was passed on unchanged.
    fn client_span(self: &Rc<Self>, done: &Settled<'_>) -> Vec<Span> {
        let received = match done.may_have_callsite {
            true => done.attribute(TRACEPARENT),
            false => None,
        };
        let received = received.and_then(|text| SpanContext::read(text.as_bytes()));
        let (context, parent) = self.context(received);
        if !context.sampled && self.kept(done).is_none() {
            return Vec::new();
        }
        let tracestate = match received {
            Some(_) => done.attribute(TRACESTATE).map(|text| text.into()),
            None => context.sampled.then(|| Arc::clone(self.buffer.tracer().sampler().state())),
        };
        let sink = Rc::clone(self) as Rc<dyn AttemptSink>;
        let span = OpenSpan { context, parent, tracestate, records_attempts: false, sink };
        self.describe(done, &span, &[])
    }

    /// Why the span is made although its trace is not recorded; `None` if it is not.
    fn kept(&self, done: &Settled<'_>) -> Option<&'static str> {
        let always = self.buffer.tracer().plan().always;
        if always.errors && matches!(done.how.outcome, Outcome::Failed | Outcome::Lost) {
            return Some("error");
        }
        // A long poll is never slow.
        let is_slow = always.slower_than.is_some_and(|limit| done.took() >= limit);
        (is_slow && !done.long_poll).then_some("slow")
    }

    /// The span of an operation, and those of its attempts.
    fn describe(&self, done: &Settled<'_>, span: &OpenSpan, attempts: &[Attempt]) -> Vec<Span> {
        let kept = if span.context.sampled { None } else { self.kept(done) };
        if !span.context.sampled && kept.is_none() {
            return Vec::new();
        }
        let clock = Clock::now();
        let describe = Describe { conventions: self.conventions, listener: &self.listener };
        let mut own = describe.operation(done);
        own.attributes.extend(kept.map(|why| attribute(KEPT, why)));
        let parent = span.parent.unwrap_or_default();
        self.place(&mut own, span, (span.context.span_id, parent), true);
        (own.start_time_unix_nano, own.end_time_unix_nano) =
            (clock.unix_nanos(done.began), clock.unix_nanos(done.how.now));
        let mut spans = vec![own];
        let last = attempts.last().map(|attempt| attempt.span_id);
        let name = &done.key.name;
        spans.extend(attempts.iter().map(|it| self.attempt(span, name, it, (last, &clock))));
        spans
    }

    /// The span of an attempt. `last` is the attempt whose response was taken.
    fn attempt(
        &self,
        open: &OpenSpan,
        name: &str,
        attempt: &Attempt,
        (last, clock): (Option<u64>, &Clock),
    ) -> Span {
        let describe = Describe { conventions: self.conventions, listener: &self.listener };
        let mut span = describe.attempt(name, attempt);
        self.place(&mut span, open, (attempt.span_id, open.context.span_id), false);
        (span.start_time_unix_nano, span.end_time_unix_nano) =
            (clock.unix_nanos(attempt.began), clock.unix_nanos(attempt.ended));
        let linked = match attempt.link {
            Some(AttemptLink::Hedge) => last.map(|id| (id, "hedge")),
            Some(AttemptLink::Mirror(id)) => Some((id, "mirror")),
            None => None,
        };
        span.links.extend(linked.filter(|(id, _)| *id != attempt.span_id).map(|(id, why)| {
            let (trace_id, span_id) = id_bytes(open.context.trace_id, id);
            Link { trace_id, span_id, attributes: vec![attribute("tollgate.link", why)] }
        }));
        span
    }

    /// Sets the ids of a span. The parent of an operation's span is in another process.
    fn place(&self, span: &mut Span, open: &OpenSpan, (id, parent): (u64, u64), is_remote: bool) {
        (span.trace_id, span.span_id) = id_bytes(open.context.trace_id, id);
        if parent != 0 {
            span.parent_span_id = parent.to_be_bytes().to_vec();
        }
        span.trace_state = open.tracestate.as_deref().unwrap_or_default().to_owned();
        span.flags = Span::HAS_REMOTE;
        if open.context.sampled {
            span.flags |= Span::SAMPLED;
        }
        if is_remote && parent != 0 {
            span.flags |= Span::IS_REMOTE;
        }
    }
}

impl AttemptSink for ListenerSpans {
    fn record_late(&self, span: &OpenSpan, name: &str, attempt: &Attempt) {
        // Whether the operation's span is kept is not known here.
        if span.context.sampled {
            self.buffer.push(vec![self.attempt(span, name, attempt, (None, &Clock::now()))]);
        }
    }
}

/// The time of day at an instant.
struct Clock(Instant, SystemTime);

impl Clock {
    fn now() -> Self {
        Self(Instant::now(), SystemTime::now())
    }

    /// Nanoseconds since 1970.
    fn unix_nanos(&self, at: Instant) -> u64 {
        let Self(now, today) = self;
        let since = today.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let since = (since + at.saturating_duration_since(*now))
            .saturating_sub(now.saturating_duration_since(at));
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests;
