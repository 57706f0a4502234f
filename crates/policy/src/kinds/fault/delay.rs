//! How long a fault delays an operation: fixed, uniform between two bounds, or by measured
//! quantiles.

use operation::LatencyDistribution;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{
    Deserialize, Deserializer, Error, MapAccess, Visitor, value::MapAccessDeserializer,
};
use std::{borrow::Cow, fmt, time::Duration};
use values::{Diagnostic, FromText, duration_text, spanned::Opt, to_serde_error};

/// A delay as people write it: a duration, or a map.
#[derive(Debug)]
pub(crate) enum DelaySetting {
    Fixed(Duration),
    Spread(Box<DelayDistribution>),
}

/// A delay that differs: either `min` and `max`, or quantiles.
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    default,
    expecting = "keys and values, such as `{ min: 1ms, max: 2ms }`"
)]
#[schemars(rename = "Delay")]
pub(crate) struct DelayDistribution {
    /// The shortest; each one up to `max` is as likely. Default: quantiles are given.
    min: Opt<Duration>,
    /// The longest. Default: quantiles are given.
    max: Opt<Duration>,
    /// The shortest of all. Default: none at all.
    p0: Opt<Duration>,
    /// A quarter takes no longer. Default: in between the others.
    p25: Opt<Duration>,
    /// Half takes no longer. Default: in between the others.
    p50: Opt<Duration>,
    /// Three quarters take no longer. Default: in between the others.
    p75: Opt<Duration>,
    /// 90 of 100 take no longer. Default: in between the others.
    p90: Opt<Duration>,
    /// 95 of 100 take no longer. Default: in between the others.
    p95: Opt<Duration>,
    /// 99 of 100 take no longer. Default: in between the others.
    p99: Opt<Duration>,
    /// 999 of 1000 take no longer. Default: in between the others.
    #[serde(rename = "p99.9")]
    p999: Opt<Duration>,
    /// The longest of all. Default: the last one that is given.
    p100: Opt<Duration>,
}

const KEYS: &[&str] =
    &["min", "max", "p0", "p25", "p50", "p75", "p90", "p95", "p99", "p99.9", "p100"];

impl DelaySetting {
    /// The delays, which are written under this key.
    pub(super) fn check(self, at: &'static str) -> Result<LatencyDistribution, Diagnostic> {
        let keys = match self {
            DelaySetting::Fixed(duration) => return Ok(LatencyDistribution(vec![(1.0, duration)])),
            DelaySetting::Spread(keys) => keys,
        };
        let given = |given: &Opt<Duration>| Some(given.as_ref()?.value.as_ref()?.0);
        let quantiles = [
            ("p0", 0.0, &keys.p0),
            ("p25", 0.25, &keys.p25),
            ("p50", 0.5, &keys.p50),
            ("p75", 0.75, &keys.p75),
            ("p90", 0.9, &keys.p90),
            ("p95", 0.95, &keys.p95),
            ("p99", 0.99, &keys.p99),
            ("p99.9", 0.999, &keys.p999),
            ("p100", 1.0, &keys.p100),
        ];
        let spread = [("min", 0.0, &keys.min), ("max", 1.0, &keys.max)];
        let measured = quantiles.iter().any(|(_, _, it)| it.is_some());
        let even = spread.iter().any(|(_, _, it)| it.is_some());
        let table: Vec<_> = match (even, measured) {
            (true, false) if keys.min.is_some() && keys.max.is_some() => spread.to_vec(),
            (false, true) => quantiles.to_vec(),
            _ => {
                let hint = "write `{ min: 10ms, max: 50ms }`, or `{ p50: 10ms, p99: 200ms }`";
                let message = "this is no range and no table of quantiles";
                return Err(Diagnostic::at(&[at], message, hint));
            }
        };
        let mut points: Vec<(f64, Duration)> = Vec::new();
        for (key, share, duration) in table {
            // An invalid value has been reported already.
            let Some(duration) = given(duration) else { continue };
            if points.last().is_some_and(|(_, before)| *before > duration) {
                let message = format!("`{key}` is shorter than what comes before it");
                return Err(Diagnostic::at(&[at, key], message, "durations must not fall"));
            }
            points.push((share, duration));
        }
        if points.first().is_some_and(|(share, _)| *share > 0.0) {
            points.insert(0, (0.0, Duration::ZERO));
        }
        Ok(LatencyDistribution(points))
    }
}

/// Delays as a config would have them.
pub(super) fn to_json(delays: &LatencyDistribution) -> serde_json::Value {
    match delays.0.as_slice() {
        [(_, fixed)] => duration_text(*fixed).into(),
        [(0.0, min), (1.0, max)] if !min.is_zero() => {
            serde_json::json!({ "min": duration_text(*min), "max": duration_text(*max) })
        }
        points => {
            let points = points.iter().filter(|(_, duration)| !duration.is_zero());
            let key = |share: f64| format!("p{}", (share * 1000.0).round() / 10.0);
            points
                .map(|(share, it)| (key(*share), serde_json::Value::from(duration_text(*it))))
                .collect()
        }
    }
}

impl<'de> Deserialize<'de> for DelaySetting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_struct("Delay", KEYS, DelayVisitor)
    }
}

struct DelayVisitor;

impl<'de> Visitor<'de> for DelayVisitor {
    type Value = DelaySetting;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration, or keys and values such as `{ min: 10ms, max: 50ms }`")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<DelaySetting, E> {
        Duration::from_text(text).map(DelaySetting::Fixed).map_err(to_serde_error)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<DelaySetting, A::Error> {
        DelayDistribution::deserialize(MapAccessDeserializer::new(map))
            .map(Box::new)
            .map(DelaySetting::Spread)
    }
}

impl JsonSchema for DelaySetting {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "DelayOrText".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [Duration::schema(), generator.subschema_for::<DelayDistribution>()] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(points: &[(f64, u64)]) -> LatencyDistribution {
        LatencyDistribution(
            points.iter().map(|(share, it)| (*share, Duration::from_millis(*it))).collect(),
        )
    }

    #[test]
    fn a_fixed_delay_is_always_the_same() {
        let delay = DelaySetting::Fixed(Duration::from_millis(200)).check("delay").unwrap();
        assert_eq!(delay.quantile(0.0), Duration::from_millis(200));
        assert_eq!(delay.quantile(0.999_999), Duration::from_millis(200));
        assert_eq!(to_json(&delay), "200ms");
    }

    #[test]
    fn in_between_delays_grow_evenly() {
        let delay = millis(&[(0.0, 10), (1.0, 30)]);
        assert_eq!(delay.quantile(0.0), Duration::from_millis(10));
        assert_eq!(delay.quantile(0.5), Duration::from_millis(20));
        let delay = millis(&[(0.0, 0), (0.5, 10), (0.9, 50), (0.99, 500)]);
        assert_eq!(delay.quantile(0.25), Duration::from_millis(5));
        assert_eq!(delay.quantile(0.7), Duration::from_millis(30));
        assert_eq!(delay.quantile(0.999), Duration::from_millis(500));
        let json = serde_json::json!({ "p50": "10ms", "p90": "50ms", "p99": "500ms" });
        assert_eq!(to_json(&delay), json);
    }
}
