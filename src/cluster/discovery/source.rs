//! What a cluster's endpoints are made from: each as written, with what is known of it.

use super::{Meters, members::Leaving};
use crate::config::plan::{ClusterPlan, EndpointPlan, Target};
use foldhash::HashMap;
use metrics::Counter;
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;
use tollgate_metrics::{Metrics, table as names};

/// How many names that are not in the config have metrics of their own at once. Beyond this many
/// they share the label `other`.
const MAX_NAMES: usize = 1024;
/// How long what was counted of a name that left is kept: long enough for who collects it every few
/// minutes, and for a name that comes back to go on counting.
const KEPT: Duration = Duration::from_secs(5 * 60);

/// Everything that is known of where endpoints are.
pub(super) struct Table {
    /// The config's, then those that were supplied.
    pub(super) sources: Vec<Source>,
    /// Endpoints that were removed and still have time.
    pub(super) leaving: Vec<Leaving>,
    /// What the file of endpoints was when it was read last, as a hash, or why it could not be.
    pub(super) file_seen: Option<Result<u64, String>>,
    /// What is wrong with the file of endpoints now.
    pub(super) file_error: Option<String>,
    /// When to read it again; `None` if there is none, or it is being read.
    pub(super) file_due: Option<Instant>,
    meters: HashMap<Arc<str>, Named>,
    /// Counts endpoints without metrics of their own; `None` where none can come later.
    capped: Option<Counter>,
    ids: u64,
}

/// The metrics of a name.
struct Named {
    meters: Arc<Meters>,
    /// It stands in the config, and so does not go.
    written: bool,
    /// It has left: when what was counted of it is forgotten.
    until: Option<Instant>,
}

/// One endpoint as written.
pub(super) struct Source {
    pub(super) id: u64,
    pub(super) plan: EndpointPlan,
    /// It does not come from the config: it is there until others are supplied.
    pub(super) supplied: bool,
    /// The last good answer; for a host that is an address, that address.
    pub(super) found: Vec<Found>,
    /// When to look it up; `None` for a host that is an address, and while it is being looked up.
    pub(super) due: Option<Instant>,
    /// When the last look-up ended.
    pub(super) asked: Option<Instant>,
    pub(super) last_ok: Option<Instant>,
    /// Why the last look-up failed, if it did.
    pub(super) last_error: Option<String>,
    /// How many look-ups in a row failed.
    pub(super) failures: u32,
}

/// An address that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) address: SocketAddr,
    /// `host:port`, the host being the name that has this address.
    pub(super) name: Arc<str>,
    /// The weight and priority that go before those written.
    pub(super) place: Option<(u32, u8)>,
}

impl Found {
    pub(super) fn new(address: SocketAddr, name: &Arc<str>) -> Self {
        Self { address, name: Arc::clone(name), place: None }
    }
}

impl Source {
    fn new(plan: EndpointPlan, id: u64, supplied: bool) -> Self {
        let literal = match &plan.at {
            Target::Host(host, port) => host.parse::<IpAddr>().ok().map(|ip| (ip, *port).into()),
            Target::Srv(_) => None,
        };
        let found = |address: SocketAddr| Found::new(address, &address.to_string().into());
        Self {
            id,
            supplied,
            found: literal.map(found).into_iter().collect(),
            due: literal.is_none().then(Instant::now),
            asked: None,
            last_ok: None,
            last_error: None,
            failures: 0,
            plan,
        }
    }

    /// Whether there is nothing to look up.
    pub(super) fn is_address(&self) -> bool {
        matches!(&self.plan.at, Target::Host(host, _) if host.parse::<IpAddr>().is_ok())
    }

    /// The name that is looked up.
    pub(super) fn name(&self) -> &str {
        match &self.plan.at {
            Target::Host(name, _) | Target::Srv(name) => name,
        }
    }

    /// What to look up, and what was found before.
    pub(super) fn question(&self) -> (Target, Vec<Found>) {
        (self.plan.at.clone(), self.found.clone())
    }
}

