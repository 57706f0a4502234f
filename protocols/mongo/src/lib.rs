//! MongoDB's wire protocol: a codec that names commands, and settles them by their replies. All
//! bytes pass unchanged, except `hello`; with a pool also read preferences that a policy replaces, the
//! errors of a member that has lost its role, and with `cluster_time: strip` the deployment's time.
//!
//! A request is held until its front (at most 64 KiB) is here. `message_view` finds its sections,
//! `parsed_command` names it, and the rest passes while `scan` counts its documents and
//! `request_summary` collects the fields further on. If a policy needs these first, the relay
//! reads more of the request. A reply is never held; `scan` reads the few fields that settle its
//! request in `in_flight_requests`. Compressed messages are read through `decompressor`.
//! `hello` and its reply are rewritten whole (`hello`), so that drivers stay on the proxy. With a pool,
//! clients may log in at the proxy (`auth`, `sasl`). The crate does no I/O but for reading passwords at the
//! start, and knows no policy, cluster or configuration file.

mod auth;
mod bson_writer;
mod call_sites;
mod checksum;
mod client_state;
mod cluster_time;
mod codec;
mod commands;
mod comment;
mod cursor_table;
mod decompressor;
#[cfg(test)]
mod dice;
mod driver_support;
mod element;
mod error_codes;
mod error_reply;
mod header;
mod hello;
mod in_flight_requests;
mod member_monitor;
mod message_edit;
mod message_view;
mod mirror;
mod namespaces;
mod number;
mod open_state;
mod operation_names;
mod operator_notices;
mod parsed_command;
mod pipeline;
mod placement;
mod pool_handshake;
mod presentation;
mod probe;
mod recovery;
mod request_summary;
mod retryable_write;
mod sasl;
mod scan;
mod sections;
mod settings;
mod shape;
mod snappy;
mod state_change;
#[cfg(test)]
mod testing;
mod violations;
mod write_effect;

pub use codec::Mongo;
pub use member_monitor::MemberMonitors;
pub use operation_names::no_operation;
pub use pool_handshake::PoolHandshake;
pub use probe::{MongoProbe, MongoProbeContext, ProbeSettings};
pub use settings::{
    AuthSettings, AuthUser, ClusterTime, LookupAccount, MirrorSettings, PresentAs, Settings,
};

use auth::Authenticator;
use call_sites::CallSites;
use cursor_table::CursorTable;
use decompressor::DecompressionBudget;
use open_state::Owners;
use operation::ReplayConfig;
use operator_notices::OperatorNotices;
use presentation::Presentation;
use retryable_write::ProxySessions;
use std::sync::Arc;
use values::Diagnostic;

/// What all connections of one listener share: settings, and tables of bounded size.
#[derive(Debug, Default)]
pub struct MongoListener {
    /// The settings as configured.
    pub settings: Settings,
    /// Open cursors: drivers continue them on any connection.
    cursors: CursorTable,
    /// Call sites and their numbers.
    call_sites: CallSites,
    /// What clients see where operations share connections; `None` where each client has its own.
    presentation: Option<Presentation>,
    /// Which connections have transactions and cursors open.
    owners: Arc<Owners>,
    /// The members of a replica set are found and followed.
    follows_members: bool,
    /// Which requests are sent again when their server fails.
    replay: ReplayConfig,
    /// The users that log in at the proxy; `None`: log-ins pass through to the server.
    authenticator: Option<Arc<Authenticator>>,
    /// The sessions with which writes are made retryable.
    sessions: Arc<ProxySessions>,
    /// What operators should know of the handshakes behind the listener.
    notices: Arc<OperatorNotices>,
    /// The memory of decompressors that wait for more of their requests.
    decompression: Arc<DecompressionBudget>,
}

/// What to do about several servers behind one listener: what a client did before holds it to the
/// server that did it.
pub const SEVERAL_SERVERS: &str = "clients that take them for one lose their cursors, sessions and the \
     primary: give each member of a replica set a listener of its own (`members`), or let only the primary \
     count as healthy (`probe: { mongo: { writable: true } }`); before several mongos write \
     `lb_policy: maglev`. See docs/mongodb.md";

impl MongoListener {
    /// A listener with these settings, which are not checked.
    pub fn new(settings: Settings) -> Self {
        Self { settings, ..Self::default() }
    }

    /// The same, where operations share the connections of a pool.
    pub fn pooled(settings: Settings) -> Self {
        let present_as = settings.present_as.unwrap_or(PresentAs::Router);
        let presentation = Presentation::new(present_as, settings.advertise.clone())
            .stripping_time(settings.cluster_time == ClusterTime::Strip);
        Self { presentation: Some(presentation), ..Self::new(settings) }
    }

    /// The same, where clients log in at the proxy, if the settings say so. Reads the files of passwords.
    ///
    /// # Errors
    /// The files that can't be read, each with its path of keys.
    pub fn logging_in(self) -> Result<Self, Vec<Diagnostic>> {
        let Some(auth) = &self.settings.auth else { return Ok(self) };
        let authenticator = Authenticator::new(auth, Arc::clone(&self.notices))?;
        Ok(Self { authenticator: Some(Arc::new(authenticator)), ..self })
    }

    /// The same, before a replica set whose members are found and followed.
    #[must_use]
    pub fn following_members(self) -> Self {
        Self { follows_members: true, ..self }
    }

    /// The same, with requests that are sent again.
    #[must_use]
    pub fn replaying(self, replay: ReplayConfig) -> Self {
        Self { replay, ..self }
    }

    /// Records a member of a replica set that has answered. Where members are not followed, several of
    /// them behind one listener are a mistake, and reported.
    fn record_member(&self, me: &str, set: &str) {
        if !self.follows_members {
            self.notices.record_member(me, set);
        }
    }
}
