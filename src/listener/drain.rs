//! A drain: connections close when they are idle. If another process, or another config, serves their clients
//! from then on, each has its turn, and closes after a rest: so clients do not all connect again at once, and no
//! operation meets the close.

use session::{Phase, REST};
use std::{cell::Cell, time::Duration};
use tokio::time::{Instant, sleep, sleep_until};

/// How many turns there are.
const TURNS: u64 = 64;

/// The share of the time-out in which connections close after a rest only. Those that never rest are left then:
/// they close between two operations, which the client may notice.
const SOFT_SHARE: f64 = 0.75;

/// How connections end.
#[derive(Clone, Copy, Debug)]
pub struct DrainOptions {
    /// How long they may stay open.
    pub timeout: Duration,
    /// The time over which connections get their turn to close after a rest. `None`: they close as soon as they are
    /// idle.
    pub spread: Option<Duration>,
}

/// The drain of connections that have one thing in common: their worker, or their listener.
#[derive(Debug)]
pub struct Drain {
    phase: Cell<Phase>,
    /// Connections with a lesser turn drain softly.
    turn: Cell<u64>,
}

impl Default for Drain {
    fn default() -> Self {
        Self { phase: Cell::new(Phase::Running), turn: Cell::new(0) }
    }
}

impl Drain {
    /// The phase of the connection with this id.
    pub fn phase_of(&self, connection: u64) -> Phase {
        match self.phase.get() {
            Phase::SoftDraining if connection % TURNS >= self.turn.get() => Phase::Running,
            phase => phase,
        }
    }

    /// The phase, whatever the turn.
    pub fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Enters a phase, all connections at once.
    pub fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.turn.set(TURNS);
    }

    /// Drains, and returns when connections close as soon as they are idle. `notify` makes connections look at their
    /// phase.
    pub async fn run(&self, DrainOptions { timeout, spread }: DrainOptions, notify: impl Fn()) {
        if let Some(spread) = spread {
            let soft_end = Instant::now() + timeout.mul_f64(SOFT_SHARE);
            self.phase.set(Phase::SoftDraining);
            self.take_turns(spread.min(timeout), &notify).await;
            while Instant::now() < soft_end {
                sleep_until(soft_end.min(Instant::now() + REST / 2)).await;
                notify();
            }
        }
        self.enter(Phase::Draining);
        notify();
    }

    async fn take_turns(&self, spread: Duration, notify: impl Fn()) {
        let pause = spread / TURNS as u32;
        for turn in 1..=TURNS {
            self.turn.set(turn);
            if turn == TURNS || !pause.is_zero() {
                notify();
            }
            if turn < TURNS && !pause.is_zero() {
                sleep(pause).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    fn options(timeout: u64, spread: Option<u64>) -> DrainOptions {
        let timeout = Duration::from_secs(timeout);
        DrainOptions { timeout, spread: spread.map(Duration::from_secs) }
    }

    #[tokio::test(start_paused = true)]
    async fn connections_have_their_turns_within_the_spread() {
        let drain = Drain::default();
        let ids = || 1000..1000 + TURNS;
        let draining = || ids().filter(|id| drain.phase_of(*id) == Phase::SoftDraining).count();
        assert_eq!(draining(), 0);
        let began = Instant::now();
        let seen = RefCell::new(Vec::new());
        let notify = || seen.borrow_mut().push((draining(), began.elapsed()));
        drain.run(options(12, Some(6)), notify).await;
        let seen = seen.into_inner();
        assert_eq!(seen[0], (1, Duration::ZERO));
        let half = seen[TURNS as usize / 2];
        assert_eq!(half.0 as u64, TURNS / 2 + 1);
        let second = |it: u64| Duration::from_secs(it)..Duration::from_millis(it * 1000 + 200);
        assert!(second(3).contains(&half.1), "{half:?}");
        // Then they are looked at for a rest, until nothing but a pause is waited for.
        assert!(seen[TURNS as usize..].len() >= 6, "{seen:?}");
        let (last, at) = seen[seen.len() - 1];
        assert_eq!(last, 0);
        assert!(second(9).contains(&at), "{at:?}");
        assert!(ids().all(|id| drain.phase_of(id) == Phase::Draining));
        drain.enter(Phase::Closing);
        assert!(ids().all(|id| drain.phase_of(id) == Phase::Closing));
    }

    #[tokio::test]
    async fn without_a_spread_all_close_at_once() {
        let (drain, notified) = (Drain::default(), Cell::new(0));
        drain.run(options(3600, None), || notified.set(notified.get() + 1)).await;
        assert_eq!((drain.phase_of(5), notified.get()), (Phase::Draining, 1));
    }
}
