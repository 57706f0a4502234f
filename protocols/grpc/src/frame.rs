//! Frames: what messages travel in. A byte of flags, a length of 4 bytes, and the message
//! (gRPC over HTTP/2, "Length-Prefixed-Message").

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The bytes before each message.
pub const PREFIX: usize = 5;
/// The flag of a message that is compressed by what `grpc-encoding` names.
pub const COMPRESSED: u8 = 0x01;
/// The flag of a frame that holds trailers (gRPC-Web).
pub const TRAILERS: u8 = 0x80;

/// The five bytes before a message of `len` bytes.
///
/// Nothing that is built here is longer than a limit, and no limit is longer than a length can say.
pub fn prefix(flags: u8, len: usize) -> [u8; PREFIX] {
    let [a, b, c, d] = u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes();
    [flags, a, b, c, d]
}

/// A message in a frame of its own.
pub fn framed(flags: u8, message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(PREFIX + message.len());
    frame.put_slice(&prefix(flags, message.len()));
    frame.put_slice(message);
    frame.freeze()
}

/// Counts the messages of one direction as their bytes go by, and keeps none of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    /// What is there of a prefix.
    prefix: [u8; PREFIX],
    /// How many bytes of it.
    have: usize,
    /// How many bytes of the message are still to come.
    left: u32,
    messages: u64,
}

impl Counter {
    /// More bytes, cut anywhere.
    pub fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.have < PREFIX {
                let taken = bytes.len().min(PREFIX - self.have);
                self.prefix[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
                self.have += taken;
                bytes = &bytes[taken..];
                if self.have < PREFIX {
                    return;
                }
                let [_, a, b, c, d] = self.prefix;
                self.left = u32::from_be_bytes([a, b, c, d]);
            }
            let taken = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
            bytes = &bytes[taken..];
            self.left -= u32::try_from(taken).unwrap_or(self.left);
            if self.left > 0 {
                return;
            }
            self.have = 0;
            self.messages += u64::from(self.prefix[0] & TRAILERS == 0);
        }
        self.end_of_empty();
    }

    /// A message of no bytes ends with its prefix.
    fn end_of_empty(&mut self) {
        if self.have == PREFIX && self.left == 0 {
            self.have = 0;
            self.messages += u64::from(self.prefix[0] & TRAILERS == 0);
        }
    }

    /// How many messages have gone by in full.
    pub fn messages(&self) -> u64 {
        self.messages
    }
}

/// Counts the messages of a call, both ways.
#[derive(Debug, Default)]
pub struct Messages {
    asked: Counter,
    answered: Counter,
}

impl tollgate_http::Meter for Messages {
    fn on_request(&mut self, bytes: &[u8]) {
        self.asked.push(bytes);
    }

    fn on_response(&mut self, bytes: &[u8]) {
        self.answered.push(bytes);
    }

    fn message_counts(&self) -> (u64, u64) {
        (self.asked.messages(), self.answered.messages())
    }
}

/// Counts one message each way where there is a body: the service speaks no frames, and calls are
/// unary.
#[derive(Debug, Default)]
pub struct Unary {
    asked: bool,
    answered: bool,
}

impl tollgate_http::Meter for Unary {
    fn on_request(&mut self, bytes: &[u8]) {
        self.asked |= !bytes.is_empty();
    }

    fn on_response(&mut self, bytes: &[u8]) {
        self.answered |= !bytes.is_empty();
    }

    fn message_counts(&self) -> (u64, u64) {
        (self.asked.into(), self.answered.into())
    }
}

/// A frame in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Framed {
    /// What is special about it: [`COMPRESSED`], [`TRAILERS`].
    pub flags: u8,
    /// The message.
    pub message: Bytes,
}

/// A message is longer than it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong {
    /// How long it says it is, in bytes.
    pub len: u64,
    /// How long it may be, in bytes.
    pub limit: usize,
}

/// Takes frames out of a stream. Holds what arrived, and no more than one message of the limit's
/// length together with what arrived in one piece.
#[derive(Debug)]
pub struct Frames {
    held: BytesMut,
    limit: usize,
}

impl Frames {
    /// `limit` is how long a message may be, in bytes.
    pub fn new(limit: usize) -> Self {
        Self { held: BytesMut::new(), limit }
    }

