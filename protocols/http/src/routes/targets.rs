//! The clusters of a route, with weights.

use std::sync::Arc;

/// One or several clusters with their shares of the requests.
#[derive(Clone, Debug)]
pub struct WeightedClusters {
    /// Cumulated shares, 0 to 1.
    list: Box<[(f64, Arc<str>)]>,
    /// The last cluster with a share; used for rounding errors at the end.
    last: Arc<str>,
}

impl WeightedClusters {
    /// A single cluster.
    pub fn one(cluster: &str) -> Self {
        Self { list: Box::default(), last: cluster.into() }
    }

    /// Clusters by weight; `None` if all weights are 0.
    pub(super) fn weighted(weights: &[(&str, usize)]) -> Option<Self> {
        let total: usize = weights.iter().map(|(_, weight)| weight).sum();
        let mut sum = 0;
        let weights = weights.iter().filter(|(_, weight)| *weight > 0);
        let list: Box<[_]> = weights
            .map(|&(name, weight)| {
                sum += weight;
                (sum as f64 / total as f64, Arc::from(name))
            })
            .collect();
        let (_, last) = list.last()?.clone();
        Some(Self { list, last })
    }

    /// The cluster of a request; `share` is random in [0, 1).
    pub fn pick(&self, share: f64) -> &Arc<str> {
        let found = self.list.iter().find(|(end, _)| share < *end);
        found.map_or(&self.last, |(_, name)| name)
    }

    /// The clusters in configured order, each with its share, 0 to 1.
    pub fn shares(&self) -> Vec<(&Arc<str>, f64)> {
        if self.list.is_empty() {
            return vec![(&self.last, 1.0)];
        }
        let ends = self.list.iter().map(|(end, _)| *end);
        let begins = std::iter::once(0.0).chain(ends.clone());
        let names = self.list.iter().map(|(_, name)| name);
        names.zip(ends.zip(begins)).map(|(name, (end, begin))| (name, end - begin)).collect()
    }

    /// The clusters with a share, each once.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        let rest = self.list.iter().map(|(_, name)| name);
        let rest = rest.filter(|name| **name != self.last);
        std::iter::once(&self.last).chain(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_are_picked_by_weight() {
        let targets = WeightedClusters::weighted(&[("a", 1), ("none", 0), ("b", 3)]).unwrap();
        for (share, name) in [(0.0, "a"), (0.2499, "a"), (0.25, "b"), (0.9999, "b"), (1.0, "b")] {
            assert_eq!(&**targets.pick(share), name, "{share}");
        }
        let mut names: Vec<_> = targets.names().map(|name| &**name).collect();
        names.sort_unstable();
        assert_eq!(names, ["a", "b"]);
        assert!(WeightedClusters::weighted(&[("a", 0)]).is_none());
        assert_eq!(&**WeightedClusters::one("a").pick(0.5), "a");
    }
}
