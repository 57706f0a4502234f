//! What a cluster's endpoints are made from: each as written, with what is known of it.

use super::{Meters, members::Leaving};
use crate::config::plan::{ClusterPlan, EndpointPlan, Target};
use foldhash::HashMap;
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};
use tokio::time::Instant;

/// How many names that are not in the config have metrics of their own. They come and go, and their
/// series stay; beyond this many they share the label `other`.
const MAX_NAMES: usize = 1024;

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
    meters: HashMap<Arc<str>, Arc<Meters>>,
    late_names: usize,
    ids: u64,
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
    pub(super) fn new(plan: &ClusterPlan, recorder: &dyn metrics::Recorder) -> Self {
        let mut table = Self {
            sources: Vec::new(),
            leaving: Vec::new(),
            file_seen: None,
            file_error: None,
            file_due: plan.endpoints_file.as_ref().map(|_| Instant::now()),
            meters: HashMap::default(),
            late_names: 0,
            ids: 0,
        };
        for endpoint in &plan.endpoints {
            let source = table.new_source(endpoint.clone(), false);
            if let Target::Host(..) = &source.plan.at {
                let written = source.found.first().map(|found| Arc::clone(&found.name));
                let name = written.unwrap_or_else(|| source.plan.at.to_string().into());
                let meters = Arc::new(Meters::new(&plan.name, Arc::clone(&name), recorder));
                table.meters.entry(name).or_insert(meters);
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
        if let Some(meters) = self.meters.get(name) {
            return Arc::clone(meters);
        }
        let label = match self.late_names < MAX_NAMES {
            true => Arc::clone(name),
            false => Arc::from("other"),
        };
        self.late_names += 1;
        let new = || Arc::new(register(Arc::clone(&label)));
        Arc::clone(self.meters.entry(Arc::clone(&label)).or_insert_with(new))
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
        (due, read_file, next.min())
    }

    /// The first source that could not be read or looked up, and why.
    pub(super) fn failing(&self) -> Option<String> {
        let failed = |s: &Source| Some(format!("{}: {}", s.name(), s.last_error.as_ref()?));
        self.file_error.clone().or_else(|| self.sources.iter().find_map(failed))
    }
}
