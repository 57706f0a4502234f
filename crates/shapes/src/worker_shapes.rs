//! One worker's part: every operation is counted here, and its place among others is judged.

use crate::{
    Call, FindingKind, SharedShapes, WorkerReport,
    call::nanos,
    client_table::{Client, ClientTable},
    findings::{Evidence, Observation},
    lookup_run::{self, EndedRun},
    open_cursors::OpenCursor,
    shape::Shape,
    shape_table::ShapeTable,
};
use operation::{CLOSED_CURSORS, CursorChange, LookupRun, MirrorOutcome, QueryRole, ShapeHasher};
use std::{
    cell::{Cell, RefCell},
    net::IpAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

/// A result without a limit is a finding from more items, or more bytes, than these.
const MAX_ITEMS: u64 = 1000;
const MAX_BYTES: u64 = 1 << 20;

/// The shapes of one worker.
#[derive(Debug)]
pub struct WorkerShapes {
    shared: Arc<SharedShapes>,
    table: RefCell<ShapeTable>,
    clients: RefCell<ClientTable>,
    next_sweep: Cell<Option<Instant>>,
    /// Times of lookups count from here.
    epoch: Instant,
}

impl WorkerShapes {
    /// An empty table of a worker.
    pub fn new(shared: Arc<SharedShapes>) -> Rc<Self> {
        Rc::new(Self {
            shared,
            table: RefCell::default(),
            clients: RefCell::default(),
            next_sweep: Cell::default(),
            epoch: Instant::now(),
        })
    }

    /// Counts an operation that has ended.
    pub fn record(&self, call: &Call<'_>) {
        self.sweep(call.ended);
        match call.shape.role {
            QueryRole::CloseCursors => return self.close_cursors(call),
            QueryRole::Continuation if self.continue_cursor(call) => return,
            _ => {}
        }
        let (number, took) = (self.client_number(call), call.nanos());
        let shape = self.count(call, number, took);
        if let Some(shape) = &shape {
            self.judge(call, shape, number);
        }
        if call.shape.role == QueryRole::Lookup {
            self.follow_runs(call, number, took);
        }
    }

    /// Counts what a mirror has answered to a read, in the row of the read's shape, if that is still there.
    pub fn record_mirrored(&self, listener_key: u64, mirrored: &MirrorOutcome<'_>) {
        let Some(shape) = mirrored.read.shape else { return };
        let (operation, resource) = (mirrored.read.operation, &mirrored.read.resource);
        let of_names = || ShapeHasher::of_names(operation, resource).finish();
        let key = shape.key.unwrap_or_else(of_names).get() ^ listener_key;
        if let Some(row) = self.table.borrow_mut().get_mut(key) {
            row.mirror.get_or_insert_default().count(mirrored);
        }
    }

    /// The rows of the worker.
    pub fn report(&self) -> WorkerReport {
        self.table.borrow().report()
    }

    /// Forgets all rows.
    pub fn reset(&self) {
        self.table.borrow_mut().reset();
    }

    /// Records the end of a client's connection that lived for `life`, with its last lookups.
    pub fn connection_ended(
        &self,
        listener: &Arc<str>,
        peer: IpAddr,
        lookups: LookupRun,
        life: Duration,
    ) {
        let now = Instant::now();
        let client = self.client(lookups.client);
        if lookup_run::is_loop(&lookups) {
            let run = EndedRun { key: lookups.key, length: lookups.length };
            self.report_run(FindingKind::NPlusOne, run, client.as_deref(), now);
        }
        self.shared.connection_ended(listener, (peer, client.as_deref()), life, now);
    }

    /// Counts the operation in its row. Returns the shape if more has to be known about it.
    fn count(&self, call: &Call<'_>, number: u32, took: u64) -> Option<Arc<Shape>> {
        let mut table = self.table.borrow_mut();
        let (row, evicted) = table.row(call.row_key(), call.ended, || Shape::of(call));
        row.count(call, took);
        if row.changes_client(number)
            && let Some((client, _)) = self.clients.borrow_mut().get(number)
        {
            row.apps.add(&client.app);
        }
        if evicted > 0 {
            self.shared.evicted.increment(evicted as u64);
        }
        let is_special = call.shape.has_long_list || call.cursor.is_some() || is_large(call);
        is_special.then(|| Arc::clone(&row.shape))
    }

    /// The number of the client in the table; 0 if the connection keeps none.
    fn client_number(&self, call: &Call<'_>) -> u32 {
        let Some(lookups) = call.attributes.lookups() else { return 0 };
        let mut run = lookups.get();
        let mut clients = self.clients.borrow_mut();
        if clients.get(run.client).is_some() {
            return run.client;
        }
        let (number, is_new) = clients.find(call);
        run.client = number;
        lookups.set(run);
        let client = clients.get(number).map(|(client, _)| Arc::clone(client));
        drop(clients);
        if is_new && let Some(client) = client {
            self.report_driver(call, &client);
        }
        number
    }

    fn client(&self, number: u32) -> Option<Arc<Client>> {
        self.clients.borrow_mut().get(number).map(|(client, _)| Arc::clone(client))
    }

    /// Judges an operation by its own size, and records a cursor that it has opened.
    fn judge(&self, call: &Call<'_>, shape: &Arc<Shape>, number: u32) {
        let client = self.client(number);
        let callsite = call.callsite();
        let event = |kind, evidence| Observation {
            kind,
            subject: shape.row_key,
            listener: call.listener,
            shape: Some(shape),
            client: client.as_deref(),
            callsite: callsite.as_deref(),
            evidence,
        };
        if call.shape.has_long_list {
            self.shared.report(&event(FindingKind::LongList, Evidence::List), call.ended);
        }
        if is_large(call) {
            let evidence = Evidence::Result { items: call.items, bytes: call.reply_bytes };
            self.shared.report(&event(FindingKind::UnboundedResult, evidence), call.ended);
        }
        let is_opener = call.shape.role != QueryRole::Continuation;
        if let Some(CursorChange::Opened(id)) = call.cursor.filter(|_| is_opener) {
            let cursor = OpenCursor {
                shape: Arc::clone(shape),
                client: client.clone(),
                callsite: callsite.as_deref().map(Into::into),
                is_unlimited: call.shape.is_unlimited && !call.is_long_poll,
                opened: call.ended,
                used: call.ended,
                items: call.items,
                bytes: call.reply_bytes,
            };
            self.shared.cursors.open(call.listener_key, id, cursor);
        }
    }

    /// Counts an operation that continues a cursor with the one that opened it. Returns `false` if that is
    /// not known.
    fn continue_cursor(&self, call: &Call<'_>) -> bool {
        let (id, is_over) = match call.cursor {
            Some(CursorChange::Advanced(id)) => (id, false),
            Some(CursorChange::Closed(id)) => (id, true),
            _ => return false,
        };
        let Some(cursor) = self.shared.cursors.advance(id, call, is_over) else { return false };
        let mut table = self.table.borrow_mut();
        let make = || Arc::clone(&cursor.shape);
        let (row, evicted) = table.row(cursor.shape.row_key, call.ended, make);
        row.count_continuation(call);
        drop(table);
        self.shared.evicted.increment(evicted as u64);
        let was_large =
            cursor.items - call.items > MAX_ITEMS || cursor.bytes - call.reply_bytes > MAX_BYTES;
        let is_large = cursor.items > MAX_ITEMS || cursor.bytes > MAX_BYTES;
        if cursor.is_unlimited && is_large && !was_large {
            let event = Observation {
                kind: FindingKind::UnboundedResult,
                subject: cursor.shape.row_key,
                listener: call.listener,
                shape: Some(&cursor.shape),
                client: cursor.client.as_deref(),
                callsite: cursor.callsite.as_deref(),
                evidence: Evidence::Result { items: cursor.items, bytes: cursor.bytes },
            };
            self.shared.report(&event, call.ended);
        }
        true
    }

    fn close_cursors(&self, call: &Call<'_>) {
        let ids = call.attribute(CLOSED_CURSORS).unwrap_or_default();
        let ids = ids.split(',').filter_map(|id| id.trim().parse().ok());
        ids.for_each(|id| self.shared.cursors.close(call.listener_key, id));
    }

    /// Continues the runs of lookups: that of the connection, and that of the client.
    fn follow_runs(&self, call: &Call<'_>, number: u32, took: u64) {
        let Some(lookups) = call.attributes.lookups() else { return };
        let ended = nanos(call.ended.saturating_duration_since(self.epoch));
        let times = (ended.saturating_sub(took), ended);
        let key = call.row_key();
        let mut run = lookups.get();
        let is_loop = lookup_run::advance(&mut run, key, times, lookup_run::is_loop);
        lookups.set(run);
        let length = run.length;
        let workers = self.shared.workers;
        let (client, is_burst) = {
            let mut clients = self.clients.borrow_mut();
            let Some((client, run)) = clients.get(number) else { return };
            let is_burst = |run: &LookupRun| lookup_run::is_burst(run, workers);
            let burst = lookup_run::advance(run, key, times, is_burst);
            if length == lookup_run::MIN_LENGTH || run.length == lookup_run::min_burst(workers) {
                self.note_callsite(call);
            }
            if is_loop.is_none() && burst.is_none() {
                return;
            }
            (Arc::clone(client), burst)
        };
        for (kind, run) in
            [(FindingKind::NPlusOne, is_loop), (FindingKind::NPlusOneBurst, is_burst)]
        {
            if let Some(run) = run {
                self.report_run(kind, run, Some(&client), call.ended);
            }
        }
    }

    /// Notes the call site of a run that has become long: a finding names it.
    fn note_callsite(&self, call: &Call<'_>) {
        if call.may_have_callsite
            && let Some(row) = self.table.borrow_mut().get_mut(call.row_key())
        {
            row.run_callsite = call.callsite().map(Into::into);
        }
    }

    fn report_run(&self, kind: FindingKind, run: EndedRun, client: Option<&Client>, now: Instant) {
        let table = self.table.borrow();
        // A shape that was evicted since then has no text any more.
        let Some(row) = table.get(run.key) else { return };
        let event = Observation {
            kind,
            subject: run.key,
            listener: &row.shape.listener,
            shape: Some(&row.shape),
            client,
            callsite: row.run_callsite.as_deref(),
            evidence: Evidence::Run(run.length),
        };
        self.shared.report(&event, now);
    }

    fn report_driver(&self, call: &Call<'_>, client: &Client) {
        let Some(reason) = &client.outdated else { return };
        let mut subject = ShapeHasher::new();
        subject.bytes(client.driver.as_bytes());
        let event = Observation {
            kind: FindingKind::OutdatedDriver,
            subject: subject.value(),
            listener: call.listener,
            shape: None,
            client: Some(client),
            callsite: None,
            evidence: Evidence::Driver(reason.clone()),
        };
        self.shared.report(&event, call.ended);
    }

    fn sweep(&self, now: Instant) {
        if self.next_sweep.get().is_none_or(|due| now >= due) {
            self.next_sweep.set(Some(self.shared.sweep(now)));
        }
    }
}

/// Whether an operation without a limit has returned too much at once.
fn is_large(call: &Call<'_>) -> bool {
    let is_large = call.items > MAX_ITEMS || call.reply_bytes > MAX_BYTES;
    call.shape.is_unlimited && is_large
}

#[cfg(test)]
mod tests;
