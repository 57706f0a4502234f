//! The proxy's tracer, and the spans of one listener on one worker before they are sent.

use crate::{Sampler, Span, TracesPlan, exporter, rate::SpanRate};
use metrics::Counter;
use std::{
    cell::{Cell, RefCell},
    io,
    rc::{Rc, Weak},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant, SystemTime},
};
use tokio::sync::{
    mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    watch,
};
use tollgate_metrics::{Metrics, table as names};

/// How many spans may wait to be sent.
const MAX_QUEUED: usize = 8192;

/// How many spans a worker gathers before it hands them over.
const FLUSH_SPANS: usize = 64;

/// How long a worker gathers spans.
const FLUSH_DELAY: Duration = Duration::from_millis(200);

/// The proxy's tracer. All workers share it.
#[derive(Debug)]
pub struct Tracer {
    plan: Arc<TracesPlan>,
    sampler: Sampler,
    rate: SpanRate,
    queue: UnboundedSender<Vec<Span>>,
    /// How many spans are in the queue.
    queued: Arc<AtomicUsize>,
    closing: watch::Sender<bool>,
    /// Disconnected when the exporter has ended.
    ended: Mutex<Receiver<()>>,
    counters: SpanCounters,
}

/// Counts what becomes of spans.
#[derive(Clone, Debug)]
pub(crate) struct SpanCounters {
    pub(crate) exported: Counter,
    /// More than `max_spans_per_second`.
    rate: Counter,
    /// The queue was full.
    queue: Counter,
    /// The collector did not take them.
    pub(crate) refused: Counter,
    /// The collector could not be reached in time.
    pub(crate) unreachable: Counter,
}

impl SpanCounters {
    fn new(metrics: &Metrics) -> Self {
        let dropped =
            |reason| metrics.counter(names::SPANS_DROPPED_TOTAL, &[(names::REASON, reason)]);
        Self {
            exported: metrics.counter(names::SPANS_EXPORTED_TOTAL, &[]),
            rate: dropped("rate"),
            queue: dropped("queue_full"),
            refused: dropped("refused"),
            unreachable: dropped("unreachable"),
        }
    }
}

impl Tracer {
    /// Starts the thread that exports. It ends when the tracer is dropped or closed.
    ///
    /// # Errors
    /// The thread can't be started.
    pub fn start(plan: TracesPlan, metrics: &Metrics) -> io::Result<Arc<Self>> {
        let (plan, counters) = (Arc::new(plan), SpanCounters::new(metrics));
        let ((queue, spans), queued) = (unbounded_channel(), Arc::default());
        let (closing, closed) = watch::channel(false);
        let inbox = Inbox { spans, queued: Arc::clone(&queued) };
        let ended = exporter::start(Arc::clone(&plan), inbox, closed, counters.clone())?;
        Ok(Arc::new(Self {
            sampler: plan.sampler(),
            rate: SpanRate::new(plan.max_spans_per_second),
            plan,
            queue,
            queued,
            closing,
            ended: Mutex::new(ended),
            counters,
        }))
    }

    /// What is traced.
    pub fn plan(&self) -> &TracesPlan {
        &self.plan
    }

    /// The decision about traces that begin here.
    pub fn sampler(&self) -> &Sampler {
        &self.sampler
    }

    /// Has everything exported that was handed over, and waits for that until `deadline`. Later
    /// spans are dropped.
    pub fn close(&self, deadline: Instant) {
        self.closing.send_replace(true);
        let patience = deadline.saturating_duration_since(Instant::now());
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the collector does not take the last spans in time: they are lost");
        }
    }

    /// Hands spans over, or drops them if the collector takes them more slowly than they come. Does
    /// not block.
    fn send(&self, spans: Vec<Span>) {
        let count = spans.len();
        let fits = |queued: usize| Some(queued + count).filter(|sum| *sum <= MAX_QUEUED);
        let is_queued = self.queued.fetch_update(Relaxed, Relaxed, fits).is_ok();
        if !is_queued || self.queue.send(spans).is_err() {
            self.counters.queue.increment(count as u64);
        }
    }
}

/// The receiving end of the queue.
pub(crate) struct Inbox {
    spans: UnboundedReceiver<Vec<Span>>,
    queued: Arc<AtomicUsize>,
}

impl Inbox {
    /// The next spans; `None` once it is closed and empty.
    pub(crate) async fn recv(&mut self) -> Option<Vec<Span>> {
        let spans = self.spans.recv().await?;
        self.queued.fetch_sub(spans.len(), Relaxed);
        Some(spans)
    }

    /// Takes no further spans.
    pub(crate) fn close(&mut self) {
        self.spans.close();
    }

    /// Whether it takes no further spans.
    pub(crate) fn is_closed(&self) -> bool {
        self.spans.is_closed()
    }
}

/// The spans of one listener on one worker, gathered before they are handed over.
pub struct SpanBuffer {
    tracer: Arc<Tracer>,
    spans: RefCell<Vec<Span>>,
    rng: RefCell<fastrand::Rng>,
    flush_scheduled: Cell<bool>,
}

impl SpanBuffer {
    /// An empty buffer.
    pub fn new(tracer: Arc<Tracer>) -> Rc<Self> {
        // Ids must differ on all machines; the generator's own seed comes from the clock.
        let mut seed = [0; 8];
        let rng = match getrandom::fill(&mut seed) {
            Ok(()) => fastrand::Rng::with_seed(u64::from_ne_bytes(seed)),
            Err(_) => fastrand::Rng::new(),
        };
        let (spans, flush_scheduled) = (RefCell::default(), Cell::default());
        Rc::new(Self { tracer, spans, rng: RefCell::new(rng), flush_scheduled })
    }

    /// The tracer that gets the spans.
    pub fn tracer(&self) -> &Tracer {
        &self.tracer
    }

    /// A new trace id.
    pub fn trace_id(&self) -> u128 {
        self.rng.borrow_mut().u128(1..)
    }

    /// A new span id.
    pub fn span_id(&self) -> u64 {
        self.rng.borrow_mut().u64(1..)
    }

    /// Adds the spans of one operation. Returns `false` if this second has had its spans.
    pub fn push(self: &Rc<Self>, spans: Vec<Span>) -> bool {
        let second = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let second = second.map_or(0, |since| since.as_secs());
        if !self.tracer.rate.take(second, spans.len() as u32) {
            self.tracer.counters.rate.increment(spans.len() as u64);
            return false;
        }
        let mut gathered = self.spans.borrow_mut();
        gathered.extend(spans);
        let full = gathered.len() >= FLUSH_SPANS;
        drop(gathered);
        if full {
            self.flush();
        } else if !self.flush_scheduled.replace(true) {
            let buffer = Rc::downgrade(self);
            tokio::task::spawn_local(Self::flush_later(buffer));
        }
        true
    }

    async fn flush_later(buffer: Weak<Self>) {
        tokio::time::sleep(FLUSH_DELAY).await;
        if let Some(buffer) = buffer.upgrade() {
            buffer.flush_scheduled.set(false);
            buffer.flush();
        }
    }

    fn flush(&self) {
        let spans = std::mem::take(&mut *self.spans.borrow_mut());
        if !spans.is_empty() {
            self.tracer.send(spans);
        }
    }
}

impl Drop for SpanBuffer {
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests;
