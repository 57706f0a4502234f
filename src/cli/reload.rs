//! `tollgate reload` and `tollgate check --diff`: a running proxy takes another config, or says what it would do.

use super::{admin_arguments::AdminArguments, tell};
use crate::top::{AdminAddress, TlsFiles, poll};
use anyhow::{Context as _, bail};
use config::{
    changes::{Changes, ConfigObject},
    plan::Plan,
};
use serde_json::Value;
use std::process::ExitCode;

/// The exit code if there are changes.
const DIFFERS: u8 = 2;

/// Makes a running proxy read its config again.
pub(super) async fn reload(dry_run: bool, admin: AdminArguments) -> anyhow::Result<ExitCode> {
    let path = if dry_run { "/config?dry_run" } else { "/config" };
    let (status, answer) = admin.post_for_answer(path).await?;
    let text = answer["text"].as_str().unwrap_or_default();
    if status != "200" {
        let error = answer["error"].as_str().unwrap_or("the answer has no error");
        bail!("nothing has changed: {error}\n{text}");
    }
    let changes = answer["changes"].as_array().map_or(0, Vec::len);
    match (changes, dry_run) {
        (0, _) => tell(format_args!("nothing has changed\n")),
        (_, true) => tell(format_args!("{text}")),
        (_, false) => tell(format_args!("{text}reloaded in {} ms\n", answer["took_ms"])),
    }
    let lost = answer["lost_policy_changes"].as_array().into_iter().flatten();
    let lost: Vec<_> = lost.filter_map(Value::as_str).collect();
    if !lost.is_empty() {
        let lost = lost.join(", ");
        tell(format_args!("changes through the admin interface are lost: {lost}\n"));
    }
    Ok(if dry_run && changes > 0 { ExitCode::from(DIFFERS) } else { ExitCode::SUCCESS })
}

/// Compares a config with the one that a proxy runs.
pub(super) async fn compare(plan: &Plan, admin: &str) -> anyhow::Result<ExitCode> {
    let admin = AdminAddress::parse(admin, TlsFiles::default())?;
    let get = async |path| {
        let answer = poll::json(&admin, path).await;
        answer.with_context(|| format!("can't ask the proxy at {admin} for {path}"))
    };
    let (running, listeners, clusters) =
        (get("/config").await?, get("/listeners").await?, get("/clusters").await?);
    let mut changes = Changes::between(&running, &plan.to_json());
    changes.count_connections(|object, name| match object {
        ConfigObject::Listener => count(find(&listeners, name)?, "connections"),
        ConfigObject::Cluster => {
            let endpoints = find(&clusters, name)?["endpoints"].as_array()?;
            Some(endpoints.iter().filter_map(|it| count(it, "active_connections")).sum())
        }
        ConfigObject::Policy | ConfigObject::Setting => None,
    });
    if changes.is_empty() {
        tell(format_args!("nothing would change\n"));
        return Ok(ExitCode::SUCCESS);
    }
    tell(format_args!("{changes}"));
    Ok(ExitCode::from(DIFFERS))
}

/// The object with this name in a list.
fn find<'v>(list: &'v Value, name: &str) -> Option<&'v Value> {
    list.as_array()?.iter().find(|it| it["name"] == name)
}

fn count(object: &Value, key: &str) -> Option<usize> {
    object[key].as_u64().and_then(|count| usize::try_from(count).ok())
}
