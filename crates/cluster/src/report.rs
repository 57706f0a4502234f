//! The admin interface's view of a cluster: JSON for programs, a table for people.

use super::{Cluster, Endpoint, Exclusion, PoolReport, endpoint::MonitoredMember, set::Member};
use serde::Serialize;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::time::Instant;
use values::Keyword;

/// An endpoint as it is now.
#[derive(Debug, Serialize)]
struct EndpointReport {
    address: String,
    name: String,
    weight: u32,
    priority: u8,
    zone: Option<String>,
    /// `in_use`, or the first reason why not.
    state: &'static str,
    /// How long it has been in this state, or excluded for another reason.
    state_seconds: f64,
    healthy: bool,
    last_check: Option<LastCheck>,
    ejection: Option<EjectionReport>,
    drained: bool,
    active_connections: usize,
    active_operations: usize,
    connects_ok: u64,
    connects_failed: u64,
    last_error: Option<String>,
    last_interval: LastInterval,
    /// How long the certificate is valid that it has shown last.
    certificate_expires_in_seconds: Option<u64>,
    /// In a replica set.
    #[serde(flatten)]
    member: Option<MemberReport>,
}

/// A member of a replica set.
#[derive(Debug, Serialize)]
struct MemberReport {
    /// `primary`, `secondary` or `unknown`.
    role: &'static str,
    tags: BTreeMap<String, String>,
    /// How far it is behind the primary.
    lag_seconds: Option<f64>,
    rtt_ms: Option<f64>,
}

impl MemberReport {
    fn of(endpoint: &Endpoint, primary: Option<&MonitoredMember>) -> Self {
        let member = endpoint.member.load();
        let member = member.as_deref();
        let lag = member.zip(primary).and_then(|(member, primary)| member.lag(primary));
        let rtt = member.and_then(MonitoredMember::rtt);
        Self {
            role: endpoint.role().as_str(),
            tags: member.map(|it| it.tags().iter().cloned().collect()).unwrap_or_default(),
            lag_seconds: lag.map(|lag| tenth(lag.as_secs_f64())),
            rtt_ms: rtt.map(|rtt| tenth(rtt.as_secs_f64() * 1e3)),
        }
    }
}

#[derive(Debug, Serialize)]
struct LastCheck {
    ok: bool,
    words: String,
    seconds_ago: f64,
    took_ms: f64,
}

#[derive(Debug, Serialize)]
struct EjectionReport {
    detector: &'static str,
    reason: String,
    count: u32,
    /// `None` until an operator ends it.
    seconds_left: Option<f64>,
}

/// What operations came to in the last interval that ended.
#[derive(Debug, Serialize)]
struct LastInterval {
    operations: u64,
    success_rate: Option<f64>,
    p50_ms: Option<f64>,
    p90_ms: Option<f64>,
    p99_ms: Option<f64>,
}

impl EndpointReport {
    fn of(member: &Member, now: Instant) -> Self {
        let endpoint = &*member.endpoint;
        let (connects_ok, connects_failed, last_error) = endpoint.connect_stats();
        let check = endpoint.last_check.load();
        let last_check = check.as_ref().map(|check| LastCheck {
            ok: check.good,
            words: check.message.clone(),
            seconds_ago: tenth(now.saturating_duration_since(check.at).as_secs_f64()),
            took_ms: tenth(check.took.as_secs_f64() * 1e3),
        });
        let ejection = endpoint.ejection.load();
        let left = |until: Instant| tenth(until.saturating_duration_since(now).as_secs_f64());
        let ejection = ejection.as_ref().map(|ejection| EjectionReport {
            detector: ejection.detector.as_str(),
            reason: ejection.reason.clone(),
            count: ejection.count,
            seconds_left: ejection.until.map(left),
        });
        let last = endpoint.stats.last();
        // Microseconds: more digits would suggest precision that is not there.
        let ms = |q| last.durations.quantile(q).map(|nanos| (nanos / 1e3).round() / 1e3);
        Self {
            address: endpoint.address().to_string(),
            name: endpoint.name().to_string(),
            weight: member.weight,
            priority: member.priority,
            zone: member.zone.as_deref().map(str::to_owned),
            state: state(endpoint),
            state_seconds: tenth(now.saturating_duration_since(endpoint.changed()).as_secs_f64()),
            healthy: !endpoint.is_excluded(Exclusion::Unhealthy),
            last_check,
            ejection,
            drained: endpoint.is_excluded(Exclusion::Drained),
            active_connections: endpoint.active_connections(),
            active_operations: endpoint.active_operations(),
            connects_ok,
            connects_failed,
            last_error: last_error.map(|error| error.to_string()),
            last_interval: LastInterval {
                operations: last.volume(),
                success_rate: last.success_rate().map(|rate| (rate * 100.0).round() / 100.0),
                p50_ms: ms(0.5),
                p90_ms: ms(0.9),
                p99_ms: ms(0.99),
            },
            certificate_expires_in_seconds: endpoint
                .certificate_end()
                .map(|end| end.saturating_sub(seconds_since_1970())),
            member: None,
        }
    }

    /// The last column: what the numbers do not show.
    fn notes(&self) -> String {
        if let Some(ejection) = &self.ejection {
            return match ejection.seconds_left {
                Some(left) => format!("{} s left: {}", left.ceil(), ejection.reason),
                None => ejection.reason.clone(),
            };
        }
        let secondary = self.member.as_ref().filter(|it| self.healthy && it.role == "secondary");
        if let Some(lag) = secondary.and_then(|member| member.lag_seconds) {
            return format!("secondary, {lag} s behind");
        }
        let check = self.last_check.as_ref().map(|check| check.words.as_str());
        let words = if self.healthy { self.last_error.as_deref().or(check) } else { check };
        words.unwrap_or_default().to_owned()
    }

