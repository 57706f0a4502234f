//! Queries all workers for their open connections.

use super::Message;
use crate::connection::session_info::{SessionQuery, SessionReport};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::mpsc::{UnboundedSender, unbounded_channel},
    time::timeout,
};

/// How long a worker may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// The open connections of all workers. Cheap to clone.
#[derive(Clone, Default)]
pub struct Sessions(Arc<[UnboundedSender<Message>]>);

/// A worker has not answered in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerTimeout;

impl Sessions {
    /// The connections of the workers with these inboxes.
    pub fn new(inboxes: &[UnboundedSender<Message>]) -> Self {
        Self(inboxes.into())
    }

    /// Lists the selected connections.
    ///
    /// # Errors
    /// A worker has not answered in time.
    pub async fn list(&self, query: &SessionQuery) -> Result<Vec<SessionReport>, WorkerTimeout> {
        let reports = self.ask(|answer| Message::ListSessions(query.clone(), answer)).await?;
        Ok(query.merge(reports.into_iter().flatten().collect()))
    }

    /// Closes the connection with this id. Returns whether it exists.
    ///
    /// # Errors
    /// A worker has not answered in time.
    pub async fn kill(&self, id: u64) -> Result<bool, WorkerTimeout> {
        Ok(self.ask(|answer| Message::KillSession(id, answer)).await?.contains(&true))
    }

    async fn ask<T>(
        &self,
        question: impl Fn(UnboundedSender<T>) -> Message,
    ) -> Result<Vec<T>, WorkerTimeout> {
        let (answer, mut answers) = unbounded_channel();
        // A worker that has ended has no connections and drops the message.
        self.0.iter().for_each(|inbox| drop(inbox.send(question(answer.clone()))));
        drop(answer);
        let mut all = Vec::new();
        let asked = timeout(ANSWER_TIMEOUT, async {
            while let Some(one) = answers.recv().await {
                all.push(one);
            }
        });
        asked.await.map_err(|_| WorkerTimeout)?;
        Ok(all)
    }
}
