//! What the guides show works, and their links lead somewhere.

use crate::{blocks, path, read, support::certificates::Certificates};

/// Every page: those at the top of the repository, and those in `docs/`.
fn pages() -> Vec<String> {
    let folder = |name: &str| std::fs::read_dir(path(name)).unwrap().map(|it| it.unwrap());
    let names = |name: &str| folder(name).map(|it| it.file_name().into_string().unwrap());
    let docs = names("docs").map(|name| format!("docs/{name}"));
    let mut pages: Vec<_> = names("").chain(docs).filter(|name| name.ends_with(".md")).collect();
    pages.sort();
    pages
}

/// What policies that are shown alone stand beside.
const BESIDE: &str = "
listeners:
  orders-db: { address: ':27018', protocol: mongo, cluster: orders }
  cache: { address: ':6380', protocol: tcp, cluster: cache }
  web:
    address: ':8080'
    cluster: shop
    protocol:
      http:
        routes:
          - { name: checkout, match: { path_prefix: /checkout }, cluster: shop }
          - { name: export, match: { path_prefix: /export }, cluster: shop }
  rpc: { address: ':9090', protocol: grpc, cluster: greeter }
clusters:
  orders: { endpoints: [mongo-1:27017] }
  cache: { endpoints: [redis-1:6379] }
  shop: { endpoints: [shop-1:8080] }
  greeter: { endpoints: [greeter-1:50051] }
";

#[test]
fn every_config_in_a_guide_is_right() {
    let certificates = Certificates::new();
    for name in ["tls", "clients"] {
        certificates.issue(name, &["db.example.net"]);
    }
    certificates.revoke(1);
    for user in ["tollgate", "web", "shop"] {
        let file = certificates.directory().join(format!("{user}.password"));
        std::fs::write(file, "secret").unwrap();
    }
    let headers = certificates.directory().join("collector.headers");
    std::fs::write(headers, "authorization: Bearer secret").unwrap();
    // The examples of docs/configuration.md have a test of their own.
    for page in pages().iter().filter(|page| *page != "docs/configuration.md") {
        for (at, config) in blocks(&read(page), "yaml").into_iter().enumerate() {
            // The files that examples name are made here.
            let folder = format!("{}/", certificates.directory().display());
            let config = config.replace("/etc/tollgate/", &folder);
            let whole = match config.starts_with("policies:") {
                true => format!("{BESIDE}{config}"),
                false => config,
            };
            if let Err(problems) = config::parse(page, &whole) {
                panic!("the config number {} of {page}:\n{problems}", at + 1);
            }
        }
    }
}

#[test]
fn what_strangers_may_reach_leaves_nothing_to_hint_at() {
    let page = "docs/facing-strangers.md";
    let configs = blocks(&read(page), "yaml");
    let plan = config::parse(page, &configs[0]).unwrap();
    let mut hints = config::hints(&plan);
    // Where its log goes is a matter of the machine.
    hints.retain(|hint| !hint.contains("there is no folder"));
    assert_eq!(hints, Vec::<String>::new());
    let spoken: Vec<_> = plan.listeners.iter().map(|it| it.protocol.name()).collect();
    assert_eq!(spoken, ["mongo", "tcp", "http", "grpc"]);
    assert!(plan.listeners.iter().all(|listener| listener.address.ip().is_unspecified()));
}

#[test]
fn every_link_leads_to_a_file_or_a_heading() {
    for page in &pages() {
        let text = read(page);
        let folder = path(page).parent().unwrap().to_owned();
        let mut links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.by_ref().filter(|link| !link.contains("://")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path(page) } else { folder.join(file) };
            assert!(target.exists(), "{page}: {link}");
            let found = anchor.is_empty() || anchors(&target).iter().any(|known| known == anchor);
            assert!(found, "{page}: no heading for {link}");
        }
    }
}

#[test]
fn the_index_of_the_docs_has_every_page() {
    let index = read("docs/README.md");
    for page in pages() {
        let name = page.strip_prefix("docs/").map_or(format!("../{page}"), str::to_owned);
        let listed = name == "README.md" || index.contains(&format!("]({name}"));
        assert!(listed, "docs/README.md lacks {name}");
    }
}

/// What a page's headings are called in links.
fn anchors(file: &std::path::Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap();
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let words = line.trim_start_matches('#').trim().to_lowercase();
            let kept =
                words.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}
