//! The command line: the commands, and the exit code of each.
//!
//! This is the only place that prints for people and ends the process.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line talks to people")]

mod admin_arguments;
mod cutover;
mod explain;
mod reload;
mod signals;
mod upgrade;

use crate::{
    demo, own_log,
    proxy::{Proxy, StartConfig},
    service_manager,
    top::{
        self, AdminAddress, TlsFiles,
        choice::{Sort, View, ViewOptions},
    },
};
use admin_arguments::AdminArguments;
use anyhow::Context;
use clap::{CommandFactory, Parser, Subcommand, ValueEnum, error::ErrorKind};
use config::Diagnostics;
use cutover::{PauseArguments, SwitchArguments};
use explain::Question;
use process::panics;
use std::{
    fs,
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
    process::{ExitCode, exit},
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// A proxy that understands the protocols that it forwards.
#[derive(Debug, Parser)]
#[command(name = "tollgate", version, about, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy from a config file.
    Run {
        /// The config file, or `-` for stdin.
        #[arg(short, long, value_name = "FILE", default_value = "tollgate.yaml")]
        config: PathBuf,
        /// Take over the sockets of a running proxy, which drains once this one has started. Without one this
        /// proxy starts as usual.
        #[arg(long)]
        upgrade: bool,
    },
    /// Check a config file: prints `ok`, possibly with hints, or every problem with its position.
    /// Does not use the network.
    Check {
        /// The config file, or `-` for stdin.
        #[arg(short, long, value_name = "FILE", default_value = "tollgate.yaml")]
        config: PathBuf,
        /// The output format of problems and explanations.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
        /// Explain which route a request takes, which policies apply to an operation, and which key
        /// keeps the others from applying: 'http GET http://shop.example/cart/7 x-team=blue',
        /// 'grpc /shop.v1.Cart/Add', 'mongo find shop.users app=reports peer=10.0.0.7 listener=db'.
        #[arg(long, value_name = "OPERATION")]
        explain: Option<String>,
        /// Print what differs from the config that a proxy runs, and what a reload would do to open
        /// connections. Exit code 0: nothing differs, 2: something does, 1: the config is wrong.
        #[arg(
            long,
            value_name = "ADMIN",
            num_args = 0..=1,
            default_missing_value = "127.0.0.1:9901",
            conflicts_with_all = ["explain", "format"]
        )]
        diff: Option<String>,
    },
    /// Run without a config file: `tollgate proxy mongo :27018 localhost:27017`.
    Proxy {
        /// Protocol: `tcp`, `mongo`, `http` or `grpc`.
        protocol: String,
        /// Listen address: `ADDRESS:PORT`, or `:PORT` for all addresses.
        listen: String,
        /// Upstream address: `HOST:PORT`.
        upstream: String,
        /// Listen address of the admin interface, or `off`.
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9901")]
        admin: String,
    },
    /// Run a demonstration: the proxy with built-in MongoDB, HTTP and gRPC services, and traffic.
    Demo {
        /// Duration. Default: until Ctrl-C.
        #[arg(long, value_parser = humantime::parse_duration)]
        duration: Option<Duration>,
        /// Listen address of the admin interface. With `127.0.0.1:9901`, `tollgate top` in a second
        /// terminal finds it, and Prometheus. Port 0 chooses a free port.
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
        admin: String,
    },
    /// Print the JSON Schema of the config file, for editors.
    Schema,
    /// Show a live table of a running proxy's operations.
    ///
    /// Sorted by total time unless `--sort` or a key changes it. Columns with a star count since the
    /// proxy's start, the others over the last interval.
    Top {
        /// The proxy's admin interface: `HOST:PORT`, `https://HOST:PORT`, or `unix:/PATH`.
        #[arg(default_value = "127.0.0.1:9901")]
        admin: String,
        /// The authorities to trust with `https` (PEM). Default: the system's.
        #[arg(long, value_name = "FILE")]
        ca: Option<PathBuf>,
        /// The certificate to show with `https`, and its key, in one file (PEM).
        #[arg(long, value_name = "FILE")]
        certificate: Option<PathBuf>,
        /// Print one table and exit.
        #[arg(long)]
        once: bool,
        /// Refresh interval.
        #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
        interval: Duration,
        /// Sort order. In a terminal, keys change it.
        #[arg(long, value_enum, default_value_t = Sort::Time)]
        sort: Sort,
        /// Show call sites instead of operations. In a terminal, press `c`.
        #[arg(long)]
        callsites: bool,
        /// Show the pools of clusters instead. In a terminal, press `u`.
        #[arg(long, conflicts_with = "callsites")]
        pools: bool,
        /// Show shapes of queries instead. In a terminal, press `h`.
        #[arg(long, conflicts_with_all = ["callsites", "pools"])]
        shapes: bool,
        /// Show this instead. In a terminal, keys switch to each.
        #[arg(long, value_enum, conflicts_with_all = ["callsites", "pools", "shapes"])]
        view: Option<View>,
    },
    /// Make a running proxy read its config file again, as SIGHUP does. A wrong config changes nothing.
    Reload {
        /// Only print what would change. Exit code 0: nothing, 2: something, 1: the config is wrong.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        admin: AdminArguments,
    },
    /// Pause a cluster of a running proxy: new operations wait, and what is under way ends.
    ///
    /// Exit code 0 means that nothing is under way at its endpoints any more.
    Pause(PauseArguments),
    /// Point a paused cluster of a running proxy to another service, until the proxy ends.
    Switch(SwitchArguments),
    /// End the pause of a cluster of a running proxy.
    Resume {
        /// The cluster.
        cluster: String,
        #[command(flatten)]
        admin: AdminArguments,
    },
    /// Print the completions of a shell: `tollgate completions bash > /etc/bash_completion.d/tollgate`.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write the manual pages of all commands, for packages.
    Man {
        /// The folder to write to.
        #[arg(value_name = "FOLDER")]
        to: PathBuf,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// Does what the arguments ask for. Exit codes: 0 fine, 1 wrong config or could not start,
/// 2 usage (by clap).
pub fn main() -> ExitCode {
    match arguments().command {
        Command::Run { config, upgrade } => run_file(config, upgrade),
        Command::Check { config, diff: Some(admin), .. } => compare(&config, &admin),
        Command::Check { config, format, explain, diff: None } => {
            let question =
                explain.map(|text| Question::read(&text).unwrap_or_else(|it| usage(&it)));
            check(&config, format, question.as_ref())
        }
        Command::Proxy { protocol, listen, upstream, admin } => {
            run_plan(config::for_proxy(&protocol, &listen, &upstream, Some(&admin)))
        }
        Command::Demo { duration, admin } => done(demonstrate(duration, &admin)),
        Command::Schema => {
            tell(format_args!("{:#}\n", config::schema()));
            ExitCode::SUCCESS
        }
        Command::Reload { dry_run, admin } => {
            exit_code(on_this_thread(reload::reload(dry_run, admin)).flatten())
        }
        Command::Pause(arguments) => done(on_this_thread(cutover::pause(arguments)).flatten()),
        Command::Switch(arguments) => done(on_this_thread(cutover::switch(arguments)).flatten()),
        Command::Resume { cluster, admin } => {
            done(on_this_thread(cutover::resume(cluster, admin)).flatten())
        }
        Command::Completions { shell } => completions(shell),
        Command::Man { to } => done(manual_pages(&to)),
        Command::Top {
            admin,
            ca,
            certificate,
            once,
            interval,
            sort,
            callsites,
            pools,
            shapes,
            view,
        } => {
            let view = match (callsites, pools, shapes) {
                (true, ..) => View::CallSites,
                (_, true, _) => View::Pools,
                (.., true) => View::Shapes,
                _ => view.unwrap_or_default(),
            };
            let choice = ViewOptions { view, sort, ..ViewOptions::default() };
            let admin = AdminAddress::parse(&admin, TlsFiles { ca, certificate });
            done(admin.and_then(|admin| {
                on_this_thread(top::top(admin, once, interval, choice)).and_then(|result| result)
            }))
        }
    }
}

/// Runs a config file, and ends what it upgrades.
fn run_file(config: PathBuf, upgrades: bool) -> ExitCode {
    let (plan, sources) = config::load_with_sources(&config);
    let file = (config.as_os_str() != "-").then_some(config);
    run_plan(plan.map(|plan| StartConfig { file, sources, upgrades, ..plan.into() }))
}

/// Runs a config, or says what is wrong with it.
fn run_plan(config: Result<impl Into<StartConfig>, Diagnostics>) -> ExitCode {
    match config {
        Ok(config) => run(config.into()),
        Err(problems) => {
            own_log::say(&problems.to_string());
            ExitCode::FAILURE
        }
    }
}

fn completions(shell: clap_complete::Shell) -> ExitCode {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "tollgate", &mut text);
    tell(format_args!("{}", String::from_utf8_lossy(&text)));
    ExitCode::SUCCESS
}

