//! Connection churn: a client that opens a connection for each operation or two.

use foldhash::HashMap;
use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

/// How many clients are observed at once.
const MAX_CLIENTS: usize = 1000;

/// For how long connections are counted before they are judged.
const WINDOW: Duration = Duration::from_secs(10);

/// More connections than this in a window, ten a second, are churn…
const MAX_ENDED: u64 = 100;

/// …if half of them live for less than this.
const SHORT_LIFE: Duration = Duration::from_secs(5);

/// How many durations of one client are kept for the median.
const MAX_LIVES: usize = 1000;

/// The connections of clients that have ended lately.
#[derive(Debug, Default)]
pub(crate) struct ConnectionChurn(HashMap<(IpAddr, Box<str>), Window>);

/// The connections of one client that have ended since a time.
#[derive(Debug)]
struct Window {
    began: Instant,
    ended: u64,
    lives: Vec<Duration>,
    is_judged: bool,
}

/// A client that opens too many short connections.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Churn {
    /// How many connections in a second.
    pub(crate) rate: f64,
    /// Half of them lived for less than this.
    pub(crate) median_life: Duration,
    /// How many connections were counted.
    pub(crate) connections: u64,
}

impl ConnectionChurn {
    /// Records the end of a connection that lived for `life`. Returns the churn of its client, once for
    /// each window of ten seconds that is full of short connections.
    pub(crate) fn record(
        &mut self,
        peer: IpAddr,
        app: &str,
        life: Duration,
        now: Instant,
    ) -> Option<Churn> {
        if self.0.len() >= MAX_CLIENTS {
            self.0.retain(|_, window| now.saturating_duration_since(window.began) < WINDOW);
        }
        if self.0.len() >= MAX_CLIENTS {
            return None;
        }
        let new = || Window { began: now, ended: 0, lives: Vec::new(), is_judged: false };
        let window = self.0.entry((peer, app.into())).or_insert_with(new);
        if now.saturating_duration_since(window.began) >= WINDOW {
            *window = new();
        }
        window.ended += 1;
        if window.lives.len() < MAX_LIVES {
            window.lives.push(life);
        }
        window.judge(now)
    }
}

impl Window {
    fn judge(&mut self, now: Instant) -> Option<Churn> {
        if self.is_judged || self.ended <= MAX_ENDED {
            return None;
        }
        self.is_judged = true;
        self.lives.sort_unstable();
        let median_life = *self.lives.get(self.lives.len() / 2)?;
        let elapsed = now.saturating_duration_since(self.began).max(Duration::from_millis(1));
        let rate = self.ended as f64 / elapsed.as_secs_f64();
        (median_life < SHORT_LIFE).then_some(Churn { rate, median_life, connections: self.ended })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    /// The churn of 30 seconds with this number of connections a second, each living for `life`.
    fn churn(a_second: u64, life: Duration) -> Vec<Churn> {
        let (mut churn, began) = (ConnectionChurn::default(), Instant::now());
        let ends = (0..30 * a_second).map(|number| Duration::from_millis(number * 1000 / a_second));
        ends.filter_map(|at| churn.record(PEER, "app", life, began + at)).collect()
    }

    #[test]
    fn many_short_connections_are_churn() {
        let found = churn(20, Duration::from_millis(40));
        assert_eq!(found.len(), 3, "once for each window");
        assert!((found[0].rate - 20.0).abs() < 0.5, "{found:?}");
        assert_eq!(found[0].median_life, Duration::from_millis(40));
    }

    #[test]
    fn few_connections_and_long_ones_are_none() {
        assert_eq!(churn(9, Duration::from_millis(40)), []);
        assert_eq!(churn(50, Duration::from_secs(60)), []);
    }

    #[test]
    fn a_flood_of_clients_is_bounded() {
        let (mut churn, now) = (ConnectionChurn::default(), Instant::now());
        for number in 0..10_000_u32 {
            let peer = Ipv4Addr::from_bits(number).into();
            churn.record(peer, "", Duration::ZERO, now + Duration::from_millis(number.into()));
        }
        assert!(churn.0.len() <= MAX_CLIENTS);
    }
}
