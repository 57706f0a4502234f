//! What has become of a request so far, for the access log.

use super::request_facts::plain;
use http::{StatusCode, Version};
use operation::LoggedValue;
use std::{
    cell::{Cell, OnceCell},
    sync::Arc,
    time::Duration,
};

/// What has become of a request so far.
#[derive(Default)]
pub(crate) struct RequestProgress {
    /// Where it was sent last, while it is in flight…
    target: Cell<Option<UpstreamTarget>>,
    /// …and once it has ended.
    final_target: OnceCell<Option<UpstreamTarget>>,
    /// The status of its response.
    pub(crate) status: Cell<Option<StatusCode>>,
    pub(crate) attempts: Cell<u32>,
    pub(crate) wait_times: Cell<WaitTimes>,
    flags: Cell<RequestFlags>,
}

impl RequestProgress {
    pub(crate) fn add_flag(&self, flag: RequestFlags) {
        self.flags.set(self.flags.get().with(flag));
    }

    pub(crate) fn has_flag(&self, flag: RequestFlags) -> bool {
        self.flags.get().0 & flag.0 != 0
    }

    pub(super) fn flags(&self) -> RequestFlags {
        self.flags.get()
    }

    /// Notes where it is sent: the cluster, and the endpoint with its version if one was reached.
    pub(crate) fn set_target(&self, cluster: &Arc<str>, endpoint: Option<(&Arc<str>, Version)>) {
        let (endpoint, version) =
            endpoint.map(|(name, version)| (Arc::clone(name), version)).unzip();
        self.target.set(Some(UpstreamTarget { cluster: Arc::clone(cluster), endpoint, version }));
    }

    /// The request has ended: fixes where it was sent, for the log.
    pub(crate) fn finish(&self) {
        self.final_target.get_or_init(|| self.target.take());
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.final_target.get().is_some()
    }

    /// Where an ended request was sent.
    pub(super) fn reached(&self) -> Option<&UpstreamTarget> {
        self.final_target.get()?.as_ref()
    }
}

/// Where a request was sent.
pub(super) struct UpstreamTarget {
    pub(super) cluster: Arc<str>,
    /// `None` if no endpoint was available.
    pub(super) endpoint: Option<Arc<str>>,
    pub(super) version: Option<Version>,
}

/// Time that a request spent before it was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct WaitTimes {
    /// Waiting for policies and for a connection slot of the cluster.
    pub(crate) queue: Duration,
    /// Connecting.
    pub(crate) connect: Duration,
}

/// Events of a request, for the access log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestFlags(u16);

impl RequestFlags {
    /// Sent again on a new connection, since the pooled one was closed before any response.
    pub(crate) const STALE: RequestFlags = RequestFlags(1);
    /// Retried by its route's policy.
    pub(crate) const RETRIED: RequestFlags = RequestFlags(1 << 1);
    /// Not retried: its body was too large to be kept.
    pub(crate) const TOO_LARGE_TO_RETRY: RequestFlags = RequestFlags(1 << 2);
    /// Not retried: the retry budget is spent.
    pub(crate) const RETRY_BUDGET: RequestFlags = RequestFlags(1 << 3);
    /// A second attempt was started before the first ended.
    pub(crate) const HEDGED: RequestFlags = RequestFlags(1 << 4);
    /// Copied to a mirror cluster.
    pub(crate) const MIRRORED: RequestFlags = RequestFlags(1 << 5);
    /// The response started and was cut short.
    pub(crate) const ANSWER_CUT: RequestFlags = RequestFlags(1 << 6);
    /// The connection changed its protocol.
    pub(crate) const UPGRADED: RequestFlags = RequestFlags(1 << 7);
    /// The response arrived before the request was sent completely.
    pub(crate) const EARLY_ANSWER: RequestFlags = RequestFlags(1 << 8);
    /// Not retried: the service asked for a longer pause than allowed.
    pub(crate) const PUSHED_BACK: RequestFlags = RequestFlags(1 << 9);

    /// Not mirrored: its body was too large to be kept, or had not arrived when the response did.
    pub(crate) const NOT_MIRRORED: RequestFlags = RequestFlags(1 << 10);
    /// The origin of the calling page is not allowed.
    pub(crate) const ORIGIN_REFUSED: RequestFlags = RequestFlags(1 << 11);

    const WORDS: [(RequestFlags, &'static str); 12] = [
        (RequestFlags::STALE, "stale_connection"),
        (RequestFlags::RETRIED, "retried"),
        (RequestFlags::TOO_LARGE_TO_RETRY, "too_large_to_retry"),
        (RequestFlags::RETRY_BUDGET, "retry_budget"),
        (RequestFlags::HEDGED, "hedged"),
        (RequestFlags::MIRRORED, "mirrored"),
        (RequestFlags::ANSWER_CUT, "answer_cut"),
        (RequestFlags::UPGRADED, "upgraded"),
        (RequestFlags::EARLY_ANSWER, "early_answer"),
        (RequestFlags::PUSHED_BACK, "pushed_back"),
        (RequestFlags::NOT_MIRRORED, "not_mirrored"),
        (RequestFlags::ORIGIN_REFUSED, "origin_refused"),
    ];

    /// These flags and another one.
    fn with(self, flag: RequestFlags) -> Self {
        RequestFlags(self.0 | flag.0)
    }

    /// Their names; `None` if there is none.
    pub(super) fn names(self) -> Option<LoggedValue<'static>> {
        let mut words = Self::WORDS.iter().filter(|(flag, _)| self.0 & flag.0 != 0);
        let (_, first) = words.next()?;
        Some(words.fold(plain(first), |text, (_, word)| {
            LoggedValue::Text([&*text.text(), word].join(" ").into())
        }))
    }
}
