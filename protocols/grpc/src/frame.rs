//! Message frames: one byte of flags, a length of 4 bytes, and the message
//! (gRPC over HTTP/2, "Length-Prefixed-Message").

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Bytes before each message.
pub const PREFIX_LEN: usize = 5;
/// Flag: the message is compressed with `grpc-encoding`.
pub const COMPRESSED: u8 = 0x01;
/// Flag: the frame holds trailers (gRPC-Web).
pub(crate) const TRAILERS: u8 = 0x80;

/// The five bytes before a message of `len` bytes.
///
/// Limits keep `len` below 4 GiB.
pub fn prefix(flags: u8, len: usize) -> [u8; PREFIX_LEN] {
    let [a, b, c, d] = u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes();
    [flags, a, b, c, d]
}

/// Encodes a message as a frame.
pub fn framed(flags: u8, message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(PREFIX_LEN + message.len());
    frame.put_slice(&prefix(flags, message.len()));
    frame.put_slice(message);
    frame.freeze()
}

/// Counts the messages of one direction without buffering them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageCounter {
    /// Bytes of an incomplete prefix.
    prefix: [u8; PREFIX_LEN],
    /// How many bytes of `prefix` are valid.
    have: usize,
    /// Bytes of the current message that have not arrived.
    left: u32,
    messages: u64,
}

impl MessageCounter {
    /// Adds a chunk of any size.
    pub fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.have < PREFIX_LEN {
                let taken = bytes.len().min(PREFIX_LEN - self.have);
                self.prefix[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
                self.have += taken;
                bytes = &bytes[taken..];
                if self.have < PREFIX_LEN {
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

    /// An empty message ends with its prefix.
    fn end_of_empty(&mut self) {
        if self.have == PREFIX_LEN && self.left == 0 {
            self.have = 0;
            self.messages += u64::from(self.prefix[0] & TRAILERS == 0);
        }
    }

    /// The number of complete messages.
    pub fn messages(&self) -> u64 {
        self.messages
    }
}

/// Counts the messages of a call in both directions.
#[derive(Debug, Default)]
pub struct CallMeter {
    asked: MessageCounter,
    answered: MessageCounter,
}

impl tollgate_http::Meter for CallMeter {
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

/// Counts one message per direction that has a body: for a service without frames, where calls are
/// unary.
#[derive(Debug, Default)]
pub struct UnaryMeter {
    asked: bool,
    answered: bool,
}

impl tollgate_http::Meter for UnaryMeter {
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

/// A complete frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageFrame {
    /// The bits that are set: [`COMPRESSED`], and 0x80 in a frame of gRPC-Web trailers.
    pub flags: u8,
    /// The payload.
    pub message: Bytes,
}

/// A message exceeds the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageTooLong {
    /// Announced length, in bytes.
    pub len: u64,
    /// The limit, in bytes.
    pub limit: usize,
}

/// Splits a byte stream into frames. Buffers at most one message of the limit's length and one
/// chunk.
#[derive(Debug)]
pub struct FrameDecoder {
    held: BytesMut,
    limit: usize,
}

impl FrameDecoder {
    /// `limit`: maximum message length, in bytes.
    pub fn new(limit: usize) -> Self {
        Self { held: BytesMut::new(), limit }
    }

    /// Adds a chunk of any size.
    pub fn push(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// Returns the next complete frame.
    ///
    /// # Errors
    /// The announced length exceeds the limit. Reported as soon as the prefix is complete.
    pub fn next_frame(&mut self) -> Result<Option<MessageFrame>, MessageTooLong> {
        let Some(&[flags, a, b, c, d]) = self.held.first_chunk() else { return Ok(None) };
        let claimed = u32::from_be_bytes([a, b, c, d]);
        let len = usize::try_from(claimed).unwrap_or(usize::MAX);
        if len > self.limit {
            return Err(MessageTooLong { len: claimed.into(), limit: self.limit });
        }
        if self.held.len() - PREFIX_LEN < len {
            return Ok(None);
        }
        self.held.advance(PREFIX_LEN);
        Ok(Some(MessageFrame { flags, message: self.held.split_to(len).freeze() }))
    }

    /// Allocated bytes for incomplete frames.
    pub fn held(&self) -> usize {
        self.held.capacity()
    }

    /// Whether no incomplete frame is buffered.
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
                let mut counter = MessageCounter::default();
                counter.push(&bytes[..cut]);
                counter.push(&bytes[cut..second]);
                counter.push(&bytes[second..]);
                assert_eq!(counter.messages(), 5, "cut at {cut} and {second}");
            }
        }
        let mut counter = MessageCounter::default();
        bytes.chunks(1).for_each(|byte| counter.push(byte));
        assert_eq!(counter.messages(), 5);
    }

    #[test]
    fn a_message_counts_once_it_is_there_in_full() {
        let bytes = framed(0, b"hello");
        let mut counter = MessageCounter::default();
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
        let mut counter = MessageCounter::default();
        counter.push(&framed(0, b"m"));
        counter.push(&framed(TRAILERS, b"grpc-status: 0\r\n"));
        counter.push(&framed(TRAILERS, b""));
        assert_eq!(counter.messages(), 1);
    }

    #[test]
    fn the_longest_length_is_counted_without_a_byte_of_memory() {
        let mut counter = MessageCounter::default();
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
            let mut frames = FrameDecoder::new(300);
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
        let mut frames = FrameDecoder::new(4);
        frames.push(&[0, 255, 255, 255, 255]);
        assert_eq!(frames.next_frame(), Err(MessageTooLong { len: 4_294_967_295, limit: 4 }));
        assert!(frames.held.capacity() < 1024, "nothing is reserved for what is claimed");
        let mut frames = FrameDecoder::new(4);
        frames.push(&framed(1, b"1234"));
        let frame = MessageFrame { flags: COMPRESSED, message: Bytes::from_static(b"1234") };
        assert_eq!(frames.next_frame(), Ok(Some(frame)));
        frames.push(&[0, 0, 0]);
        assert_eq!(frames.next_frame(), Ok(None));
        assert!(!frames.is_empty());
    }

    #[test]
    fn a_unary_call_counts_one_message_each_way() {
        use tollgate_http::Meter as _;
        let mut meter = UnaryMeter::default();
        meter.on_request(b"");
        assert_eq!(meter.message_counts(), (0, 0));
        meter.on_request(b"a");
        meter.on_request(b"b");
        assert_eq!(meter.message_counts(), (1, 0));
        let mut meter = CallMeter::default();
        meter.on_request(&framed(0, b"a"));
        meter.on_response(&[framed(0, b"a"), framed(0, b"")].concat());
        assert_eq!(meter.message_counts(), (1, 2));
    }
}