fn manual_pages(to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)
        .and_then(|()| clap_mangen::generate_to(Arguments::command(), to))
        .with_context(|| format!("can't write manual pages to {}", to.display()))
}

/// Parses the arguments, or ends the process. Error texts hide passwords in arguments.
fn arguments() -> Arguments {
    Arguments::try_parse().unwrap_or_else(|error| {
        if !error.use_stderr() {
            error.exit();
        }
        let rendered = error.render();
        let rendered = match std::io::stderr().is_terminal() {
            true => rendered.ansi().to_string(),
            false => rendered.to_string(),
        };
        eprint!("{}", values::hide(&rendered));
        exit(error.exit_code())
    })
}

/// Prints for people. A closed pipe (`| head`) is not an error.
fn tell(text: std::fmt::Arguments<'_>) {
    let _ = std::io::stdout().write_fmt(text);
}

/// Compares a config with the one that a proxy runs.
fn compare(file: &Path, admin: &str) -> ExitCode {
    match config::load(file) {
        Ok(plan) => exit_code(on_this_thread(reload::compare(&plan, admin)).flatten()),
        Err(problems) => {
            tell(format_args!("{problems}\n"));
            ExitCode::FAILURE
        }
    }
}

fn check(file: &Path, format: Format, question: Option<&Question>) -> ExitCode {
    let (plan, sources) = config::load_with_sources(file);
    let plan = match (plan, format) {
        (Ok(plan), _) => plan,
        (Err(problems), Format::Text) => {
            tell(format_args!("{problems}\n"));
            return ExitCode::FAILURE;
        }
        (Err(problems), Format::Json) => {
            tell(format_args!("{:#}\n", problems.to_json()));
            return ExitCode::FAILURE;
        }
    };
    match (question.map(|question| question.answers(&plan)), format) {
        (None, Format::Text) => {
            tell(format_args!("ok\n"));
            let hints = config::hints(&plan).into_iter().chain(sources.hints());
            hints.for_each(|hint| tell(format_args!("hint: {hint}\n")));
        }
        (None, Format::Json) => tell(format_args!("[]\n")),
        (Some(Ok(answers)), Format::Text) => tell(format_args!("{}", explain::text(&answers))),
        (Some(Ok(answers)), Format::Json) => tell(format_args!("{:#}\n", explain::json(&answers))),
        (Some(Err(wrong)), _) => usage(&wrong),
    }
    ExitCode::SUCCESS
}

