//! Cursors that clients have open, over all workers: a client may continue a cursor on any connection.

use crate::{Call, client_table::Client, shape::Shape};
use foldhash::HashMap;
use operation::ShapeHasher;
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How many tables share the cursors, so that workers seldom wait for each other.
const SHARDS: usize = 16;

/// How many cursors a table has: 8,000 in all. In a full table the one that was used least recently is
/// forgotten.
const MAX_CURSORS: usize = 500;

/// From when on a cursor that is not used is a finding.
pub(crate) const MAX_IDLE: Duration = Duration::from_secs(5 * 60);

/// When a cursor that is not used is forgotten: services close it by themselves before.
const FORGOTTEN: Duration = Duration::from_secs(30 * 60);

/// A cursor that a client has open.
#[derive(Clone, Debug)]
pub(crate) struct OpenCursor {
    /// The shape of the operation that opened it.
    pub(crate) shape: Arc<Shape>,
    pub(crate) client: Option<Arc<Client>>,
    pub(crate) callsite: Option<Box<str>>,
    /// Nothing limits how many items it returns.
    pub(crate) is_unlimited: bool,
    pub(crate) opened: Instant,
    pub(crate) used: Instant,
    pub(crate) items: u64,
    pub(crate) bytes: u64,
}

/// The open cursors.
#[derive(Debug)]
pub(crate) struct OpenCursors([Mutex<HashMap<u64, OpenCursor>>; SHARDS]);

impl Default for OpenCursors {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

impl OpenCursors {
    fn shard(&self, key: u64) -> MutexGuard<'_, HashMap<u64, OpenCursor>> {
        let shard = &self.0[(key % SHARDS as u64) as usize];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a cursor that an operation has opened.
    pub(crate) fn open(&self, listener_key: u64, id: i64, cursor: OpenCursor) {
        let key = cursor_key(listener_key, id);
        let mut cursors = self.shard(key);
        if cursors.len() >= MAX_CURSORS && !cursors.contains_key(&key) {
            let oldest = cursors.iter().min_by_key(|(_, cursor)| cursor.used).map(|(key, _)| *key);
            oldest.into_iter().for_each(|key| _ = cursors.remove(&key));
        }
        cursors.insert(key, cursor);
    }

    /// Counts an operation that has continued a cursor. Returns the cursor as it is now; `None` if it is
    /// not known. `is_over`: it is closed.
    pub(crate) fn advance(&self, id: i64, call: &Call<'_>, is_over: bool) -> Option<OpenCursor> {
        let key = cursor_key(call.listener_key, id);
        let mut cursors = self.shard(key);
        let cursor = cursors.get_mut(&key)?;
        cursor.items = cursor.items.saturating_add(call.items);
        cursor.bytes = cursor.bytes.saturating_add(call.reply_bytes);
        cursor.used = cursor.used.max(call.ended);
        if is_over { cursors.remove(&key) } else { Some(cursor.clone()) }
    }

    /// Forgets a cursor that a client has closed.
    pub(crate) fn close(&self, listener_key: u64, id: i64) {
        let key = cursor_key(listener_key, id);
        self.shard(key).remove(&key);
    }

    /// The cursors that have not been used for five minutes.
    pub(crate) fn idle(&self, now: Instant) -> Vec<OpenCursor> {
        let mut idle = Vec::new();
        for shard in &self.0 {
            let mut cursors = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let unused = |cursor: &OpenCursor| now.saturating_duration_since(cursor.used);
            cursors.retain(|_, cursor| unused(cursor) < FORGOTTEN);
            idle.extend(cursors.values().filter(|cursor| unused(cursor) >= MAX_IDLE).cloned());
        }
        idle
    }
}

fn cursor_key(listener_key: u64, id: i64) -> u64 {
    let mut hasher = ShapeHasher::new();
    hasher.number(listener_key);
    hasher.number(id as u64);
    hasher.value()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Sent, call};

    fn cursor(used: Instant) -> OpenCursor {
        let sent = Sent::new("app");
        OpenCursor {
            shape: Shape::of(&call(&sent, "find")),
            client: None,
            callsite: None,
            is_unlimited: true,
            opened: used,
            used,
            items: 101,
            bytes: 1000,
        }
    }

    #[test]
    fn a_cursor_adds_up_until_it_is_closed() {
        let (cursors, sent, now) = (OpenCursors::default(), Sent::new("app"), Instant::now());
        cursors.open(1, 7, cursor(now));
        let more = Call { items: 900, reply_bytes: 9000, ..call(&sent, "getMore") };
        assert!(cursors.advance(8, &more, false).is_none());
        let other = Call { listener_key: 2, ..more };
        assert!(cursors.advance(7, &other, false).is_none(), "of another listener");
        let more = Call { listener_key: 1, ..more };
        let advanced = cursors.advance(7, &more, false).unwrap();
        assert_eq!((advanced.items, advanced.bytes), (1001, 10_000));
        let over = cursors.advance(7, &more, true).unwrap();
        assert_eq!(over.items, 1901);
        assert!(cursors.advance(7, &more, true).is_none());
    }

    #[test]
    fn idle_cursors_are_listed_until_they_are_used_or_forgotten() {
        let (cursors, sent, began) = (OpenCursors::default(), Sent::new("app"), Instant::now());
        let at = |minutes: u64| began + Duration::from_secs(60 * minutes);
        cursors.open(1, 7, cursor(at(0)));
        cursors.open(1, 8, cursor(at(0)));
        assert!(cursors.idle(at(4)).is_empty());
        let more = Call { listener_key: 1, ended: at(4), ..call(&sent, "getMore") };
        cursors.advance(8, &more, false);
        assert_eq!(cursors.idle(at(6)).len(), 1);
        assert_eq!(cursors.idle(at(9)).len(), 2);
        cursors.close(1, 7);
        assert_eq!(cursors.idle(at(9)).len(), 1);
        assert!(cursors.idle(at(60)).is_empty());
    }

    #[test]
    fn a_flood_of_cursors_is_bounded() {
        let (cursors, began) = (OpenCursors::default(), Instant::now());
        for id in 0..20_000_i64 {
            cursors.open(1, id, cursor(began + Duration::from_millis(id as u64)));
        }
        let held: usize = cursors.0.iter().map(|shard| shard.lock().unwrap().len()).sum();
        assert!(held <= SHARDS * MAX_CURSORS && held > SHARDS * MAX_CURSORS / 2, "{held}");
    }
}
