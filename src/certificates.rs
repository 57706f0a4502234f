//! The certificates in use: read again when their files change, exported with their expiry, and
//! listed for the admin interface.

use config::plan::Plan;
use policy::Live;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tls::{ClientTls, Identity, LoadError, ServerTls};
use tokio::time::{self, Instant};
use tollgate_metrics::{Metrics, table as names};

/// How often the files are compared with what is in use. The content is compared, since links are
/// swapped and clocks are set.
const INTERVAL: Duration = Duration::from_secs(1);

/// How often a state that should not last is logged again.
const REMIND: Duration = Duration::from_secs(60 * 60);

/// From how long before its end on a certificate is logged about.
const EXPIRES_SOON: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Returns the config that runs.
pub type PlanSource = Arc<dyn Fn() -> Arc<Plan> + Send + Sync>;

/// The certificates of all listeners, clusters and stores, and of the admin interface.
#[derive(Clone)]
pub struct Certificates {
    plan: PlanSource,
    /// The policies in force, of which some have a store.
    policies: Arc<Live>,
    metrics: Metrics,
}

/// What was logged last.
#[derive(Default)]
struct Logged {
    /// The errors of files, by owner.
    errors: BTreeMap<String, LoadError>,
    reminded: Option<Instant>,
}

impl Certificates {
    /// Those of the config that runs, and of the policies in force.
    pub fn new(plan: PlanSource, policies: &Arc<Live>, metrics: &Metrics) -> Self {
        Self { plan, policies: Arc::clone(policies), metrics: metrics.clone() }
    }

    /// Those that clients see, by their owner: `listener web`.
    fn servers(&self) -> Vec<(String, Arc<ServerTls>)> {
        let plan = (self.plan)();
        let listeners = plan
            .listeners
            .iter()
            .filter_map(|it| Some((format!("listener {}", it.name), Arc::clone(it.tls.as_ref()?))));
        let admin = plan
            .admin
            .iter()
            .filter_map(|it| Some((format!("admin {}", it.address), Arc::clone(it.tls.as_ref()?))));
        listeners.chain(admin).collect()
    }

    /// Those that servers see, by their owner: `cluster orders`, `policy each-user`.
    fn clients(&self) -> Vec<(String, Arc<ClientTls>)> {
        let plan = (self.plan)();
        let clusters = plan
            .clusters
            .iter()
            .filter_map(|it| Some((format!("cluster {}", it.name), Arc::clone(it.tls.as_ref()?))));
        let rules = self.policies.rules();
        let stores = rules.iter().filter_map(|rule| {
            Some((format!("policy {}", rule.name), Arc::clone(rule.config.tls()?)))
        });
        clusters.chain(stores).collect()
    }

    /// Reads files again when they have changed, and logs what operators must know. Never ends.
    pub async fn watch(self) {
        let (mut logged, mut known) = (Logged::default(), 0);
        self.export();
        loop {
            if logged.reminded.is_none_or(|last| last.elapsed() >= REMIND) {
                logged.reminded = Some(Instant::now());
                self.remind();
            }
            time::sleep(INTERVAL).await;
            // A reload of the config may have added some.
            let owners = self.servers().len() + self.clients().len();
            if self.reload(&mut logged) || std::mem::replace(&mut known, owners) != owners {
                self.export();
            }
        }
    }

    /// Returns whether any file has changed.
    fn reload(&self, logged: &mut Logged) -> bool {
        let mut changed = false;
        for (owner, server) in self.servers() {
            changed |= self.reloaded(owner, server.reload(), logged);
        }
        for (owner, client) in self.clients() {
            changed |= self.reloaded(owner, client.reload(), logged);
        }
        changed
    }

    fn reloaded(
        &self,
        owner: String,
        result: Result<bool, LoadError>,
        logged: &mut Logged,
    ) -> bool {
        let count = |result: &str| {
            self.metrics.counter(names::TLS_RELOADS_TOTAL, &[("result", result)]).increment(1);
        };
        match result {
            Ok(changed) => {
                if logged.errors.remove(&owner).is_some() || changed {
                    tracing::info!(owner, "certificate files are in use as they are now");
                }
                if changed {
                    count("ok");
                }
                changed
            }
            Err(error) => {
                // A pair is written in two steps, so the first look may fail and the next succeed.
                if logged.errors.get(&owner) != Some(&error) {
                    count("failed");
                    tracing::error!(
                        owner,
                        %error,
                        hint = error.hint,
                        "changed certificate files can't be used: those from before stay in use"
                    );
                    logged.errors.insert(owner, error);
                }
                false
            }
        }
    }

    /// Logs certificates that end soon, and connections that anybody can read.
    fn remind(&self) {
        let now = SystemTime::now();
        for (owner, identity) in self.identities() {
            let (end, file) = (identity.info.expires(), identity.files.chain.display());
            let end_text = humantime::format_rfc3339_seconds(end);
            if end <= now {
                tracing::error!(owner, %file, %end_text, "a certificate has expired: peers refuse it");
            } else if end <= now + EXPIRES_SOON {
                tracing::warn!(owner, %file, %end_text, "a certificate expires soon");
            }
        }
        for (owner, client) in self.clients() {
            if !client.plan().verify {
                tracing::warn!(
                    owner,
                    "the servers' certificates are not verified (`verify: false`): a host on the way \
                     can read and change all data"
                );
            }
        }
    }

    fn identities(&self) -> Vec<(String, Identity)> {
        let of_servers = self.servers().into_iter().flat_map(|(owner, server)| {
            server.identities().into_iter().map(move |it| (owner.clone(), it))
        });
        let clients = self.clients().into_iter();
        let of_clients = clients.filter_map(|(owner, client)| Some((owner, client.identity()?)));
        of_servers.chain(of_clients).collect()
    }

    fn export(&self) {
        for (_, identity) in self.identities() {
            let file = identity.files.chain.display().to_string();
            let labels = [("certificate", &*file)];
            let gauge = self.metrics.gauge(names::TLS_CERTIFICATE_NOT_AFTER_SECONDS, &labels);
            gauge.set(identity.info.not_after as f64);
        }
    }

    /// Every certificate, for `/tls`.
    pub fn report(&self) -> Value {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let time = |seconds: u64| {
            humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string()
        };
        let all = self.identities().into_iter().map(|(owner, identity)| {
            let (kind, name) = owner.split_once(' ').unwrap_or_default();
            let info = &identity.info;
            json!({
                "used_by": { kind: name },
                "file": identity.files.chain,
                "names": info.names().collect::<Vec<_>>(),
                "subject": info.subject,
                "issuer": info.issuer,
                "serial": info.serial,
                "fingerprint": info.fingerprint,
                "not_before": time(info.not_before),
                "not_after": time(info.not_after),
                "expires_in_seconds": info.not_after.saturating_sub(now),
            })
        });
        json!({ "certificates": all.collect::<Vec<_>>() })
    }
}
