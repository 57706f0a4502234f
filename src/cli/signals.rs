//! Signal handling. No signal ends the process before it has drained, except a second stop signal.

use super::{on_this_thread, upgrade};
use crate::{own_log, proxy::Control, reload::ReloadTrigger};
use anyhow::Context;
use std::{io, pin::pin, process::exit, sync::mpsc::channel, time::Duration};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
    time::timeout,
};

/// How long to wait for a starting proxy after a stop signal.
const STARTUP_WAIT: Duration = Duration::from_secs(1);

/// The error of a process that can't catch signals.
const NO_SIGNALS: &str =
    "can't watch for signals: if descriptors ran out, raise their limit (ulimit -n, LimitNOFILE=)";

/// Catches signals from now on, and handles them once there is a proxy to drain.
///
/// # Errors
/// When the thread can't start, or signals can't be caught.
pub(super) fn watch() -> anyhow::Result<oneshot::Sender<Control>> {
    let (control, given) = oneshot::channel();
    let (caught, outcome) = channel();
    let run = move || {
        let watched = on_this_thread(async {
            let signals = Signals::catch();
            let failed = signals.as_ref().err().map(io::Error::kind);
            let _ = caught.send(failed.map_or(Ok(()), Err));
            if let Ok(signals) = signals {
                signals.handle(given).await;
            }
        });
        if let Err(error) = watched {
            tracing::error!(%error, "can't watch for signals");
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(run)?;
    let caught = outcome.recv().map_err(anyhow::Error::from);
    caught.and_then(|caught| Ok(caught.map_err(io::Error::from)?)).context(NO_SIGNALS)?;
    Ok(control)
}

/// The signals that are handled.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hang_up: Signal,
    user_1: Signal,
    user_2: Signal,
    file_size: Signal,
}

/// The action that a signal requests, with the signal's name.
enum SignalAction {
    Stop(&'static str),
    Reload(&'static str),
    Reopen(&'static str),
    Upgrade(&'static str),
    Nothing,
}

impl Signals {
    fn catch() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hang_up: signal(SignalKind::hangup())?,
            user_1: signal(SignalKind::user_defined1())?,
            user_2: signal(SignalKind::user_defined2())?,
            file_size: signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?,
        })
    }

    async fn next(&mut self) -> SignalAction {
        tokio::select! {
            _ = self.terminate.recv() => SignalAction::Stop("SIGTERM"),
            _ = self.interrupt.recv() => SignalAction::Stop("SIGINT"),
            _ = self.quit.recv() => SignalAction::Stop("SIGQUIT"),
            _ = self.hang_up.recv() => SignalAction::Reload("SIGHUP"),
            _ = self.user_1.recv() => SignalAction::Reopen("SIGUSR1"),
            _ = self.user_2.recv() => SignalAction::Upgrade("SIGUSR2"),
            // A log has reached a size limit of the process; the write reports it too.
            _ = self.file_size.recv() => SignalAction::Nothing,
        }
    }

    async fn handle(mut self, given: oneshot::Receiver<Control>) {
        let mut given = pin!(given);
        let (mut stopping, mut reload) = (false, false);
        let control = loop {
            let action = tokio::select! {
                biased;
                control = &mut given => break control,
                action = self.next() => action,
            };
            let SignalAction::Stop(signal) = action else {
                // It may have changed since the proxy has read it.
                reload |= matches!(action, SignalAction::Reload(_));
                continue;
            };
            // A client that sees the proxy ready may send a signal before the control arrives here.
            match timeout(STARTUP_WAIT, &mut given).await {
                Ok(Ok(control)) => {
                    control.drain();
                    stopping = true;
                    break Ok(control);
                }
                Ok(none) => break none,
                Err(_) => {
                    tracing::warn!(signal, "stop signal during startup: the proxy exits");
                    exit_now();
                }
            }
        };
        // The startup failed, and the process ends by itself.
        let Ok(control) = control else { return };
        if reload {
            control.reload(ReloadTrigger::Signal);
        }
        loop {
            let action = self.next().await;
            act(&action, &control, &mut stopping);
        }
    }
}

/// Does what a signal requests of a running proxy.
fn act(action: &SignalAction, control: &Control, stopping: &mut bool) {
    match *action {
        SignalAction::Reopen(signal) => {
            tracing::info!(signal, "reopening logs");
            control.reopen_logs();
        }
        SignalAction::Reload(signal) => {
            tracing::info!(signal, "reading the config again");
            control.reload(ReloadTrigger::Signal);
        }
        SignalAction::Upgrade(signal) => {
            tracing::info!(signal, "starting the next process");
            upgrade::start_next(control);
        }
        SignalAction::Nothing => {}
        SignalAction::Stop(signal) if !*stopping => {
            *stopping = true;
            if control.is_ready() {
                control.drain();
            } else {
                tracing::info!(
                    signal,
                    "draining already; the next signal ends the process at once"
                );
            }
        }
        SignalAction::Stop(signal) if control.skip_wait() => {
            tracing::warn!(signal, "second signal: the drain begins now");
        }
        SignalAction::Stop(signal) => {
            tracing::warn!(signal, "second signal: the proxy exits at once");
            exit_now();
        }
    }
}

fn exit_now() -> ! {
    own_log::end();
    exit(0);
}
