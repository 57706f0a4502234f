//! A listener of gRPC, as it was configured, for all workers.

use crate::{dialect::Grpc, settings::Settings};
use std::sync::Arc;
use values::Mistake;
use web::{Defaults, Routes, ServerPlan};

/// A listener of gRPC.
#[derive(Debug)]
pub struct Listener {
    /// What was written.
    pub settings: Settings,
    /// How its calls are read and judged.
    pub grpc: Arc<Grpc>,
    /// How its clients are served.
    pub plan: Arc<ServerPlan>,
    clusters: Vec<Arc<str>>,
}

/// A call takes as long as its client waits: streams may last for ever, and rest in between.
const DEFAULTS: Defaults =
    Defaults { timeout: None, whole: true, idle_timeout: None, max_request_body: None };

impl Listener {
    /// The listener of a config. What no route takes goes to `cluster`, as the route `default`.
    ///
    /// # Errors
    /// Everything that is wrong with the settings, with the keys that lead there.
    pub fn new(settings: Settings, cluster: Option<&str>) -> Result<Self, Vec<Mistake>> {
        let mut routes = Routes::new(&settings.routes, DEFAULTS)?;
        if let Some(cluster) = cluster {
            routes = routes.followed_by(Routes::single(cluster, DEFAULTS));
        }
        let clusters = routes.clusters();
        let grpc = Arc::new(Grpc::new(settings.clone(), routes)?);
        let plan = Arc::new(web::Settings::default().server());
        Ok(Self { settings, grpc, plan, clusters })
    }

    /// The names of all clusters that calls may go to.
    pub fn clusters(&self) -> Vec<Arc<str>> {
        self.clusters.clone()
    }
}
