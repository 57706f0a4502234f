//! Routes reads: which members of a replica set serve them, instead of what the client asks for.

use crate::series::SeriesKey;
use crate::{
    Decision, PolicyEnv, SeriesPolicy, Settled, WorkerPolicy,
    kind::Kind,
    rule::{PolicyConfig, Rule, Stage},
};
use operation::{Effects, Operation, ReadMode, ReadPreference, TagSet};
use schemars::JsonSchema;
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};
use values::{
    Diagnostic, Keyword, duration_text,
    spanned::{Opt, Spanned},
};

/// The row of this kind of policy.
pub(super) static KIND: Kind<Settings> = Kind {
    key: "route",
    summary: "Choose the members of a replica set that serve reads.",
    build: Settings::build,
};

/// The smallest `max_lag`: a member's lag is known to two seconds.
const MIN_LAG: Duration = Duration::from_secs(3);

/// Chooses the members of a replica set that serve reads, in place of the client's own read preference.
/// Writes, transactions and open cursors are not routed. For listeners whose cluster has a `pool`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "keys and values, such as `{ to: secondary }`")]
#[schemars(rename = "Route")]
pub(super) struct Settings {
    /// Where reads go: `primary`, `secondary`, or `nearest` for either of both.
    #[schemars(required)]
    to: Opt<Destination>,
    /// Where reads go while no member fits `to`: `primary` or `secondary`. Default: they wait for one that
    /// fits, as long as for a connection (`wait_queue_timeout`).
    #[serde(rename = "else")]
    otherwise: Opt<Destination>,
    /// Tags that a secondary must have: a list of maps, of which the first counts that fits any member.
    /// Default: any tags.
    tags: Option<Spanned<Vec<BTreeMap<String, String>>>>,
    /// How far behind the primary a secondary may be, at least `3s`. Default: any lag.
    max_lag: Opt<Duration>,
}

/// A role that reads go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Destination {
    Primary,
    Secondary,
    Nearest,
}

impl Keyword for Destination {
    const EXPECTED: &str = "`primary`, `secondary` or `nearest`";
    const WORDS: &[(&str, Self)] = &[
        ("primary", Destination::Primary),
        ("secondary", Destination::Secondary),
        ("nearest", Destination::Nearest),
    ];
}

impl Settings {
    fn build(self) -> Result<Arc<dyn PolicyConfig>, Vec<Diagnostic>> {
        let Some(to) = self.to else {
            let hint = "write where reads go: `to: secondary`";
            return Err(vec![Diagnostic::at(&[], "the key `to` is missing", hint)]);
        };
        // An invalid value has been reported already.
        let to = to.value.ok_or_else(Vec::new)?.0;
        let otherwise = self.otherwise.and_then(|it| it.value).map(|it| it.0);
        let mut mistakes = Vec::new();
        let mode = mode(to, otherwise).unwrap_or_else(|| {
            let message = "the two places are the same, or one holds the other";
            let hint = "`to: secondary, else: primary` and the reverse are possible";
            mistakes.push(Diagnostic::at(&["else"], message, hint));
            ReadMode::Primary
        });
        let tags: Vec<TagSet> = self
            .tags
            .and_then(|it| it.value)
            .unwrap_or_default()
            .into_iter()
            .map(|set| set.into_iter().collect())
            .collect();
        let max_staleness = self.max_lag.and_then(|it| it.value).map(|it| it.0);
        if mode == ReadMode::Primary && (!tags.is_empty() || max_staleness.is_some()) {
            let message = "the primary is one member, which `tags` and `max_lag` can't choose";
            mistakes.push(Diagnostic::at(&["to"], message, "leave `tags` and `max_lag` out"));
        }
        if max_staleness.is_some_and(|most| most < MIN_LAG) {
            let message = "a member's lag is known to two seconds";
            mistakes.push(Diagnostic::at(&["max_lag"], message, "write `3s` or more"));
        }
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        let preference = ReadPreference { mode, tag_sets: tags, max_staleness };
        Ok(Arc::new(Route { to, otherwise, preference }))
    }
}

/// The read preference that goes to these places.
fn mode(to: Destination, otherwise: Option<Destination>) -> Option<ReadMode> {
    match (to, otherwise) {
        (Destination::Primary, None) => Some(ReadMode::Primary),
        (Destination::Primary, Some(Destination::Secondary)) => Some(ReadMode::PrimaryPreferred),
        (Destination::Secondary, None) => Some(ReadMode::Secondary),
        (Destination::Secondary, Some(Destination::Primary)) => Some(ReadMode::SecondaryPreferred),
        (Destination::Nearest, None) => Some(ReadMode::Nearest),
        _ => None,
    }
}

#[derive(Debug)]
struct Route {
    to: Destination,
    otherwise: Option<Destination>,
    preference: ReadPreference,
}

impl PolicyConfig for Route {
    fn kind(&self) -> &'static str {
        KIND.key
    }

    fn stage(&self) -> Stage {
        Stage::Operation
    }

    fn fails_closed(&self) -> bool {
        false
    }

    fn routes_reads(&self) -> bool {
        true
    }

    fn worker_policy(&self, _: &Rule, _: &PolicyEnv) -> Box<dyn WorkerPolicy> {
        let route = Some(Rc::new(self.preference.clone()));
        Box::new(WorkerRoute(Rc::new(Effects { route, ..Effects::default() })))
    }

    fn to_json(&self) -> serde_json::Value {
        let mut json = serde_json::json!({ "to": self.to.as_str() });
        if let Some(otherwise) = self.otherwise {
            json["else"] = otherwise.as_str().into();
        }
        let ReadPreference { tag_sets, max_staleness, .. } = &self.preference;
        if !tag_sets.is_empty() {
            let sets = tag_sets.iter().map(|set| set.iter().cloned().collect::<BTreeMap<_, _>>());
            json["tags"] = serde_json::json!(sets.collect::<Vec<_>>());
        }
        if let Some(most) = max_staleness {
            json["max_lag"] = duration_text(*most).into();
        }
        json
    }
}

#[derive(Clone)]
struct WorkerRoute(Rc<Effects>);

impl WorkerPolicy for WorkerRoute {
    fn bind(&self, _: &SeriesKey) -> Option<Box<dyn SeriesPolicy>> {
        Some(Box::new(self.clone()))
    }
}

impl SeriesPolicy for WorkerRoute {
    fn admit(&self, operation: &Operation<'_>, _: Instant, _: &mut u64) -> Decision {
        // Only a read is routed, and counted as changed.
        if operation.writes() != Some(false) {
            return Decision::Admit;
        }
        Decision::Modify(Rc::clone(&self.0))
    }

    fn settle(&self, _: &Settled<'_>, _: u64) {}
}
