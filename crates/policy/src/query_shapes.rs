//! Counts operations by the shape of their query, where the protocol has shapes.

use crate::{PolicyEnv, SeriesPolicy, Settled, WorkerPolicy, series_key::SeriesKey};
use operation::Outcome;
use shapes::{Call, WorkerShapes, listener_key};
use std::{rc::Rc, sync::Arc};

/// The counter of one listener on one worker.
pub(crate) struct QueryShapes(Rc<ListenerShapes>);

struct ListenerShapes {
    shapes: Rc<WorkerShapes>,
    listener: Arc<str>,
    listener_key: u64,
}

/// The same for the operations of a series.
struct SeriesShapes(Rc<ListenerShapes>);

impl QueryShapes {
    /// Counts the operations of a listener; `None` if they are not counted.
    pub(crate) fn new(env: &PolicyEnv) -> Option<Self> {
        let shapes = Rc::clone(env.shapes.as_ref()?);
        let (listener, listener_key) = (Arc::clone(&env.listener), listener_key(&env.listener));
        Some(Self(Rc::new(ListenerShapes { shapes, listener, listener_key })))
    }
}

impl WorkerPolicy for QueryShapes {
    fn bind(&self, _: &SeriesKey) -> Option<Box<dyn SeriesPolicy>> {
        Some(Box::new(SeriesShapes(Rc::clone(&self.0))))
    }
}

impl SeriesPolicy for SeriesShapes {
    fn settle(&self, done: &Settled<'_>, _: u64) {
        let (Some(shape), how) = (done.query_shape, done.how) else { return };
        let ListenerShapes { shapes, listener, listener_key } = &*self.0;
        shapes.record(&Call {
            listener,
            listener_key: *listener_key,
            operation: &done.key.name,
            resource: &done.key.resource,
            shape,
            began: done.began,
            ended: how.now,
            is_long_poll: done.long_poll,
            may_have_callsite: done.may_have_callsite,
            outcome: how.outcome,
            is_rejected: how.outcome == Outcome::Rejected && how.reason.is_some(),
            items: how.reply_items,
            request_bytes: how.request_bytes,
            reply_bytes: how.reply_bytes,
            cursor: how.cursor,
            front: done.front,
            attributes: how.attributes,
        });
    }
}
