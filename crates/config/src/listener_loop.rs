//! Listeners that lead back to themselves: a connection would loop until no sockets are left.

use super::plan::ListenerPlan;
use cluster::ClusterPlan;
use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
    sync::Arc,
};
use values::Target;

/// A path from a listener to itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListenerLoop {
    /// The listeners on the path, starting with the one where it begins and ends.
    pub(crate) listeners: Vec<Arc<str>>,
    /// The cluster that leads back…
    pub(crate) cluster: Arc<str>,
    /// …the index of its endpoint…
    pub(crate) endpoint: usize,
    /// …and its address or name.
    pub(crate) target: String,
    /// Whether every connection takes this path. With routes it depends on the request.
    pub(crate) unconditional: bool,
}

impl fmt::Display for ListenerLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ListenerLoop { listeners, target, .. } = self;
        match listeners.as_slice() {
            [] => Ok(()),
            [one] => write!(f, "`{one}` leads to itself: `{target}` is where it listens"),
            [first, others @ ..] => {
                let others: Vec<String> = others.iter().map(|name| format!("`{name}`")).collect();
                let others = others.join(", ");
                write!(f, "`{first}` leads back to itself, by way of {others}: `{target}`")
            }
        }
    }
}

/// One step from a listener to another.
#[derive(Clone)]
struct LoopStep<'p> {
    to: usize,
    cluster: &'p ClusterPlan,
    endpoint: usize,
    unconditional: bool,
}

/// All loops, each once.
pub(crate) fn listener_loops(
    listeners: &[Arc<ListenerPlan>],
    clusters: &[Arc<ClusterPlan>],
) -> Vec<ListenerLoop> {
    let mut by_port: BTreeMap<u16, Vec<(usize, &ListenerPlan)>> = BTreeMap::new();
    for (at, listener) in listeners.iter().enumerate() {
        by_port.entry(listener.address.port()).or_default().push((at, listener));
    }
    let clusters: BTreeMap<&str, &ClusterPlan> =
        clusters.iter().map(|cluster| (&*cluster.name, &**cluster)).collect();
    let steps: Vec<Vec<LoopStep<'_>>> =
        listeners.iter().map(|from| steps(from, &by_port, &clusters)).collect();
    let mut found = Vec::new();
    for start in 0..listeners.len() {
        // Each loop starts at its first listener in the file, so that it is found once.
        let mut seen = vec![false; listeners.len()];
        let mut open = vec![(vec![start], true)];
        while let Some((way, sure)) = open.pop() {
            let from = way.last().copied().unwrap_or(start);
            for step in steps.get(from).into_iter().flatten().filter(|step| step.to >= start) {
                let unconditional = sure && step.unconditional;
                if step.to == start {
                    let target = step.cluster.endpoints.get(step.endpoint);
                    found.push(ListenerLoop {
                        listeners: way.iter().map(|at| Arc::clone(&listeners[*at].name)).collect(),
                        cluster: Arc::clone(&step.cluster.name),
                        endpoint: step.endpoint,
                        target: target.map_or(String::new(), |it| it.at.to_string()),
                        unconditional,
                    });
                } else if !std::mem::replace(&mut seen[step.to], true) {
                    open.push(([&way[..], &[step.to]].concat(), unconditional));
                }
            }
        }
    }
    found
}

fn steps<'p>(
    from: &ListenerPlan,
    by_port: &BTreeMap<u16, Vec<(usize, &ListenerPlan)>>,
    clusters: &BTreeMap<&str, &'p ClusterPlan>,
) -> Vec<LoopStep<'p>> {
    let mut steps = Vec::new();
    for name in from.clusters() {
        let unconditional = from.cluster.as_ref() == Some(&name);
        let Some(&cluster) = clusters.get(&*name) else { continue };
        for (endpoint, plan) in cluster.endpoints.iter().enumerate() {
            let Target::Host(host, port) = &plan.at else { continue };
            let candidates = by_port.get(port).into_iter().flatten();
            let reached = candidates.filter(|(_, listener)| reaches(host, listener.address.ip()));
            steps.extend(reached.map(|&(to, _)| LoopStep { to, cluster, endpoint, unconditional }));
        }
    }
    steps
}

