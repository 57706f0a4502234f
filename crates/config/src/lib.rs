//! The config: reads a file, checks it, and makes a plan of it, from which the proxy starts.
//!
//! This crate names no protocol: it asks the registry. It may not know the proxy that runs a plan:
//! workers, listeners, connections, the admin interface.
//!
//! - `yaml` parses text into a tree with spans, `decode` fills the types of `file` from it, and
//!   `check` makes a [`plan`] of them. Each reports errors and continues, so that one run finds them
//!   all; `report` collects them.
//! - `input` reads the files of a config into one tree, with `variables` replaced and `included` files
//!   added; `sources`: which files these are
//! - `scope`: listeners and attributes that policies can match
//! - `single`: one policy, from a request to the running proxy
//! - `hints`: advice on valid configs; `listener_loop`: listeners that lead back to themselves
//! - `show`: a plan in the shape of a config
//! - [`changes`]: what differs between two configs; `successor`: a plan beside the running one

pub mod changes;
pub mod plan;

mod check;
mod decode;
mod file;
mod hints;
mod included;
mod input;
mod listener_loop;
mod report;
mod scope;
mod show;
mod single;
mod sources;
mod successor;
mod variables;
mod yaml;

pub use hints::hints;
pub use report::{Diagnostics, printable};
pub use {
    scope::{Scope, attributes},
    single::{addition, change, fault},
    sources::{Fingerprint, Sources},
};

use cluster::{EndpointPlan, ReplicaSetPlan};
use plan::Plan;
use protocols::PROTOCOLS;
use report::Report;
use std::{
    cell::RefCell,
    collections::BTreeMap,
    io::Read,
    path::{Path, PathBuf},
};
use values::{Node, Target};

/// The default address of the admin interface.
pub const ADMIN: &str = "127.0.0.1:9901";

/// Larger files are rejected unread, and so are included ones if all are larger. In bytes.
const MAX_FILE: usize = 4 << 20;

/// The file name that means stdin.
const STDIN: &str = "-";

/// What a config may use beside its own text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Whether variables (`${NAME}`) are replaced by those of the process's environment. A client
    /// that sends a config could read them by it.
    pub environment: bool,
    /// The directory that paths under `include` are relative to; `None`: no file can be included.
    pub include_from: Option<PathBuf>,
}

/// Reads and checks the file at `path`, or stdin if that is `-`, with variables and included files.
/// Does not use the network.
pub fn load(path: impl AsRef<Path>) -> Result<Plan, Diagnostics> {
    load_with_sources(path).0
}

/// As [`load`], and returns the files that were read, also if the config is wrong.
pub fn load_with_sources(path: impl AsRef<Path>) -> (Result<Plan, Diagnostics>, Sources) {
    let path = path.as_ref();
    let stdin = path == Path::new(STDIN);
    let name = if stdin { "stdin".to_owned() } else { path.display().to_string() };
    let (content, mut sources) = if stdin {
        let mut content = Vec::new();
        let most = MAX_FILE as u64 + 1;
        let read = std::io::stdin().lock().take(most).read_to_end(&mut content);
        (read.map(|_| content), Sources::default())
    } else {
        let content = sources::read_main(path);
        let sources = Sources::of_main(path, &content);
        (content, sources)
    };
    let directory = path.parent().unwrap_or(Path::new("")).to_owned();
    let access = Access { environment: true, include_from: Some(directory) };
    let plan = match content {
        Ok(bytes) => parse_bytes(&name, &bytes, &access, &mut sources),
        Err(error) => {
            let hint = "name a regular file that can be read: -c FILE";
            Err(Diagnostics::for_file(&name, format!("can't read this file: {error}"), hint))
        }
    };
    (plan, sources)
}

/// Checks `text` alone, without variables and included files; `name` is the file name in diagnostics.
pub fn parse(name: &str, text: &str) -> Result<Plan, Diagnostics> {
    parse_with(name, text.as_bytes(), &Access::default())
}

/// Checks a text that may use this; `name` is the file name in diagnostics.
pub fn parse_with(name: &str, text: &[u8], access: &Access) -> Result<Plan, Diagnostics> {
    parse_bytes(name, text, access, &mut Sources::default())
}

/// A replica set that the config does not name. `None` if no protocol has replica sets.
pub fn replica_set(
    name: &str,
    seeds: Vec<Target>,
    members: BTreeMap<String, Target>,
) -> Option<ReplicaSetPlan> {
    let mut settings = PROTOCOLS.iter().map(|protocol| protocol.default_settings());
    let monitor = settings.find_map(|settings| settings.member_monitors(name))?;
    Some(ReplicaSetPlan { name: name.into(), seeds, members, monitor })
}

/// Checks an endpoints file, which is a list as under `endpoints`; `path` is its name in diagnostics.
/// An empty list is an error, because the file is probably being written.
pub fn endpoints(text: &str, path: impl AsRef<Path>) -> Result<Vec<EndpointPlan>, Diagnostics> {
    let name = path.as_ref().display().to_string();
    let hint = "list endpoints: `- host:port` a line";
    let (report, tree) = input::read_alone(&name, text.as_bytes(), hint)?;
    let report = RefCell::new(report);
    let list = decode::decode(&tree, &report);
    let mut report = report.into_inner();
    let endpoints = list.map(|list| check::endpoints(&mut report, list, check::Listed::Some));
    match endpoints {
        Some(endpoints) if report.is_empty() => Ok(endpoints),
        _ => Err(report.finish()),
    }
}

/// A plan with one listener and one upstream, without a file.
///
/// `admin` is the admin interface's address, or `off`; [`ADMIN`] by default. The listener has the
/// name of the protocol, the cluster is called `upstream`, and operations are logged to stdout.
pub fn for_proxy(
    protocol: &str,
    listen: &str,
    upstream: &str,
    admin: Option<&str>,
) -> Result<Plan, Diagnostics> {
    let (address, cluster) = (("address", Node::text(listen)), ("cluster", Node::text("upstream")));
    let settings = protocols::find(protocol).and_then(|it| it.without_file("upstream"));
    let listener = match settings {
        Some(settings) => {
            let settings = Node::map([(protocol, settings)]);
            Node::map([address, ("protocol", settings)])
        }
        None => Node::map([address, ("protocol", Node::text(protocol)), cluster]),
    };
    let cluster = Node::map([("endpoints", Node::list([Node::text(upstream)]))]);
    let tree = Node::map([
        ("admin", Node::text(admin.unwrap_or(ADMIN))),
        ("listeners", Node::map([(protocol, listener)])),
        ("clusters", Node::map([("upstream", cluster)])),
        ("access_log", Node::map([])),
    ]);
    plan(Report::new("command line", ""), tree)
}

/// The JSON Schema (2020-12) of the config file, for editors.
pub fn schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(file::File);
    schema.insert("title".into(), "Tollgate config".into());
    schema.to_value()
}

fn parse_bytes(
    name: &str,
    bytes: &[u8],
    access: &Access,
    sources: &mut Sources,
) -> Result<Plan, Diagnostics> {
    let (report, tree) = input::read(name, bytes, access, sources)?;
    plan(report, tree)
}

fn plan(report: Report, tree: Node) -> Result<Plan, Diagnostics> {
    let tree = tree.without_own();
    let report = RefCell::new(report);
    let file = decode::decode(&tree, &report);
    let mut report = report.into_inner();
    let plan = file.and_then(|file| check::check(file, &tree, &mut report));
    match plan {
        Some(plan) if report.is_empty() => Ok(plan),
        _ => Err(report.finish()),
    }
}
