//! The config: reads a file, checks it, and makes a plan of it, from which the proxy starts.
//!
//! This crate names no protocol: it asks the registry. It may not know the proxy that runs a plan:
//! workers, listeners, connections, the admin interface.
//!
//! - `yaml` parses text into a tree with spans, `decode` fills the types of `file` from it, and
//!   `check` makes a [`plan`] of them. Each reports errors and continues, so that one run finds them
//!   all; `report` collects them.
//! - `scope`: listeners and attributes that policies can match
//! - `single`: one policy, from a request to the running proxy
//! - `hints`: advice on valid configs; `listener_loop`: listeners that lead back to themselves
//! - `show`: a plan in the shape of a config

pub mod plan;

mod check;
mod decode;
mod file;
mod hints;
mod listener_loop;
mod report;
mod scope;
mod show;
mod single;
mod yaml;

pub use hints::hints;
pub use report::{Diagnostics, printable};
pub use {
    scope::{Scope, attributes},
    single::{addition, change, fault},
};

use cluster::{EndpointPlan, ReplicaSetPlan};
use plan::Plan;
use protocols::PROTOCOLS;
use report::Report;
use std::{cell::RefCell, collections::BTreeMap, io::Read, path::Path};
use values::{Node, Span, Target, Value};

/// The default address of the admin interface.
pub const ADMIN: &str = "127.0.0.1:9901";

/// Larger files are rejected unread. In bytes.
const MAX_FILE: usize = 4 << 20;

/// The file name that means stdin.
const STDIN: &str = "-";

/// Reads and checks the file at `path`, or stdin if that is `-`. Does not use the network.
pub fn load(path: impl AsRef<Path>) -> Result<Plan, Diagnostics> {
    let path = path.as_ref();
    let stdin = path == Path::new(STDIN);
    let name = if stdin { "stdin".to_owned() } else { path.display().to_string() };
    let mut bytes = Vec::new();
    let most = MAX_FILE as u64 + 1;
    let read = match stdin {
        true => std::io::stdin().lock().take(most).read_to_end(&mut bytes),
        false => values::open_regular(path).and_then(|it| it.take(most).read_to_end(&mut bytes)),
    };
    if let Err(error) = read {
        let hint = "name a regular file that can be read: -c FILE";
        return Err(Diagnostics::for_file(&name, format!("can't read this file: {error}"), hint));
    }
    parse_bytes(&name, &bytes)
}

/// Checks `text`; `name` is the file name in diagnostics.
pub fn parse(name: &str, text: &str) -> Result<Plan, Diagnostics> {
    parse_bytes(name, text.as_bytes())
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
    let list = text_of(&name, text.as_bytes())?;
    let (report, tree) = read(&name, list, "list endpoints: `- host:port` a line")?;
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

const EMPTY: &str = "a config has at least `listeners` and `clusters`";

fn parse_bytes(name: &str, bytes: &[u8]) -> Result<Plan, Diagnostics> {
    let text = text_of(name, bytes)?;
    let (report, tree) = read(name, text, EMPTY)?;
    plan(report, tree)
}

/// The text of a file, if it is UTF-8 and not too long.
fn text_of<'b>(name: &str, bytes: &'b [u8]) -> Result<&'b str, Diagnostics> {
    if bytes.len() > MAX_FILE {
        let message = format!("too big: a config may have {} MiB", MAX_FILE >> 20);
        return Err(Diagnostics::for_file(name, message, "leave out what is no config"));
    }
    std::str::from_utf8(bytes).map_err(|error| {
        let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let good = String::from_utf8_lossy(good);
        let mut report = Report::new(name, &good);
        let hint = "save the file as UTF-8; an editor calls that its encoding";
        report.add(Span::end_of(&good), "this byte is not UTF-8 text", hint);
        report.finish()
    })
}

/// Parses a text without errors so far; `wanted` is the message if it is empty.
fn read(name: &str, text: &str, wanted: &str) -> Result<(Report, Node), Diagnostics> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut report = Report::new(name, text);
    match yaml::read(text) {
        Ok(Node { value: Value::Null, .. }) => {
            report.add(Span::NOWHERE, "the file is empty", wanted);
            Err(report.finish())
        }
        Ok(tree) => Ok((report, tree)),
        Err((at, fault)) => {
            report.add_diagnostic(at, fault);
            Err(report.finish())
        }
    }
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
