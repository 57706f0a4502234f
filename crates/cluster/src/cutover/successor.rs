//! The endpoints that a cluster is to point to, asked before anything changes.

use super::switch::SwitchTarget;
use crate::{
    Cluster,
    connect::{connect_without_client, describe},
    connection_pool::shake_hands,
    endpoint,
    plan::{EndpointPlan, ReplicaSetPlan},
    replica_set::ask,
};
use bytes::Bytes;
use net::Stream;
use operation::{Identity, MonitorStep, Role};
use std::{collections::VecDeque, io, net::SocketAddr};
use tls::ClientTls;
use tokio::time;
use values::Target;

/// How many members of a replica set are asked for the primary.
const MAX_ASKED: usize = 50;

impl Cluster {
    /// Whether the target can serve the clients of the cluster. Returns the last reply of the handshake,
    /// where operations share connections.
    pub(super) async fn check_successor(
        &self,
        target: &SwitchTarget,
    ) -> Result<Option<Bytes>, String> {
        match &target.replica_set {
            Some(set) => {
                let primary = self.find_primary(set, target.tls.as_deref()).await?;
                self.greet(&primary, target.tls.as_deref()).await
            }
            None => {
                let mut greeting = None;
                for endpoint in &target.endpoints {
                    greeting = self.greet(endpoint, target.tls.as_deref()).await?;
                }
                if target.endpoints.is_empty() {
                    Err("it has no endpoint".into())
                } else {
                    Ok(greeting)
                }
            }
        }
    }

    /// Opens a connection and makes it ready for operations.
    async fn greet(
        &self,
        endpoint: &EndpointPlan,
        tls: Option<&ClientTls>,
    ) -> Result<Option<Bytes>, String> {
        let name = endpoint.at.to_string();
        let failed = |error: io::Error| format!("{name}: {}", describe(&error));
        let mut stream = self.reach(endpoint, tls).await.map_err(failed)?;
        let listeners = self.cutover.listeners.lock().clone();
        let begun = listeners.iter().find_map(|it| it.begin(&Identity::default()));
        let Some(handshake) = begun else { return Ok(None) };
        let limit = self.plan().connect_timeout;
        let shaken = time::timeout(limit, shake_hands(&mut stream, handshake)).await;
        let greeting = shaken.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let greeting = greeting.map_err(failed)?;
        for listener in &listeners {
            listener.check_successor(&greeting).map_err(|words| format!("{name}: {words}"))?;
        }
        Ok(Some(greeting))
    }

    /// The primary of a replica set, found as its members name each other.
    async fn find_primary(
        &self,
        set: &ReplicaSetPlan,
        tls: Option<&ClientTls>,
    ) -> Result<EndpointPlan, String> {
        let mut queue: VecDeque<Target> = set.seeds.iter().cloned().collect();
        let mut asked: Vec<Target> = Vec::new();
        let mut answers = Vec::new();
        while let Some(member) = queue.pop_front() {
            if asked.contains(&member) || asked.len() >= MAX_ASKED {
                continue;
            }
            asked.push(member.clone());
            let endpoint = EndpointPlan::new(member);
            let limit = self.plan().connect_timeout * 2;
            let state = time::timeout(limit, self.ask_member(&endpoint, set, tls)).await;
            let state = state.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            match state {
                Ok(MonitorStep::State { state, .. }) => {
                    if state.role == Role::Primary {
                        return Ok(endpoint);
                    }
                    answers.push(format!("{}: {}", endpoint.at, state.description));
                    let members = state.members.into_iter().flatten();
                    queue.extend(members.filter_map(|name| set.dialled_at(&name)));
                }
                Ok(MonitorStep::Failed(words)) => answers.push(format!("{}: {words}", endpoint.at)),
                Ok(MonitorStep::NeedMore) => answers.push(format!("{}: no answer", endpoint.at)),
                Err(error) => answers.push(format!("{}: {}", endpoint.at, describe(&error))),
            }
        }
        Err(format!("no primary of `{}` was found ({})", set.name, answers.join("; ")))
    }

    async fn ask_member(
        &self,
        member: &EndpointPlan,
        set: &ReplicaSetPlan,
        tls: Option<&ClientTls>,
    ) -> io::Result<MonitorStep> {
        let mut stream = self.reach(member, tls).await?;
        ask(&mut stream, &mut *set.monitor.begin()).await
    }

    /// A connection to the endpoint, at the first of its addresses that accepts one.
    async fn reach(&self, endpoint: &EndpointPlan, tls: Option<&ClientTls>) -> io::Result<Stream> {
        let mut error = io::Error::other("it has no address");
        for address in self.names.addresses_of(&endpoint.at).await.map_err(io::Error::other)? {
            let connected = self.reach_address(address, endpoint, tls);
            match time::timeout(self.plan().connect_timeout, connected).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(failed)) => error = failed,
                Err(_) => error = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(error)
    }

    async fn reach_address(
        &self,
        address: SocketAddr,
        endpoint: &EndpointPlan,
        tls: Option<&ClientTls>,
    ) -> io::Result<Stream> {
        let of_cluster = tls.and_then(|tls| tls.plan().server_name.as_deref());
        let name = endpoint.at.to_string();
        let name = endpoint.server_name.as_deref().or(of_cluster).unwrap_or(endpoint::host(&name));
        connect_without_client(&self.plan.load_full(), address, name, tls).await
    }
}
