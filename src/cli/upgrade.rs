//! SIGUSR2: the process starts its successor, which takes over the sockets and lets this one drain.

use crate::proxy::Control;
use anyhow::{Context as _, bail};
use std::{
    ffi::OsString,
    path::PathBuf,
    process::{Child, Command},
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    time::{Duration, Instant},
};

/// How long the next process may take to start, look-ups and health checks included.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// How often the next process is looked at.
const INTERVAL: Duration = Duration::from_millis(100);

/// The argument that makes the next process take over.
const UPGRADE: &str = "--upgrade";

/// Whether a next process is starting.
static STARTING: AtomicBool = AtomicBool::new(false);

/// Starts the program at the same path with the same arguments, and watches it. If it ends or hangs, this process goes
/// on. Does not block.
pub(super) fn start_next(control: &Control) {
    if STARTING.swap(true, SeqCst) {
        tracing::warn!("the next process is starting already");
        return;
    }
    let control = control.clone();
    let watch = move || {
        if let Err(error) = next(&control) {
            tracing::error!("the upgrade has failed, and this process goes on: {error:#}");
        }
        STARTING.store(false, SeqCst);
    };
    if let Err(error) = std::thread::Builder::new().name("upgrade".into()).spawn(watch) {
        tracing::error!(%error, "the upgrade has failed, and this process goes on");
        STARTING.store(false, SeqCst);
    }
}

fn next(control: &Control) -> anyhow::Result<()> {
    if !control.is_ready() {
        bail!("it drains");
    }
    if !control.can_be_upgraded() {
        bail!("no process can take over: set `upgrade_socket`, or a port for the admin interface");
    }
    if std::process::id() == 1 {
        bail!("a container ends with its first process: start another container instead");
    }
    let program = program()?;
    let mut child = Command::new(&program)
        .args(arguments())
        // The service manager expects signs of life of the next process too, and has passed it no sockets.
        .env_remove("WATCHDOG_PID")
        .env_remove("LISTEN_PID")
        .env_remove("LISTEN_FDS")
        .spawn()
        .with_context(|| format!("can't start {}", program.display()))?;
    tracing::info!(process = child.id(), program = %program.display(), "the next process starts");
    watch(&mut child, control)
}

/// Waits until the next process has taken over.
fn watch(child: &mut Child, control: &Control) -> anyhow::Result<()> {
    let end = Instant::now() + START_TIMEOUT;
    while !control.is_replaced() {
        if let Some(status) = child.try_wait()? {
            bail!("the next process has ended before it took over ({status}): its log says why");
        }
        if Instant::now() >= end {
            child.kill()?;
            child.wait()?;
            bail!("the next process has not started within {START_TIMEOUT:?}, and was killed");
        }
        std::thread::park_timeout(INTERVAL);
    }
    Ok(())
}

/// The path of this program, where a new version may be by now.
fn program() -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe().context("can't find the program")?;
    // The kernel's word for a file that was replaced.
    let text = path.to_string_lossy();
    Ok(text.strip_suffix(" (deleted)").map_or(path.clone(), PathBuf::from))
}

/// This process's arguments, so that the next one upgrades it.
fn arguments() -> Vec<OsString> {
    let mut arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if !arguments.iter().any(|it| it == UPGRADE) {
        arguments.push(UPGRADE.into());
    }
    arguments
}
