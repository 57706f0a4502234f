//! Endpoints from a file.

use super::*;
use crate::Lease;

/// A cluster with its endpoints in a file, and the file's directory.
fn in_file(text: Option<&str>) -> (Arc<Cluster>, tempfile::TempDir, std::path::PathBuf) {
    counted_by(&Metrics::new(), text)
}

/// Reads a JSON list of addresses, or of maps with an address, a weight and a zone.
fn read(text: &str, path: &std::path::Path) -> Result<Vec<EndpointPlan>, String> {
    let wrong = |error: String| format!("{}: {error}", path.display());
    let list: Vec<serde_json::Value> =
        serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
    let one = |it: &serde_json::Value| {
        let address = it["address"].as_str().or(it.as_str()).unwrap_or_default();
        let mut plan =
            EndpointPlan::new(values::host_port(address).map_err(|fault| wrong(fault.message))?);
        plan.weight = it["weight"].as_u64().map_or(1, |weight| weight as u32);
        plan.zone = it["zone"].as_str().map(Into::into);
        Ok(plan)
    };
    list.iter().map(one).collect()
}

fn counted_by(
    metrics: &Metrics,
    text: Option<&str>,
) -> (Arc<Cluster>, tempfile::TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("endpoints.json");
    if let Some(text) = text {
        std::fs::write(&path, text).unwrap();
    }
    let mut plan = plan(&[("10.9.9.9", 1)]);
    plan.endpoints_file = Some(crate::EndpointsFile { path: path.clone(), read });
    (scripted(plan, metrics, [for_a_second(&["10.0.0.7"])]).0, directory, path)
}

