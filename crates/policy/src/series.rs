//! Series: the operations of one name on one resource, resolved once and then only looked up.

pub use crate::{cardinality::CardinalityLimit, series_key::SeriesKey};

use crate::{ActivePolicy, BoundPolicy, bound_policies::BoundPolicies, policy_set::PolicySet};
use foldhash::HashMap;
use operation::{Operation, OperationNames};
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
};

/// A series with a partly unknown resource is cached only if its name has fewer resources than this.
const MAX_RESOURCES_WITH_UNREAD: usize = 1000;

/// A series, with the policies that apply to it.
pub struct Series {
    /// Its name and resource.
    pub key: SeriesKey,
    /// The policies that may apply.
    pub(crate) bound: BoundPolicies,
    /// The generation of these policies.
    generation: u64,
}

impl Series {
    /// The policy at a position; `None` if it does not apply to the series.
    pub(crate) fn policy(&self, position: usize) -> Option<&BoundPolicy> {
        self.bound.get(position, &self.key)
    }

    /// The policies that apply to the series, in order.
    pub(crate) fn policies(&self) -> impl Iterator<Item = &BoundPolicy> {
        self.bound.iter(&self.key)
    }
}

/// The series of one operation name, by resource.
type Resources = HashMap<Box<str>, Rc<Series>>;

/// One worker's series of one listener.
pub(crate) struct SeriesTable {
    policies: RefCell<Rc<PolicySet>>,
    generation: Cell<u64>,
    cardinality: Arc<CardinalityLimit>,
    names: RefCell<HashMap<Box<str>, Resources>>,
}

impl SeriesTable {
    /// An empty table for these policies of a listener.
    pub(crate) fn new(
        listener: &str,
        policies: Vec<Rc<ActivePolicy>>,
        cardinality: Arc<CardinalityLimit>,
    ) -> Self {
        Self {
            policies: RefCell::new(Rc::new(PolicySet::new(listener, policies))),
            generation: Cell::new(0),
            cardinality,
            names: RefCell::default(),
        }
    }

    /// The policies, in order.
    pub(crate) fn policies(&self) -> Rc<PolicySet> {
        Rc::clone(&self.policies.borrow())
    }

    /// Replaces the policies. Operations in flight settle with those that admitted them.
    pub(crate) fn replace(&self, policies: Vec<Rc<ActivePolicy>>) {
        let set = PolicySet::new(self.policies().listener(), policies);
        *self.policies.borrow_mut() = Rc::new(set);
        self.generation.set(self.generation.get() + 1);
        self.names.borrow_mut().clear();
    }

    /// Whether a series has the policies in force.
    pub(crate) fn is_current(&self, series: &Series) -> bool {
        series.generation == self.generation.get()
    }

    /// The series of an operation. A series that the service has not confirmed is built for this
    /// operation only, and not cached.
    pub(crate) fn find(&self, operation: &Operation<'_>) -> Rc<Series> {
        let Operation { protocol, name, resource, .. } = *operation;
        if let Some(series) = self.cached(name, resource) {
            return series;
        }
        // Without a resource there is no name that a client could have invented.
        let confirmed = resource.is_empty() || operation.known_names;
        let key = SeriesKey { protocol, name: name.into(), resource: resource.into(), confirmed };
        if confirmed { self.cache(key) } else { self.bind(key) }
    }

    /// The series for the final name and resource of an operation that was admitted as `series`.
    pub(crate) fn renamed(
        &self,
        series: &Rc<Series>,
        OperationNames { name, resource }: OperationNames<'_>,
    ) -> Rc<Series> {
        // The operation's state belongs to the policies that admitted it, and to no others.
        if !self.is_current(series) {
            return Rc::clone(series);
        }
        self.cached(name, resource).unwrap_or_else(|| {
            let protocol = series.key.protocol;
            let (name, resource) = (name.into(), resource.into());
            self.bind(SeriesKey { protocol, name, resource, confirmed: false })
        })
    }

    /// Caches the series of operations with a partly unknown name or resource, if an operation of it
    /// turned out to belong to a confirmed series, `final_series`: to build it again for each operation
    /// costs far more.
    pub(crate) fn cache_unread(&self, unread: &Rc<Series>, final_series: &Series) {
        let SeriesKey { name, resource, confirmed, .. } = &unread.key;
        if !final_series.key.confirmed || *confirmed || !self.is_current(unread) {
            return;
        }
        let mut names = self.names.borrow_mut();
        let resources = names.entry(name.clone()).or_default();
        if resources.len() < MAX_RESOURCES_WITH_UNREAD {
            resources.entry(resource.clone()).or_insert_with(|| Rc::clone(unread));
        }
    }

    fn cached(&self, name: &str, resource: &str) -> Option<Rc<Series>> {
        let names = self.names.borrow();
        names.get(name).and_then(|resources| resources.get(resource)).map(Rc::clone)
    }

    /// Records that the service has confirmed the resource. Returns the series with metrics of its own,
    /// or `series` if the cardinality limit is reached.
    pub(crate) fn confirm(&self, series: &Rc<Series>) -> Rc<Series> {
        let SeriesKey { name, resource, .. } = &series.key;
        // The operation's state belongs to the policies that admitted it, and to no others.
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
        let bound = BoundPolicies::new(self.policies(), &key);
        Rc::new(Series { key, bound, generation: self.generation.get() })
    }
}
