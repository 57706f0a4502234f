//! What a bad network would do to a stream's bytes, done on purpose (see [`Impairment`]).

use super::Relay;
use crate::policy::{Direction, fault::draw};
use operation::{Close, Codec, Impairment};
use std::{collections::VecDeque, time::Instant};

/// How many bytes may wait for their moment, each way; beyond that no more are read.
const MOST: usize = 256 * 1024;

/// One way of a stream that is impaired.
#[derive(Debug)]
pub(super) struct Impaired {
    asked: Impairment,
    /// How many chunks have come.
    count: u64,
    /// What was read, oldest first: when it may pass, and how many bytes that is.
    chunks: VecDeque<(Instant, usize)>,
    /// How many bytes may pass now, where there is a latency.
    ripe: usize,
    /// When the end may pass, once it has come.
    end_at: Option<Instant>,
    /// Bytes were taken that will never arrive.
    swallowed: bool,
}

impl Impaired {
    /// `unread` bytes have come already.
    fn new(asked: &Impairment, unread: usize) -> Box<Self> {
        Box::new(Self {
            asked: asked.clone(),
            count: 0,
            chunks: VecDeque::new(),
            ripe: unread,
            end_at: None,
            swallowed: false,
        })
    }

    /// When what comes now may pass: never before what came before it.
    fn due(&mut self, now: Instant) -> Instant {
        self.count += 1;
        let draw = draw(self.asked.seed, self.count, 2);
        let latency = self.asked.latency.as_ref().map(|latency| latency.at(draw));
        let due = now + latency.unwrap_or_default();
        self.chunks.back().map_or(due, |(before, _)| due.max(*before))
    }

    fn ripen(&mut self, now: Instant) {
        while let Some((_, bytes)) = self.chunks.front().filter(|(due, _)| *due <= now) {
            self.ripe += bytes;
            self.chunks.pop_front();
        }
    }

    /// The most bytes that may pass in one go.
    pub(super) fn room(&self) -> usize {
        let ripe = if self.asked.latency.is_some() { self.ripe } else { usize::MAX };
        let slice = self.asked.slice.map(|slice| usize::try_from(slice.size).unwrap_or(usize::MAX));
        ripe.min(slice.unwrap_or(usize::MAX))
    }

    /// So many bytes have passed. Returns the moment before which no more should.
    pub(super) fn passed(&mut self, bytes: usize, now: Instant) -> Option<Instant> {
        self.ripe = self.ripe.saturating_sub(bytes);
        self.asked.slice.map(|slice| now + slice.pause)
    }

    /// The next moment at which something may pass.
    pub(super) fn next(&self) -> Option<Instant> {
        self.chunks.front().map(|(due, _)| *due).or(self.end_at)
    }
}

impl<C: Codec> Relay<C> {
    /// Does this to the stream's bytes from now on, to the service and to the client.
    pub(super) fn impair(&mut self, asked: &[Impairment; 2]) {
        for (way, asked) in [Direction::Up, Direction::Down].into_iter().zip(asked) {
            let unread = self.flow(way).unread().len();
            let Some(bent) = &mut self.bent else { return };
            let place = &mut bent.impaired[way as usize];
            if place.as_ref().map_or(asked.is_none(), |it| it.asked == *asked) {
                continue;
            }
            let before = place.take();
            if !asked.is_none() {
                *place = Some(Impaired::new(asked, unread));
            }
            let Some(before) = before.filter(|it| it.asked.black_hole) else { continue };
            if asked.black_hole {
                bent.impaired[way as usize].as_mut().into_iter().for_each(|it| {
                    it.swallowed = before.swallowed;
                });
            } else if before.swallowed {
                // What is missing in the middle nobody must take for whole.
                self.part(Close::Injected, true, false);
            } else {
                self.flow_mut(way).dropping = false;
            }
        }
    }

    fn flow(&self, way: Direction) -> &super::Flow {
        match way {
            Direction::Up => &self.up,
            Direction::Down => &self.down,
        }
    }

    fn flow_mut(&mut self, way: Direction) -> &mut super::Flow {
        match way {
            Direction::Up => &mut self.up,
            Direction::Down => &mut self.down,
        }
    }

    pub(super) fn impaired(&self, way: Direction) -> Option<&Impaired> {
        self.bent.as_ref()?.impaired[way as usize].as_deref()
    }

    fn impaired_mut(&mut self, way: Direction) -> Option<&mut Impaired> {
        self.bent.as_mut()?.impaired[way as usize].as_deref_mut()
    }

    /// Bytes were read that go this way.
    pub(super) fn impair_read(&mut self, way: Direction, bytes: usize) {
        let now = self.now();
        let Some(impaired) = self.impaired_mut(way) else { return };
        impaired.swallowed |= impaired.asked.black_hole;
        if impaired.asked.latency.is_some() && !impaired.asked.black_hole {
            let due = impaired.due(now);
            impaired.chunks.push_back((due, bytes));
        }
    }

    /// Lets pass what has waited for long enough.
    pub(super) fn ripen(&mut self) {
        if self.bent.is_none() {
            return;
        }
        let now = self.now();
        let ways = self.bent.iter_mut().flat_map(|bent| &mut bent.impaired);
        ways.flatten().for_each(|impaired| impaired.ripen(now));
    }

    /// Whether what comes this way is swallowed. From now on it is.
    pub(super) fn sinks(&mut self, way: Direction) {
        if self.impaired(way).is_some_and(|impaired| impaired.asked.black_hole) {
            self.flow_mut(way).dropping = true;
        }
    }

    /// Whether so much waits that no more is read.
    pub(super) fn is_full(&self, way: Direction) -> bool {
        self.impaired(way).is_some() && self.flow(way).unread().len() >= MOST
    }

    /// What is left when this way has ended, passes: at once, unless it has to wait.
    pub(super) fn pass_rest(&mut self, way: Direction) {
        let now = self.now();
        match self.impaired_mut(way) {
            Some(impaired) => {
                let due = impaired.due(now);
                impaired.end_at = Some(due + impaired.asked.slow_close);
            }
            None => self.flow_mut(way).pass_rest(),
        }
    }

    /// Whether the end of this way, which has come, may not pass yet.
    pub(super) fn keeps_end(&mut self, way: Direction) -> bool {
        let now = self.now();
        let both = self.up.eof && self.down.eof;
        let waits = !self.flow(way).unread().is_empty();
        let Some(impaired) = self.impaired(way) else { return false };
        if impaired.asked.black_hole {
            // Nobody is left to whom it would tell anything.
            return !both;
        }
        waits || impaired.end_at.is_some_and(|at| at > now)
    }
}
