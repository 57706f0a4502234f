//! Rejects operations that may change data: known writes, and operations that may be writes.

use crate::series::SeriesKey;
use crate::{
    Decision, PolicyEnv, SeriesPolicy, WorkerPolicy,
    kind::Kind,
    rule::{PolicyConfig, Rule, Stage},
};
use operation::{Operation, RejectReason, Rejection, WRITES};
use std::{rc::Rc, sync::Arc, time::Instant};
use values::Diagnostic;

/// The row of this kind of policy.
pub(super) static KIND: Kind<bool> =
    Kind { key: "read_only", summary: "`true`: refuse whatever may change data.", build };

/// What `read_only: true` does.
fn build(on: bool) -> Result<Arc<dyn PolicyConfig>, Vec<Diagnostic>> {
    if on {
        return Ok(Arc::new(ReadOnly));
    }
    let hint = "write `true`, and `enabled: false` beside it to switch the policy off";
    Err(vec![Diagnostic::at(&[], "`read_only: false` does nothing", hint)])
}

#[derive(Debug)]
struct ReadOnly;

impl PolicyConfig for ReadOnly {
    fn kind(&self) -> &'static str {
        KIND.key
    }

    fn stage(&self) -> Stage {
        Stage::Operation
    }

    fn required_attribute(&self) -> Option<&'static str> {
        Some(WRITES)
    }

    fn worker_policy(&self, rule: &Rule, _: &PolicyEnv) -> Box<dyn WorkerPolicy> {
        let message = format!("the policy `{}` lets nothing be changed", rule.name);
        Box::new(WorkerReadOnly(Rc::new(Rejection::new(RejectReason::Denied, message))))
    }

    fn to_json(&self) -> serde_json::Value {
        true.into()
    }
}

#[derive(Clone)]
struct WorkerReadOnly(Rc<Rejection>);

impl WorkerPolicy for WorkerReadOnly {
    fn bind(&self, _: &SeriesKey) -> Option<Box<dyn SeriesPolicy>> {
        Some(Box::new(self.clone()))
    }
}

impl SeriesPolicy for WorkerReadOnly {
    fn admit(&self, operation: &Operation<'_>, _: Instant, _: &mut u64) -> Decision {
        match operation.writes() {
            Some(false) => Decision::Admit,
            // Unknown is as good as a write.
            Some(true) | None => Decision::Reject((*self.0).clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use operation::{AttributeValue, Attributes, Protocol};

    const PROTOCOL: Protocol = Protocol::plain("test");

    /// An operation that says this of itself.
    struct Says(Option<&'static str>);

    impl Attributes for Says {
        fn get<'a>(&'a self, _: &'a [u8], name: &str) -> AttributeValue<'a> {
            self.0.filter(|_| name == WRITES).into()
        }
    }

    fn admits(says: Option<&'static str>) -> bool {
        let operation = Operation {
            protocol: &PROTOCOL,
            name: "find",
            resource: "shop.orders",
            head: &[],
            attributes: &Says(says),
            long_poll: false,
            limit_exempt: false,
            may_have_callsite: false,
            known_names: false,
            partial: false,
            may_have_other_resources: false,
            query_shape: None,
        };
        let guard = WorkerReadOnly(Rc::new(Rejection::new(RejectReason::Denied, "no")));
        match guard.admit(&operation, Instant::now(), &mut 0) {
            Decision::Admit => true,
            Decision::Reject(no) => {
                assert_eq!(no.reason, RejectReason::Denied);
                false
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_known_reads_are_admitted() {
        assert!(admits(Some("false")));
        for doubtful in [Some("true"), Some(""), Some("False"), None] {
            assert!(!admits(doubtful), "{doubtful:?}");
        }
    }

    #[test]
    fn read_only_false_is_rejected() {
        assert!(build(true).is_ok());
        let mistakes = build(false).unwrap_err();
        assert!(mistakes[0].hint.contains("enabled: false"));
    }
}
