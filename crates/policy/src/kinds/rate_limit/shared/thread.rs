//! The thread that talks to a store: workers neither wait for it nor hold a socket of its own.

use std::sync::OnceLock;
use tokio::{
    runtime::LocalRuntime,
    sync::mpsc::{Receiver, Sender, channel},
};

/// How many questions may wait for the thread.
const WAITING: usize = 1024;

/// The thread's inbox. It starts with the first message, and ends once this is dropped.
pub(super) struct Inbox<M>(OnceLock<Option<Sender<M>>>);

impl<M> Default for Inbox<M> {
    fn default() -> Self {
        Self(OnceLock::new())
    }
}

impl<M: Send + 'static> Inbox<M> {
    /// Hands a message over, or gives it back if too many wait. `serve` makes what the thread
    /// does with them.
    pub(super) fn send<S, F>(&self, message: M, serve: impl FnOnce() -> S) -> Result<(), M>
    where
        S: FnOnce(Receiver<M>) -> F + Send + 'static,
        F: Future<Output = ()>,
    {
        match self.0.get_or_init(|| start(serve())) {
            Some(sender) => sender.try_send(message).map_err(|error| error.into_inner()),
            None => Err(message),
        }
    }
}

fn start<M: Send + 'static, F: Future<Output = ()>>(
    serve: impl FnOnce(Receiver<M>) -> F + Send + 'static,
) -> Option<Sender<M>> {
    let (sender, inbox) = channel(WAITING);
    let run = move || match LocalRuntime::new() {
        Ok(runtime) => runtime.block_on(serve(inbox)),
        Err(error) => tracing::error!(%error, "can't talk to the store of a shared limit"),
    };
    let thread = std::thread::Builder::new().name("shared-limit".into()).spawn(run);
    let started = thread.inspect_err(
        |error| tracing::error!(%error, "can't start the thread that asks a shared limit"),
    );
    started.ok().map(|_| sender)
}
