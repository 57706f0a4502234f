//! A driver's run through the proxy: what the driver says it did, held against what was seen.

use super::{
    eventually,
    secantus::{self, Secantus},
    tollgate::Tollgate,
    tools,
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

/// Operations that a driver reports one by one, and that no driver sends on its own.
const COUNTED: [&str; 13] = [
    "abortTransaction",
    "aggregate",
    "commitTransaction",
    "count",
    "delete",
    "distinct",
    "drop",
    "find",
    "findAndModify",
    "getMore",
    "insert",
    "ping",
    "update",
];

/// What no log may hold: passwords, and SCRAM's messages plain and in base64.
const SECRETS: [&str; 6] = ["hunter-two", "hunter-three", "n,,n=", "biws", "\"payload\"", "c=biws"];

/// One application's run, as its driver reports it.
#[derive(Clone, Debug, Deserialize)]
pub struct Run {
    /// The name that the application gave itself.
    pub app: String,
    /// Every command that it sent: name, and `database.collection` or database.
    pub sent: Vec<(String, String)>,
    /// Every server that the driver ever took for a member.
    pub servers: Vec<String>,
}

/// A language whose driver a script drives: `tests/drivers/*_scenarios.*`.
#[derive(Clone, Copy, Debug)]
pub enum Driver {
    Pymongo,
    OldPymongo,
    Node,
    OldNode,
}

impl Driver {
    /// The interpreter with its script. `None` where it can't be installed.
    fn command(self) -> Option<Command> {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/drivers");
        let python = |programs: Option<PathBuf>| {
            let mut command = Command::new(programs?.join("python"));
            command.env("PYTHONDONTWRITEBYTECODE", "1");
            command.arg(scripts.join("pymongo_scenarios.py"));
            Some(command)
        };
        let node = |modules: Option<PathBuf>| {
            let mut command = Command::new("node");
            command.env("NODE_PATH", modules?).arg(scripts.join("node_scenarios.js"));
            Some(command)
        };
        match self {
            Driver::Pymongo => python(tools::python()),
            Driver::OldPymongo => python(tools::old_python()),
            Driver::Node => node(tools::node_modules()),
            Driver::OldNode => node(tools::old_node_modules()),
        }
    }

    /// Runs scenarios, separated by commas, with each way to write a connection string. `variables` are
    /// those of the script.
    ///
    /// # Panics
    /// If the driver does not see what the scenario expects.
    pub fn run(
        self,
        proxy: SocketAddr,
        scenarios: &str,
        credentials: Option<&str>,
        variables: &[(&str, &str)],
    ) -> Option<Vec<Run>> {
        let mut command = self.command()?;
        command.envs(variables.iter().copied());
        command.arg(proxy.to_string()).arg(scenarios).args(credentials);
        let output = command.output().expect("the driver's interpreter runs");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{self:?} {scenarios}: {error}");
        let lines = std::str::from_utf8(&output.stdout).expect("text").lines();
        Some(lines.map(|line| serde_json::from_str(line).expect("a run")).collect())
    }
}

/// A proxy, and the runs that went through it.
pub struct Observed {
    pub tollgate: Tollgate,
    pub runs: Vec<Run>,
    /// Whether both sides of the proxy are inside TLS.
    pub encrypted: bool,
}

impl Observed {
    /// Runs a scenario with each way to write a connection string, through a proxy before the shared
    /// server, then with TLS on both sides, and then through a proxy whose clients share connections.
    /// Nothing where server or driver can't be installed.
    pub fn run(driver: Driver, scenario: &str) -> Vec<Self> {
        let servers = Secantus::shared_plain_and_encrypted();
        let run =
            |server: &Secantus, tollgate| Self::before(server, tollgate, driver, scenario, None);
        let runs = servers.into_iter().map(|server| run(server, server.proxy()));
        // The fail points of `retries` are for one application, and the server knows a pool by none.
        let shares = scenario != "retries";
        let pooled = Secantus::shared().filter(|_| shares);
        let pooled = pooled.map(|server| run(server, server.pooled_proxy()));
        runs.chain(pooled).flatten().collect()
    }

    /// The same as a user who logs in, before servers that demand it.
    pub fn run_with_login(driver: Driver, scenario: &str) -> Vec<Self> {
        let credentials = format!("{}:{}", secantus::USER, secantus::PASSWORD);
        let servers = Secantus::with_login();
        let run = |server: &Secantus, tollgate| {
            Self::before(server, tollgate, driver, scenario, Some(&credentials))
        };
        let runs = servers.iter().map(|server| run(server, server.proxy()));
        let plain = servers.iter().filter(|server| !server.is_encrypted());
        let pooled = plain.map(|server| run(server, server.pooled_proxy()));
        runs.chain(pooled).flatten().collect()
    }

    fn before(
        server: &Secantus,
        tollgate: Tollgate,
        driver: Driver,
        scenario: &str,
        credentials: Option<&str>,
    ) -> Option<Self> {
        let variables = [("URI_OPTIONS", &*server.uri_options())];
        let runs = driver.run(tollgate.listener("db"), scenario, credentials, &variables)?;
        assert_eq!(runs.len(), 3, "one for each way to write a connection string");
        let this = Self { tollgate, runs, encrypted: server.is_encrypted() };
        this.runs.iter().for_each(|run| this.check(run));
        Some(this)
    }

    /// Holds a run against what every run must show: no other server than the proxy, every
    /// command in the log under its name and application, no secret anywhere.
    pub fn check(&self, run: &Run) {
        let proxy = self.tollgate.listener("db").to_string();
        assert_eq!(run.servers, [proxy], "{} found a way around the proxy", run.app);
        let sent =
            tally(run.sent.iter().map(|(name, resource)| (name.as_str(), resource.as_str())));
        assert!(!sent.is_empty(), "{} reports nothing", run.app);
        // One operation each, however many replies a driver reports as commands of their own.
        let streamed = run.app.contains("-exhaust-");
        let total = sent.iter().filter(|(key, _)| !(streamed && key.0 == "getMore"));
        let total = total.map(|(_, count)| count).sum();
        let lines = eventually(&format!("{total} lines of {}", run.app), || {
            let mut lines = self.lines_of(run);
            lines.retain(|line| {
                let name = text(line, "operation");
                COUNTED.contains(&name) && !(streamed && name == "getMore")
            });
            (lines.len() >= total).then_some(lines)
        });
        let seen =
            tally(lines.iter().map(|line| (text(line, "operation"), text(line, "resource"))));
        for (key, count) in sent {
            if !(streamed && key.0 == "getMore") {
                assert_eq!(seen.get(&key), Some(&count), "{}: {key:?} in {seen:?}", run.app);
            }
        }
        for line in &lines {
            assert_eq!(line["listener"], "db", "{line}");
            assert_eq!(line["protocol"], "mongo", "{line}");
            assert!(line["peer"].is_string() && line["endpoint"].is_string(), "{line}");
            assert!(line["duration_ms"].is_number(), "{line}");
            let (version, client) = (&line["tls_version"], &line["client_certificate"]);
            let expected = if self.encrypted {
                (json!("1.3"), json!("app.example.net"))
            } else {
                (Value::Null, Value::Null)
            };
            assert_eq!((version, client), (&expected.0, &expected.1), "{line}");
        }
        self.check_secrets();
    }

    /// No secret in anything that the proxy says.
    pub fn check_secrets(&self) {
        for (place, said) in self.tollgate.outputs() {
            for secret in SECRETS {
                assert!(!said.contains(secret), "{secret:?} in the {place}");
            }
        }
    }

    /// The log's lines of one run for one operation.
    pub fn lines(&self, run: &Run, operation: &str) -> Vec<Value> {
        let mut lines = self.lines_of(run);
        lines.retain(|line| line["operation"] == operation);
        lines
    }

    /// The log's lines of one run. Only these are parsed, since a log of many runs is long.
    fn lines_of(&self, run: &Run) -> Vec<Value> {
        let app = format!("\"app\":\"{}\"", run.app);
        let log = self.tollgate.access_log_text();
        let whole = log.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let lines = whole.filter(|line| line.contains(&app));
        lines.map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }

    /// What `crud` must have left behind: outcomes, documents, call sites and counts.
    pub fn check_crud(&self) {
        for run in &self.runs {
            let inserts = self.lines(run, "insert");
            let rejected: Vec<_> = inserts.iter().filter(|l| l["outcome"] == "rejected").collect();
            assert_eq!(rejected.len(), 1, "the duplicate, and nothing else: {inserts:?}");
            assert_eq!(rejected[0]["code"], "DuplicateKey");
            assert_eq!(inserts.iter().filter(|l| l["outcome"] == "ok").count(), 2);
            let finds = self.lines(run, "find");
            assert_eq!(finds[0]["comment"], "checkout.total");
            assert_eq!(finds[0]["documents"], 1);

            let resource = format!("drivers.{}", run.app.replace('-', "_"));
            let labels = [("operation", "insert"), ("resource", resource.as_str())];
            self.tollgate.wait_for_metric("tollgate_operations_total", &labels, 3.0);
            let rejected = [labels[0], labels[1], ("outcome", "rejected")];
            self.tollgate.wait_for_metric("tollgate_operations_total", &rejected, 1.0);
            let sent = [labels[0], labels[1], ("direction", "request")];
            assert!(self.tollgate.metric("tollgate_mongo_documents_total", &sent) >= 50.0);
            let callsite = [("callsite", "checkout.total"), ("resource", resource.as_str())];
            self.tollgate.wait_for_metric("tollgate_callsite_operations_total", &callsite, 1.0);
        }
        let duplicates = [("operation", "insert"), ("code", "DuplicateKey")];
        self.tollgate.wait_for_metric("tollgate_mongo_errors_total", &duplicates, 3.0);
        let rows = self.tollgate.operations();
        assert!(
            rows.iter().any(|row| row["operation"] == "insert" && row["count"] == 3),
            "{rows:?}"
        );
    }

    /// What `cursors` must have left behind: each batch counted, at the call site that began it.
    pub fn check_cursors(&self) {
        for run in &self.runs {
            let lines = [self.lines(run, "find"), self.lines(run, "getMore")].concat();
            let documents: u64 = lines.iter().filter_map(|l| l["documents"].as_u64()).sum();
            assert_eq!(documents, 510, "500 to the end, and one batch of 10");
            let resource = format!("drivers.{}", run.app.replace('-', "_"));
            let callsite = [
                ("callsite", "report.rows"),
                ("operation", "getMore"),
                ("resource", resource.as_str()),
            ];
            let continued = self.tollgate.metric("tollgate_callsite_operations_total", &callsite);
            assert_eq!(continued, self.lines(run, "getMore").len() as f64);
        }
    }

    /// What `retries` must have left behind: the connection that was cut, the server that left,
    /// and the second attempts that made it.
    pub fn check_retries(&self) {
        for run in &self.runs {
            let outcomes = |operation| -> Vec<String> {
                let lines = self.lines(run, operation);
                lines.iter().map(|line| text(line, "outcome").to_owned()).collect()
            };
            assert_eq!(outcomes("insert"), ["ok", "lost", "ok"], "{}", run.app);
            assert_eq!(outcomes("update"), ["failed", "ok"], "{}", run.app);
            assert_eq!(self.lines(run, "update")[0]["code"], "ShutdownInProgress");
        }
    }

    /// What `unacknowledged` must have left behind: writes without replies, in their places.
    pub fn check_unacknowledged(&self) {
        for run in &self.runs {
            let inserts = self.lines(run, "insert");
            assert_eq!(inserts.len(), 20);
            assert!(inserts.iter().all(|l| l["outcome"] == "ok"), "{inserts:?}");
            let replies = |line: &Value| line["reply_bytes"].as_u64().unwrap_or(0);
            assert!(inserts.iter().all(|line| replies(line) == 0), "{inserts:?}");
            assert!(self.lines(run, "ping").iter().all(|line| replies(line) > 0));
        }
    }

    /// What `login` must have left behind: who it was, and nothing of how that was proved.
    pub fn check_login(&self) {
        for run in &self.runs {
            let lines = [self.lines(run, "insert"), self.lines(run, "find")].concat();
            let user = format!("{}@admin", secantus::USER);
            assert!(lines.iter().all(|line| line["user"] == user), "{lines:?}");
        }
        let refused = |line: &Value| line["code"] == "AuthenticationFailed";
        let refused = self.tollgate.logged(self.runs.len(), refused);
        assert!(refused.iter().all(|line| line["user"].is_null()), "a name proves nothing");
    }
}

fn tally<'a>(seen: impl Iterator<Item = (&'a str, &'a str)>) -> BTreeMap<(String, String), usize> {
    let mut counts = BTreeMap::new();
    for (name, resource) in seen.filter(|(name, _)| COUNTED.contains(name)) {
        *counts.entry((name.to_owned(), resource.to_owned())).or_default() += 1;
    }
    counts
}

fn text<'a>(line: &'a Value, key: &str) -> &'a str {
    line[key].as_str().unwrap_or_default()
}
