//! What a bad network does to a TCP session: latency, pieces, a black hole, an end that comes late.

use super::{delay, value};
use operation::{Impairment, LatencyDistribution, Slicer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{rc::Rc, time::Duration};
use values::{
    Diagnostic, Size, duration_text,
    spanned::{Opt, Spanned, opt_value},
};

/// Pieces that bytes arrive in.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    default,
    expecting = "keys and values, such as `{ size: 10B, pause: 5ms }`"
)]
#[schemars(rename = "FaultSlice")]
pub(crate) struct SliceSettings {
    /// How long a piece is at most. Required.
    size: Opt<Size>,
    /// How long the next one waits. Default: `1ms`.
    pause: Opt<Duration>,
}

/// The receiver of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case", expecting = "`client` or `service`")]
#[schemars(inline)]
pub(super) enum Receiver {
    Client,
    Service,
}

/// The keys of a fault that are about this, as they are written.
pub(super) struct ImpairmentSettings {
    pub(super) latency: Option<Spanned<delay::DelaySetting>>,
    pub(super) slice: Option<Spanned<SliceSettings>>,
    pub(super) black_hole: Option<Spanned<bool>>,
    pub(super) slow_close: Opt<Duration>,
    pub(super) to: Option<Spanned<Receiver>>,
}

/// The impairments of a session's bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Impairments {
    latency: Option<LatencyDistribution>,
    slice: Option<Slicer>,
    black_hole: bool,
    slow_close: Option<Duration>,
    to: Option<Receiver>,
}

impl ImpairmentSettings {
    pub(super) fn check(self, mistakes: &mut Vec<Diagnostic>) -> Impairments {
        let latency = value(self.latency).map(|written| written.check("latency")).transpose();
        let latency = latency.unwrap_or_else(|mistake| {
            mistakes.push(mistake);
            None
        });
        let slice = value(self.slice).map(|slice| {
            if slice.size.is_none() {
                let hint = "write how long a piece is: `slice: { size: 10B, pause: 5ms }`";
                mistakes.push(Diagnostic::at(&["slice"], "the key `size` is missing", hint));
            }
            let pause = opt_value(slice.pause).unwrap_or(Duration::from_millis(1));
            Slicer { size: opt_value(slice.size).map_or(1, |size| size.0.max(1)), pause }
        });
        let impairments = Impairments {
            latency,
            slice,
            black_hole: value(self.black_hole).unwrap_or_default(),
            slow_close: opt_value(self.slow_close),
            to: None,
        };
        let to = value(self.to);
        if to.is_some() && impairments.is_none() {
            let hint = "it is for latency, slice, black_hole and slow_close: leave it out";
            mistakes.push(Diagnostic::at(&["to"], "nothing here has a direction", hint));
        }
        Impairments { to, ..impairments }
    }
}

impl Impairments {
    /// Whether there is no impairment.
    pub(super) fn is_none(&self) -> bool {
        Self { to: None, ..self.clone() } == Self::default()
    }

    /// The impairments of bytes to the service, and to the client.
    pub(super) fn by_direction(&self) -> [Impairment; 2] {
        let impairment = Impairment {
            latency: self.latency.clone().map(Rc::new),
            seed: 0,
            slicer: self.slice,
            black_hole: self.black_hole,
            slow_close: self.slow_close.unwrap_or_default(),
        };
        [Receiver::Service, Receiver::Client].map(|to| match self.to {
            Some(only) if only != to => Impairment::default(),
            _ => impairment.clone(),
        })
    }

    /// Adds the keys as a config would have them.
    pub(super) fn show(&self, json: &mut serde_json::Value) {
        if let Some(latency) = &self.latency {
            json["latency"] = delay::to_json(latency);
        }
        if let Some(Slicer { size, pause }) = self.slice {
            json["slice"] =
                serde_json::json!({ "size": Size(size).text(), "pause": duration_text(pause) });
        }
        if self.black_hole {
            json["black_hole"] = true.into();
        }
        if let Some(slow_close) = self.slow_close {
            json["slow_close"] = duration_text(slow_close).into();
        }
        if let Some(to) = self.to {
            json["to"] = serde_json::json!(to);
        }
    }
}
