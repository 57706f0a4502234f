//! A session for tests of what serves connections.

use crate::{HeldBytesBudget, Phase, Session, Timeouts};
use operation::{
    AttributeValue, Close, ConnectionInfo, Decision, Direction, Gate, Operation, Rejection,
    Revision, Settlement, Ticket, Verdict, Violation,
};
use std::{rc::Rc, sync::Arc, task::Waker, time::Instant};

/// A session without limits, whose operations a gate decides on.
pub struct TestSession {
    gate: Rc<dyn Gate>,
    info: ConnectionInfo,
    accepted_at: Instant,
    timeouts: Timeouts,
    held_bytes: Arc<HeldBytesBudget>,
}

impl TestSession {
    /// A session that begins now.
    pub fn new(gate: Rc<dyn Gate>, info: ConnectionInfo) -> Self {
        Self {
            gate,
            info,
            accepted_at: Instant::now(),
            timeouts: Timeouts::default(),
            held_bytes: HeldBytesBudget::new(usize::MAX),
        }
    }
}

impl Gate for TestSession {
    fn admit(&self, operation: &Operation<'_>, now: Instant) -> Verdict {
        self.gate.admit(operation, now)
    }

    fn resume(
        &self,
        ticket: Ticket,
        answer: Decision,
        operation: &Operation<'_>,
        now: Instant,
    ) -> Verdict {
        self.gate.resume(ticket, answer, operation, now)
    }

    fn record_rejected(&self, operation: &Operation<'_>, began: Instant, how: &Settlement<'_>) {
        self.gate.record_rejected(operation, began, how);
    }
}

impl Session for TestSession {
    fn info(&self) -> ConnectionInfo {
        self.info
    }

    fn accepted_at(&self) -> Instant {
        self.accepted_at
    }

    fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }

    fn attribute(&self, _: &str) -> AttributeValue<'_> {
        AttributeValue::Absent
    }

    fn phase(&self) -> Phase {
        Phase::Running
    }

    fn generation(&self) -> u64 {
        0
    }

    fn set_waker(&self, _: &Waker) {}

    fn kill_reason(&self) -> Option<Close> {
        None
    }

    fn record_read(&self, _: Direction, _: usize, _: Instant) {}

    fn set_operation(&self, _: Option<u32>) {}

    fn refresh_limits(&self) -> bool {
        false
    }

    fn is_limited(&self) -> bool {
        false
    }

    fn max_chunk(&self, _: Direction) -> usize {
        usize::MAX
    }

    fn record_passed(&self, _: Direction, _: usize, _: Instant, _: Option<u32>) -> Option<Instant> {
        None
    }

    fn revise(&self, _: u32, _: &Operation<'_>, _: Instant) -> Option<Revision> {
        None
    }

    fn is_guarded(&self) -> bool {
        false
    }

    fn closes_on_violation(&self) -> bool {
        false
    }

    fn reject_unreadable(&self) -> Option<Rejection> {
        None
    }

    fn count_violation(&self, _: Violation) {}

    fn log_violation(&self, _: Violation, _: &str) {}

    fn wrong_protocol(&self, protocol: &str, violation: Violation) -> String {
        format!("the endpoint does not speak {protocol}: {violation}")
    }

    fn log_notice(&self, _: &str) {}

    fn held_bytes(&self) -> &Arc<HeldBytesBudget> {
        &self.held_bytes
    }

    fn report_not_held(&self) {}

    fn count_overloaded(&self) -> &'static str {
        "breaker"
    }

    fn is_cluster_connected(&self) -> bool {
        false
    }
}