/// Ends the process because the argument of `--explain` is wrong. Control codes are removed from the
/// error text.
fn usage(wrong: &str) -> ! {
    let wrong = format!("--explain: {}", config::printable(wrong));
    Arguments::command().error(ErrorKind::ValueValidation, wrong).exit()
}

fn done(result: anyhow::Result<()>) -> ExitCode {
    exit_code(result.map(|()| ExitCode::SUCCESS))
}

fn exit_code(result: anyhow::Result<ExitCode>) -> ExitCode {
    if let Err(error) = &result {
        own_log::say(&format!("tollgate: {}", values::hide(&format!("{error:#}"))));
    }
    own_log::end();
    result.unwrap_or(ExitCode::FAILURE)
}

fn on_this_thread<F: Future>(future: F) -> anyhow::Result<F::Output> {
    Ok(tokio::runtime::LocalRuntime::new()?.block_on(future))
}

/// Runs a config until it is drained.
fn run(config: StartConfig) -> ExitCode {
    done(run_until_drained(config))
}

fn run_until_drained(config: StartConfig) -> anyhow::Result<()> {
    own_log::begin("info")?;
    panics::watch();
    let activated = service_manager::activated_sockets(&config.plan);
    // Signals first: one may arrive as soon as the proxy reports ready.
    let control = signals::watch()?;
    let proxy = Proxy::start(StartConfig { activated, ..config })?;
    let _ = control.send(proxy.control());
    service_manager::ready();
    service_manager::start_reporter(proxy.vitals())?;
    proxy.wait()?;
    tracing::info!("drained");
    Ok(())
}

/// Everything in one process: services, the proxy before them, traffic, and a live table.
fn demonstrate(duration: Option<Duration>, admin: &str) -> anyhow::Result<()> {
    own_log::begin("error")?;
    let proxy = Proxy::start(demo::start_services(admin)?)?;
    let admin = proxy.admin().context("the demonstration has no admin interface")?;
    println!("demonstration services, the proxy before them, and traffic:");
    let until = CancellationToken::new();
    for service in demo::DemoService::ALL {
        let name = service.name();
        let address = proxy.listener(name).context("the demonstration has no listener")?;
        println!("  {name} at {address}");
        service.spawn_traffic(address, until.clone())?;
    }
    println!(
        "the page for browsers: http://{admin}/  (its paths, for scripts: http://{admin}/paths)"
    );
    let shown = on_this_thread(demo::show(admin, until, duration)).and_then(|shown| shown);
    proxy.control().drain();
    proxy.wait()?;
    shown
}