/// Waits until the file has been read again.
async fn reread(cluster: &Cluster) {
    for _ in 0..2 {
        time::sleep(file::INTERVAL).await;
        while cluster.names.lock().file_due.is_none() {
            tokio::task::yield_now().await;
        }
    }
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_of_endpoints_is_read_again_however_it_changes() {
    let (cluster, directory, path) = in_file(Some(r#"["10.0.0.1:1"]"#));
    cluster.resolve().await;
    assert_eq!(addresses(&cluster), ["10.9.9.9:1", "10.0.0.1:1"]);
    let kept = cluster.endpoints()[1].clone();
    let _discovery = JoinSet::from_iter([cluster.clone().discover()]);

    // Written in place, with the same length and the same time.
    let time = std::fs::metadata(&path).unwrap().modified().unwrap();
    std::fs::write(&path, r#"["10.0.0.2:1"]"#).unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    reread(&cluster).await;
    assert_eq!(addresses(&cluster), ["10.9.9.9:1", "10.0.0.2:1"]);
    assert_eq!(kept.close_request(), CloseRequest::WhenIdle);

    // Replaced by a rename; and the first endpoint comes back as itself, with another weight.
    let other = directory.path().join("other");
    let text = r#"[{"address": "10.0.0.1:1", "weight": 5, "zone": "east"}, "db:5000"]"#;
    std::fs::write(&other, text).unwrap();
    std::fs::rename(&other, &path).unwrap();
    reread(&cluster).await;
    let expected = [
        "10.9.9.9:1 10.9.9.9:1 1 0 -",
        "10.0.0.1:1 10.0.0.1:1 5 0 east",
        "10.0.0.7:5000 db:5000 1 0 -",
    ];
    assert_eq!(places(&cluster), expected);
    assert!(Arc::ptr_eq(&cluster.endpoints()[1], &kept));
    assert_eq!(kept.close_request(), CloseRequest::None);

    // A symbolic link that is swapped, as Kubernetes does it.
    for (name, text) in [("v1", r#"["10.0.0.3:1"]"#), ("v2", r#"["10.0.0.4:1"]"#)] {
        std::fs::create_dir(directory.path().join(name)).unwrap();
        std::fs::write(directory.path().join(name).join("endpoints.json"), text).unwrap();
    }
    let data = directory.path().join("data");
    std::os::unix::fs::symlink("v1", &data).unwrap();
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("data/endpoints.json", &path).unwrap();
    reread(&cluster).await;
    assert_eq!(addresses(&cluster), ["10.9.9.9:1", "10.0.0.3:1"]);
    let swapped = directory.path().join("swapped");
    std::os::unix::fs::symlink("v2", &swapped).unwrap();
    std::fs::rename(&swapped, &data).unwrap();
    reread(&cluster).await;
    assert_eq!(addresses(&cluster), ["10.9.9.9:1", "10.0.0.4:1"]);
}

#[tokio::test(start_paused = true)]
async fn a_missing_or_invalid_file_changes_nothing() {
    let (cluster, _directory, path) = in_file(None);
    cluster.resolve().await;
    assert_eq!(addresses(&cluster), ["10.9.9.9:1"]);
    let error = || cluster.report()["dns"]["last_error"].as_str().map(str::to_owned);
    assert!(error().unwrap().contains("endpoints.json: can't read this file: No such file"));
    let _discovery = JoinSet::from_iter([cluster.clone().discover()]);

    std::fs::write(&path, r#"["10.0.0.1:1"]"#).unwrap();
    reread(&cluster).await;
    assert_eq!(addresses(&cluster), ["10.9.9.9:1", "10.0.0.1:1"]);
    assert_eq!(error(), None);

    for wrong in ["[", r#"["10.0.0.2"]"#] {
        std::fs::write(&path, wrong).unwrap();
        reread(&cluster).await;
        assert_eq!(addresses(&cluster), ["10.9.9.9:1", "10.0.0.1:1"]);
        assert!(error().unwrap().contains("endpoints.json"), "{:?}", error());
    }
    std::fs::remove_file(&path).unwrap();
    reread(&cluster).await;
    assert_eq!(addresses(&cluster), ["10.9.9.9:1", "10.0.0.1:1"]);

    std::fs::write(&path, r#"["10.0.0.1:1"]"#).unwrap();
    reread(&cluster).await;
    assert_eq!(error(), None);
}

/// The counts of endpoints at port 1 of these addresses, by each one's name.
fn series(recorded: &Recorded, metric: &str, address: &str) -> Option<f64> {
    recorded.read(&format!("{metric}(orders, {address}:1)"))
}

const UP: &str = "tollgate_endpoint_up";
const ACTIVE: &str = "tollgate_upstream_connections_active";

#[tokio::test(start_paused = true)]
async fn a_removed_endpoint_loses_gauges_first_and_counters_later() {
    let recorded = Recorded::default();
    let (cluster, _directory, path) = counted_by(&recorded, Some(r#"["10.0.0.1:1"]"#));
    cluster.resolve().await;
    let (one, written) = (Some("10.0.0.1"), "10.9.9.9");
    let read = |metric: &str, address: Option<&str>| series(&recorded, metric, address.unwrap());
    assert_eq!((read(UP, one), read(ACTIVE, one)), (Some(1.0), None), "nothing happened there");
    let endpoint = cluster.endpoints().pop().unwrap();
    let lease = Lease::new(&cluster, &endpoint);
    assert_eq!(read(ACTIVE, one), Some(1.0));
    let _discovery = JoinSet::from_iter([cluster.clone().discover()]);

    std::fs::write(&path, r#"["10.0.0.2:1"]"#).unwrap();
    reread(&cluster).await;
    assert_eq!((read(UP, one), read(ACTIVE, one)), (None, Some(1.0)));
    assert_eq!(series(&recorded, UP, written), Some(1.0));

    // It comes back, and its counters continue.
    std::fs::write(&path, r#"["10.0.0.1:1"]"#).unwrap();
    reread(&cluster).await;
    assert_eq!((read(UP, one), read(ACTIVE, one)), (Some(1.0), Some(1.0)));

    // It is counted as long as a connection is open, however long that is.
    std::fs::write(&path, r#"["10.0.0.2:1"]"#).unwrap();
    time::sleep(Duration::from_secs(3600)).await;
    assert_eq!((read(UP, one), read(ACTIVE, one)), (None, Some(1.0)));
    drop((lease, endpoint));
    time::sleep(Duration::from_secs(301)).await;
    assert_eq!((read(UP, one), read(ACTIVE, one)), (None, None));
    assert_eq!(cluster.names.lock().names(), 2, "nothing is remembered of who left");
}

#[tokio::test(start_paused = true)]
async fn endpoints_over_the_series_limit_are_labelled_other() {
    let recorded = Recorded::default();
    let list = |from: u32, to: u32| {
        let address = |i: u32| format!("10.0.{}.{}:1", i >> 8, i & 255);
        serde_json::to_string(&(from..to).map(address).collect::<Vec<_>>()).unwrap()
    };
    let (cluster, _directory, path) = counted_by(&recorded, Some(&list(0, 1026)));
    cluster.resolve().await;
    let other = || recorded.read("tollgate_endpoint_up(orders, other)");
    assert_eq!((series(&recorded, UP, "10.0.3.255"), other()), (Some(1.0), Some(2.0)));
    assert_eq!(recorded.count("tollgate_endpoints_capped_total(orders)"), 2);
    let last = cluster.endpoints().pop().unwrap();
    assert_eq!(&**last.name(), "10.0.4.1:1", "its own name is reported");
    drop(last);

    let _discovery = JoinSet::from_iter([cluster.clone().discover()]);
    std::fs::write(&path, list(0, 1)).unwrap();
    time::sleep(Duration::from_secs(400)).await;
    assert_eq!(other(), None);
    std::fs::write(&path, list(2000, 2002)).unwrap();
    reread(&cluster).await;
    assert_eq!(series(&recorded, UP, "10.0.7.208"), Some(1.0));
    assert_eq!((series(&recorded, UP, "10.0.7.209"), other()), (Some(1.0), None));
}
