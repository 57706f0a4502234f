//! A rate limit that machines share, on one worker, for one listener.

use super::{
    Plan,
    shared::{LimitDecision, PendingDecision, SharedLimitClient, StorePlan},
};
use crate::{
    Decision, PolicyEnv, Rule, SeriesPolicy, Settled, WorkerPolicy,
    key::{KeyHasher, KeyPart},
    series::SeriesKey,
};
use operation::{AttributeValue, Attributes, Operation, Rejection};
use std::{
    borrow::Cow,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time;

/// The value of what is not known.
const UNKNOWN: &str = "?";

/// A rate limit that machines share, on one worker, for one listener.
pub(super) struct SharedLimit {
    listener: Arc<str>,
    own: Rc<SharedLimitState>,
}

/// What all series have in common.
struct SharedLimitState {
    plan: Arc<Plan>,
    client: SharedLimitClient,
    rejection: Rejection,
    /// The attributes that are sent to the store.
    attributes: Vec<Box<str>>,
}

impl SharedLimit {
    pub(super) fn new(
        plan: &Arc<Plan>,
        client: SharedLimitClient,
        rule: &Rule,
        from: &PolicyEnv,
    ) -> Self {
        let own = SharedLimitState {
            plan: Arc::clone(plan),
            client,
            rejection: plan.rejection(&rule.name),
            attributes: store_attributes(plan).iter().map(|name| (**name).into()).collect(),
        };
        Self { listener: Arc::clone(&from.listener), own: Rc::new(own) }
    }
}

/// The names of the attributes that are sent to the store.
pub(super) fn store_attributes(plan: &Plan) -> Vec<Cow<'_, str>> {
    match plan.shared.as_ref().map(|shared| &shared.store) {
        Some(StorePlan::Service(service)) => {
            let entries = service.descriptors.iter().flatten();
            entries
                .filter(|entry| entry.value.is_none())
                .map(|entry| Cow::Borrowed(&*entry.key))
                .collect()
        }
        Some(StorePlan::Redis(_)) | None => plan.key_spec.names(),
    }
}

impl WorkerPolicy for SharedLimit {
    fn bind(&self, key: &SeriesKey) -> Option<Box<dyn SeriesPolicy>> {
        Some(Box::new(SharedLimitSeries {
            key_hasher: self.own.plan.key_spec.hasher(&self.listener, key),
            listener: Arc::clone(&self.listener),
            key: key.clone(),
            own: Rc::clone(&self.own),
        }))
    }
}

/// The limit as it applies to one series.
struct SharedLimitSeries {
    key_hasher: KeyHasher,
    listener: Arc<str>,
    key: SeriesKey,
    own: Rc<SharedLimitState>,
}

impl SeriesPolicy for SharedLimitSeries {
    fn admit(&self, operation: &Operation<'_>, now: Instant, state: &mut u64) -> Decision {
        // What waits by design is no load, and drivers that lose it take the service for lost.
        if operation.long_poll {
            return Decision::Admit;
        }
        let SharedLimitState { plan, client, .. } = &*self.own;
        let key = self.key_hasher.key(operation);
        *state = key;
        let attribute = |name: &str| self.attribute(name, operation.attributes, operation.head);
        // Of documents and bytes one is taken now, and the rest when it is known.
        let taken = client.take(key, &attribute, 1, now);
        if matches!(taken, PendingDecision::Now(LimitDecision::Allowed)) {
            return Decision::Admit;
        }
        if plan.over.delays_operation(operation) {
            let names = self.own.attributes.iter();
            let attributes = names.map(|name| attribute(name).map(Cow::into_owned)).collect();
            let own = Rc::clone(&self.own);
            let turn = DelayedOperation { own, key, attributes, until: now + plan.max_delay };
            return Decision::Pending(Box::pin(turn.comes(taken)));
        }
        match taken {
            PendingDecision::Now(answer) => self.own.decision(answer),
            PendingDecision::Later(answer) => {
                let own = Rc::clone(&self.own);
                Decision::Pending(Box::pin(async move { own.decision(answer.await) }))
            }
        }
    }

