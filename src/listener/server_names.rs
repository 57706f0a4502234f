//! The clusters of a listener by the name that clients ask for (SNI).

use cluster::PreconnectPool;
use foldhash::{HashMap, HashMapExt};
use std::rc::Rc;

/// The clusters of a listener by the name that clients ask for (SNI).
pub struct ServerNames {
    /// By exact name.
    exact: HashMap<Box<str>, Rc<PreconnectPool>>,
    /// By the domain of a wildcard: `*.example.net` is under `example.net`.
    wildcards: HashMap<Box<str>, Rc<PreconnectPool>>,
    /// For all other names, and for clients that ask for none.
    others: Option<Rc<PreconnectPool>>,
}

impl ServerNames {
    /// The clusters for these names, in lower case; a wildcard begins with `*.`.
    pub fn new<'a>(
        names: impl IntoIterator<Item = (&'a str, Rc<PreconnectPool>)>,
        others: Option<Rc<PreconnectPool>>,
    ) -> Self {
        let (mut exact, mut wildcards) = (HashMap::new(), HashMap::new());
        for (name, cluster) in names {
            match name.strip_prefix("*.") {
                Some(domain) => wildcards.insert(domain.into(), cluster),
                None => exact.insert(name.into(), cluster),
            };
        }
        Self { exact, wildcards, others }
    }

    /// The cluster for a name in lower case; `None` if the client is to be refused.
    pub fn find(&self, name: Option<&str>) -> Option<&Rc<PreconnectPool>> {
        let named = name.and_then(|name| {
            let domain = || name.split_once('.').map(|(_, domain)| domain);
            self.exact.get(name).or_else(|| self.wildcards.get(domain()?))
        });
        named.or(self.others.as_ref())
    }

    /// Closes idle connections: the worker drains.
    pub fn close(&self) {
        let all = self.exact.values().chain(self.wildcards.values()).chain(&self.others);
        all.for_each(|cluster| cluster.close());
    }
}
