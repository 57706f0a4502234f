//! A checked health check.

use cluster::ProbeConfig;
use operation::Probe;
use serde_json::{Value, json};
use std::fmt;

/// What a health check asks, with its settings.
pub struct ProbePlan {
    name: &'static str,
    settings: Value,
    reuses_connections: bool,
    wants_the_primary: bool,
    begin: Box<dyn Fn() -> Box<dyn Probe> + Send + Sync>,
}

impl ProbePlan {
    /// Checks of the protocol `name`; `begin` starts one.
    pub fn new(
        name: &'static str,
        settings: Value,
        begin: impl Fn() -> Box<dyn Probe> + Send + Sync + 'static,
    ) -> Self {
        let begin = Box::new(begin);
        Self { name, settings, reuses_connections: false, wants_the_primary: false, begin }
    }

    /// The end of each answer is known, so that a connection can be used for the next check.
    #[must_use]
    pub(crate) fn reusing_connections(self) -> Self {
        Self { reuses_connections: true, ..self }
    }

    /// Whether only the primary of a replica set is healthy.
    #[must_use]
    pub(crate) fn of_the_primary(self, wants_the_primary: bool) -> Self {
        Self { wants_the_primary, ..self }
    }

    /// Whether a connection can be used for the next check. If the end of an answer is not known,
    /// its rest would be read as the front of the next one.
    pub fn reuses_connections(&self) -> bool {
        self.reuses_connections
    }
}

impl fmt::Debug for ProbePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProbePlan({})", self.to_json())
    }
}

impl ProbeConfig for ProbePlan {
    fn begin(&self) -> Box<dyn Probe> {
        (self.begin)()
    }

    fn name(&self) -> &'static str {
        self.name
    }

    fn wants_the_primary(&self) -> bool {
        self.wants_the_primary
    }

    fn to_json(&self) -> Value {
        json!({ self.name: self.settings })
    }
}
