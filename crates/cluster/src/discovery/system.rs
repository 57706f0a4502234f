//! System name resolution: the hosts file first, then the configured name servers.

use super::{HostAnswer, Lookup, Resolver, SrvAnswer, SrvRecord};
use hickory_resolver::{
    Hosts, ResolverBuilder, TokioResolver,
    config::{LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig},
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::{
        op::Query,
        rr::{Name, RData, RecordType},
    },
};
use std::{
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

/// How long one name server may take before the next attempt.
const SERVER_TIMEOUT: Duration = Duration::from_secs(2);

/// Reads `/etc/hosts` and `/etc/resolv.conf` for each look-up, since in containers they change
/// while the proxy runs. It needs no cache: it is called only when an answer has expired.
#[derive(Clone, Copy, Debug)]
pub struct SystemResolver;

impl Resolver for SystemResolver {
    fn resolve<'a>(&'a self, host: &'a str) -> Lookup<'a> {
        Box::pin(async move {
            // Relaxed: container names may contain underscores.
            let name = Name::from_str_relaxed(host).map_err(|error| error.to_string())?;
            if name.is_root() {
                return Err("it is no name".to_owned());
            }
            let hosts = Hosts::from_system().unwrap_or_default();
            if let Some(answer) = in_hosts(&hosts, &name) {
                return Ok(answer);
            }
            query_addresses(name_servers(), name).await.map_err(describe)
        })
    }

    fn resolve_srv<'a>(&'a self, name: &'a str) -> Lookup<'a, SrvAnswer> {
        Box::pin(async move {
            let name = Name::from_str_relaxed(name).map_err(|error| error.to_string())?;
            query_srv(name_servers(), name).await.map_err(describe)
        })
    }
}

/// The hosts file's entry for `name` is final, for both families: a `localhost` with only an IPv4
/// address there has no IPv6 one. Its TTL is 0, since reading it is cheap.
fn in_hosts(hosts: &Hosts, name: &Name) -> Option<HostAnswer> {
    let name = name.to_lowercase();
    let addresses: Vec<IpAddr> = [RecordType::A, RecordType::AAAA]
        .into_iter()
        .filter_map(|kind| hosts.lookup_static_host(&Query::query(name.clone(), kind)))
        .flat_map(|found| {
            found.answers().iter().filter_map(|r| r.data.ip_addr()).collect::<Vec<_>>()
        })
        .collect();
    (!addresses.is_empty()).then_some(HostAnswer { addresses, ttl: Duration::ZERO })
}

/// The system's name servers; without any, the one on this host, as in resolv.conf(5).
fn name_servers() -> ResolverBuilder<TokioRuntimeProvider> {
    TokioResolver::builder_tokio().unwrap_or_else(|_| {
        let local = NameServerConfig::udp_and_tcp(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![local]);
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
    })
}

/// Queries these name servers for addresses of both families.
async fn query_addresses(
    servers: ResolverBuilder<TokioRuntimeProvider>,
    name: Name,
) -> Result<HostAnswer, NetError> {
    let found = resolver(servers)?.lookup_ip(name).await?;
    Ok(HostAnswer {
        addresses: found.iter().collect(),
        ttl: found.valid_until().saturating_duration_since(Instant::now()),
    })
}

/// Queries these name servers for SRV records.
async fn query_srv(
    servers: ResolverBuilder<TokioRuntimeProvider>,
    name: Name,
) -> Result<SrvAnswer, NetError> {
    let found = resolver(servers)?.lookup(name, RecordType::SRV).await?;
    let services = found.answers().iter().filter_map(|record| match &record.data {
        RData::SRV(srv) => Some(SrvRecord {
            priority: srv.priority,
            host: srv.target.to_utf8().trim_end_matches('.').to_owned(),
            port: srv.port,
            weight: srv.weight,
        }),
        _ => None,
    });
    Ok(SrvAnswer {
        records: services.collect(),
        ttl: found.valid_until().saturating_duration_since(Instant::now()),
    })
}

fn resolver(mut servers: ResolverBuilder<TokioRuntimeProvider>) -> Result<TokioResolver, NetError> {
    let options = servers.options_mut();
    options.use_hosts_file = ResolveHosts::Never;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.cache_size = 0;
    options.timeout = options.timeout.min(SERVER_TIMEOUT);
    servers.build()
}

fn describe(error: NetError) -> String {
    if error.is_nx_domain() {
        "no such name".to_owned()
    } else if error.is_no_records_found() {
        "it has no such record".to_owned()
    } else {
        error.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_resolver::{
        config::ConnectionConfig,
        proto::{
            op::{Message, OpCode, ResponseCode},
            rr::{Record, rdata::SRV},
        },
    };
    use std::net::SocketAddr;
    use tokio::net::UdpSocket;

    /// A name server that knows the IPv4 addresses of `db.` and no other name.
    async fn name_server() -> (impl Future<Output = ()>, SocketAddr) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let serve = async move {
            let mut bytes = [0; 4096];
            loop {
                let (len, from) = socket.recv_from(&mut bytes).await.unwrap();
                let asked = Message::from_vec(&bytes[..len]).unwrap();
                let query = asked.queries[0].clone();
                let mut reply = Message::response(asked.metadata.id, OpCode::Query);
                if query.query_type() == RecordType::SRV {
                    let target = Name::from_ascii("db.example.").unwrap();
                    let service = SRV::new(10, 60, 27017, target);
                    let record = Record::from_rdata(query.name().clone(), 30, RData::SRV(service));
                    reply.add_answer(record);
                } else if query.name().to_string() != "db." {
                    reply.metadata.response_code = ResponseCode::NXDomain;
                } else if query.query_type() == RecordType::A {
                    for (last, ttl) in [(1, 30), (2, 7)] {
                        let address = RData::from(IpAddr::from([10, 0, 0, last]));
                        reply.add_answer(Record::from_rdata(query.name().clone(), ttl, address));
                    }
                }
                reply.queries.push(query);
                socket.send_to(&reply.to_vec().unwrap(), from).await.unwrap();
            }
        };
        (serve, address)
    }

    fn at(address: SocketAddr) -> ResolverBuilder<TokioRuntimeProvider> {
        let mut udp = ConnectionConfig::udp();
        udp.port = address.port();
        let server = NameServerConfig::new(address.ip(), true, vec![udp]);
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
    }

    #[tokio::test]
    async fn a_look_up_returns_addresses_and_the_lowest_ttl() {
        let (serve, address) = name_server().await;
        let looked_up = async {
            let db = query_addresses(at(address), Name::from_ascii("db").unwrap()).await.unwrap();
            let mut addresses = db.addresses;
            addresses.sort_unstable();
            assert_eq!(addresses, [IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2])]);
            let limit = Duration::from_secs(7);
            assert!(db.ttl <= limit && db.ttl > limit / 2, "{:?}", db.ttl);
            let nowhere = query_addresses(at(address), Name::from_ascii("nowhere").unwrap()).await;
            assert_eq!(describe(nowhere.unwrap_err()), "no such name");
        };
        tokio::select! { () = serve => unreachable!(), () = looked_up => () }
    }

    #[tokio::test]
    async fn a_look_up_returns_srv_records() {
        let (serve, address) = name_server().await;
        let looked_up = async {
            let name = Name::from_str_relaxed("_db._tcp.example.").unwrap();
            let found = query_srv(at(address), name).await.unwrap();
            let host = "db.example".to_owned();
            let service = SrvRecord { priority: 10, host, port: 27017, weight: 60 };
            assert_eq!(found.records, [service]);
            let limit = Duration::from_secs(30);
            assert!(found.ttl <= limit && found.ttl > limit / 2, "{:?}", found.ttl);
        };
        tokio::select! { () = serve => unreachable!(), () = looked_up => () }
    }

    fn hosts(text: &str) -> Hosts {
        let mut hosts = Hosts::default();
        hosts.read_hosts_conf(text.as_bytes()).unwrap();
        hosts
    }

    #[tokio::test]
    async fn localhost_needs_no_network() {
        let answer = SystemResolver.resolve("localhost").await.unwrap();
        assert!(!answer.addresses.is_empty());
        assert!(answer.addresses.iter().all(IpAddr::is_loopback), "{answer:?}");
    }

    #[test]
    fn the_hosts_file_has_the_last_word_on_both_families() {
        let hosts = hosts("127.0.0.1 localhost # no ::1\n10.0.0.1 db orders_db_1\n::2 db\n");
        let addresses = |name| {
            in_hosts(&hosts, &Name::from_str_relaxed(name).unwrap()).map(|answer| answer.addresses)
        };
        assert_eq!(addresses("localhost"), Some(vec!["127.0.0.1".parse().unwrap()]));
        let both = vec!["10.0.0.1".parse().unwrap(), "::2".parse().unwrap()];
        assert_eq!(addresses("db"), Some(both.clone()));
        assert_eq!(addresses("DB."), Some(both));
        assert_eq!(addresses("orders_db_1"), Some(vec!["10.0.0.1".parse().unwrap()]));
        assert_eq!(addresses("elsewhere"), None);
    }

    #[tokio::test]
    async fn what_is_no_name_is_an_error_in_words() {
        let too_long = "a".repeat(64);
        for host in ["", "..", too_long.as_str()] {
            assert!(SystemResolver.resolve(host).await.is_err(), "{host}");
        }
    }
}
