//! Asks a rate-limit service about each operation.

use super::{
    Answer, Attribute, Entry, Names, PendingDecision, ServicePlan, StoreHealth,
    store_health::Failure, thread::Inbox,
};
use crate::rate_limit_service::{
    Client, DescriptorEntry, Failure as Trouble, OK, OVER_LIMIT, RateLimitDescriptor,
    RateLimitRequest,
};
use std::{
    cell::RefCell,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::{mpsc::Receiver, oneshot},
    task::JoinSet,
    time::timeout,
};

/// How many operations are asked about at once.
const MAX_TRIPS: usize = 1024;

/// A limit that a service keeps.
pub(super) struct Service {
    plan: Arc<ServicePlan>,
    names: Names,
    health: Arc<StoreHealth>,
    inbox: Inbox<ServiceRequest>,
}

/// An operation that waits. The answer that never comes is that the service can't be asked.
struct ServiceRequest {
    request: RateLimitRequest,
    answer: oneshot::Sender<Answer>,
}

impl Service {
    pub(super) fn new(plan: ServicePlan, names: Names, health: Arc<StoreHealth>) -> Self {
        Self { plan: Arc::new(plan), names, health, inbox: Inbox::default() }
    }

    pub(super) fn take(
        &self,
        key: u64,
        attribute: &Attribute<'_>,
        n: u64,
        now: Instant,
    ) -> PendingDecision {
        let Some(request) = self.request(attribute, n) else { return Answer::Yes.into() };
        let (answer, told) = oneshot::channel();
        if !self.health.may_ask() || !self.send(ServiceRequest { request, answer }) {
            return self.health.decide(key, n, now).into();
        }
        let health = Arc::clone(&self.health);
        PendingDecision::Later(Box::pin(async move {
            match timeout(health.timeout, told).await {
                Ok(Ok(answer)) => answer,
                _ => health.decide(key, n, Instant::now()),
            }
        }))
    }

    /// Reports an amount that was used already, without waiting for an answer.
    pub(super) fn spend(&self, key: u64, attribute: &Attribute<'_>, n: u64, now: Instant) {
        let Some(request) = self.request(attribute, n) else { return };
        let (answer, _) = oneshot::channel();
        if !self.health.may_ask() || !self.send(ServiceRequest { request, answer }) {
            self.health.spend(key, n, now);
        }
    }

    /// What the service is asked; `None` if nothing that it limits applies to the operation.
    fn request(&self, attribute: &Attribute<'_>, n: u64) -> Option<RateLimitRequest> {
        let described = |one: &Vec<Entry>| descriptor(one, &self.names, attribute);
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
            self.health.failed(Failure::Full, "too many operations ask");
        }
        sent
    }
}

/// An operation that lacks one of the attributes goes without the descriptor.
fn descriptor(
    entries: &[Entry],
    names: &Names,
    attribute: &Attribute<'_>,
) -> Option<RateLimitDescriptor> {
    let entry = |entry: &Entry| {
        let value = match &entry.value {
            Some(value) => value.to_string(),
            None => names.value(&entry.key, attribute(&entry.key)?).into_owned(),
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
    let asker = Rc::new(Asker { plan, health, client: RefCell::default() });
    let mut trips = JoinSet::new();
    loop {
        tokio::select! {
            ask = inbox.recv(), if trips.len() < MAX_TRIPS => match ask {
                Some(ask) => { trips.spawn_local(Rc::clone(&asker).answer(ask)); }
                None => return,
            },
            Some(_) = trips.join_next() => {}
        }
    }
}

/// The service, as the thread that asks it has it.
struct Asker {
    plan: Arc<ServicePlan>,
    health: Arc<StoreHealth>,
    client: RefCell<Option<Client>>,
}

impl Asker {
    async fn answer(self: Rc<Self>, ask: ServiceRequest) {
        let began = Instant::now();
        let told = match timeout(self.health.timeout, self.ask(ask.request)).await {
            Ok(told) => told,
            Err(_) => Err((Failure::Timeout, "no answer in time".to_owned())),
        };
        match told {
            Ok(answer) => {
                self.health.answered(answer == Answer::Yes, began.elapsed());
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

    async fn ask(&self, request: RateLimitRequest) -> Result<Answer, (Failure, String)> {
        let response = self.client()?.should_rate_limit(request).await.map_err(trouble)?;
        match response.overall_code {
            OK => Ok(Answer::Yes),
            OVER_LIMIT => Ok(Answer::No(response.retry_after().filter(|it| *it > Duration::ZERO))),
            code => Err((Failure::Error, format!("the answer has the code {code}"))),
        }
    }

    fn client(&self) -> Result<Client, (Failure, String)> {
        let mut client = self.client.borrow_mut();
        if client.is_none() {
            *client = Some(Client::new(&self.plan.address).map_err(trouble)?);
        }
        client.clone().ok_or((Failure::Unreachable, String::new()))
    }
}

fn trouble(trouble: Trouble) -> (Failure, String) {
    match trouble {
        Trouble::Unreachable(error) => (Failure::Unreachable, error),
        Trouble::Error(error) => (Failure::Error, error),
    }
}
