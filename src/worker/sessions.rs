//! Asks all workers: for their open connections or their number, and for the query shapes that they have
//! counted.

use super::Message;
use crate::connection::session_info::{SessionQuery, SessionReport};
use shapes::{ShapeOrder, ShapeReport, SharedShapes, WorkerReport};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::mpsc::{UnboundedSender, unbounded_channel},
    time::timeout,
};

/// How long a worker may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// The inboxes of all workers. Cheap to clone.
#[derive(Clone, Default)]
struct Inboxes(Arc<[UnboundedSender<Message>]>);

/// The open connections of all workers. Cheap to clone.
#[derive(Clone, Default)]
pub struct Sessions(Inboxes);

/// The number of open connections of all workers.
#[derive(Clone, Default)]
pub struct ConnectionCounts(Inboxes);

/// The query shapes that all workers have counted. Cheap to clone.
#[derive(Clone)]
pub struct QueryShapes {
    inboxes: Inboxes,
    /// What the workers share.
    pub shared: Arc<SharedShapes>,
}

/// A worker has not answered in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerTimeout;

impl Sessions {
    /// The connections of the workers with these inboxes.
    pub fn new(inboxes: &[UnboundedSender<Message>]) -> Self {
        Self(Inboxes(inboxes.into()))
    }

    /// Lists the selected connections.
    ///
    /// # Errors
    /// A worker has not answered in time.
    pub async fn list(&self, query: &SessionQuery) -> Result<Vec<SessionReport>, WorkerTimeout> {
        let reports = self.0.ask(|answer| Message::ListSessions(query.clone(), answer)).await?;
        Ok(query.merge(reports.into_iter().flatten().collect()))
    }

    /// Closes the connection with this id. Returns whether it exists.
    ///
    /// # Errors
    /// A worker has not answered in time.
    pub async fn kill(&self, id: u64) -> Result<bool, WorkerTimeout> {
        Ok(self.0.ask(|answer| Message::KillSession(id, answer)).await?.contains(&true))
    }
}

impl ConnectionCounts {
    /// Those of the workers with these inboxes.
    pub fn new(inboxes: &[UnboundedSender<Message>]) -> Self {
        Self(Inboxes(inboxes.into()))
    }

    /// Counts the open connections.
    ///
    /// # Errors
    /// A worker has not answered in time.
    pub async fn total(&self) -> Result<usize, WorkerTimeout> {
        Ok(self.0.ask(Message::CountConnections).await?.into_iter().sum())
    }
}

impl QueryShapes {
    /// The shapes of the workers with these inboxes, which share this.
    pub fn new(inboxes: &[UnboundedSender<Message>], shared: Arc<SharedShapes>) -> Self {
        Self { inboxes: Inboxes(inboxes.into()), shared }
    }

    /// The shapes of all workers: at most `limit`, in this order.
    ///
    /// # Errors
    /// A worker has not answered in time.
    pub async fn list(
        &self,
        order: ShapeOrder,
        limit: usize,
    ) -> Result<ShapeReport, WorkerTimeout> {
        let workers: Vec<WorkerReport> = self.inboxes.ask(Message::ListShapes).await?;
        Ok(ShapeReport::merge(workers, order, limit))
    }

    /// Forgets all shapes and findings.
    ///
    /// # Errors
    /// A worker has not answered in time.
    pub async fn reset(&self) -> Result<(), WorkerTimeout> {
        self.inboxes.ask(Message::ResetShapes).await?;
        self.shared.reset();
        Ok(())
    }
}

impl Inboxes {
    /// Sends a question to all workers, and waits for their answers.
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
