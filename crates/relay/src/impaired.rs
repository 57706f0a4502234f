//! Injected network impairments of a stream (see [`Impairment`]).

use super::Relay;
use operation::{Close, Codec, Direction, Impairment, draw};
use std::{collections::VecDeque, time::Instant};

/// How many bytes may be queued in each direction. Beyond that reading stops.
const MAX_QUEUED: usize = 256 * 1024;

/// One impaired direction of a stream.
#[derive(Debug)]
pub(super) struct Impaired {
    impairment: Impairment,
    /// How many chunks have been read.
    chunks_seen: u64,
    /// What was read, oldest first: the release time, and the number of bytes.
    chunks: VecDeque<(Instant, usize)>,
    /// How many bytes may pass now, where there is a latency.
    released: usize,
    /// When the end of the stream may pass, once it was read.
    end_at: Option<Instant>,
    /// Bytes were dropped that will never arrive.
    swallowed: bool,
}

impl Impaired {
    /// Starts an impairment; `unread` bytes are buffered already and pass at once.
    fn new(asked: &Impairment, unread: usize) -> Box<Self> {
        Box::new(Self {
            impairment: asked.clone(),
            chunks_seen: 0,
            chunks: VecDeque::new(),
            released: unread,
            end_at: None,
            swallowed: false,
        })
    }

    /// When the bytes read now may pass: never before bytes read earlier.
    fn release_time(&mut self, now: Instant) -> Instant {
        self.chunks_seen += 1;
        let draw = draw(self.impairment.seed, self.chunks_seen, 2);
        let latency = self.impairment.latency.as_ref().map(|latency| latency.quantile(draw));
        let due = now + latency.unwrap_or_default();
        self.chunks.back().map_or(due, |(before, _)| due.max(*before))
    }

    fn release_due(&mut self, now: Instant) {
        while let Some((_, bytes)) = self.chunks.front().filter(|(due, _)| *due <= now) {
            self.released += bytes;
            self.chunks.pop_front();
        }
    }

    /// The most bytes that may pass at once.
    pub(super) fn max_pass(&self) -> usize {
        let ripe = if self.impairment.latency.is_some() { self.released } else { usize::MAX };
        let slice =
            self.impairment.slicer.map(|slice| usize::try_from(slice.size).unwrap_or(usize::MAX));
        ripe.min(slice.unwrap_or(usize::MAX))
    }

    /// Records that bytes have passed. Returns until when the next bytes should wait.
    pub(super) fn record_passed(&mut self, bytes: usize, now: Instant) -> Option<Instant> {
        self.released = self.released.saturating_sub(bytes);
        self.impairment.slicer.map(|slice| now + slice.pause)
    }

    /// The next time at which something may pass.
    pub(super) fn next_release(&self) -> Option<Instant> {
        self.chunks.front().map(|(due, _)| *due).or(self.end_at)
    }
}

impl<C: Codec> Relay<C> {
    /// Applies these impairments, by direction, from now on.
    pub(super) fn impair(&mut self, asked: &[Impairment; 2]) {
        for (way, asked) in [Direction::Up, Direction::Down].into_iter().zip(asked) {
            let unread = self.flow(way).unread().len();
            let Some(shaping) = &mut self.shaping else { return };
            let place = &mut shaping.impaired[way as usize];
            if place.as_ref().map_or(asked.is_none(), |it| it.impairment == *asked) {
                continue;
            }
            let before = place.take();
            if !asked.is_none() {
                *place = Some(Impaired::new(asked, unread));
            }
            let Some(before) = before.filter(|it| it.impairment.black_hole) else { continue };
            if asked.black_hole {
                shaping.impaired[way as usize].as_mut().into_iter().for_each(|it| {
                    it.swallowed = before.swallowed;
                });
            } else if before.swallowed {
                // Bytes are missing in the middle, so the end must not look orderly.
                self.schedule_close(Close::Injected, true, false);
            } else {
                self.flow_mut(way).dropping = false;
            }
        }
    }

    fn flow(&self, way: Direction) -> &super::Flow {
        match way {
            Direction::Up => &self.requests,
            Direction::Down => &self.replies,
        }
    }

    fn flow_mut(&mut self, way: Direction) -> &mut super::Flow {
        match way {
            Direction::Up => &mut self.requests,
            Direction::Down => &mut self.replies,
        }
    }

    pub(super) fn impaired(&self, way: Direction) -> Option<&Impaired> {
        self.shaping.as_ref()?.impaired[way as usize].as_deref()
    }

    fn impaired_mut(&mut self, way: Direction) -> Option<&mut Impaired> {
        self.shaping.as_mut()?.impaired[way as usize].as_deref_mut()
    }

    /// Records bytes read in this direction.
    pub(super) fn schedule_read(&mut self, way: Direction, bytes: usize) {
        let now = self.now();
        let Some(impaired) = self.impaired_mut(way) else { return };
        impaired.swallowed |= impaired.impairment.black_hole;
        if impaired.impairment.latency.is_some() && !impaired.impairment.black_hole {
            let due = impaired.release_time(now);
            impaired.chunks.push_back((due, bytes));
        }
    }

    /// Lets bytes pass whose release time has come.
    pub(super) fn release_impaired(&mut self) {
        if self.shaping.is_none() {
            return;
        }
        let now = self.now();
        let ways = self.shaping.iter_mut().flat_map(|shaping| &mut shaping.impaired);
        ways.flatten().for_each(|impaired| impaired.release_due(now));
    }

    /// Starts dropping the bytes of this direction if it is a black hole.
    pub(super) fn apply_black_hole(&mut self, way: Direction) {
        if self.impaired(way).is_some_and(|impaired| impaired.impairment.black_hole) {
            self.flow_mut(way).dropping = true;
        }
    }

    /// Whether the queue is full, so that reading stops.
    pub(super) fn is_queue_full(&self, way: Direction) -> bool {
        self.impaired(way).is_some() && self.flow(way).unread().len() >= MAX_QUEUED
    }

    /// Passes the rest at the end of the stream, at once or after its delay.
    pub(super) fn pass_rest(&mut self, way: Direction) {
        let now = self.now();
        match self.impaired_mut(way) {
            Some(impaired) => {
                let due = impaired.release_time(now);
                impaired.end_at = Some(due + impaired.impairment.slow_close);
            }
            None => self.flow_mut(way).pass_rest(),
        }
    }

    /// Whether the end of this direction was read and may not pass yet.
    pub(super) fn delays_eof(&mut self, way: Direction) -> bool {
        let now = self.now();
        let both = self.requests.eof && self.replies.eof;
        let waits = !self.flow(way).unread().is_empty();
        let Some(impaired) = self.impaired(way) else { return false };
        if impaired.impairment.black_hole {
            // Both peers have gone: the end reaches neither.
            return !both;
        }
        waits || impaired.end_at.is_some_and(|at| at > now)
    }
}
