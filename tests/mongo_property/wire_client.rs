//! A client that sends messages in pieces, and reports which of them the reference server has seen.

use super::{
    Saw,
    support::{client::RawClient, wire::op_msg},
};
use bson::{Document, doc};
use fastrand::Rng;
use std::net::SocketAddr;

/// The number of requests that only ask what was seen.
const ASKS: i32 = 2_000_000;

/// One connection.
pub(crate) struct Client(RawClient);

impl Client {
    /// Connects, and offers every compressor.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        // A policy may refuse the `hello`, and has read it then.
        Self(RawClient::offering(address).0)
    }

    /// Sends a message, and returns what the server has seen since, this message included. `None`
    /// if the connection ends first.
    pub(crate) fn exchange(
        &mut self,
        bytes: &[u8],
        silent: bool,
        rng: &mut Rng,
    ) -> Option<Vec<Saw>> {
        self.send(bytes, rng);
        let id = i32::from_le_bytes(bytes[4..8].try_into().unwrap());
        if !silent {
            return self.answer(id).map(|answer| seen(&answer));
        }
        // Every guard here lets this pass. Its answer lists what came before it.
        self.send(&op_msg(ASKS, &doc! { "find": "asks", "$db": "shop" }), rng);
        let answer = self.answer(ASKS)?;
        assert!(answer.contains_key("saw"), "the question was refused: {answer}");
        Some(all(&answer, "missed"))
    }

    /// In one write, or in pieces cut at random.
    fn send(&mut self, mut bytes: &[u8], rng: &mut Rng) {
        let cuts = match rng.u8(..6) {
            0 => rng.usize(1..5),
            1 => bytes.len().min(60),
            _ => 0,
        };
        for _ in 0..cuts {
            let near = bytes.len().min(if rng.bool() { 40 } else { bytes.len() });
            let (piece, rest) = bytes.split_at(rng.usize(..=near));
            // Who refuses may close before it has taken everything.
            self.0.try_send(piece);
            bytes = rest;
        }
        self.0.try_send(bytes);
    }

    fn answer(&mut self, id: i32) -> Option<Document> {
        let answer = self.0.try_read()?;
        assert_eq!(answer.answers(), id, "an answer to another request");
        Some(answer.document())
    }
}

/// Everything that an answer lists as seen.
fn seen(answer: &Document) -> Vec<Saw> {
    let mut seen = all(answer, "missed");
    seen.extend(answer.get_document("saw").ok().map(Saw::read));
    seen
}

fn all(answer: &Document, key: &str) -> Vec<Saw> {
    let all = answer.get_array(key).into_iter().flatten();
    all.map(|saw| Saw::read(saw.as_document().unwrap())).collect()
}
