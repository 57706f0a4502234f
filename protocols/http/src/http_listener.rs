//! The checked configuration of a plain HTTP listener, shared by all workers.

use crate::{
    cors::{Cors, errors_of},
    header_policy::{ForwardedStyle, HeaderPolicy, ViaHeader},
    plain_http::PlainHttp,
    routes::{Action, Routes, StatusSet},
    server::ServerPlan,
    settings::{CorsSettings, ForwardedSetting, Settings, StatusRange},
};
use std::sync::Arc;
use values::{Diagnostic, OneOrMore, Text};

/// A listener of plain HTTP.
#[derive(Debug)]
pub struct HttpListener {
    /// As configured.
    pub settings: Settings,
    /// Routes, and which statuses are errors.
    pub http: Arc<PlainHttp>,
    /// Server limits and header handling.
    pub plan: Arc<ServerPlan>,
}

impl HttpListener {
    /// Checks the settings. Requests without a matching route go to `cluster`, as the route
    /// `default`.
    ///
    /// # Errors
    /// All mistakes in the settings, each with its path of keys.
    pub fn new(settings: Settings, cluster: Option<&str>) -> Result<Self, Vec<Diagnostic>> {
        let defaults = settings.defaults();
        let cors = settings.cors.as_ref().map(cors).transpose()?;
        let mut routes = Routes::new(&settings.routes, defaults)?;
        if let Some(cluster) = cluster {
            routes = routes.followed_by(Routes::single(cluster, defaults));
        }
        if let Some(cors) = &cors {
            routes = routes.with_cors(cors);
        }
        let http = PlainHttp {
            has_cors: routes.has_cors(),
            routes,
            cors,
            failed: statuses(&settings.failed),
            rejected: statuses(&settings.rejected),
        };
        let plan = settings.server();
        Ok(Self { http: Arc::new(http), plan: Arc::new(plan), settings })
    }

    /// Names of all clusters that the routes use.
    pub fn clusters(&self) -> Vec<Arc<str>> {
        self.http.routes.clusters()
    }
}

/// CORS of routes that have no `cors` of their own.
fn cors(settings: &CorsSettings) -> Result<Arc<Cors>, Vec<Diagnostic>> {
    let errors = errors_of(settings);
    if errors.is_empty() {
        return Ok(Arc::new(Cors::of(settings)));
    }
    Err(errors.into_iter().map(|it| it.below(&["cors"])).collect())
}

fn statuses(ranges: &OneOrMore<Text<StatusRange>>) -> StatusSet {
    StatusSet::new(ranges.0.iter().map(|range| range.0))
}

impl Routes {
    /// Names of all clusters that the routes use, each once.
    pub fn clusters(&self) -> Vec<Arc<str>> {
        let mut names: Vec<Arc<str>> = Vec::new();
        for route in self.iter() {
            let targets = match &route.action {
                Action::Forward(targets) => Some(targets),
                Action::Redirect(_) | Action::Reply(_) => None,
            };
            let mirrored = route.mirror.iter().map(|mirror| &mirror.cluster);
            for name in targets.iter().flat_map(|targets| targets.names()).chain(mirrored) {
                if !names.contains(name) {
                    names.push(Arc::clone(name));
                }
            }
        }
        names
    }
}

impl Settings {
    /// The server plan of these settings.
    pub fn server(&self) -> ServerPlan {
        let Settings { max_head, max_headers, max_target, max_concurrent_streams, .. } = self;
        let bytes = |size: &Text<values::Size>| usize::try_from(size.bytes()).unwrap_or(usize::MAX);
        ServerPlan {
            max_head: bytes(max_head),
            max_headers: max_headers.get(),
            max_target: bytes(max_target),
            max_streams: u32::try_from(max_concurrent_streams.get()).unwrap_or(u32::MAX),
            half_close: self.half_close,
            request_timeout: self.request_timeout.0,
            max_requests: self.max_requests_per_connection.0.map(|it| it.0 as u64),
            header_policy: HeaderPolicy {
                trusted_hops: u8::try_from(self.trusted_hops.get()).unwrap_or(u8::MAX),
                forwarded: match self.forwarded.0 {
                    ForwardedSetting::XForwarded => ForwardedStyle::XForwarded,
                    ForwardedSetting::Forwarded => ForwardedStyle::Forwarded,
                    ForwardedSetting::Both => ForwardedStyle::Both,
                    ForwardedSetting::Off => ForwardedStyle::Off,
                },
                certificate: self.client_certificate_header.0,
                request_id: self.request_id,
                trace: self.trace,
                via: self.via.0.as_ref().and_then(|name| ViaHeader::new(&name.0)),
            },
        }
    }
}
