//! A rate limit that machines share, on one worker, for one listener.

use super::{
    Plan,
    shared::{Answer, PendingDecision, SharedLimitClient, Store},
};
use crate::{
    policy::{
        Decision, PolicyEnv, Rule, SeriesPolicy, Settled, WorkerPolicy,
        key::{KeyHasher, KeyPart},
    },
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
    hand: SharedLimitClient,
    no: Rejection,
    /// The attributes that are sent to the store.
    facts: Vec<Box<str>>,
}

impl SharedLimit {
    pub(super) fn new(
        plan: &Arc<Plan>,
        hand: SharedLimitClient,
        rule: &Rule,
        from: &PolicyEnv,
    ) -> Self {
        let own = SharedLimitState {
            plan: Arc::clone(plan),
            hand,
            no: plan.no(&rule.name),
            facts: facts(plan).iter().map(|name| (**name).into()).collect(),
        };
        Self { listener: Arc::clone(&from.listener), own: Rc::new(own) }
    }
}

/// The names of the attributes that the store may want to know.
pub(super) fn facts(plan: &Plan) -> Vec<Cow<'_, str>> {
    match plan.shared.as_ref().map(|shared| &shared.store) {
        Some(Store::Service(service)) => {
            let entries = service.descriptors.iter().flatten();
            entries
                .filter(|entry| entry.value.is_none())
                .map(|entry| Cow::Borrowed(&*entry.key))
                .collect()
        }
        Some(Store::Redis(_)) | None => plan.key_spec.names(),
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
    fn admit(&self, operation: &Operation<'_>, now: Instant, memo: &mut u64) -> Decision {
        // What waits by design is no load, and drivers that lose it take the service for lost.
        if operation.long_poll {
            return Decision::Admit;
        }
        let SharedLimitState { plan, hand, .. } = &*self.own;
        let key = self.key_hasher.key(operation);
        *memo = key;
        let attribute = |name: &str| self.attribute(name, operation.attributes, operation.head);
        // Of documents and bytes one is taken now, and the rest when it is known.
        let taken = hand.take(key, &attribute, 1, now);
        if matches!(taken, PendingDecision::Now(Answer::Yes)) {
            return Decision::Admit;
        }
        if plan.over.delays_this(operation) {
            let facts = &self.own.facts;
            let facts = facts.iter().map(|name| attribute(name).map(Cow::into_owned)).collect();
            let own = Rc::clone(&self.own);
            let turn = DelayedOperation { own, key, facts, until: now + plan.max_delay };
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

    fn settle(&self, done: &Settled<'_>, memo: u64) {
        let rest = self.own.plan.unit.paid_after(done.how).saturating_sub(1);
        if rest > 0 && !done.awaits {
            let attribute = |name: &str| self.attribute(name, done.how.attributes, done.front);
            self.own.hand.spend(memo, &attribute, rest, done.how.now);
        }
    }
}

impl SharedLimitSeries {
    /// What a key or a descriptor calls by this name.
    fn attribute<'a>(
        &'a self,
        name: &str,
        attributes: &'a dyn Attributes,
        front: &'a [u8],
    ) -> Option<Cow<'a, str>> {
        match KeyPart::named(name) {
            // Every machine is to call a client the same, whatever its sockets are of.
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
    fn decision(&self, answer: Answer) -> Decision {
        match answer {
            Answer::Yes => Decision::Admit,
            Answer::No(retry) => Decision::Reject(self.no(retry)),
        }
    }

    /// The error has the whole wait as its minimum, if that is known. Otherwise it has none: a
    /// share of a flooded limit is free within milliseconds, and a client's own default is better
    /// than a retry at that time.
    fn no(&self, retry: Option<Duration>) -> Rejection {
        let mut no = self.no.clone();
        no.retry_after = no.retry_after.and_then(|least| Some(least).max(retry));
        no
    }
}

/// An operation that is delayed. No place is reserved for it: it asks again when there may be
/// more, as do those of other machines, and is rejected when that is too late.
struct DelayedOperation {
    own: Rc<SharedLimitState>,
    key: u64,
    /// What the store may want to know, as in [`Own::facts`].
    facts: Vec<Option<String>>,
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
                Answer::Yes if waited => return Decision::waited(),
                Answer::Yes => return Decision::Admit,
                Answer::No(retry) => retry,
            };
            let again = retry.map(|retry| time::Instant::now() + retry);
            let Some(again) = again.filter(|again| again.into_std() <= self.until) else {
                return Decision::Reject(self.own.no(retry));
            };
            time::sleep_until(again).await;
            waited = true;
            let now = time::Instant::now().into_std();
            taken = self.own.hand.take(self.key, &|name| self.fact(name), 1, now);
        }
    }

    fn fact(&self, name: &str) -> Option<Cow<'_, str>> {
        let place = self.own.facts.iter().position(|known| **known == *name)?;
        self.facts.get(place)?.as_deref().map(Cow::Borrowed)
    }
}
