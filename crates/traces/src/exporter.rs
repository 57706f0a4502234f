//! The thread that sends spans to the collector.

use crate::{
    Span, TracesPlan,
    otlp::{ExportRequest, SpanResource, attribute},
    tracer::{Inbox, SpanCounters},
    transport::{ExportResult, Transport},
};
use bytes::Bytes;
use prost::Message;
use std::{
    io,
    sync::{Arc, mpsc},
    time::Duration,
};
use tokio::{
    runtime::{Builder, LocalOptions},
    select,
    sync::watch,
    time::{Instant, sleep, timeout_at},
};

/// How many spans a request has at most, roughly: batches of workers are not split.
const MAX_BATCH: usize = 512;

/// How long spans wait for others.
const GATHER: Duration = Duration::from_secs(1);

/// The first pause before a batch is sent again, which doubles each time…
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// …up to this one.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// How many bytes of a collector's words are logged.
const MAX_REASON: usize = 256;

/// Starts the thread, which runs until `closing` is set or all senders of `inbox` are gone. The
/// receiver is disconnected at its end.
///
/// # Errors
/// The thread can't be started.
pub(crate) fn start(
    plan: Arc<TracesPlan>,
    inbox: Inbox,
    closing: watch::Receiver<bool>,
    counters: SpanCounters,
) -> io::Result<mpsc::Receiver<()>> {
    let (ends, ended) = mpsc::channel();
    std::thread::Builder::new().name("traces".into()).spawn(move || {
        match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
            Ok(runtime) => runtime.block_on(Exporter::new(plan, inbox, closing, counters).run()),
            Err(error) => tracing::error!(%error, "spans are not exported: no runtime starts"),
        }
        drop::<mpsc::Sender<()>>(ends);
    })?;
    Ok(ended)
}

struct Exporter {
    plan: Arc<TracesPlan>,
    inbox: Inbox,
    closing: watch::Receiver<bool>,
    counters: SpanCounters,
    transport: Transport,
    resource: SpanResource,
    /// Whether the last batch was lost.
    fails: bool,
}

impl Exporter {
    fn new(
        plan: Arc<TracesPlan>,
        inbox: Inbox,
        closing: watch::Receiver<bool>,
        counters: SpanCounters,
    ) -> Self {
        let transport = Transport::new(Arc::clone(&plan));
        let resource = resource(&plan);
        Self { plan, inbox, closing, counters, transport, resource, fails: false }
    }

    async fn run(mut self) {
        while let Some(spans) = self.next_batch().await {
            self.export(spans).await;
        }
    }

    /// The next spans, which are waited for; `None` once none is left and none will come.
    async fn next_batch(&mut self) -> Option<Vec<Span>> {
        let mut spans = self.next(None).await?;
        let until = Instant::now() + GATHER;
        while spans.len() < MAX_BATCH
            && let Some(more) = self.next(Some(until)).await
        {
            spans.extend(more);
        }
        Some(spans)
    }

    /// A worker's spans; `None` at `until`, or at the end.
    async fn next(&mut self, until: Option<Instant>) -> Option<Vec<Span>> {
        if *self.closing.borrow() {
            self.inbox.close();
        }
        loop {
            select! {
                biased;
                spans = receive(&mut self.inbox, until) => return spans,
                closed = self.closing.changed(), if !self.inbox.is_closed() => {
                    // Without a tracer nothing comes either.
                    if closed.is_err() || *self.closing.borrow() {
                        self.inbox.close();
                    }
                }
            }
        }
    }

    /// Sends spans until the collector has answered for good, or the time is over.
    async fn export(&mut self, spans: Vec<Span>) {
        let count = spans.len() as u64;
        let request = ExportRequest::new(self.resource.clone(), spans).encode_to_vec();
        let (request, deadline) = (Bytes::from(request), Instant::now() + self.plan.timeout);
        let mut pause = FIRST_PAUSE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.transport.export(&request, left).await {
                ExportResult::Accepted(partial) => {
                    let rejected = u64::try_from(partial.rejected_spans).unwrap_or(0).min(count);
                    return self.accepted(count, rejected, &partial.error_message);
                }
                ExportResult::Refused(why) => {
                    self.counters.refused.increment(count);
                    return self.lost(count, &why);
                }
                ExportResult::Retry(why, after) => {
                    // Proxies that lost the same collector do not all return at once.
                    let wait = after.unwrap_or_else(|| pause.mul_f64(0.5 + fastrand::f64() / 2.0));
                    pause = (pause * 2).min(MAX_PAUSE);
                    if *self.closing.borrow() || Instant::now() + wait >= deadline {
                        self.counters.unreachable.increment(count);
                        return self.lost(count, &why);
                    }
                    select! {
                        () = sleep(wait) => {}
                        _ = self.closing.changed() => {}
                    }
                }
            }
        }
    }

    fn accepted(&mut self, count: u64, rejected: u64, message: &str) {
        self.counters.exported.increment(count - rejected);
        if rejected > 0 {
            self.counters.refused.increment(rejected);
            return self.lost(rejected, &format!("the collector rejects spans: {message}"));
        }
        if std::mem::take(&mut self.fails) {
            tracing::info!(collector = %self.plan.otlp, "spans are exported again");
        } else if !message.is_empty() {
            tracing::warn!(collector = %self.plan.otlp, "the collector warns: {message}");
        }
    }

    /// Logs the first loss of a series of losses; the metric has the number of all.
    fn lost(&mut self, spans: u64, why: &str) {
        if !std::mem::replace(&mut self.fails, true) {
            // A collector may quote the whole request.
            let end = (0..=MAX_REASON.min(why.len())).rev().find(|at| why.is_char_boundary(*at));
            let why = why.get(..end.unwrap_or(0)).unwrap_or_default();
            tracing::warn!(
                collector = %self.plan.otlp,
                spans,
                "spans can't be exported, and are lost until they can: {why}"
            );
        }
    }
}

async fn receive(inbox: &mut Inbox, until: Option<Instant>) -> Option<Vec<Span>> {
    match until {
        None => inbox.recv().await,
        Some(until) => timeout_at(until, inbox.recv()).await.ok().flatten(),
    }
}

/// What spans come from: this proxy.
fn resource(plan: &TracesPlan) -> SpanResource {
    let mut attributes = vec![attribute("service.name", &*plan.service)];
    let version = "service.version";
    if plan.resource.iter().all(|(key, _)| key != version) {
        attributes.push(attribute(version, env!("CARGO_PKG_VERSION")));
    }
    attributes.extend(plan.resource.iter().map(|(key, value)| attribute(key, &**value)));
    SpanResource { attributes }
}
