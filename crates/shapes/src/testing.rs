//! Operations for tests.

use crate::Call;
use operation::{AttributeValue, Attributes, LookupRun, Outcome, QueryRole, QueryShape};
use std::{
    cell::Cell,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, LazyLock},
    time::Instant,
};

static LISTENER: LazyLock<Arc<str>> = LazyLock::new(|| "db".into());

/// What a connection of a client knows.
pub(crate) struct Sent {
    pub(crate) app: String,
    pub(crate) callsite: &'static str,
    pub(crate) closed_cursors: &'static str,
    pub(crate) outdated: Option<&'static str>,
    pub(crate) lookups: Cell<LookupRun>,
}

impl Sent {
    /// A connection of an application.
    pub(crate) fn new(app: &str) -> Self {
        Self {
            app: app.to_owned(),
            callsite: "orders.py:17",
            closed_cursors: "",
            outdated: None,
            lookups: Cell::default(),
        }
    }
}

impl Attributes for Sent {
    fn get<'a>(&'a self, _: &'a [u8], name: &str) -> AttributeValue<'a> {
        match name {
            "app" => AttributeValue::known(&self.app),
            "driver" => AttributeValue::known("toy 1.0"),
            "callsite" => AttributeValue::known(self.callsite),
            operation::CLOSED_CURSORS => AttributeValue::known(self.closed_cursors),
            operation::OUTDATED_DRIVER => self.outdated.into(),
            operation::SHAPE_TEXT => AttributeValue::known("{}"),
            _ => AttributeValue::Absent,
        }
    }

    fn peer(&self) -> Option<IpAddr> {
        Some(Ipv4Addr::LOCALHOST.into())
    }

    fn lookups(&self) -> Option<&Cell<LookupRun>> {
        Some(&self.lookups)
    }
}

/// A successful operation on `shop.orders` that took no time.
pub(crate) fn call<'a>(sent: &'a Sent, operation: &'a str) -> Call<'a> {
    let role = match operation {
        "find" => QueryRole::Lookup,
        "getMore" => QueryRole::Continuation,
        "killCursors" => QueryRole::CloseCursors,
        _ => QueryRole::Other,
    };
    let now = Instant::now();
    Call {
        listener: &LISTENER,
        listener_key: 1,
        operation,
        resource: "shop.orders",
        shape: QueryShape::of_names(operation, "shop.orders", role),
        began: now,
        ended: now,
        is_long_poll: false,
        may_have_callsite: true,
        outcome: Outcome::Ok,
        is_rejected: false,
        items: 0,
        request_bytes: 100,
        reply_bytes: 200,
        cursor: None,
        front: &[],
        attributes: sent,
    }
}
