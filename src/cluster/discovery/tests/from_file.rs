//! Endpoints that a file lists.

use super::*;

/// A cluster whose endpoints are in a file, and the directory that has it.
fn in_file(text: Option<&str>) -> (Arc<Cluster>, tempfile::TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("endpoints.json");
    if let Some(text) = text {
        std::fs::write(&path, text).unwrap();
    }
    let mut plan = plan(&[("10.9.9.9", 1)]);
    plan.endpoints_file = Some(path.clone());
    (scripted(plan, &NoopRecorder, [for_a_second(&["10.0.0.7"])]).0, directory, path)
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

    // In place, with the same length and the same time.
    let time = std::fs::metadata(&path).unwrap().modified().unwrap();
    std::fs::write(&path, r#"["10.0.0.2:1"]"#).unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    reread(&cluster).await;
    assert_eq!(addresses(&cluster), ["10.9.9.9:1", "10.0.0.2:1"]);
    assert_eq!(kept.wish(), Wish::Rest);

    // By a rename over it; and the first endpoint comes back as itself, with another weight.
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
    assert_eq!(kept.wish(), Wish::Stay);

    // By a symbolic link that is swapped, as Kubernetes does it.
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
async fn a_file_that_is_missing_or_wrong_changes_nothing_and_is_explained() {
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

#[tokio::test(start_paused = true)]
async fn names_that_come_later_have_metrics_of_their_own() {
    let (cluster, _directory, _) = in_file(Some(r#"["10.0.0.1:1"]"#));
    let metrics = crate::metrics::Metrics::new();
    cluster.records(metrics.clone());
    cluster.resolve().await;
    let labels = "{cluster=\"orders\",endpoint=\"10.0.0.1:1\"}";
    let series = format!("tollgate_upstream_connections_active{labels}");
    let mut text = String::new();
    metrics.render(&mut text);
    assert!(text.contains(&series), "{text}");
}
