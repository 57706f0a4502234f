//! Rejects everything that it matches.

use crate::series::SeriesKey;
use crate::{
    ConnectDecision, Decision, PolicyEnv, SeriesPolicy, WorkerPolicy,
    kind::Kind,
    rule::{PolicyConfig, Rule, Stage},
};
use operation::{Attributes, Operation, RejectMode, RejectReason, Rejection};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{rc::Rc, sync::Arc, time::Instant};
use values::{
    Diagnostic, InRange,
    spanned::{Opt, Spanned},
};

/// The row of this kind of policy.
pub(super) static KIND: Kind<Settings> =
    Kind { key: "deny", summary: "Refuse whatever matches.", build: Settings::build };

/// How whatever matches is refused.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[schemars(rename = "Deny")]
#[serde(deny_unknown_fields, default, expecting = "keys and values, such as `{ message: … }`")]
pub(super) struct Settings {
    /// What a person reads in the error. Default: a sentence that names the policy.
    message: Option<Spanned<String>>,
    /// The error's code, in the protocol's own numbers. Default: the one that it has for this.
    code: Opt<InRange<1, MAX_CODE>>,
    /// How it is said: in the protocol's words (`refuse`), or by a `close` or a `reset` of the
    /// connection. Default: `refuse`.
    over: Option<Spanned<DenyMode>>,
}

/// The largest code that an error may have.
const MAX_CODE: usize = 99_999_999;

/// How a rejection is delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case", expecting = "`refuse`, `close` or `reset`")]
#[schemars(inline)]
enum DenyMode {
    #[default]
    Refuse,
    Close,
    Reset,
}

impl Settings {
    #[expect(clippy::unnecessary_wraps, reason = "the settings of others can be wrong")]
    fn build(self) -> Result<Arc<dyn PolicyConfig>, Vec<Diagnostic>> {
        let code = self.code.and_then(|code| code.value).map(|code| code.get());
        Ok(Arc::new(Deny {
            message: self.message.and_then(|message| message.value).map(Into::into),
            code: code.and_then(|code| code.try_into().ok()),
            over: self.over.and_then(|over| over.value).unwrap_or_default(),
        }))
    }
}

#[derive(Debug)]
struct Deny {
    message: Option<Arc<str>>,
    code: Option<i32>,
    over: DenyMode,
}

impl PolicyConfig for Deny {
    fn kind(&self) -> &'static str {
        KIND.key
    }

    fn stage(&self) -> Stage {
        Stage::Either
    }

    fn rejects_all(&self) -> bool {
        true
    }

    fn worker_policy(&self, rule: &Rule, _: &PolicyEnv) -> Box<dyn WorkerPolicy> {
        let configured = self.message.as_deref().map(str::to_owned);
        let message =
            configured.unwrap_or_else(|| format!("the policy `{}` forbids this", rule.name));
        let manner = match self.over {
            DenyMode::Refuse => RejectMode::Reply,
            DenyMode::Close => RejectMode::Close,
            DenyMode::Reset => RejectMode::Reset,
        };
        let rejection = Rejection {
            code: self.code,
            mode: manner,
            ..Rejection::new(RejectReason::Denied, message)
        };
        Box::new(WorkerDeny(Rc::new(rejection)))
    }

    fn to_json(&self) -> serde_json::Value {
        let mut json = serde_json::json!({ "over": self.over });
        if let Some(message) = &self.message {
            json["message"] = (**message).into();
        }
        if let Some(code) = self.code {
            json["code"] = code.into();
        }
        json
    }
}

#[derive(Clone)]
struct WorkerDeny(Rc<Rejection>);

impl WorkerPolicy for WorkerDeny {
    fn bind(&self, _: &SeriesKey) -> Option<Box<dyn SeriesPolicy>> {
        Some(Box::new(self.clone()))
    }

    fn connect(&self, _: &dyn Attributes, _: Instant) -> ConnectDecision {
        ConnectDecision::Reject((*self.0).clone())
    }
}

impl SeriesPolicy for WorkerDeny {
    fn admit(&self, _: &Operation<'_>, _: Instant, _: &mut u64) -> Decision {
        Decision::Reject((*self.0).clone())
    }
}
