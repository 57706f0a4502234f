//! A request that was admitted, up to the head of its answer. The rest of the answer, and what is
//! told of the operation at its end, is [`Download`]'s.

use crate::{
    attempt::{Answered, Errand, Failed, Lost},
    body::Body,
    dialect::Asked,
    download::{Clock, Download, Rest},
    exchange::{Answer, Silence, flawed, refusal},
    facts::{self, Flags},
    hygiene::{self, Around, Authority},
    mirror,
    pace::Pace,
    pool::Pool,
    record::{End, Record},
    retry::{Failure, Pushback},
    routes::{Action, Rendered, Route, Targets, Variables},
    tunnel,
    upload::Source,
    visit::Visit,
};
use http::{Response, Version, header, request, response};
use operation::{Close, Cut, Limit, Outcome, Place, Reason, Refusal, Terms};
use std::{
    any::Any,
    future::pending,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    select,
    time::{sleep, sleep_until},
};

/// The longest that a service may have a request wait whose route has no time-out.
const LONGEST_PUSHBACK: Duration = Duration::from_secs(15);

/// A request that was admitted.
pub(crate) struct Serving<'v> {
    pub(crate) visit: &'v Rc<Visit>,
    pub(crate) record: Rc<Record>,
    /// What policies ask.
    pub(crate) terms: Terms,
    /// Whom it is for, as the client wrote it.
    pub(crate) authority: Authority,
}

/// Where a request goes.
pub(crate) struct Way {
    pub(crate) pool: Rc<Pool>,
    /// Its being counted among the cluster's operations.
    permit: Option<Box<dyn Any>>,
}

/// Whose time is over.
pub(crate) enum Late {
    Route(Duration),
    Policy(Limit),
    Client,
    Idle,
}