    /// More bytes, cut anywhere.
    pub fn push(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// The next frame, if all of it is there.
    ///
    /// # Errors
    /// Its length is over the limit, as soon as the length is there.
    pub fn next_frame(&mut self) -> Result<Option<Framed>, TooLong> {
        let Some(&[flags, a, b, c, d]) = self.held.first_chunk() else { return Ok(None) };
        let claimed = u32::from_be_bytes([a, b, c, d]);
        let len = usize::try_from(claimed).unwrap_or(usize::MAX);
        if len > self.limit {
            return Err(TooLong { len: claimed.into(), limit: self.limit });
        }
        if self.held.len() - PREFIX < len {
            return Ok(None);
        }
        self.held.advance(PREFIX);
        Ok(Some(Framed { flags, message: self.held.split_to(len).freeze() }))
    }

    /// How many bytes of memory it has for frames that are not yet there in full.
    pub fn held(&self) -> usize {
        self.held.capacity()
    }

    /// Whether nothing is left of a frame that began.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> Vec<u8> {
        let messages: [&[u8]; 5] = [b"hello", b"", &[7; 300], b"", b"x"];
        messages.iter().flat_map(|message| framed(0, message)).collect()
    }

    #[test]
    fn messages_are_counted_wherever_their_bytes_are_cut() {
        let bytes = stream();
        for cut in 0..=bytes.len() {
            for second in cut..=bytes.len().min(cut + 7) {
                let mut counter = Counter::default();
                counter.push(&bytes[..cut]);
                counter.push(&bytes[cut..second]);
                counter.push(&bytes[second..]);
                assert_eq!(counter.messages(), 5, "cut at {cut} and {second}");
            }
        }
        let mut counter = Counter::default();
        bytes.chunks(1).for_each(|byte| counter.push(byte));
        assert_eq!(counter.messages(), 5);
    }

    #[test]
    fn a_message_counts_once_it_is_there_in_full() {
        let bytes = framed(0, b"hello");
        let mut counter = Counter::default();
        for (at, byte) in bytes.iter().enumerate() {
            assert_eq!(counter.messages(), 0, "after {at} bytes");
            counter.push(&[*byte]);
        }
        assert_eq!(counter.messages(), 1);
        counter.push(&framed(0, b""));
        assert_eq!(counter.messages(), 2);
    }

    #[test]
    fn trailers_in_a_body_are_no_message() {
        let mut counter = Counter::default();
        counter.push(&framed(0, b"m"));
        counter.push(&framed(TRAILERS, b"grpc-status: 0\r\n"));
        counter.push(&framed(TRAILERS, b""));
        assert_eq!(counter.messages(), 1);
    }

    #[test]
    fn the_longest_length_is_counted_without_a_byte_of_memory() {
        let mut counter = Counter::default();
        counter.push(&[0, 255, 255, 255, 255]);
        for _ in 0..65_536 {
            counter.push(&[0; 65_535]);
        }
        assert_eq!(counter.messages(), 0);
        counter.push(&[0; 65_535]);
        assert_eq!(counter.messages(), 1, "65537 × 65535 is 2³² − 1");
    }

    #[test]
    fn frames_come_out_wherever_their_bytes_are_cut() {
        let bytes = stream();
        for cut in 0..=bytes.len() {
            let mut frames = Frames::new(300);
            let mut lengths = Vec::new();
            for part in [&bytes[..cut], &bytes[cut..]] {
                frames.push(part);
                while let Some(frame) = frames.next_frame().unwrap() {
                    lengths.push(frame.message.len());
                }
            }
            assert_eq!(lengths, [5, 0, 300, 0, 1], "cut at {cut}");
            assert!(frames.is_empty());
        }
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_its_bytes_come() {
        let mut frames = Frames::new(4);
        frames.push(&[0, 255, 255, 255, 255]);
        assert_eq!(frames.next_frame(), Err(TooLong { len: 4_294_967_295, limit: 4 }));
        assert!(frames.held.capacity() < 1024, "nothing is reserved for what is claimed");
        let mut frames = Frames::new(4);
        frames.push(&framed(1, b"1234"));
        let frame = Framed { flags: COMPRESSED, message: Bytes::from_static(b"1234") };
        assert_eq!(frames.next_frame(), Ok(Some(frame)));
        frames.push(&[0, 0, 0]);
        assert_eq!(frames.next_frame(), Ok(None));
        assert!(!frames.is_empty());
    }

    #[test]
    fn a_unary_call_counts_one_message_each_way() {
        use tollgate_http::Meter as _;
        let mut meter = Unary::default();
        meter.on_request(b"");
        assert_eq!(meter.message_counts(), (0, 0));
        meter.on_request(b"a");
        meter.on_request(b"b");
        assert_eq!(meter.message_counts(), (1, 0));
        let mut meter = Messages::default();
        meter.on_request(&framed(0, b"a"));
        meter.on_response(&[framed(0, b"a"), framed(0, b"")].concat());
        assert_eq!(meter.message_counts(), (1, 2));
    }
}
