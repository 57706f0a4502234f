//! Mirroring: a second cluster gets reads too, after the client was answered, and the answers are compared.
//!
//! Nothing of a client's operation waits for the mirror: what the mirror can't take is dropped, and counted.

use crate::{ConnectionPool, PooledConnection, TakeOptions, count::Count, exchange};
use bytes::BytesMut;
use operation::{AnswerDigest, MirrorOutcome, MirrorResult, MirrorStep, MirroredRead};
use std::{
    fmt, io,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{task::spawn_local, time};
use tollgate_metrics::table as names;

/// How many mirrored reads wait or are under way at once, on one worker. Each keeps its request and the answer
/// that the client has got: at most 128 KiB.
const MAX_UNDER_WAY: usize = 64;

/// How long a mirrored read may take, waiting included. Bounded, so that copies do not pile up before a slow
/// service.
const TIMEOUT: Duration = Duration::from_secs(15);

/// The longest answer of the mirror that is read, in bytes.
const MAX_ANSWER: usize = 1 << 20;

/// Which reads of a listener a second cluster gets too.
#[derive(Clone, Debug, PartialEq)]
pub struct MirrorPlan {
    /// Its name.
    pub cluster: Arc<str>,
    /// The share of the reads, from 0 to 1.
    pub share: f64,
    /// Whether the answers are compared.
    pub compare: bool,
}

/// Gets each mirrored read that has ended.
type Observer = Box<dyn Fn(&MirrorOutcome<'_>)>;

/// The mirror of a listener on one worker.
pub struct Mirror {
    pool: Rc<ConnectionPool>,
    plan: MirrorPlan,
    under_way: Count,
    observer: Observer,
}

impl fmt::Debug for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mirror").field("plan", &self.plan).finish_non_exhaustive()
    }
}

impl Mirror {
    /// A mirror that takes its connections of this pool. `observer` gets each read that has ended.
    pub fn new(pool: Rc<ConnectionPool>, plan: MirrorPlan, observer: Observer) -> Rc<Self> {
        Rc::new(Self { pool, plan, under_way: Count::default(), observer })
    }

    /// Whether the mirror gets the next read: a draw.
    pub fn chooses(&self) -> bool {
        self.plan.share >= 1.0 || fastrand::f64() < self.plan.share
    }

    /// Whether the answers are compared.
    pub fn compares(&self) -> bool {
        self.plan.compare
    }

    /// Closes all idle connections, since the worker drains.
    pub fn close(&self) {
        self.pool.close();
    }

    /// Sends a read whose client was answered. `answer` is what the client got, as far as it was kept, and
    /// `took` how long that took. Returns at once.
    pub fn send(self: &Rc<Self>, read: MirroredRead, answer: Option<Vec<u8>>, took: Duration) {
        if self.plan.compare && answer.is_none() {
            return self.report(&read, MirrorResult::TooLong, None, None);
        }
        if self.under_way.get() >= MAX_UNDER_WAY {
            return self.report(&read, MirrorResult::Dropped, None, None);
        }
        let (mirror, counted) = (Rc::clone(self), self.under_way.add());
        spawn_local(async move {
            mirror.run(read, answer, took).await;
            drop(counted);
        });
    }

    async fn run(&self, mut read: MirroredRead, answer: Option<Vec<u8>>, took: Duration) {
        let asked = time::timeout(TIMEOUT, self.ask(&mut read)).await;
        let Some((step, mirror_took)) = asked.ok().flatten() else {
            return self.report(&read, MirrorResult::Unreachable, None, None);
        };
        let (MirrorStep::Answered(theirs) | MirrorStep::Opened(theirs)) = step else {
            return self.report(&read, MirrorResult::Failed, None, None);
        };
        let ours = answer.filter(|_| self.plan.compare).and_then(|it| read.exchange.digest(&it));
        let digests = ours.map(|ours| [ours, theirs]);
        let result = match digests {
            None => MirrorResult::Sent,
            Some([ours, theirs]) if ours == theirs => MirrorResult::Same,
            Some(_) => MirrorResult::Differs,
        };
        self.report(&read, result, digests, Some([took, mirror_took]));
    }

    /// Asks the second cluster. Returns its answer and how long that took; `None`: there is none.
    async fn ask(&self, read: &mut MirroredRead) -> Option<(MirrorStep, Duration)> {
        let options = TakeOptions {
            placement: read.placement.clone(),
            is_held_when_unreachable: false,
            time_limit: Some(TIMEOUT),
            ..TakeOptions::default()
        };
        let mut connection = Rc::clone(&self.pool).take(options, None).await.ok()?;
        let asked = Instant::now();
        let step = exchange(&mut connection, read).await.ok()?;
        let took = asked.elapsed();
        match step {
            MirrorStep::Answered(_) | MirrorStep::Failed => connection.give_back(),
            MirrorStep::Opened(_) => {
                if exchange(&mut connection, read).await.is_ok_and(|step| step == MirrorStep::Ended)
                {
                    connection.give_back();
                }
            }
            MirrorStep::NeedMore | MirrorStep::Ended | MirrorStep::Unreadable => {}
        }
        Some((step, took))
    }

    fn report(
        &self,
        read: &MirroredRead,
        result: MirrorResult,
        digests: Option<[AnswerDigest; 2]>,
        took: Option<[Duration; 2]>,
    ) {
        let cluster = self.pool.cluster();
        let labels = [("cluster", &**cluster.name()), ("result", result.as_str())];
        cluster.metrics.counter(names::MIRRORED_TOTAL, &labels).increment(1);
        (self.observer)(&MirrorOutcome { read, result, digests, took });
    }
}

/// Sends the next request of a read, and reads the whole reply.
async fn exchange(
    connection: &mut PooledConnection,
    read: &mut MirroredRead,
) -> io::Result<MirrorStep> {
    let (stream, mut bytes) = (&mut connection.socket.stream, BytesMut::new());
    read.exchange.write_request(&mut bytes);
    exchange::send(stream, &mut bytes).await?;
    loop {
        exchange::read_more(stream, &mut bytes, "the connection ended during the reply").await?;
        match read.exchange.read_reply(&bytes) {
            MirrorStep::NeedMore if bytes.len() < MAX_ANSWER => {}
            step => return Ok(step),
        }
    }
}
