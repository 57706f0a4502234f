//! A drain: connections close when they are idle, each at its turn, so that their clients do not all connect
//! again at once.

use session::Phase;
use std::{cell::Cell, time::Duration};

/// How many turns there are.
const TURNS: u64 = 64;

/// The drain of connections that have one thing in common: their worker, or their listener.
#[derive(Debug)]
pub struct Drain {
    phase: Cell<Phase>,
    /// Connections with a lesser turn close when they are idle.
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
            Phase::Draining if connection % TURNS >= self.turn.get() => Phase::Running,
            phase => phase,
        }
    }

    /// The phase, whatever the turn.
    pub fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Enters a phase. With `Draining`, all connections have their turn.
    pub fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.turn.set(TURNS);
    }

    /// Drains one turn after the other within `spread`. `notify` makes connections look at their phase.
    pub async fn spread(&self, spread: Duration, notify: impl Fn()) {
        self.phase.set(Phase::Draining);
        let pause = spread / TURNS as u32;
        for turn in 1..=TURNS {
            self.turn.set(turn);
            if turn == TURNS || !pause.is_zero() {
                notify();
            }
            if turn < TURNS && !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[tokio::test(start_paused = true)]
    async fn connections_have_their_turns_within_the_spread() {
        let drain = Drain::default();
        let ids = || 1000..1000 + TURNS;
        let draining = || ids().filter(|id| drain.phase_of(*id) == Phase::Draining).count();
        assert_eq!(draining(), 0);
        let began = tokio::time::Instant::now();
        let seen = RefCell::new(Vec::new());
        drain
            .spread(Duration::from_secs(6), || {
                seen.borrow_mut().push((draining(), began.elapsed()))
            })
            .await;
        let seen = seen.into_inner();
        assert_eq!(seen.len() as u64, TURNS);
        assert_eq!(seen[0], (1, Duration::ZERO));
        let half = seen[TURNS as usize / 2];
        assert_eq!(half.0 as u64, TURNS / 2 + 1);
        assert!(
            half.1 >= Duration::from_secs(3) && half.1 < Duration::from_millis(3100),
            "{half:?}"
        );
        assert!(ids().all(|id| drain.phase_of(id) == Phase::Draining));
        drain.enter(Phase::Closing);
        assert!(ids().all(|id| drain.phase_of(id) == Phase::Closing));
    }

    #[tokio::test]
    async fn without_a_spread_all_close_at_once() {
        let (drain, notified) = (Drain::default(), Cell::new(0));
        drain.spread(Duration::ZERO, || notified.set(notified.get() + 1)).await;
        assert_eq!((drain.phase_of(5), notified.get()), (Phase::Draining, 1));
    }
}
