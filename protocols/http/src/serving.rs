//! A request that was admitted, up to the head of its answer. The rest of the answer, and what is
//! told of the operation at its end, is [`Download`]'s.

mod late;
mod refused;

pub(crate) use late::RequestTimeout;

use crate::{
    attempt::{UpstreamRequest, UpstreamResponse},
    body::Body,
    cors::CorsHeaders,
    dialect::RoutedRequest,
    download::{ResponseBody, ResponseContext, ResponseTimeouts},
    exchange::ResponseResult,
    facts::{self, RequestFlags, WaitTimes},
    hygiene::{self, Authority, HeaderContext},
    mirror,
    own::{self, ANSWERED_HERE, RouteHeaders},
    pace::Throttle,
    pool::Pool,
    record::{ActiveOperation, OperationEnd},
    retry::{AttemptFailure, Pushback},
    routes::{Action, RenderedValues, Route, Variables, WeightedClusters},
    tunnel,
    upload::ReplayBody,
    visit::ClientConnection,
};
use http::{Response, Version, header, request, response};
use operation::{Cut, Outcome, Place, Reason, Refusal, Terms};
use std::{any::Any, cell::OnceCell, rc::Rc, time::Instant};
use tokio::{select, time::sleep};

/// A request that was admitted. It lies in a box, since it is handed on more than once.
pub(crate) struct AdmittedRequest {
    pub(crate) visit: Rc<ClientConnection>,
    pub(crate) record: Rc<ActiveOperation>,
    /// The request's head, the client's at first and then the service's.
    pub(crate) head: request::Parts,
    pub(crate) asked: RoutedRequest,
    /// What policies ask.
    pub(crate) terms: Terms,
    /// Whom it is for, as the client wrote it.
    pub(crate) authority: Authority,
    /// What its route adds to its answer.
    pub(crate) rendered: OnceCell<RenderedValues>,
    /// What the page that asks may read of the answer.
    pub(crate) grant: Option<CorsHeaders>,
}

/// Where a request goes.
pub(crate) struct ReservedCluster {
    pub(crate) pool: Rc<Pool>,
    /// Its being counted among the cluster's operations.
    permit: Option<Box<dyn Any>>,
}

