//! Asks a rate-limit service about each operation.

mod client;

use super::{
    AttributeHasher, AttributeLookup, DescriptorEntryPlan, LimitDecision, PendingDecision,
    ServicePlan, StoreHealth,
    store_health::{StoreError, StoreFailure},
    store_socket::StoreSocket,
    thread::Inbox,
};
use client::{
    DescriptorEntry, OK, OVER_LIMIT, RateLimitClient, RateLimitDescriptor, RateLimitError,
    RateLimitRequest,
};
use std::{
    cell::RefCell,
    rc::{Rc, Weak},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::{mpsc::Receiver, oneshot},
    task::{JoinSet, spawn_local},
    time::{sleep, timeout},
};

/// The most operations in requests at a time.
const MAX_TRIPS: usize = 1024;

/// A limit that a service keeps.
pub(super) struct ServiceLimit {
    plan: Arc<ServicePlan>,
    hasher: AttributeHasher,
    health: Arc<StoreHealth>,
    inbox: Inbox<ServiceRequest>,
}

/// An operation that waits. If `answer` is dropped, the service is unreachable.
struct ServiceRequest {
    request: RateLimitRequest,
    answer: oneshot::Sender<LimitDecision>,
}

impl ServiceLimit {
    pub(super) fn new(
        plan: ServicePlan,
        hasher: AttributeHasher,
        health: Arc<StoreHealth>,
    ) -> Self {
        Self { plan: Arc::new(plan), hasher, health, inbox: Inbox::default() }
    }

    pub(super) fn take(
        &self,
        key: u64,
        attribute: &AttributeLookup<'_>,
        n: u64,
        now: Instant,
    ) -> PendingDecision {
        let Some(request) = self.request(attribute, n) else {
            return LimitDecision::Allowed.into();
        };
        let (answer, receiver) = oneshot::channel();
        if !self.health.may_ask() || !self.send(ServiceRequest { request, answer }) {
            return self.health.decide(key, n, now).into();
        }
        let health = Arc::clone(&self.health);
        PendingDecision::Later(Box::pin(async move {
            match timeout(health.timeout, receiver).await {
                Ok(Ok(answer)) => answer,
                _ => health.decide(key, n, Instant::now()),
            }
        }))
    }

    /// Reports an amount that was used already, without waiting for an answer.
    pub(super) fn spend(&self, key: u64, attribute: &AttributeLookup<'_>, n: u64, now: Instant) {
        let Some(request) = self.request(attribute, n) else { return };
        let (answer, _) = oneshot::channel();
        if !self.health.may_ask() || !self.send(ServiceRequest { request, answer }) {
            self.health.spend(key, n, now);
        }
    }

    /// The request to the service; `None` if no descriptor applies to the operation.
    fn request(&self, attribute: &AttributeLookup<'_>, n: u64) -> Option<RateLimitRequest> {
        let described = |one: &Vec<DescriptorEntryPlan>| descriptor(one, &self.hasher, attribute);
        let descriptors: Vec<_> = self.plan.descriptors.iter().filter_map(described).collect();
        let applies = !descriptors.is_empty() && n > 0;
        applies.then(|| RateLimitRequest {
            domain: self.plan.domain.clone(),
            descriptors,
            hits_addend: u32::try_from(n).unwrap_or(u32::MAX),
        })
    }

    fn send(&self, ask: ServiceRequest) -> bool {
        let (plan, health) = (Arc::clone(&self.plan), Arc::clone(&self.health));
        let sent = self.inbox.send(ask, || move |inbox| serve(plan, health, inbox)).is_ok();
        if !sent {
            self.health.failed(StoreFailure::Full, "too many operations ask");
        }
        sent
    }
}

/// An operation that lacks one of the attributes goes without the descriptor.
fn descriptor(
    entries: &[DescriptorEntryPlan],
    hasher: &AttributeHasher,
    attribute: &AttributeLookup<'_>,
) -> Option<RateLimitDescriptor> {
    let entry = |entry: &DescriptorEntryPlan| {
        let value = match &entry.value {
            Some(value) => value.to_string(),
            None => hasher.value(&entry.key, attribute(&entry.key)?).into_owned(),
        };
        Some(DescriptorEntry { key: entry.key.to_string(), value })
    };
    let entries = entries.iter().map(entry).collect::<Option<_>>()?;
    Some(RateLimitDescriptor { entries })
}

/// Runs until the last sender is dropped.
async fn serve(
    plan: Arc<ServicePlan>,
    health: Arc<StoreHealth>,
    mut inbox: Receiver<ServiceRequest>,
) {
    let task = Rc::new(ServiceTask { plan, health, client: RefCell::default() });
    let mut trips = JoinSet::new();
    loop {
        tokio::select! {
            ask = inbox.recv(), if trips.len() < MAX_TRIPS => match ask {
                Some(ask) => { trips.spawn_local(Rc::clone(&task).answer(ask)); }
                None => return,
            },
            Some(_) = trips.join_next() => {}
        }
    }
}

/// The state of the thread that sends requests to the service.
struct ServiceTask {
    plan: Arc<ServicePlan>,
    health: Arc<StoreHealth>,
    client: RefCell<Option<RateLimitClient>>,
}

impl ServiceTask {
    async fn answer(self: Rc<Self>, ask: ServiceRequest) {
        let began = Instant::now();
        let reply = match timeout(self.health.timeout, self.ask(ask.request)).await {
            Ok(reply) => reply,
            Err(_) => Err((StoreFailure::Timeout, "no answer in time".to_owned())),
        };
        match reply {
            Ok(answer) => {
                self.health.answered(answer == LimitDecision::Allowed, began.elapsed());
                let _ = ask.answer.send(answer);
            }
            Err((failure, error)) => {
                self.health.failed(failure, &error);
                if self.health.is_away() {
                    // A connection on which nothing comes back is not noticed by itself.
                    self.client.take();
                }
            }
        }
    }

    async fn ask(self: &Rc<Self>, request: RateLimitRequest) -> Result<LimitDecision, StoreError> {
        let response = self.client()?.should_rate_limit(request).await.map_err(store_error)?;
        match response.overall_code {
            OK => Ok(LimitDecision::Allowed),
            OVER_LIMIT => {
                Ok(LimitDecision::Limited(response.retry_after().filter(|it| *it > Duration::ZERO)))
            }
            code => Err((StoreFailure::Error, format!("the answer has the code {code}"))),
        }
    }

    /// Has later requests open another connection, since this one's certificate is about to expire.
    async fn close_after(service: Weak<Self>, lifetime: Duration) {
        sleep(lifetime).await;
        if let Some(service) = service.upgrade() {
            service.client.take();
        }
    }

    fn client(self: &Rc<Self>) -> Result<RateLimitClient, StoreError> {
        let mut client = self.client.borrow_mut();
        if client.is_none() {
            let ServicePlan { address, tls, .. } = &*self.plan;
            let socket = StoreSocket { address: address.clone(), tls: tls.clone() };
            if let Some(lifetime) = socket.lifetime() {
                spawn_local(Self::close_after(Rc::downgrade(self), lifetime));
            }
            *client = Some(RateLimitClient::new(socket).map_err(store_error)?);
        }
        client.clone().ok_or((StoreFailure::Unreachable, String::new()))
    }
}

fn store_error(error: RateLimitError) -> StoreError {
    match error {
        RateLimitError::Unreachable(error) => (StoreFailure::Unreachable, error),
        RateLimitError::Error(error) => (StoreFailure::Error, error),
    }
}
