//! `tollgate pause`, `switch` and `resume`: requests to the admin interface of a running proxy.

use super::{admin_arguments::AdminArguments, tell};
use anyhow::bail;
use clap::Args;
use serde_json::Value;
use std::fmt::Write as _;

#[derive(Debug, Args)]
pub(super) struct PauseArguments {
    /// The cluster.
    cluster: String,
    /// How long transactions and cursors may go on. At most 20s.
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    drain_timeout: String,
    /// When the cluster resumes by itself. At most 1h.
    #[arg(long, value_name = "DURATION", default_value = "60s")]
    resume_after: String,
    #[command(flatten)]
    admin: AdminArguments,
}

#[derive(Debug, Args)]
pub(super) struct SwitchArguments {
    /// The cluster.
    cluster: String,
    /// A cluster of the config: its endpoints or replica set, and its `tls`. The cluster's own name
    /// returns to what the config says.
    #[arg(long, value_name = "CLUSTER", required_unless_present_any = ["endpoints", "replica_set"])]
    to: Option<String>,
    /// Endpoints that the config does not name.
    #[arg(long, value_name = "HOST:PORT,…", conflicts_with = "to")]
    endpoints: Option<String>,
    /// The name of a replica set that the config does not name.
    #[arg(long, value_name = "NAME", requires = "seeds", conflicts_with_all = ["to", "endpoints"])]
    replica_set: Option<String>,
    /// Members of this replica set.
    #[arg(long, value_name = "HOST:PORT,…", requires = "replica_set")]
    seeds: Option<String>,
    #[command(flatten)]
    admin: AdminArguments,
}

/// Pauses a cluster. Fails if it is not drained.
pub(super) async fn pause(arguments: PauseArguments) -> anyhow::Result<()> {
    let PauseArguments { cluster, drain_timeout, resume_after, admin } = arguments;
    let query = [("drain_timeout", drain_timeout), ("resume_after", resume_after)];
    let answer = post(&admin, &cluster, "pause", &query).await?;
    let (took, left) = (&answer["took_ms"], left(&answer["left"]));
    if answer["drained"] != true {
        bail!("`{cluster}` is paused, but not drained after {took} ms: left are {left}");
    }
    let seconds = &answer["resumes_in_seconds"];
    let lost = match &*left {
        "" => String::new(),
        left => format!("a switch ends {left}\n"),
    };
    tell(format_args!(
        "`{cluster}` is paused, and drained after {took} ms; it resumes by itself in {seconds} s\n{lost}"
    ));
    Ok(())
}

/// Points a paused cluster elsewhere.
pub(super) async fn switch(arguments: SwitchArguments) -> anyhow::Result<()> {
    let SwitchArguments { cluster, to, endpoints, replica_set, seeds, admin } = arguments;
    let query =
        [("to", to), ("endpoints", endpoints), ("replica_set", replica_set), ("seeds", seeds)];
    let query: Vec<_> = query.into_iter().filter_map(|(key, it)| Some((key, it?))).collect();
    let answer = post(&admin, &cluster, "switch", &query).await?;
    let word = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
    let endpoints = answer["endpoints"].as_array().into_iter().flatten();
    let endpoints: Vec<_> = endpoints.filter_map(Value::as_str).collect();
    tell(format_args!(
        "`{cluster}` points to {} ({}); {}\n",
        word("to"),
        endpoints.join(", "),
        word("note")
    ));
    Ok(())
}

/// Ends the pause of a cluster.
pub(super) async fn resume(cluster: String, admin: AdminArguments) -> anyhow::Result<()> {
    let answer = post(&admin, &cluster, "resume", &[]).await?;
    let lasted = &answer["lasted_ms"];
    tell(format_args!("`{cluster}` has resumed after {lasted} ms\n"));
    Ok(())
}

async fn post(
    admin: &AdminArguments,
    cluster: &str,
    action: &str,
    query: &[(&str, String)],
) -> anyhow::Result<Value> {
    let mut path = format!("/clusters/{}/{action}", escaped(cluster));
    for (index, (key, value)) in query.iter().enumerate() {
        let sign = if index == 0 { '?' } else { '&' };
        let _ = write!(path, "{sign}{key}={}", escaped(value));
    }
    admin.post(&path).await
}

/// What is left of a pause, as text: `2 transactions, 1 cursors`.
fn left(left: &Value) -> String {
    let words = [
        ("operations", "operations"),
        ("transactions", "transactions"),
        ("cursors", "cursors"),
        ("change_streams", "change streams"),
        ("own_connections", "connections of clients' own"),
    ];
    let some = words.iter().filter_map(|(key, word)| {
        let count = left[*key].as_u64().filter(|count| *count > 0)?;
        Some(format!("{count} {word}"))
    });
    some.collect::<Vec<_>>().join(", ")
}

/// Text as a part of a URI (RFC 3986, 2.1).
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'.' | b'_' | b'~' => {
                out.push(byte.into());
            }
            _ => _ = write!(out, "%{byte:02X}"),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_left_is_named() {
        let nothing = json!({ "operations": 0, "cursors": 0 });
        assert_eq!(left(&nothing), "");
        let some = json!({ "operations": 0, "transactions": 2, "own_connections": 12 });
        assert_eq!(left(&some), "2 transactions, 12 connections of clients' own");
    }

    #[test]
    fn addresses_are_escaped() {
        assert_eq!(escaped("db-1:27017,[::1]:1"), "db-1%3A27017%2C%5B%3A%3A1%5D%3A1");
    }
}
