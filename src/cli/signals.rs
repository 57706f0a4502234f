//! Signals, each of which means something: none ends the process before it has drained, but for the
//! second one that asks it to stop.

use super::on_this_thread;
use crate::{own_log, proxy::Control};
use anyhow::Context;
use std::{io, pin::pin, process::exit, sync::mpsc::channel, time::Duration};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
    time::timeout,
};

/// How long to wait for a starting proxy after a stop signal.
const BEGIN: Duration = Duration::from_secs(1);

/// The error of a process that can't catch signals.
const NO_SIGNALS: &str =
    "can't watch for signals: if descriptors ran out, raise their limit (ulimit -n, LimitNOFILE=)";

/// What is said of a signal that other servers reload by.
const NO_RELOAD: &str = "this version can't reload: restart to change the config. \
                         SIGUSR1 opens logs anew, SIGTERM drains";

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
                signals.obey(given).await;
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

/// The signals that mean something.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hang_up: Signal,
    user_1: Signal,
    user_2: Signal,
    file_size: Signal,
}

/// What a signal asks for, and the signal's name.
enum Asks {
    Stop(&'static str),
    Reload(&'static str),
    Reopen(&'static str),
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

    async fn next(&mut self) -> Asks {
        tokio::select! {
            _ = self.terminate.recv() => Asks::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Asks::Stop("SIGINT"),
            _ = self.quit.recv() => Asks::Stop("SIGQUIT"),
            _ = self.hang_up.recv() => Asks::Reload("SIGHUP"),
            _ = self.user_1.recv() => Asks::Reopen("SIGUSR1"),
            _ = self.user_2.recv() => Asks::Reload("SIGUSR2"),
            // A log has reached a size limit of the process; the write reports it too.
            _ = self.file_size.recv() => Asks::Nothing,
        }
    }

    async fn obey(mut self, given: oneshot::Receiver<Control>) {
        let mut given = pin!(given);
        let mut stopping = false;
        let control = loop {
            let asks = tokio::select! {
                biased;
                control = &mut given => break control,
                asks = self.next() => asks,
            };
            let Asks::Stop(signal) = asks else { continue };
            // Who sees it ready may say so just before it is known here what there is to drain.
            match timeout(BEGIN, &mut given).await {
                Ok(Ok(control)) => {
                    control.drain();
                    stopping = true;
                    break Ok(control);
                }
                Ok(none) => break none,
                Err(_) => {
                    tracing::warn!(signal, "leaving before all has begun");
                    leave();
                }
            }
        };
        // It could not begin, and ends by itself.
        let Ok(control) = control else { return };
        loop {
            match self.next().await {
                Asks::Reopen(signal) => {
                    tracing::info!(signal, "opening logs anew");
                    control.reopen_logs();
                }
                Asks::Reload(signal) => tracing::warn!(signal, "{NO_RELOAD}"),
                Asks::Nothing => {}
                Asks::Stop(signal) if !stopping => {
                    stopping = true;
                    if control.is_ready() {
                        control.drain();
                    } else {
                        tracing::info!(signal, "draining already; the next signal cuts it short");
                    }
                }
                Asks::Stop(signal) if control.end_wait() => {
                    tracing::warn!(signal, "second signal: the drain begins now");
                }
                Asks::Stop(signal) => {
                    tracing::warn!(signal, "second signal: leaving at once");
                    leave();
                }
            }
        }
    }
}

fn leave() -> ! {
    own_log::end();
    exit(0);
}
