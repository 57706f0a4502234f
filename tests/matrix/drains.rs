//! A drain ends what ends by itself, and at its time-out everything, whatever it speaks.

use super::{Stage, client::Client, each};
use crate::support::{
    flaky::{Flaky, Mode},
    tollgate::Tollgate,
    until_nothing_listens,
};
use rustix::process::Signal;

impl Stage<'_> {
    /// A proxy before a server that hangs, and a client that waits for it.
    fn waiting(&self, drain_timeout: &str) -> (Flaky, Tollgate, Client) {
        let hangs = self.flaky();
        let config = self.config(&format!("endpoints: [\"{}\"]", hangs.address()));
        let tollgate = Tollgate::start(&format!("drain_timeout: {drain_timeout}\n{config}"));
        hangs.set_mode(Mode::Hangs);
        let client = self.asks(&tollgate);
        tollgate.wait_for_metric("tollgate_operations_active", &[("listener", "it")], 1.0);
        (hangs, tollgate, client)
    }
}

#[test]
fn a_drain_finishes_operations_and_accepts_none() {
    each(|stage| {
        let (hangs, mut tollgate, mut client) = stage.waiting("1m");
        let address = tollgate.listener("it");
        tollgate.signal(Signal::TERM);
        until_nothing_listens(address);
        assert!(tollgate.is_running());
        hangs.set_mode(Mode::Works);
        assert!((stage.speaker.answered)(&client.receive(stage).unwrap()));
        drop(client);
        assert!(tollgate.end().success());
        let lines = tollgate.access_log();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!(lines[0]["outcome"], "ok", "{lines:?}");
    });
}

#[test]
fn what_outlives_the_drain_timeout_is_cut_and_logged() {
    each(|stage| {
        let (hangs, mut tollgate, mut client) = stage.waiting("200ms");
        assert!(tollgate.stop().success());
        // It may be a reset; never an answer, or what looks like one.
        let heard = client.receive(stage).unwrap_or_default();
        assert!(!(stage.speaker.answered)(&heard), "{heard:?}");
        assert_eq!((stage.speaker.part)(&heard), 0, "{heard:?}");
        let line = &tollgate.access_log()[0];
        assert_eq!(
            (&line["outcome"], &line["reason"]),
            (&"cancelled".into(), &"drain_timeout".into())
        );
        drop(hangs);
    });
}