    fn settle(&self, done: &Settled<'_>, state: u64) {
        let rest = self.own.plan.unit.paid_after(done.how).saturating_sub(1);
        if rest > 0 && !done.long_poll {
            let attribute = |name: &str| self.attribute(name, done.how.attributes, done.front);
            self.own.client.spend(state, &attribute, rest, done.how.now);
        }
    }
}

impl SharedLimitSeries {
    /// The value of this part of a key or a descriptor.
    fn attribute<'a>(
        &'a self,
        name: &str,
        attributes: &'a dyn Attributes,
        front: &'a [u8],
    ) -> Option<Cow<'a, str>> {
        match KeyPart::named(name) {
            // The same on every machine, whether its listener is of IPv4 or of both.
            KeyPart::Peer(prefix) => Some(prefix.text(attributes.peer()?).into()),
            KeyPart::Listener => Some(Cow::Borrowed(&*self.listener)),
            KeyPart::Protocol => Some(Cow::Borrowed(self.key.protocol.name)),
            KeyPart::Operation => Some(Cow::Borrowed(&*self.key.name)),
            KeyPart::Resource => Some(Cow::Borrowed(&*self.key.resource)),
            KeyPart::Attribute(name) => match attributes.get(front, &name) {
                // Operations about which it is not known share one allowance, and so do those
                // that are about several things.
                AttributeValue::Multiple(_) | AttributeValue::Unread | AttributeValue::Unknown => {
                    Some(Cow::Borrowed(UNKNOWN))
                }
                fact => fact.text(),
            },
        }
    }
}

impl SharedLimitState {
    fn decision(&self, answer: LimitDecision) -> Decision {
        match answer {
            LimitDecision::Allowed => Decision::Admit,
            LimitDecision::Limited(retry) => Decision::Reject(self.rejection_after(retry)),
        }
    }

    /// The error has the whole wait as its minimum, if that is known. Otherwise it has none: a
    /// share of a flooded limit is free within milliseconds, and a client's own default is better
    /// than a retry at that time.
    fn rejection_after(&self, retry: Option<Duration>) -> Rejection {
        let mut rejection = self.rejection.clone();
        rejection.retry_after = rejection.retry_after.and_then(|least| Some(least).max(retry));
        rejection
    }
}

/// An operation that is delayed. No place is reserved for it: it asks again when there may be
/// more, as do those of other machines, and is rejected when that is too late.
struct DelayedOperation {
    own: Rc<SharedLimitState>,
    key: u64,
    /// The values of [`SharedLimitState::attributes`], in their order.
    attributes: Vec<Option<String>>,
    until: Instant,
}

impl DelayedOperation {
    async fn comes(self, first: PendingDecision) -> Decision {
        let (mut taken, mut waited) = (first, false);
        loop {
            let answer = match taken {
                PendingDecision::Now(answer) => answer,
                PendingDecision::Later(answer) => answer.await,
            };
            let retry = match answer {
                LimitDecision::Allowed if waited => return Decision::waited(),
                LimitDecision::Allowed => return Decision::Admit,
                LimitDecision::Limited(retry) => retry,
            };
            let again = retry.map(|retry| time::Instant::now() + retry);
            let Some(again) = again.filter(|again| again.into_std() <= self.until) else {
                return Decision::Reject(self.own.rejection_after(retry));
            };
            time::sleep_until(again).await;
            waited = true;
            let now = time::Instant::now().into_std();
            taken = self.own.client.take(self.key, &|name| self.fact(name), 1, now);
        }
    }

    fn fact(&self, name: &str) -> Option<Cow<'_, str>> {
        let place = self.own.attributes.iter().position(|known| **known == *name)?;
        self.attributes.get(place)?.as_deref().map(Cow::Borrowed)
    }
}