/// Whether a connection to `host` reaches a listener at this address and the same port. Of names
/// only `localhost` is known.
fn reaches(host: &str, here: IpAddr) -> bool {
    let here = here.to_canonical();
    let addresses = match host.parse::<IpAddr>() {
        // Dialling the unspecified address reaches this machine.
        Ok(address) if address.is_unspecified() => vec![loopback(address.is_ipv6())],
        Ok(address) => vec![address.to_canonical()],
        Err(_) if is_localhost(host) => vec![loopback(false), loopback(true)],
        Err(_) => return false,
    };
    addresses.into_iter().any(|address| match here {
        IpAddr::V4(here) if here.is_unspecified() => address.is_ipv4() && is_own(address),
        IpAddr::V6(here) if here.is_unspecified() => is_own(address),
        here => here == address,
    })
}

fn loopback(v6: bool) -> IpAddr {
    if v6 { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() }
}

fn is_localhost(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let name = name.strip_suffix('.').unwrap_or(&name);
    ["localhost", "localhost.localdomain", "ip6-localhost"].contains(&name)
        || name.ends_with(".localhost")
}

/// Whether an address is this machine's, that is, whether the kernel would use it as the source for
/// itself. A connected UDP socket sends nothing.
fn is_own(address: IpAddr) -> bool {
    if address.is_loopback() {
        return true;
    }
    let any: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let from = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect((address, 9))?;
        socket.local_addr()
    });
    from.is_ok_and(|from| from.ip().to_canonical() == address)
}

#[cfg(test)]
mod tests {
    use crate::parse;

    /// The listeners of each loop in a config of TCP listeners, and whether it is unconditional.
    fn found(listeners: &[(&str, &str, &str)]) -> Vec<String> {
        let listener = |(name, address, endpoint): &(&str, &str, &str)| {
            let cluster = format!("  {name}: {{ endpoints: [\"{endpoint}\"] }}\n");
            let keys = format!("address: \"{address}\", protocol: tcp, cluster: {name}");
            (format!("  {name}: {{ {keys} }}\n"), cluster)
        };
        let (listeners, clusters): (String, String) = listeners.iter().map(listener).unzip();
        let text = format!("admin: off\nlisteners:\n{listeners}clusters:\n{clusters}");
        match parse("t", &text) {
            Ok(_) => Vec::new(),
            Err(problems) => problems.0.iter().map(|it| it.message.clone()).collect(),
        }
    }

    #[test]
    fn a_listener_that_leads_to_itself_is_reported() {
        for (address, endpoint) in [
            ("127.0.0.1:27017", "localhost:27017"),
            ("127.0.0.1:27017", "127.0.0.1:27017"),
            ("127.0.0.1:27017", "0.0.0.0:27017"),
            (":27017", "LOCALHOST.:27017"),
            (":27017", "127.0.0.5:27017"),
            ("[::]:27017", "127.0.0.1:27017"),
            ("[::]:27017", "[::]:27017"),
            ("[::1]:27017", "localhost:27017"),
        ] {
            let loops = found(&[("db", address, endpoint)]);
            assert_eq!(loops.len(), 1, "{address} {endpoint}: {loops:?}");
            assert!(loops[0].starts_with("`db` leads to itself"), "{loops:?}");
        }
        for (address, endpoint) in [
            ("127.0.0.1:27017", "localhost:27018"),
            ("127.0.0.1:27017", "127.0.0.2:27017"),
            ("127.0.0.1:27017", "mongo:27017"),
            (":27017", "192.0.2.1:27017"),
            (":27017", "[::1]:27017"),
            ("127.0.0.1:0", "localhost:1"),
        ] {
            assert_eq!(found(&[("db", address, endpoint)]), [""; 0], "{address} {endpoint}");
        }
    }

    #[test]
    fn a_loop_through_other_listeners_is_reported_once() {
        let chain = [
            ("a", "127.0.0.1:1", "127.0.0.1:2"),
            ("b", "127.0.0.1:2", "localhost:3"),
            ("c", ":3", "localhost:1"),
            ("d", ":4", "localhost:1"),
        ];
        let loops = found(&chain);
        assert_eq!(loops, ["`a` leads back to itself, by way of `b`, `c`: `localhost:1`"]);
        assert_eq!(found(&chain[..2]), [""; 0]);
    }
}