impl Table {
    pub(super) fn new(plan: &ClusterPlan, metrics: &Metrics) -> Self {
        let comes_later = plan.endpoints_file.is_some()
            || plan.endpoints.iter().any(|endpoint| matches!(endpoint.at, Target::Srv(_)));
        let labels = [("cluster", &*plan.name)];
        let capped = || metrics.counter(names::ENDPOINTS_CAPPED_TOTAL, &labels);
        let mut table = Self {
            sources: Vec::new(),
            leaving: Vec::new(),
            file_seen: None,
            file_error: None,
            file_due: plan.endpoints_file.as_ref().map(|_| Instant::now()),
            meters: HashMap::default(),
            capped: comes_later.then(capped),
            ids: 0,
        };
        for endpoint in &plan.endpoints {
            let source = table.new_source(endpoint.clone(), false);
            if let Target::Host(..) = &source.plan.at {
                let written = source.found.first().map(|found| Arc::clone(&found.name));
                let name = written.unwrap_or_else(|| source.plan.at.to_string().into());
                table.meters.entry(Arc::clone(&name)).or_insert_with(|| {
                    let meters = Arc::new(Meters::new(&plan.name, name, true, metrics));
                    Named { meters, written: true, until: None }
                });
            }
            table.sources.push(source);
        }
        table
    }

    pub(super) fn new_source(&mut self, plan: EndpointPlan, supplied: bool) -> Source {
        self.ids += 1;
        Source::new(plan, self.ids, supplied)
    }

    pub(super) fn source(&self, id: u64) -> Option<&Source> {
        self.sources.iter().find(|source| source.id == id)
    }

    pub(super) fn source_mut(&mut self, id: u64) -> Option<&mut Source> {
        self.sources.iter_mut().find(|source| source.id == id)
    }

    /// The metrics of this name; new ones are registered by `register`.
    pub(super) fn meters(
        &mut self,
        name: &Arc<str>,
        register: impl Fn(Arc<str>) -> Meters,
    ) -> Arc<Meters> {
        if let Some(known) = self.meters.get(name) {
            return Arc::clone(&known.meters);
        }
        let late = self.meters.values().filter(|named| !named.written).count();
        let label = match late < MAX_NAMES {
            true => Arc::clone(name),
            false => Arc::from("other"),
        };
        if let (true, Some(capped)) = (late >= MAX_NAMES, &self.capped) {
            capped.increment(1);
        }
        let new = || {
            let meters = Arc::new(register(Arc::clone(&label)));
            Named { meters, written: false, until: None }
        };
        Arc::clone(&self.meters.entry(Arc::clone(&label)).or_insert_with(new).meters)
    }

    /// How many names have metrics.
    #[cfg(test)]
    pub(super) fn names(&self) -> usize {
        self.meters.len()
    }

    /// Notes which names have left by `now`, and which have come back.
    pub(super) fn note_who_left(&mut self, now: Instant) {
        for named in self.meters.values_mut().filter(|named| !named.written) {
            match named.meters.is_here() {
                true => named.until = None,
                false => _ = named.until.get_or_insert(now + KEPT),
            }
        }
    }

    /// Forgets what was counted of names that left long ago. As long as connections go on, it is
    /// counted.
    pub(super) fn forget_who_left(&mut self, now: Instant) {
        self.meters.retain(|_, named| {
            if named.until.is_none_or(|until| until > now) {
                return true;
            }
            let over = Arc::strong_count(&named.meters) == 1;
            if over {
                named.meters.forget();
            }
            named.until = Some(now + KEPT);
            !over
        });
    }

    /// The sources to look up now, whether to read the file now, and when there is more to do.
    /// What is told here counts as under way, and is not told again before it is done.
    pub(super) fn due(&mut self, now: Instant) -> (Vec<u64>, bool, Option<Instant>) {
        let due = self.sources.iter_mut().filter(|s| s.due.is_some_and(|due| due <= now));
        let due = due
            .map(|source| {
                source.due = None;
                source.id
            })
            .collect();
        let read_file = self.file_due.take_if(|due| *due <= now).is_some();
        let next = self.sources.iter().filter_map(|source| source.due);
        let next =
            next.chain(self.leaving.iter().map(|leaving| leaving.until)).chain(self.file_due);
        let next = next.chain(self.meters.values().filter_map(|named| named.until));
        (due, read_file, next.min())
    }

    /// The first source that could not be read or looked up, and why.
    pub(super) fn failing(&self) -> Option<String> {
        let failed = |s: &Source| Some(format!("{}: {}", s.name(), s.last_error.as_ref()?));
        self.file_error.clone().or_else(|| self.sources.iter().find_map(failed))
    }
}
