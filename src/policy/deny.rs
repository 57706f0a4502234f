//! Refuses whatever it matches, for as long as it stands.

use super::{
    Bound, Decision, Entrance, Materials, Policy,
    rule::{Action, Rule, Stage},
};
use crate::{config::Mistake, series::Key};
use operation::{Link, No, Operation, Reason};
use schemars::JsonSchema;
use serde::Deserialize;
use std::{rc::Rc, sync::Arc, time::Instant};

/// What people write under `deny`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "keys and values, such as `{ message: … }`")]
pub(crate) struct Settings {
    /// What a person reads in the error. Default: a sentence that names the policy.
    message: Option<String>,
}

impl Settings {
    pub(crate) fn action(self) -> Result<Arc<dyn Action>, Vec<Mistake>> {
        Ok(Arc::new(Deny { message: self.message.map(Into::into) }))
    }
}

#[derive(Debug)]
struct Deny {
    message: Option<Arc<str>>,
}

impl Action for Deny {
    fn kind(&self) -> &'static str {
        "deny"
    }

    fn stage(&self) -> Stage {
        Stage::Either
    }

    fn policy(&self, rule: &Rule, _: &Materials) -> Box<dyn Policy> {
        let said = self.message.as_deref().map(str::to_owned);
        let message = said.unwrap_or_else(|| format!("the policy `{}` forbids this", rule.name));
        Box::new(Denial(Rc::new(No::new(Reason::Denied, message))))
    }

    fn to_json(&self) -> serde_json::Value {
        match &self.message {
            Some(message) => serde_json::json!({ "message": &**message }),
            None => serde_json::json!({}),
        }
    }
}

#[derive(Clone)]
struct Denial(Rc<No>);

impl Policy for Denial {
    fn bind(&self, _: &Key) -> Option<Box<dyn Bound>> {
        Some(Box::new(self.clone()))
    }

    fn connect(&self, _: &Link, _: Instant) -> Entrance {
        Entrance::Refuse((*self.0).clone())
    }
}

impl Bound for Denial {
    fn admit(&self, _: &Operation<'_>, _: Instant, _: &mut u64) -> Decision {
        Decision::Refuse((*self.0).clone())
    }
}
