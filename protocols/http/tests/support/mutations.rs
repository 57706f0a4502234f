//! Connections made of the smuggling corpus by mutations.

use crate::corpus::Case;

/// What mutations insert: framing, and what disguises it.
const PARTS: [&str; 48] = [
    "\r\n",
    "\r",
    "\n",
    "\r\n\r\n",
    "\0",
    " ",
    "\t",
    "\x0b",
    ":",
    ",",
    ";",
    "=",
    "\"",
    "\\",
    "0",
    "1",
    "5",
    "a",
    "F",
    "-",
    "+",
    "0x",
    "?",
    "#",
    "@",
    "/",
    "*",
    "%",
    "{",
    "<",
    "\u{e9}",
    "\x7f",
    "chunked",
    "gzip",
    "close",
    "keep-alive",
    "Content-Length: 5\r\n",
    "Content-Length: 0\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Host: a\r\n",
    "X: y\r\n",
    "Connection: close\r\n",
    "0\r\n\r\n",
    "5\r\nhello\r\n",
    "HTTP/1.0",
    "HTTP/1.1",
    "Upgrade: h2c\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
];

/// Makes connections of the corpus's cases.
pub(crate) struct Mutations {
    faulty: Vec<Case>,
    fine: Vec<Case>,
}

impl Mutations {
    /// Of these cases.
    pub(crate) fn of(cases: Vec<Case>) -> Self {
        let small = cases.into_iter().filter(|case| case.bytes.len() < 2_000);
        let (faulty, fine) = small.partition(|case| case.fault.is_some());
        Self { faulty, fine }
    }

    /// A connection's bytes.
    pub(crate) fn connection(&self, random: &mut fastrand::Rng) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..random.usize(1..4) {
            let from = if random.u8(..8) == 0 { &self.faulty } else { &self.fine };
            bytes.extend_from_slice(&from[random.usize(..from.len())].bytes);
        }
        for _ in 0..random.usize(..4) {
            mutate(random, &mut bytes);
        }
        bytes
    }
}

fn mutate(random: &mut fastrand::Rng, bytes: &mut Vec<u8>) {
    let at = random.usize(..bytes.len());
    let end = (at + random.usize(1..6)).min(bytes.len());
    match random.u8(..5) {
        0 => drop(bytes.drain(at..end)),
        1 => bytes[at] = random.u8(..),
        2 => {
            let again = bytes[at..end].to_vec();
            bytes.splice(at..at, again);
        }
        3 => {
            let part = PARTS[random.usize(..PARTS.len())];
            bytes.splice(at..end, part.bytes());
        }
        _ => {
            // A whole line may be inserted after a line.
            let lines = memchr::memmem::find_iter(&*bytes, "\r\n").collect::<Vec<_>>();
            let at = if lines.is_empty() { at } else { lines[random.usize(..lines.len())] + 2 };
            bytes.splice(at..at, PARTS[random.usize(..PARTS.len())].bytes());
        }
    }
    if bytes.is_empty() {
        bytes.push(b'G');
    }
}
