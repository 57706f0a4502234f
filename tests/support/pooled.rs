//! Proxies whose clients share connections, and what drivers that use one must leave behind.

use super::{
    eventually,
    observed::{Driver, Observed, Run},
    replica_set::ReplicaSet,
    secantus::Secantus,
    tollgate::Tollgate,
};
use bson::doc;

/// The most connections to a server that clients share.
pub const SIZE: usize = 4;
/// The cluster's key for that.
const POOL: &str = "pool: { max_pool_size: 4 }";

/// A proxy with a pool, before one server or before a replica set.
pub struct Pooled {
    /// It has a listener `db`.
    pub tollgate: Tollgate,
    /// What clients see: `router` or `primary`.
    pub present_as: &'static str,
    /// The members behind it; of a replica set the last has the tag `use: reports`. `None` before one
    /// server.
    pub set: Option<ReplicaSet>,
}

impl Pooled {
    /// A router and a primary before the shared server, both before a replica set, and a router before
    /// two routers. Nothing where there is no server.
    pub fn all() -> Vec<Self> {
        let Some(server) = Secantus::shared() else { return Vec::new() };
        let endpoints = format!("endpoints: [\"{}\"], {POOL}", server.address());
        let before_server = |present_as| Self::start(present_as, &endpoints);
        let mut all = vec![before_server("router"), before_server("primary")];
        all.extend(Self::before_sets(server));
        all.push(Self::before_routers(server));
        all
    }

    /// One before two routers, each with cursors and transactions of its own.
    fn before_routers(server: &Secantus) -> Self {
        let routers = ReplicaSet::routers(server.address(), 2);
        let [first, second] = [routers.address(0), routers.address(1)];
        let this =
            Self::start("router", &format!("endpoints: [\"{first}\", \"{second}\"], {POOL}"));
        Self { set: Some(routers), ..this }
    }

    /// A router and a primary, each before a replica set of its own.
    pub fn before_sets(server: &Secantus) -> Vec<Self> {
        let start = |present_as| Self::before_set(server, present_as);
        ["router", "primary"].map(start).into()
    }

    /// One before a replica set, with all members known.
    pub fn before_set(server: &Secantus, present_as: &'static str) -> Self {
        Self::before_set_with(server, present_as, POOL)
    }

    /// The same with other keys of the cluster, `pool` among them.
    pub fn before_set_with(server: &Secantus, present_as: &'static str, keys: &str) -> Self {
        let set = ReplicaSet::start(server.address(), 3);
        set.set_tags(2, doc! { "use": "reports" });
        let seeds = format!("replica_set: {{ name: rs, seeds: [\"{}\"] }}", set.address(0));
        let this = Self::start(present_as, &format!("{seeds}, {keys}"));
        eventually("the members to be known", || {
            let clusters = this.tollgate.json("/clusters");
            let endpoints = clusters[0]["endpoints"].as_array()?;
            let known = endpoints.iter().filter(|endpoint| endpoint["role"] != "unknown").count();
            (known == 3).then_some(())
        });
        Self { set: Some(set), ..this }
    }

    fn start(present_as: &'static str, cluster: &str) -> Self {
        let tollgate = Tollgate::start(&format!(
            "workers: 1\n\
             listeners:\n  db: {{ address: \"127.0.0.1:0\", cluster: db, \
             protocol: {{ mongo: {{ present_as: {present_as} }} }} }}\n\
             clusters:\n  db: {{ {cluster} }}\n"
        ));
        Self { tollgate, present_as, set: None }
    }

    /// The ways to write a connection string that work: see docs/pooling.md.
    pub fn ways(&self) -> &'static [&'static str] {
        match self.present_as {
            "router" => &["bare", "direct", "balanced"],
            _ => &["bare", "set", "direct", "balanced"],
        }
    }

    /// The name of the set that clients of a primary see.
    pub fn set_name(&self) -> &'static str {
        if self.set.is_some() { "rs" } else { "secantus" }
    }

    /// A connection string of one of these ways.
    pub fn uri(&self, way: &str) -> String {
        let option = match way {
            "set" => format!("replicaSet={}", self.set_name()),
            "direct" => "directConnection=true".to_owned(),
            "balanced" => "loadBalanced=true".to_owned(),
            _ => String::new(),
        };
        format!("mongodb://{}/?{option}", self.tollgate.listener("db"))
    }

    /// Runs scenarios of a driver with these ways to write a connection string, and holds them against
    /// what the proxy has seen. Reads from a secondary are added where a driver sends them.
    pub fn check(self, driver: Driver, scenarios: &str, ways: &[&str]) {
        let reads_of_routers = if self.present_as == "router" { ",secondary" } else { "" };
        let scenarios = format!("{scenarios}{reads_of_routers}");
        let variables = [("WAYS", &*ways.join(",")), ("SET_NAME", self.set_name())];
        let runs = driver.run(self.tollgate.listener("db"), &scenarios, None, &variables);
        if let Some(runs) = runs {
            assert_eq!(runs.len(), ways.len() * scenarios.split(',').count());
            self.check_runs(runs);
        }
    }

    /// Holds runs against what the proxy and the members have seen.
    pub fn check_runs(self, runs: Vec<Run>) {
        let seen = Observed { tollgate: self.tollgate, runs, encrypted: false };
        seen.runs.iter().for_each(|run| seen.check(run));
        let Some(set) = self.set else { return };
        for member in 0..set.addresses().len() {
            // The monitor has one, a change stream that waits has one, and one may be about to close.
            let most = set.counters(member).most_open;
            assert!(most <= SIZE + 3, "{most} connections to member {member}");
            // Each knows its own cursors and transactions only.
            let lost = [43, 251].map(|code| set.counters(member).refusals(code));
            assert_eq!(lost, [0, 0], "cursors and transactions that member {member} does not know");
        }
        let finds = set.operations("find");
        if self.present_as == "router" {
            // Few reads go to secondaries, and which of them gets one is chance.
            let [primary, secondaries @ ..] = &finds[..] else { panic!("no member") };
            let reads: usize = secondaries.iter().sum();
            assert!(*primary > 0 && reads > 0, "{finds:?}");
        }
    }
}
