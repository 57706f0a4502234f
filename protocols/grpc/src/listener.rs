//! The configured state of a gRPC listener, shared by all workers.

use crate::{dialect::Grpc, path, settings::Settings};
use std::sync::Arc;
use tollgate_http::{Defaults, Routes, ServerPlan};
use values::Diagnostic;

/// A gRPC listener.
#[derive(Debug)]
pub struct GrpcListener {
    /// The settings as configured.
    pub settings: Settings,
    /// The dialect.
    pub grpc: Arc<Grpc>,
    /// HTTP server settings.
    pub plan: Arc<ServerPlan>,
    clusters: Vec<Arc<str>>,
}

/// No time-outs by default: streams may last for ever and may be idle.
const DEFAULTS: Defaults =
    Defaults { timeout: None, whole: true, idle_timeout: None, max_request_body: None };

impl GrpcListener {
    /// Builds the listener. Unmatched calls go to `cluster`, as the route `default`.
    ///
    /// # Errors
    /// Every mistake in the settings, each with its path of keys.
    pub fn new(settings: Settings, cluster: Option<&str>) -> Result<Self, Vec<Diagnostic>> {
        let never = impossible_matches(&settings);
        let mut routes = Routes::new(&settings.routes, DEFAULTS).map_err(|mut mistakes| {
            mistakes.extend(never.iter().cloned());
            mistakes
        })?;
        if !never.is_empty() {
            return Err(never);
        }
        if let Some(cluster) = cluster {
            routes = routes.followed_by(Routes::single(cluster, DEFAULTS));
        }
        let clusters = routes.clusters();
        let grpc = Arc::new(Grpc::new(settings.clone(), routes)?);
        let http = tollgate_http::Settings {
            client_certificate_header: settings.client_certificate_header,
            ..tollgate_http::Settings::default()
        };
        let plan = Arc::new(http.server());
        Ok(Self { settings, grpc, plan, clusters })
    }

    /// The names of all clusters that routes use.
    pub fn clusters(&self) -> Vec<Arc<str>> {
        self.clusters.clone()
    }
}

/// Reports route keys that no gRPC call can match.
fn impossible_matches(settings: &Settings) -> Vec<Diagnostic> {
    let mut mistakes = Vec::new();
    for (at, route) in settings.routes.iter().enumerate() {
        let at = at.to_string();
        let mut say = |keys: &[&str], message: String, hint: &str| {
            mistakes.push(Diagnostic::at(&[&["routes", &at], keys].concat(), message, hint));
        };
        for (key, is) in
            [("upgrade", route.upgrade.is_some()), ("connect", route.connect.is_some())]
        {
            if is {
                let message = format!("`{key}` does nothing here: no call of gRPC asks for it");
                say(&[key], message, "leave it out, or write it on a listener of http");
            }
        }
        let Some(matched) = &route.matches else { continue };
        if let Some(path) =
            matched.path.as_deref().filter(|path| path::full_method(path).is_empty())
        {
            let message = format!("`{path}` is the path of no call");
            let hint = "a call is `/package.Service/Method`: `path_prefix: /package.Service` is for \
                        all of a service; JSON requests have become calls before routes are asked";
            say(&["match", "path"], message, hint);
        }
        let methods = matched.method.iter().flat_map(|list| &list.0);
        if matched.method.is_some() && methods.clone().all(|method| method != "POST") {
            let message = "every call of gRPC is a POST".to_owned();
            say(&["match", "method"], message, "leave it out");
        }
    }
    mistakes
}
