//! How a cluster's endpoints are asked whether they work.

use operation::Probe;

/// What a health check asks, with its settings.
#[derive(Clone, Debug)]
pub enum ProbePlan {}

impl ProbePlan {
    /// One check.
    pub fn begin(&self) -> Box<dyn Probe> {
        match *self {}
    }
}
