//! Cutover: a cluster is paused, points to another service from then on, and resumes.
//!
//! While a cluster is paused, new operations and new connections wait. What is under way ends first, and so
//! do transactions and cursors: their operations go on until the pause has drained the cluster. Nothing here
//! is on the path of an operation: pools follow the pause in a task of their own.
//!
//! - `state`: the pause, as those see it that it holds back
//! - `drain`: waits until nothing is under way at the endpoints
//! - `switch`: replaces the endpoints, once those to come were reached
//! - `successor`: asks the endpoints to come whether they can serve
//! - `own_connection`, `pause_error`: what can't be held back, and what waits no longer

mod drain;
mod own_connection;
mod pause_error;
mod state;
mod successor;
mod switch;

pub use drain::{PauseOptions, PauseReport, PausedWork};
pub(crate) use own_connection::OwnConnection;
pub use pause_error::{NotPaused, PauseError};
pub(crate) use state::{Cutover, Hold};
pub use switch::{SwitchError, SwitchReport, SwitchTarget};

use crate::{
    Cluster, ConnectError, ListenerRegistration,
    events::{CutoverStep, Event},
    report::tenth,
};
use operation::{HandshakeConfig, OpenStateCounts};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::time::{self, Instant};

impl Cluster {
    /// Adds a listener whose operations share the cluster's connections, until the result is dropped.
    pub fn add_listener(&self, listener: Arc<dyn HandshakeConfig>) -> ListenerRegistration {
        self.cutover.listeners.add(listener)
    }

    /// Waits for the end of a pause, at most as long as a client waits for a connection. Ready at once if
    /// there is no pause.
    ///
    /// # Errors
    /// The pause goes on, or too many wait.
    pub async fn wait_while_paused(&self) -> Result<(), ConnectError> {
        if !self.cutover.is_paused() {
            return Ok(());
        }
        let plan = self.plan();
        let breaker = &plan.circuit_breaker;
        let failed = |refused| ConnectError::Paused { cluster: self.name.clone(), refused };
        let waiting = self.cutover.waiting();
        if waiting >= breaker.max_pending {
            return Err(failed(PauseError::QueueFull(waiting)));
        }
        let _waiting = self.cutover.begin_waiting();
        let mut pauses = self.cutover.subscribe();
        let ended = pauses.wait_for(Option::is_none);
        let ended = time::timeout(breaker.pending_timeout, ended).await;
        ended.map(|_| ()).map_err(|_| failed(PauseError::TimedOut(breaker.pending_timeout)))
    }

    /// Ends a pause. Returns how long it has lasted.
    ///
    /// # Errors
    /// The cluster is not paused.
    pub fn resume(&self) -> Result<Duration, NotPaused> {
        let lasted = self.cutover.end().ok_or_else(|| NotPaused(self.name.clone()))?;
        let reason = format!("an operator said so, after {:.1} s", lasted.as_secs_f64());
        self.events.report(&Event::Cutover { step: CutoverStep::Resumed, reason: &reason });
        Ok(lasted)
    }

    /// Ends pauses that no operator has ended in time, until dropped.
    pub async fn end_forgotten_pauses(self: Arc<Self>) {
        let mut pauses = self.cutover.subscribe();
        loop {
            let until = pauses.borrow_and_update().map(|pause| pause.until);
            let expired = async {
                match until {
                    Some(until) => time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = pauses.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = expired => {
                    if let Some(lasted) = self.cutover.end() {
                        self.cutover.count_expired();
                        self.report_expired(lasted);
                    }
                }
            }
        }
    }

    fn report_expired(&self, lasted: Duration) {
        let target = self.cutover.switched_to();
        let target = target.map_or("what the config says".to_owned(), |to| (*to).clone());
        let reason = format!(
            "no operator has ended the pause for {:.1} s (resume_after): operations go to {target}",
            lasted.as_secs_f64()
        );
        self.events.report(&Event::Cutover { step: CutoverStep::Expired, reason: &reason });
    }

    /// What clients have open at the service, over all listeners.
    fn open_states(&self) -> OpenStateCounts {
        let listeners = self.cutover.listeners.lock();
        listeners.iter().map(|it| it.open_states()).fold(OpenStateCounts::default(), |a, b| a + b)
    }

    /// The pause and the last switch, for the admin interface.
    pub(crate) fn cutover_report(&self) -> (Value, Value) {
        (self.cutover.report(), json!(self.cutover.switched_to().as_deref()))
    }

    /// A line about the pause, for people.
    pub(crate) fn pause_words(&self) -> Option<String> {
        let pause = self.cutover.current()?;
        let waiting = self.cutover.waiting();
        let left = tenth(pause.until.saturating_duration_since(Instant::now()).as_secs_f64());
        Some(format!("PAUSED: {waiting} wait, resumes by itself in {left} s"))
    }
}

#[cfg(test)]
mod tests;
