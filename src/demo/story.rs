//! What the demonstration tells above its table: who makes operations slow, how a policy stops that
//! while everything runs, and what becomes of an endpoint that fails.

use crate::top::{Story, poll::Snapshot, table::duration};

/// The policy that is switched on and off.
const POLICY: &str = "slow-reports";

/// The story, for the screen.
pub(super) const STORY: Story = Story { policy: POLICY, lines };

fn lines(admin: &str, now: &Snapshot) -> Vec<String> {
    vec![slow(now), policy(admin, now), endpoint(now)]
}

/// The client behind the slowest operation.
fn slow(now: &Snapshot) -> String {
    let is = |operation: &str, resource: &str| operation == "find" && resource == "shop.orders";
    let find = now.operations.iter().find(|it| is(&it.operation, &it.resource));
    let p99 = duration(find.and_then(|it| it.p99_ms));
    let sites = now.callsites.iter().filter(|it| is(&it.operation, &it.resource));
    let slowest = sites.max_by(|a, b| a.p50_ms.unwrap_or(0.0).total_cmp(&b.p50_ms.unwrap_or(0.0)));
    let site = slowest.map_or("report.scan", |it| &it.callsite);
    format!("1 The P99 of `find shop.orders` is {p99}. Whose is it? Press c: {site}.")
}

/// The policy, and how it is switched without this screen.
fn policy(admin: &str, now: &Snapshot) -> String {
    let on = now.policies.iter().any(|it| it.name == POLICY && it.enabled);
    let other =
        format!("curl -X PUT http://{admin}/policies/{POLICY} -d '{{\"enabled\":{}}}'", !on);
    match on {
        false => format!("2 Press l to limit that application while it runs, or type: {other}"),
        true => format!(
            "2 `{POLICY}` lets one find a second of it through, and its TIME falls. Press l to lift \
             that, or type: {other}"
        ),
    }
}

fn endpoint(now: &Snapshot) -> String {
    let ejected =
        crate::top::notices::clusters(&now.clusters).iter().any(|it| it.contains("ejected"));
    match ejected {
        false => {
            "3 One of three web shops falls ill for 6 s in each 40 s: see it go, and come back."
        }
        true => "3 A web shop failed five times in a row: its visitors go to the others.",
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::Instant;

    fn snapshot(enabled: bool, state: &str) -> Snapshot {
        let find = json!([{ "operation": "find", "resource": "shop.orders", "p99_ms": 188.0 }]);
        let site = |name, p50: f64| json!({ "operation": "find", "resource": "shop.orders", "callsite": name, "p50_ms": p50 });
        let ejection = json!({ "seconds_left": 3.0 });
        let endpoint = json!({ "address": "a:1", "state": state, "ejection": ejection });
        Snapshot {
            at: Instant::now(),
            operations: serde_json::from_value(find).unwrap(),
            callsites: serde_json::from_value(json!([site("a", 1.0), site("b", 156.0)])).unwrap(),
            shapes: None,
            clusters: serde_json::from_value(json!([{ "name": "web", "endpoints": [endpoint] }]))
                .unwrap(),
            policies: serde_json::from_value(json!([{ "name": POLICY, "enabled": enabled }]))
                .unwrap(),
            pools: Vec::new(),
            lists: crate::top::poll::Lists::default(),
        }
    }

    #[test]
    fn the_story_names_the_slow_endpoint() {
        let told = lines("127.0.0.1:1", &snapshot(false, "in_use"));
        assert_eq!(told[0], "1 The P99 of `find shop.orders` is 188ms. Whose is it? Press c: b.");
        assert!(told[1].ends_with("/policies/slow-reports -d '{\"enabled\":true}'"), "{}", told[1]);
        assert!(told[2].contains("falls ill"), "{}", told[2]);
        let told = lines("127.0.0.1:1", &snapshot(true, "ejected"));
        assert!(told[1].contains("one find a second"), "{}", told[1]);
        assert!(told[1].ends_with("-d '{\"enabled\":false}'"), "{}", told[1]);
        assert!(told[2].contains("failed five times"), "{}", told[2]);
    }
}
