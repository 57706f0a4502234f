//! The route that a request takes, and what it means for this request.

use super::{
    attributes::{HeadAttributes, HeadView},
    client_fields,
    composed_head::{ComposedHead, ComposedRequest},
    field::{Field, FieldName, header_map},
    local_reply::LocalReply,
};
use crate::{
    cors::{self, CorsHeaders},
    dialect::RoutedRequest,
    header_lines::HeaderLines,
    header_policy::HeaderPolicy,
    pool::Pool,
    request_attributes::RequestFlags,
    routes::{Action, RenderedValues, RequestHead, Variables},
    server::Server,
    settings::UpstreamVersion,
};
use std::{cell::OnceCell, rc::Rc};

/// A route that a request has matched.
pub(super) struct MatchedRoute {
    pub(super) routed: RoutedRequest,
    /// The cluster that was picked; `None` if the proxy answers the request itself.
    pub(super) pool: Option<Rc<Pool>>,
    /// CORS headers of the response.
    cors: Option<CorsHeaders>,
    /// Values of the route's response headers.
    response_values: OnceCell<RenderedValues>,
}

impl MatchedRoute {
    /// Finds the route, and picks a cluster. `None`: the request needs more than the engine can do. `body`: the
    /// length of the request's body in bytes, if it is declared.
    pub(super) fn find(server: &Server, view: &HeadView<'_>, body: Option<u64>) -> Option<Self> {
        let path = view.path();
        if view.head.odd_path && (path.contains(['%', '\\']) || crate::path_fault(path).is_some()) {
            return None;
        }
        let may_be_preflight =
            view.head.present.contains(FieldName::Origin) && view.method() == "OPTIONS";
        let (route, captures) = server.dialect.direct_routes()?.find(view, view.host())?;
        let most = route.max_request_body.unwrap_or(u64::MAX);
        let too_large = body.is_some_and(|body| body > most);
        if too_large || may_be_preflight || !route.sends_once() {
            return None;
        }
        let pool = match &route.action {
            Action::Forward(clusters) => Some(server.pool(clusters.pick(fastrand::f64()))?),
            Action::Redirect(_) | Action::Reply(_) => None,
        };
        if pool.is_some_and(|pool| pool.version() != UpstreamVersion::Http1) {
            return None;
        }
        let (mut cors, mut origin_refused) = (None, false);
        if let Some(rules) = &route.cors {
            let is_origin = |field: &&Field| field.known == FieldName::Origin;
            let origin = header_map(view.bytes, view.fields.iter().filter(is_origin));
            cors = Some(rules.headers_for(&origin));
            origin_refused = rules.is_refused(&origin, view.host());
        }
        let pool = pool.map(Rc::clone);
        let (client_timeout, translator) = (None, None);
        let routed = RoutedRequest { route, captures, client_timeout, translator, origin_refused };
        Some(Self { routed, pool, cors, response_values: OnceCell::new() })
    }

    /// The route's redirect or fixed response; `None` if it forwards.
    pub(super) fn direct_response(
        &self,
        attributes: &HeadAttributes<'_>,
        policy: &HeaderPolicy,
    ) -> Option<LocalReply> {
        match &self.routed.route.action {
            Action::Forward(_) => None,
            Action::Redirect(redirect) => {
                let (view, encrypted) = (&attributes.view, attributes.session.is_encrypted());
                let scheme = client_fields::scheme(view, policy, encrypted);
                Some(redirect.answer(view, &self.routed.captures, scheme))
            }
            Action::Reply(fixed) => Some(fixed.answer()),
        }
    }

    /// Notes for the log that the calling page's origin is not allowed.
    pub(super) fn flag_origin(&self, attributes: &HeadAttributes<'_>) {
        if self.routed.origin_refused {
            attributes.progress.add_flag(RequestFlags::ORIGIN_REFUSED);
        }
    }

    /// Counts a request of a page whose origin is not allowed.
    pub(super) fn count_origin(&self, attributes: &HeadAttributes<'_>) {
        if self.routed.origin_refused {
            attributes.session.count_violation(cors::REFUSED);
        }
    }

    /// Edits the composed request at the end of `out`: first headers, whose variables see what the service gets, then
    /// path and host.
    ///
    /// # Errors
    /// Why the rewritten path is invalid.
    pub(super) fn edit_request(
        &self,
        out: &mut Vec<u8>,
        attributes: &HeadAttributes<'_>,
    ) -> Result<(), &'static str> {
        let (route, view) = (&self.routed.route, &attributes.view);
        if !route.edits_request() && !route.edits_response() {
            return Ok(());
        }
        let mut head = ComposedHead::new(out, 0);
        let composed = ComposedRequest { view, head: &head };
        let render = || self.render_response(&composed, attributes, self.cluster());
        self.response_values.get_or_init(render);
        let variables = self.variables(attributes, self.cluster());
        let values = route.render_request(&composed, &self.routed.captures, &variables);
        route.edit_request(&mut head, &values);
        if let Some(path) = route.rewritten_path(view.path(), &self.routed.captures)? {
            head.set_path(&path);
        }
        if let Some(host) = route.host() {
            head.set_host(&host);
        }
        Ok(())
    }

    fn render_response(
        &self,
        head: &dyn RequestHead,
        attributes: &HeadAttributes<'_>,
        cluster: &str,
    ) -> RenderedValues {
        self.routed.route.render_response(
            head,
            &self.routed.captures,
            &self.variables(attributes, cluster),
        )
    }

    fn cluster(&self) -> &str {
        self.pool.as_ref().map_or("", |pool| pool.cluster().name())
    }

    fn variables<'a>(&self, attributes: &'a HeadAttributes<'_>, cluster: &'a str) -> Variables<'a> {
        Variables {
            peer: attributes.session.info().peer,
            host: attributes.view.host(),
            request_id: attributes.request_id.get().map(|id| id.as_str()).unwrap_or_default(),
            cluster,
        }
    }

    /// Whether a response's head is not passed on as it is.
    pub(super) fn edits_response(&self) -> bool {
        self.cors.is_some() || self.routed.route.edits_response()
    }

    /// Edits a response's head.
    pub(super) fn edit_response(
        &self,
        head: &mut dyn HeaderLines,
        attributes: &HeadAttributes<'_>,
    ) {
        // A request that was not prepared for a service has no cluster.
        let render = || self.render_response(&attributes.view, attributes, "");
        self.routed.route.edit_response(head, self.response_values.get_or_init(render));
        if let Some(cors) = &self.cors {
            cors.replace(head);
        }
    }
}
