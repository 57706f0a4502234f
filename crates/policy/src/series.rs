//! Series: the operations of one name on one resource, resolved once and then only looked up.

pub use crate::{cardinality::CardinalityLimit, series_key::SeriesKey};

use crate::{
    ActivePolicy, SeriesPolicy,
    matching::{Applicability, ResidualMatch},
};
use foldhash::HashMap;
use operation::{Operation, OperationNames};
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
};

/// How many resources a name has at most when one more is kept that is not wholly known.
const MOST_UNREAD: usize = 1000;

/// A series, with the policies that apply to it.
pub struct Series {
    /// What it is called.
    pub key: SeriesKey,
    /// The policies that apply, in order.
    pub policies: Vec<BoundPolicy>,
    /// Which set of policies these are of.
    generation: u64,
}

/// A policy that applies to a series, or to some of its operations.
pub struct BoundPolicy {
    /// The policy.
    pub active: Rc<ActivePolicy>,
    /// The part of the match that is evaluated for each operation; `None` if the policy applies to
    /// all.
    pub residual: Option<ResidualMatch>,
    /// Whether what costs the service nothing passes it.
    pub skips_light: bool,
    /// The policy for this series.
    pub policy: Box<dyn SeriesPolicy>,
}

/// The series of one name, by resource.
type Resources = HashMap<Box<str>, Rc<Series>>;

/// One worker's series of one listener.
pub(crate) struct SeriesTable {
    listener: Box<str>,
    policies: RefCell<Rc<[Rc<ActivePolicy>]>>,
    generation: Cell<u64>,
    cardinality: Arc<CardinalityLimit>,
    names: RefCell<HashMap<Box<str>, Resources>>,
}

impl SeriesTable {
    /// An empty table for these policies of a listener.
    pub(crate) fn new(
        listener: &str,
        entries: Vec<Rc<ActivePolicy>>,
        census: Arc<CardinalityLimit>,
    ) -> Self {
        Self {
            listener: listener.into(),
            policies: RefCell::new(entries.into()),
            generation: Cell::new(0),
            cardinality: census,
            names: RefCell::default(),
        }
    }

    /// The listener's name.
    pub(crate) fn listener(&self) -> &str {
        &self.listener
    }

    /// The policies, in order.
    pub(crate) fn policies(&self) -> Rc<[Rc<ActivePolicy>]> {
        Rc::clone(&self.policies.borrow())
    }

    /// Puts other policies in their place. Operations under way end with those that they had.
    pub(crate) fn replace(&self, entries: Vec<Rc<ActivePolicy>>) {
        *self.policies.borrow_mut() = entries.into();
        self.generation.set(self.generation.get() + 1);
        self.names.borrow_mut().clear();
    }

    /// Whether a series has the policies that are in force.
    pub(crate) fn is_current(&self, series: &Series) -> bool {
        series.generation == self.generation.get()
    }

    /// The series of this name and resource. One that the service has not confirmed yet is made
    /// for this operation only.
    pub(crate) fn find(&self, operation: &Operation<'_>) -> Rc<Series> {
        let Operation { protocol, name, resource, .. } = *operation;
        if let Some(series) = self.cached(name, resource) {
            return series;
        }
        // Without a resource there is nothing that a client could have invented.
        let proven = resource.is_empty() || operation.known_names;
        let key =
            SeriesKey { protocol, name: name.into(), resource: resource.into(), confirmed: proven };
        if proven { self.cache(key) } else { self.bind(key) }
    }

    /// The series of an operation of this one, of which more is known by now.
    pub(crate) fn renamed(
        &self,
        series: &Rc<Series>,
        OperationNames { name, resource }: OperationNames<'_>,
    ) -> Rc<Series> {
        // What was noted of an operation fits the policies that it passed, and no others.
        if !self.is_current(series) {
            return Rc::clone(series);
        }
        self.cached(name, resource).unwrap_or_else(|| {
            let protocol = series.key.protocol;
            let (name, resource) = (name.into(), resource.into());
            self.bind(SeriesKey { protocol, name, resource, confirmed: false })
        })
    }

    /// Keeps the series of operations whose names were not wholly known, as long as they are known
    /// to become one that the service has confirmed: binding it for each of them costs far more.
    pub(crate) fn cache_unread(&self, unread: &Rc<Series>, told: &Series) {
        let SeriesKey { name, resource, confirmed: proven, .. } = &unread.key;
        if !told.key.confirmed || *proven || !self.is_current(unread) {
            return;
        }
        let mut names = self.names.borrow_mut();
        let resources = names.entry(name.clone()).or_default();
        if resources.len() < MOST_UNREAD {
            resources.entry(resource.clone()).or_insert_with(|| Rc::clone(unread));
        }
    }

    fn cached(&self, name: &str, resource: &str) -> Option<Rc<Series>> {
        let names = self.names.borrow();
        names.get(name).and_then(|resources| resources.get(resource)).map(Rc::clone)
    }

    /// The service has confirmed this one: it counts by its own name from here on, if there
    /// is room.
    pub(crate) fn confirm(&self, series: &Rc<Series>) -> Rc<Series> {
        let SeriesKey { name, resource, .. } = &series.key;
        // What was noted of an operation fits the policies that it passed, and no others.
        if !self.is_current(series)
            || series.key.confirmed
            || !self.cardinality.admits(&[name, resource])
        {
            return Rc::clone(series);
        }
        self.cache(SeriesKey { confirmed: true, ..series.key.clone() })
    }

    fn cache(&self, key: SeriesKey) -> Rc<Series> {
        let mut names = self.names.borrow_mut();
        let resources = names.entry(key.name.clone()).or_default();
        let series = resources.entry(key.resource.clone()).or_insert_with(|| self.bind(key));
        Rc::clone(series)
    }

    fn bind(&self, key: SeriesKey) -> Rc<Series> {
        let entries = self.policies();
        let apply = |entry: &Rc<ActivePolicy>| {
            let applies = entry.applies(&self.listener, &key);
            let bound = (applies != Applicability::Never).then(|| entry.policy.bind(&key))??;
            let varies = match applies {
                Applicability::PerOperation(rest) => Some(rest),
                Applicability::Always | Applicability::Never => None,
            };
            let spares_light = entry.skips_light();
            Some(BoundPolicy {
                active: Rc::clone(entry),
                residual: varies,
                skips_light: spares_light,
                policy: bound,
            })
        };
        let bound = entries.iter().filter_map(apply).collect();
        Rc::new(Series { key, policies: bound, generation: self.generation.get() })
    }
}
