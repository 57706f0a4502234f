//! `tollgate demo`: starts the demonstration's services, plans a proxy before them, and shows their
//! traffic in a table.

mod story;

use crate::top;
pub use ::demo::DemoService;
use config::plan::Plan;
use std::{net::SocketAddr, time::Duration};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Starts every service. Gives the plan of a proxy before them, with a listener for each, whose
/// admin interface is at `admin`.
pub fn start_services(admin: &str) -> anyhow::Result<Plan> {
    // As a string of YAML, so that whatever stands there is an address or a mistake in one.
    let mut config = format!("admin: {}\n{CONFIG}", serde_json::Value::from(admin));
    for service in DemoService::ALL {
        let mut addresses = Vec::new();
        for health in service.endpoints() {
            addresses.push(format!("\"{}\"", service.start_as(*health)?));
        }
        let (name, addresses) = (service.name(), addresses.join(", "));
        let settings = settings(service);
        config.push_str(&format!("  {name}: {{ endpoints: [{addresses}]{EJECT}{settings} }}\n"));
    }
    config::parse("demo", &config).map_err(|problems| anyhow::anyhow!("{problems}"))
}

/// An endpoint that fails five times in a row is out of use for ten seconds.
const EJECT: &str =
    ", outlier_detection: { consecutive_failures: 5, base_ejection_time: 10s, interval: 1s }";

/// What else a cluster shows: clients that share connections, and health checks.
fn settings(service: DemoService) -> &'static str {
    match service {
        DemoService::Mongo => ", pool: { max_pool_size: 20 }",
        DemoService::Web => "",
        DemoService::Rpc => ", health_check: { interval: 2s }",
    }
}

/// The proxy of the demonstration; the clusters come last, when their addresses are known.
const CONFIG: &str = r#"
listeners:
  mongo: { address: "127.0.0.1:0", protocol: mongo, cluster: mongo }
  web:
    address: "127.0.0.1:0"
    protocol:
      http:
        routes:
          - { name: cart, match: { path_prefix: /cart }, cluster: web }
          - { name: rest, cluster: web }
  rpc: { address: "127.0.0.1:0", protocol: grpc, cluster: rpc }
policies:
  - name: slow-reports
    enabled: false
    match: { protocol: mongo, app: reports, operation: find }
    rate_limit: { rate: 1/s, burst: 1 }
  - { name: slow-discounts, match: { operation: shop.Prices/Discount }, fault: { percent: 10, delay: 5ms } }
  - { name: slower-discounts, dry_run: true, match: { operation: shop.Prices/Discount }, fault: { percent: 5, delay: 50ms } }
  - { name: fewer-carts, dry_run: true, match: { protocol: http, resource: cart }, rate_limit: { rate: 1/s, burst: 1 } }
clusters:
"#;

/// Shows what passes through the proxy whose admin interface is at `admin`, in a table drawn every
/// second, until `until` is cancelled, `q` or Ctrl-C is pressed, or `duration` is over. At the end
/// prints a summary, while the proxy still runs and can be asked, and then cancels `until`.
pub async fn show(
    admin: SocketAddr,
    until: CancellationToken,
    duration: Option<Duration>,
) -> anyhow::Result<()> {
    let began = Instant::now();
    let at = top::AdminAddress::plain(admin);
    let options = top::Options {
        admin: at.clone(),
        interval: Duration::from_secs(1),
        tables: None,
        title: format!("tollgate demo  page: http://{admin}/"),
        choice: top::choice::ViewOptions::default(),
        story: Some(story::STORY),
    };
    let table = top::show(options, until.child_token());
    let shown = match duration {
        Some(duration) => tokio::time::timeout(duration, table).await.unwrap_or(Ok(())),
        None => table.await,
    };
    let summed = top::summary(&at, "tollgate demo", began.elapsed()).await;
    // The cancelling side may have stopped the proxy as well; then there is nothing to sum up.
    let summed = if until.is_cancelled() { Ok(()) } else { summed };
    until.cancel();
    shown.and(summed)
}