/// Why a request goes nowhere, in words, and the policy that has it so.
type ReserveError = (Reason, String, Option<&'static str>);

impl AdmittedRequest {
    pub(crate) async fn serve(self: Box<Self>, body: Body) -> ResponseResult {
        if !self.terms.delay.is_zero() {
            sleep(self.terms.delay).await;
        }
        if let Some(Cut { place: Place::Request, reset }) = self.terms.cut {
            return Err(self.cut(reset));
        }
        let targets = match &self.asked.route.action {
            Action::Forward(targets) => targets,
            Action::Redirect(redirect) => {
                let hygiene = &self.visit.server.plan.hygiene;
                let scheme = hygiene::scheme(&self.head.headers, hygiene, false);
                let answer = redirect.answer(&self.head, &self.asked.captures, scheme);
                return Ok(self.answer_here(answer));
            }
            Action::Reply(fixed) => return Ok(self.answer_here(fixed.answer())),
        };
        let way = match self.reserve(targets) {
            Ok(way) => way,
            Err((reason, words, policy)) => {
                let why = Refusal { policy, ..Refusal::new(reason, &words) };
                let end = OperationEnd::of(Outcome::Rejected, reason.as_str());
                let end = OperationEnd { policy: policy.map(Into::into), ..end };
                return Ok(self.refuse(&why, &end));
            }
        };
        if let Some(upgrade) = tunnel::wanted(&self.head, &self.asked.route) {
            // What is rare lies in a box of its own, so that requests are small: they are many.
            return Box::pin(self.tunnel(upgrade, way)).await;
        }
        self.forward(body, way).await
    }

    /// The cluster that it goes to, and a place among that cluster's operations.
    fn reserve(&self, targets: &WeightedClusters) -> Result<ReservedCluster, ReserveError> {
        let name = targets.pick(fastrand::f64());
        let Some(pool) = self.visit.server.pool(name) else {
            return Err((Reason::NoEndpoint, format!("there is no cluster `{name}`"), None));
        };
        let permit = pool
            .cluster()
            .admit()
            .map_err(|words| (Reason::Overloaded, words, Some(self.visit.door.overloaded())))?;
        Ok(ReservedCluster { pool: Rc::clone(pool), permit })
    }

    /// When it goes on, after whatever policies had it wait for.
    fn goes_on(&self) -> Instant {
        let went_on = Instant::now();
        if self.terms.waited || !self.terms.delay.is_zero() {
            let queue = went_on.saturating_duration_since(self.record.began);
            self.record.facts.waits.set(WaitTimes { queue, ..WaitTimes::default() });
        }
        went_on
    }

    /// Sends it to the service, and its answer to the client.
    async fn forward(mut self: Box<Self>, body: Body, way: ReservedCluster) -> ResponseResult {
        let went_on = self.goes_on();
        let waits = self.head.headers.remove(header::EXPECT).is_some();
        if let Err(answer) = self.prepare(&way.pool, false) {
            return Ok(answer);
        }
        if let Some(patience) = self.asked.patience {
            let left = patience.saturating_sub(self.record.began.elapsed());
            self.visit.server.dialect.shorten(&mut self.head, left);
        }
        let (body, at_once) = self.translate(body);
        let route = &self.asked.route;
        let source = ReplayBody::new(body, keeps(route), route.max_request_body, Some(&self.visit));
        if source.is_sent() {
            self.record.sent.set(Some(went_on));
        }
        let errand = UpstreamRequest {
            head: &self.head,
            authority: route.host().or_else(|| self.authority.value()),
            source: Rc::clone(&source),
            record: &self.record,
            route,
            pool: &way.pool,
            hash: self.hash(&way.pool),
            pace: self.terms.pace,
            waits,
            at_once,
        };
        let attempting = self.visit.server.attempting(route);
        let running = errand.run(attempting, async |answered| {
            let (failure, pushback) = self.failure(answered).await?;
            Some((failure, pushback.within(|| self.left(went_on))))
        });
        let result = select! {
            biased;
            result = running => result,
            late = self.late(went_on, Some(&source)) => {
                self.visit.notes.unread.set(source.still_comes());
                return Ok(self.refuse_late(late));
            }
        };
        mirror::send(&self, &errand);
        match result {
            Ok(answered) => {
                self.look_whether_early(&source, waits, &answered);
                self.answer(answered, way).await
            }
            Err(failed) => {
                self.visit.notes.unread.set(source.still_comes());
                self.fail(failed)
            }
        }
    }

    /// An answer may come before the request has ended. Its service may read on, unless it closes or
    /// was not even asked to begin.
    fn look_whether_early(
        &self,
        source: &Rc<ReplayBody>,
        waits: bool,
        answered: &UpstreamResponse,
    ) {
        let unasked = waits && source.is_untouched();
        let given_up = unasked || hygiene::closes(&answered.head.headers);
        self.visit.notes.unread.set(source.still_comes() && given_up);
        if source.lacks_only_its_end() {
            Rc::clone(source).hear_its_end();
        } else if !source.is_sent() {
            self.record.facts.flag(RequestFlags::EARLY_ANSWER);
        }
    }

    /// Makes the service's words of the client's; whether they come in one piece.
    fn translate(&mut self, body: Body) -> (Body, bool) {
        let Self { asked, head, .. } = self;
        match &mut asked.translator {
            Some(translator) => (translator.ask(head, body), translator.asks_at_once()),
            None => (body, false),
        }
    }

    /// Makes of the client's head the service's.
    ///
    /// # Errors
    /// The answer, where a header or the path can't be made.
    #[expect(clippy::result_large_err, reason = "a head that can't be made is rare")]
    pub(crate) fn prepare(
        &mut self,
        pool: &Pool,
        upgrades: bool,
    ) -> Result<(), Response<ResponseBody>> {
        self.rewrite(pool, upgrades).map_err(|words| {
            let end = OperationEnd::of(Outcome::Rejected, Reason::Invalid.as_str());
            self.refuse(&Refusal::new(Reason::Invalid, words), &end)
        })
    }

    fn rewrite(&mut self, pool: &Pool, upgrades: bool) -> Result<(), &'static str> {
        let Self { head, asked, record, .. } = self;
        let facts = &record.facts;
        let around = HeaderContext {
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
        self.rendered.get_or_init(|| route.render_response(head, &asked.captures, &variables));
        route.rewrite(head, &asked.captures, &variables)
    }

    fn hash(&self, pool: &Pool) -> Option<u64> {
        pool.cluster().hash(self.record.facts.link.peer.ip())
    }

    /// What an answer says that may be tried again, and when.
    async fn failure(&self, answered: &mut UpstreamResponse) -> Option<(AttemptFailure, Pushback)> {
        let dialect = &self.visit.server.dialect;
        if let Some(judged) = dialect.judge(&answered.head) {
            let pushback = dialect.pushback(&answered.head.headers);
            return Some((dialect.failure(judged.number), pushback));
        }
        if !self.asked.route.retry.as_ref().is_some_and(|retry| retry.on.is_for_codes()) {
            return None;
        }
        let trailers = answered.trailers_only().await?;
        let judged = dialect.judge_trailers(trailers.as_ref());
        let pushback = trailers.map(|told| dialect.pushback(&told)).unwrap_or_default();
        Some((dialect.failure(judged.number), pushback))
    }

    /// The proxy itself answers, as its config has it.
    fn answer_here(&self, answer: Response<Body>) -> Response<ResponseBody> {
        let (head, body) = answer.into_parts();
        let judged = self.visit.server.dialect.judge(&head);
        let told =
            judged.map_or_else(|| OperationEnd::of(Outcome::Ok, ANSWERED_HERE), OperationEnd::from);
        let answer = self.dressed(Response::from_parts(head, body), Some(ANSWERED_HERE));
        self.record.settle(&OperationEnd { told: false, ..told });
        answer
    }

    /// The proxy itself answers, and the operation ends so.
    pub(crate) fn own(&self, answer: Response<Body>, end: &OperationEnd) -> Response<ResponseBody> {
        let answer = self.dressed(answer, end.reason);
        self.record.settle(end);
        answer
    }

    fn dressed(&self, answer: Response<Body>, reason: Option<&str>) -> Response<ResponseBody> {
        let facts = &self.record.facts;
        own::trace(&self.visit, facts, &self.head.headers);
        let rendered = || own::rendered(facts, &self.asked, &self.head);
        let rendered = self.rendered.get_or_init(rendered);
        let grant = self.grant.as_ref();
        let dress = RouteHeaders { route: &self.asked.route, rendered, grant };
        own::answer(&self.visit, facts, answer, reason, Some(dress))
    }

    pub(crate) async fn answer(
        self: Box<Self>,
        answered: Box<UpstreamResponse>,
        way: ReservedCluster,
    ) -> ResponseResult {
        let UpstreamResponse { mut head, body, wire, trip } = *answered;
        let (record, server, route) = (&self.record, &self.visit.server, &self.asked.route);
        let now = Instant::now();
        record.follows(trip);
        if let Some(Cut { place: Place::Reply(0), reset }) = self.terms.cut {
            return Err(self.cut(reset));
        }
        record.first_byte.set(Some(now));
        record.moved.set(now);
        record.reply_bytes.set(facts::size(17, &head.headers));
        record.facts.status.set(Some(head.status));
        let told = server.dialect.judge(&head).map(OperationEnd::from);
        self.finish_head(&mut head);
        let rest = ResponseContext {
            record: Rc::clone(record),
            dialect: Rc::clone(&server.dialect),
            told,
            wire: Some((wire, way.pool)),
            clock: ResponseTimeouts {
                timeout: route.total_timeout,
                until: self.asked.patience.map(|patience| record.began + patience),
                idle: route.idle_timeout,
                ..ResponseTimeouts::default()
            },
            cut: self.terms.cut,
            pace: self.terms.pace.map(Throttle::new),
            visit: Rc::clone(&self.visit),
            permit: way.permit,
            translated: self.asked.translator.is_some(),
        };
        if self.asked.translator.is_some() {
            record.translates();
        }
        let download = ResponseBody::watched(body, rest);
        let Some(translator) = self.asked.translator else {
            return Ok(Response::from_parts(head, download));
        };
        let (record, server) = (&self.record, &self.visit.server);
        let answer = translator.answer(Response::from_parts(head, Body::made(download))).await;
        let (head, body) = answer.into_parts();
        record.translated(head.status, server.dialect.retold(&head));
        Ok(Response::from_parts(head, ResponseBody::plain(body)))
    }

    /// Makes of the service's head the client's.
    pub(crate) fn finish_head(&self, head: &mut response::Parts) {
        hygiene::response(head, &self.visit.server.plan.hygiene, false);
        if self.record.facts.version >= Version::HTTP_2 {
            // Of a 426 it is kept, which HTTP/2 has no place for.
            head.headers.remove(header::UPGRADE);
            head.headers.remove(header::CONNECTION);
        }
        // What the service speaks is its own business.
        head.version = Version::HTTP_11;
        if let Some(rendered) = self.rendered.get() {
            self.asked.route.edit_response(&mut head.headers, rendered);
        }
        if let Some(grant) = &self.grant {
            grant.replace(&mut head.headers);
        }
    }
}

/// How many bytes of a request's body are kept.
fn keeps(route: &Route) -> usize {
    let retry = route.retry.as_ref().map(|retry| retry.max_body);
    let mirror = route.mirror.as_ref().map(|mirror| mirror.max_body);
    let hedge = route.hedge.map(|_| mirror::KEEPS);
    let kept = [retry, mirror, hedge].into_iter().flatten().max();
    kept.map_or(0, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX))
}
