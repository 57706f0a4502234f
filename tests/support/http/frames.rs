//! A client of HTTP/2 in a test's own thread, frame by frame. It sends given frames, right or
//! wrong, and answers nothing by itself but settings.

use super::super::ends::End;
use std::net::SocketAddr;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What kinds of frames there are, and flags (RFC 9113, section 6).
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const CONTINUATION: u8 = 9;
pub const ACK: u8 = 1;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// The setting of how much of a stream may come unasked.
pub const INITIAL_WINDOW_SIZE: u16 = 4;

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// Whether this is the end of an answer.
    pub fn ends(&self, stream: u32) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.stream == stream && self.flags & END_STREAM > 0
    }

    /// What a GOAWAY says: the last stream that is served, and an error's code.
    pub fn goaway(&self) -> Option<(u32, u32)> {
        let number = |at| u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap());
        (self.kind == GOAWAY).then(|| (number(0), number(4)))
    }
}

/// A client's connection.
pub struct Frames(End);

impl Frames {
    /// Connects, and says hello with these settings.
    pub fn connect(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let mut this = Self(End::connect(address));
        this.0.send(PREFACE);
        let settings = settings.iter();
        let pair =
            |(name, value): &(u16, u32)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat();
        this.send(SETTINGS, 0, 0, &settings.flat_map(pair).collect::<Vec<u8>>());
        this
    }

    /// Sends a frame.
    pub fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).expect("a frame's length").to_be_bytes();
        let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
        self.0.send(&[&head, payload].concat());
    }

    /// Sends only this request.
    pub fn get(&mut self, stream: u32, path: &str) {
        self.send(HEADERS, END_HEADERS | END_STREAM, stream, &head(path));
    }

    /// The next frame; `None` at the connection's end. Settings are acknowledged.
    pub fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.0.try_read(&mut head).ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.0.try_read(&mut payload).ok()?;
        let stream = u32::from_be_bytes(head[5..].try_into().expect("four bytes"));
        let frame = Frame { kind: head[3], flags: head[4], stream, payload };
        if frame.kind == SETTINGS && frame.flags & ACK == 0 {
            self.send(SETTINGS, ACK, 0, &[]);
        }
        Some(frame)
    }

    /// Every frame up to the first like this.
    ///
    /// # Panics
    /// If the connection ends before.
    pub fn until(&mut self, wanted: impl Fn(&Frame) -> bool) -> Vec<Frame> {
        let mut frames = Vec::new();
        while !frames.last().is_some_and(&wanted) {
            frames.push(self.next().unwrap_or_else(|| panic!("an end after {frames:?}")));
        }
        frames
    }

    /// Every frame up to the connection's end.
    pub fn rest(&mut self) -> Vec<Frame> {
        std::iter::from_fn(|| self.next()).collect()
    }
}

/// The head of a GET, of literals that are never indexed.
pub fn head(path: &str) -> Vec<u8> {
    let of =
        [(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "a.example")];
    let text = |it: &str| {
        let length = u8::try_from(it.len()).expect("a short text");
        assert!(length < 127, "a short text");
        [&[length], it.as_bytes()].concat()
    };
    of.iter().flat_map(|(name, value)| [&[0][..], &text(name), &text(value)].concat()).collect()
}
