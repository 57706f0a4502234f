//! Limits bandwidth, for each connection or for all together.

use crate::series::SeriesKey;
use crate::{
    ConnectDecision, ConnectionPermit, PolicyEnv, SeriesPolicy, WorkerPolicy,
    kind::Kind,
    rule::{PolicyConfig, Rule, Stage},
};
use operation::{Attributes, ByteBucket, Direction};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Instant};
use values::{
    Diagnostic, Rate, Size,
    spanned::{Opt, Spanned, opt_value},
};

/// The row of this kind of policy.
pub(super) static KIND: Kind<Settings> = Kind {
    key: "bandwidth_limit",
    summary: "Let bytes pass no faster than this.",
    build: Settings::build,
};

/// Lets bytes pass no faster than this. At least one of `up` and `down` is required.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "keys and values, such as `{ down: 1MiB/s }`")]
#[schemars(rename = "BandwidthLimit")]
pub(super) struct Settings {
    /// How many bytes pass from the client to the service. Default: any.
    up: Opt<Rate>,
    /// How many bytes pass from the service to the client. Default: any.
    down: Opt<Rate>,
    /// How many bytes pass at once after a rest, but never fewer than in 40 ms. Default: as many
    /// as in a tenth of a second, and at least `16KiB`.
    burst: Opt<Size>,
    /// Whether each `connection` has the limit to itself, or `all` that match share it, over all
    /// workers. Default: `connection`.
    of: Option<Spanned<BandwidthScope>>,
}

/// What has the limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case", expecting = "`connection` or `all`")]
#[schemars(inline)]
enum BandwidthScope {
    #[default]
    Connection,
    All,
}

/// The least default burst, in bytes.
const MIN_BURST: u64 = 16 * 1024;

impl Settings {
    fn build(self) -> Result<Arc<dyn PolicyConfig>, Vec<Diagnostic>> {
        if self.up.is_none() && self.down.is_none() {
            let hint = "write at least one of `up` and `down`: `down: 1MiB/s`";
            return Err(vec![Diagnostic::at(&[], "this limits nothing", hint)]);
        }
        // An invalid value has been reported already.
        let burst = opt_value(self.burst);
        let of = self.of.and_then(|of| of.value).unwrap_or_default();
        let limit = |rate: Rate| ByteRate {
            rate,
            burst: burst.map_or_else(|| default_burst(rate), |it| it.0),
        };
        let [up, down] = [self.up, self.down].map(|rate| opt_value(rate).map(limit));
        let shared = [&up, &down].map(|limit| match of {
            BandwidthScope::All => limit.as_ref().map(ByteRate::bucket),
            BandwidthScope::Connection => None,
        });
        Ok(Arc::new(BandwidthLimit { up, down, burst, of, shared }))
    }
}

/// The default burst, in bytes.
fn default_burst(rate: Rate) -> u64 {
    let second = u128::from(rate.amount) * 1000 / rate.per.as_millis().max(1);
    u64::try_from(second / 10).unwrap_or(u64::MAX).max(MIN_BURST)
}

/// What may pass one way.
#[derive(Clone, Copy, Debug)]
struct ByteRate {
    rate: Rate,
    burst: u64,
}

impl ByteRate {
    fn bucket(&self) -> Arc<ByteBucket> {
        Arc::new(ByteBucket::new(self.rate.amount, self.rate.per, self.burst, Instant::now()))
    }
}

#[derive(Debug)]
struct BandwidthLimit {
    up: Option<ByteRate>,
    down: Option<ByteRate>,
    burst: Option<Size>,
    of: BandwidthScope,
    /// Up and down, where all share them.
    shared: [Option<Arc<ByteBucket>>; 2],
}

impl PolicyConfig for BandwidthLimit {
    fn kind(&self) -> &'static str {
        KIND.key
    }

    fn stage(&self) -> Stage {
        Stage::Connection
    }

    fn worker_policy(&self, _: &Rule, _: &PolicyEnv) -> Box<dyn WorkerPolicy> {
        let (limits, shared) = ([self.up, self.down], self.shared.clone());
        Box::new(WorkerBandwidthLimit { limits, shared })
    }

    fn to_json(&self) -> serde_json::Value {
        let mut json = serde_json::json!({ "of": self.of });
        for (key, limit) in [("up", self.up), ("down", self.down)] {
            if let Some(limit) = limit {
                json[key] = limit.rate.bytes_text().into();
            }
        }
        if let Some(burst) = self.burst {
            json["burst"] = burst.text().into();
        }
        json
    }
}

/// The limits of connections, up and down.
struct WorkerBandwidthLimit {
    limits: [Option<ByteRate>; 2],
    shared: [Option<Arc<ByteBucket>>; 2],
}

impl WorkerPolicy for WorkerBandwidthLimit {
    fn bind(&self, _: &SeriesKey) -> Option<Box<dyn SeriesPolicy>> {
        None
    }

    fn connect(&self, _: &dyn Attributes, _: Instant) -> ConnectDecision {
        let bucket = |direction: usize| {
            let shared = self.shared[direction].clone();
            shared.or_else(|| self.limits[direction].as_ref().map(ByteRate::bucket))
        };
        ConnectDecision::AcceptWith(Box::new(ConnectionBuckets([bucket(0), bucket(1)])))
    }

    fn applies_to_open(&self) -> bool {
        true
    }
}

/// What one connection passes, up and down.
struct ConnectionBuckets([Option<Arc<ByteBucket>>; 2]);

impl ConnectionPermit for ConnectionBuckets {
    fn max_chunk(&self, direction: Direction) -> usize {
        self.0[direction as usize].as_ref().map_or(usize::MAX, |bucket| bucket.max_chunk())
    }

    fn record(&self, direction: Direction, bytes: usize, now: Instant) -> Option<Instant> {
        self.0[direction as usize].as_ref()?.record(bytes, now)
    }
}