    fn cells(&self) -> [String; 9] {
        let last = &self.last_interval;
        let name = match self.name == self.address {
            true => self.address.clone(),
            false => format!("{} {}", self.name, self.address),
        };
        [
            name,
            self.state.to_owned(),
            self.active_connections.to_string(),
            self.active_operations.to_string(),
            last.success_rate.map_or("-".to_owned(), |rate| format!("{rate:.1}")),
            millis(last.p50_ms),
            millis(last.p90_ms),
            millis(last.p99_ms),
            self.notes(),
        ]
    }
}

const HEADER: [&str; 9] =
    ["ENDPOINT", "STATE", "CONN", "OPS", "OK %", "P50", "P90", "P99", "NOTES"];

fn state(endpoint: &Endpoint) -> &'static str {
    let states = [
        (Exclusion::Removed, "removed"),
        (Exclusion::Drained, "drained"),
        (Exclusion::Unhealthy, "unhealthy"),
        (Exclusion::Ejected, "ejected"),
    ];
    states
        .into_iter()
        .find(|(why, _)| endpoint.is_excluded(*why))
        .map_or("in_use", |(_, word)| word)
}

fn seconds_since_1970() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Rounded to one decimal place.
pub(crate) fn tenth(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

/// Milliseconds, short: `0.84`, `12.5`, `1200`.
fn millis(ms: Option<f64>) -> String {
    match ms {
        None => "-".to_owned(),
        Some(ms) if ms < 10.0 => format!("{ms:.2}"),
        Some(ms) if ms < 100.0 => format!("{ms:.1}"),
        Some(ms) => format!("{ms:.0}"),
    }
}

impl Cluster {
    /// The JSON for the admin interface.
    pub fn report(&self) -> Value {
        let (pause, switched_to) = self.cutover_report();
        json!({
            "name": &*self.name,
            "lb_policy": self.plan().lb_policy.as_str(),
            "panic": !self.has_roles() && self.set.load().panic_reason().is_some(),
            "endpoints": self.rows(),
            "dns": self.names.report(),
            "circuit_breaker": self.breaker.report(),
            "pause": pause,
            "switched_to": switched_to,
        })
    }

    /// The state of its pooled connections for the admin interface; `None` if it has no pool.
    pub fn pool_report(&self) -> Option<Value> {
        let plan = self.plan();
        let plan = plan.pool.as_ref()?;
        let set = self.set.load_full();
        let rows = set.endpoints().map(|endpoint| {
            let mut row = serde_json::to_value(endpoint.pool()).unwrap_or_default();
            row["endpoint"] = (&**endpoint.name()).into();
            let users = endpoint.user_pools();
            if !users.is_empty() {
                row["users"] = users.into_iter().map(user_row).collect();
            }
            row
        });
        Some(json!({
            "cluster": &*self.name,
            "max_pool_size": plan.max_pool_size,
            "max_awaiting": plan.max_awaiting,
            "endpoints": rows.collect::<Value>(),
        }))
    }

    /// The text for the admin interface: a line about the cluster, and one for each endpoint.
    pub fn report_text(&self) -> String {
        let (rows, set) = (self.rows(), self.set.load());
        let usable = rows.iter().filter(|row| row.state == "in_use").count();
        let panics = set.panic_reason().filter(|_| !self.has_roles());
        let policy = match self.replica_set() {
            Some(plan) => format!("replica set {}", plan.name),
            None => self.plan().lb_policy.as_str().to_owned(),
        };
        let panic = panics.map_or(String::new(), |words| format!(", PANIC: {words}"));
        let mut text = format!(
            "{}: {}, {usable} of {} endpoints in use{panic}\n",
            self.name,
            policy,
            rows.len(),
        );
        for words in self.pause_words().into_iter().chain(self.breaker.describe()) {
            let _ = writeln!(text, "  {words}");
        }
        let mut lines = vec![HEADER.map(str::to_owned)];
        lines.extend(rows.iter().map(EndpointReport::cells));
        let width = |column: usize| lines.iter().map(|l| l[column].chars().count()).max();
        let widths: [usize; 9] = std::array::from_fn(|column| width(column).unwrap_or_default());
        for line in &lines {
            let mut out = String::from(" ");
            for (column, (cell, width)) in line.iter().zip(widths).enumerate() {
                // Text to the left, numbers to the right.
                let _ = match column {
                    0 | 1 | 8 => write!(out, " {cell:<width$}"),
                    _ => write!(out, " {cell:>width$}"),
                };
            }
            text.push_str(out.trim_end());
            text.push('\n');
        }
        text
    }

    fn rows(&self) -> Vec<EndpointReport> {
        let now = Instant::now();
        let set = self.set.load();
        let primary = set.primary().and_then(|it| it.member.load_full());
        let row = |member: &Member| {
            let mut row = EndpointReport::of(member, now);
            if self.has_roles() {
                row.member = Some(MemberReport::of(&member.endpoint, primary.as_deref()));
            }
            row
        };
        set.members.iter().map(row).collect()
    }
}

/// The pooled connections of one user.
fn user_row((user, report): (Arc<str>, PoolReport)) -> Value {
    let mut row = serde_json::to_value(report).unwrap_or_default();
    row["user"] = (&*user).into();
    row
}

#[cfg(test)]
mod tests;