/// Why a request goes nowhere, in words, and the policy that has it so.
type Unreserved = (Reason, String, Option<&'static str>);

impl Serving<'_> {
    pub(crate) async fn serve(self, head: request::Parts, body: Body, asked: Asked) -> Answer {
        if !self.terms.delay.is_zero() {
            sleep(self.terms.delay).await;
        }
        if let Some(Cut { place: Place::Request, reset }) = self.terms.cut {
            return Err(self.cut(reset));
        }
        let route = Arc::clone(&asked.route);
        let targets = match &route.action {
            Action::Forward(targets) => targets,
            Action::Redirect(redirect) => {
                let answer = redirect.answer(&head, &asked.captures, "http");
                return Ok(self.answer_here(answer));
            }
            Action::Reply(fixed) => return Ok(self.answer_here(fixed.answer())),
        };
        let way = match self.reserve(targets) {
            Ok(way) => way,
            Err((reason, words, policy)) => {
                let why = Refusal { policy, ..Refusal::new(reason, &words) };
                let end = End::of(Outcome::Rejected, reason.as_str());
                let end = End { policy: policy.map(Into::into), ..end };
                return Ok(self.refuse(&asked, &why, &end));
            }
        };
        if let Some(upgrade) = tunnel::wanted(&head, &route) {
            // What is rare lies in a box of its own, so that requests are small: they are many.
            return Box::pin(self.tunnel(upgrade, head, asked, way)).await;
        }
        self.forward(head, body, asked, way).await
    }

    /// The cluster that it goes to, and a place among that cluster's operations.
    fn reserve(&self, targets: &Targets) -> Result<Way, Unreserved> {
        let name = targets.pick(fastrand::f64());
        let Some(pool) = self.visit.server.pool(name) else {
            return Err((Reason::NoEndpoint, format!("there is no cluster `{name}`"), None));
        };
        let permit = pool
            .cluster()
            .admit()
            .map_err(|words| (Reason::Overloaded, words, Some(self.visit.door.overloaded())))?;
        Ok(Way { pool: Rc::clone(pool), permit })
    }

    /// Sends it to the service, and its answer to the client.
    async fn forward(
        self,
        mut head: request::Parts,
        mut body: Body,
        mut asked: Asked,
        way: Way,
    ) -> Answer {
        let went_on = Instant::now();
        let waits = head.headers.remove(header::EXPECT).is_some();
        let rendered = match self.prepare(&mut head, &asked, &way.pool, false) {
            Ok(rendered) => rendered,
            Err(words) => {
                let end = End::of(Outcome::Rejected, Reason::Invalid.as_str());
                return Ok(self.refuse(&asked, &Refusal::new(Reason::Invalid, words), &end));
            }
        };
        if let Some(patience) = asked.patience {
            let left = patience.saturating_sub(self.record.began.elapsed());
            self.visit.server.dialect.shorten(&mut head, left);
        }
        if let Some(translator) = &mut asked.translator {
            body = translator.ask(&mut head, body);
        }
        let route = Arc::clone(&asked.route);
        let source = Source::new(body, keeps(&route), route.max_request_body);
        if source.is_sent() {
            self.record.sent.set(Some(went_on));
        }
        let errand = Errand {
            head,
            authority: route.host().or_else(|| self.authority.value()),
            source: Rc::clone(&source),
            record: &self.record,
            route: &route,
            pool: &way.pool,
            hash: self.hash(&way.pool),
            pace: self.terms.pace,
            waits,
        };
        let attempting = self.visit.server.attempting(&route);
        let running = errand.run(attempting, async |answered| {
            let (failure, pushback) = self.failure(&route, answered).await?;
            Some((failure, pushback.within(|| self.left(&route, asked.patience, went_on))))
        });
        let result = select! {
            biased;
            result = running => result,
            late = self.late(&route, asked.patience, went_on) => {
                return Ok(self.refuse_late(&asked, late));
            }
        };
        mirror::send(&self, &errand);
        match result {
            Ok(answered) => {
                if source.lacks_only_its_end() {
                    Rc::clone(&source).hear_its_end();
                } else if !source.is_sent() {
                    self.record.facts.flag(Flags::EARLY_ANSWER);
                }
                self.answer(answered, &rendered, asked, way).await
            }
            Err(failed) => self.fail(&asked, failed),
        }
    }

    /// Makes of the client's head the service's.
    pub(crate) fn prepare(
        &self,
        head: &mut request::Parts,
        asked: &Asked,
        pool: &Pool,
        upgrades: bool,
    ) -> Result<Rendered, &'static str> {
        let facts = &self.record.facts;
        let around = Around {
            hygiene: &self.visit.server.plan.hygiene,
            peer: &self.visit.peer,
            authority: &self.authority,
            encrypted: false,
            upgrades,
        };
        let traced = hygiene::request(head, &around, &mut self.visit.rng.borrow_mut());
        let traced = facts.traced.get_or_init(|| traced);
        let id = traced.request_id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or_default();
        let variables = Variables {
            peer: facts.link.peer,
            host: &facts.host,
            request_id: id,
            cluster: pool.cluster().name(),
        };
        let route = &asked.route;
        let rendered = route.render_response(head, &asked.captures, &variables);
        route.rewrite(head, &asked.captures, &variables)?;
        Ok(rendered)
    }

    fn hash(&self, pool: &Pool) -> Option<u64> {
        pool.cluster().hash(self.record.facts.link.peer.ip())
    }

    /// What an answer says that may be tried again, and when.
    async fn failure(&self, route: &Route, answered: &mut Answered) -> Option<(Failure, Pushback)> {
        let dialect = &self.visit.server.dialect;
        if let Some(judged) = dialect.judge(&answered.head) {
            let pushback = dialect.pushback(&answered.head.headers);
            return Some((dialect.failure(judged.number), pushback));
        }
        if !route.retry.as_ref().is_some_and(|retry| retry.on.is_for_codes()) {
            return None;
        }
        let trailers = answered.trailers_only().await?;
        let judged = dialect.judge_trailers(trailers.as_ref());
        let pushback = trailers.map(|told| dialect.pushback(&told)).unwrap_or_default();
        Some((dialect.failure(judged.number), pushback))
    }

    /// How long the request may still rest.
    fn left(&self, route: &Route, patience: Option<Duration>, went_on: Instant) -> Duration {
        let now = Instant::now();
        let most = if route.timeout.is_some() { Duration::MAX } else { LONGEST_PUSHBACK };
        let due = self.due(route, patience, went_on, now);
        due.map_or(most, |(due, _)| most.min(due.saturating_duration_since(now)))
    }

    /// When it takes too long, and for whom.
    fn due(
        &self,
        route: &Route,
        patience: Option<Duration>,
        went_on: Instant,
        now: Instant,
    ) -> Option<(Instant, Late)> {
        let record = &self.record;
        let limit = self.terms.limit.as_ref();
        let dues = [
            route.timeout.map(|it| (record.sent.get().unwrap_or(now) + it, Late::Route(it))),
            limit.map(|it| (went_on + it.after, Late::Policy(it.clone()))),
            patience.map(|it| (record.began + it, Late::Client)),
            route.idle_timeout.map(|it| (record.moved.get().max(went_on) + it, Late::Idle)),
        ];
        dues.into_iter().flatten().min_by_key(|(due, _)| *due)
    }

    /// Ready when it took too long.
    pub(crate) async fn late(
        &self,
        route: &Route,
        patience: Option<Duration>,
        went_on: Instant,
    ) -> Late {
        let record = &self.record;
        loop {
            let now = Instant::now();
            let due = self.due(route, patience, went_on, now);
            let Some((due, late)) = due else { return pending().await };
            if due <= now {
                // How long a client waits says nothing of the service.
                if !matches!(late, Late::Client) {
                    record.gives_up.set(Outcome::Lost);
                }
                return late;
            }
            sleep_until(due.into()).await;
        }
    }

    pub(crate) fn refuse_late(&self, asked: &Asked, late: Late) -> Response<Download> {
        let text = |time: Duration| format!("{} ms", time.as_millis());
        let (words, policy, reason) = match late {
            Late::Route(time) => {
                (format!("the service took longer than {}", text(time)), None, "timed_out")
            }
            Late::Policy(limit) => (limit.message.to_string(), Some(limit.policy), "timed_out"),
            Late::Client => ("the client's own time is over".to_owned(), None, "timed_out"),
            Late::Idle => ("nothing moved for too long".to_owned(), None, "idle_timeout"),
        };
        let refusal =
            Refusal { policy: policy.as_deref(), ..Refusal::new(Reason::TimedOut, &words) };
        let end = End { policy: policy.clone(), ..End::of(Outcome::Lost, reason) };
        self.refuse(asked, &refusal, &end)
    }

    /// There is no answer.
    pub(crate) fn fail(&self, asked: &Asked, failed: Failed) -> Answer {
        let (reason, words, end) = match failed {
            Failed::Unreachable(it) => {
                (it.reason, it.message, End::of(it.close.outcome(false), it.close.as_str()))
            }
            Failed::Lost(lost) => {
                let close = match lost {
                    Lost::Unreadable => Close::UpstreamViolation,
                    Lost::Refused | Lost::Reset | Lost::Stream => Close::UpstreamReset,
                };
                let words = match lost {
                    Lost::Unreadable => "what the service answered is no HTTP",
                    Lost::Refused | Lost::Reset | Lost::Stream => {
                        "the service went away before it answered"
                    }
                };
                (Reason::Lost, words.to_owned(), End::of(Outcome::Lost, close.as_str()))
            }
            Failed::Taken(close) => {
                let words = "the service was taken out of use before it answered".to_owned();
                (Reason::Lost, words, End::of(close.outcome(false), close.as_str()))
            }
            Failed::TimedOut => {
                let words = "the service took longer than an attempt may".to_owned();
                (Reason::TimedOut, words, End::of(Outcome::Lost, "timed_out"))
            }
            Failed::TooLarge => {
                let words = "the request's body is longer than it may be".to_owned();
                (Reason::TooLarge, words, End::of(Outcome::Rejected, "too_large"))
            }
            Failed::Client => return self.client_failed(asked),
        };
        Ok(self.refuse(asked, &Refusal::new(reason, &words), &end))
    }

    /// The client broke off, or sent a body that can't be read.
    fn client_failed(&self, asked: &Asked) -> Answer {
        let Some(fault) = self.visit.notes.fault.take() else {
            if asked.translator.as_ref().is_some_and(|it| it.is_spoilt()) {
                let reason = Reason::Invalid;
                let end = End::of(Outcome::Rejected, reason.as_str());
                return Ok(self.refuse(asked, &Refusal::new(reason, "it can't be read"), &end));
            }
            self.record.settle(&End::of(Outcome::Cancelled, Close::ClientReset.as_str()));
            return Err(Silence);
        };
        self.visit.last.set(true);
        let answer = flawed(self.visit, fault.status, fault.violation, fault.message);
        self.record.facts.status.set(Some(answer.status()));
        self.record.settle(&End::of(Outcome::Rejected, fault.violation.0));
        Ok(answer)
    }

    pub(crate) fn refuse(&self, asked: &Asked, why: &Refusal<'_>, end: &End) -> Response<Download> {
        let answer = refusal(&*self.visit.server.dialect, asked, *why);
        self.record.facts.status.set(Some(answer.status()));
        self.record.settle(end);
        answer.map(Download::plain)
    }

    /// The proxy itself answers, as its config has it.
    fn answer_here(&self, answer: Response<Body>) -> Response<Download> {
        let (head, body) = answer.into_parts();
        self.record.facts.status.set(Some(head.status));
        let judged = self.visit.server.dialect.judge(&head);
        let told = judged.map_or_else(|| End::of(Outcome::Ok, "answered_here"), End::from);
        self.record.settle(&End { told: false, ..told });
        Response::from_parts(head, Download::plain(body))
    }

    /// A fault that somebody asked for.
    fn cut(&self, reset: bool) -> Silence {
        self.record.settle(&End::of(Outcome::Lost, Close::Injected.as_str()));
        self.visit.cut(self.record.facts.version, Close::Injected, reset);
        Silence
    }

    pub(crate) async fn answer(
        self,
        answered: Answered,
        rendered: &Rendered,
        asked: Asked,
        way: Way,
    ) -> Answer {
        let Answered { mut head, body, wire, trip } = answered;
        let (record, server) = (&self.record, &self.visit.server);
        let now = Instant::now();
        record.follows(trip);
        if let Some(Cut { place: Place::Reply(0), reset }) = self.terms.cut {
            return Err(self.cut(reset));
        }
        record.first_byte.set(Some(now));
        record.moved.set(now);
        record.reply_bytes.set(facts::size(17, &head.headers));
        record.facts.status.set(Some(head.status));
        let told = server.dialect.judge(&head).map(End::from);
        self.finish_head(&mut head, &asked.route, rendered);
        let visit = Rc::clone(self.visit);
        let rest = Rest {
            record: Rc::clone(record),
            dialect: Rc::clone(&server.dialect),
            told,
            wire: Some((wire, way.pool)),
            clock: Clock {
                timeout: asked.route.timeout,
                until: asked.patience.map(|patience| record.began + patience),
                idle: asked.route.idle_timeout,
                ..Clock::default()
            },
            cut: self.terms.cut,
            pace: self.terms.pace.map(Pace::new),
            visit,
            permit: way.permit,
            translated: asked.translator.is_some(),
        };
        let download = Download::watched(body, rest);
        let Some(translator) = asked.translator else {
            return Ok(Response::from_parts(head, download));
        };
        let answer = translator.answer(Response::from_parts(head, Body::made(download))).await;
        record.facts.status.set(Some(answer.status()));
        Ok(answer.map(Download::plain))
    }

    /// Makes of the service's head the client's.
    pub(crate) fn finish_head(
        &self,
        head: &mut response::Parts,
        route: &Route,
        rendered: &Rendered,
    ) {
        hygiene::response(head, &self.visit.server.plan.hygiene, false);
        // What the service speaks is its own business.
        head.version = Version::HTTP_11;
        route.edit_response(&mut head.headers, rendered);
    }
}

/// How many bytes of a request's body are kept.
fn keeps(route: &Route) -> usize {
    let retry = route.retry.as_ref().map(|retry| retry.max_body);
    let kept = retry.or((route.mirror.is_some() || route.hedge.is_some()).then_some(mirror::KEEPS));
    kept.map_or(0, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX))
}
