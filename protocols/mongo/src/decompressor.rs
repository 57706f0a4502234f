//! `OP_COMPRESSED`: decompresses the message inside it in pieces, as it arrives and in bounded
//! memory.
//!
//! Source: the driver specification `compression/OP_COMPRESSED`.

use crate::{
    header::{COMPRESSED_PREFIX_LEN, HEADER_LEN, Header, opcode},
    snappy::SnappyDecoder,
    violations::{BAD_COMPRESSION, DECOMPRESSION_BOMB, NESTED_COMPRESSION},
};
use flate2::{Decompress, FlushDecompress, Status};
use operation::Violation;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};
use zstd::stream::raw::{DParameter, Decoder, Operation};

/// The supported compressors, as named in `hello`.
pub(crate) const SUPPORTED: [&str; 3] = ["snappy", "zlib", "zstd"];

/// The bytes between the header and the compressed bytes.
const PREFIX_LEN: usize = COMPRESSED_PREFIX_LEN - HEADER_LEN;
/// The longest piece that is passed on, in bytes.
const MAX_PIECE: usize = 16 * 1024;
/// The largest zstd windows, as powers of two: the second is that of level 19. A message that fits
/// into the first needs only the first (level 15).
const ZSTD_WINDOWS: [u32; 2] = [22, 23];
/// The memory of a decompressor without its window, in bytes, rounded up.
const DECODER_MEMORY: usize = 128 * 1024;
/// The memory of all decompressors of a listener that wait for more of their requests, in bytes.
const MAX_RESERVED: usize = 64 << 20;

/// What a compressed message states about the message inside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct InnerMessage {
    /// The opcode of the message inside.
    opcode: i32,
    /// Its length in bytes, without its header.
    size: u32,
}

/// Decompresses one message.
pub(crate) struct Decompressor {
    decoder: Algorithm,
    /// How many decompressed bytes are still to come.
    left: u32,
    /// Whether the compressed stream has ended by itself.
    ended: bool,
    /// The error that was found; nothing is read after it.
    broken: Option<Violation>,
}

enum Algorithm {
    Noop,
    Snappy(SnappyDecoder),
    Zlib(Decompress),
    Zstd(Decoder<'static>),
}

impl Decompressor {
    /// Begins with the first bytes of an `OP_COMPRESSED`, of at least [`COMPRESSED_PREFIX_LEN`].
    /// Returns the header of the message inside it. A message that announces more than `limit` bytes is
    /// rejected before anything is reserved for it.
    pub(crate) fn of_message(
        header: Header,
        wire: &[u8],
        limit: u32,
    ) -> Result<(Self, Header), Violation> {
        let prefix = wire.get(HEADER_LEN..).unwrap_or_default();
        let (decompressor, inner) = Self::begin(prefix, limit)?;
        Ok((decompressor, header.of_inner(inner.opcode, inner.size)))
    }

    /// Decompresses the first bytes of an `OP_COMPRESSED`. Returns the message inside it as if it
    /// had come uncompressed, at most `limit` bytes of it; `sink` gets all of its bytes after the
    /// header.
    pub(crate) fn plain_front(
        &mut self,
        inner: Header,
        wire: &[u8],
        limit: usize,
        mut sink: impl FnMut(&[u8]),
    ) -> (Vec<u8>, Result<(), Violation>) {
        let mut message = inner.to_bytes();
        let compressed = wire.get(COMPRESSED_PREFIX_LEN..).unwrap_or_default();
        let fed = self.feed(compressed, &mut |piece| {
            let room = limit.saturating_sub(message.len()).min(piece.len());
            message.extend_from_slice(&piece[..room]);
            sink(piece);
        });
        (message, fed)
    }

    /// Begins with the 9 bytes after the header: original opcode, size, compressor.
    fn begin(head: &[u8], limit: u32) -> Result<(Self, InnerMessage), Violation> {
        let Some(&[a, b, c, d, e, f, g, h, compressor]) = head.first_chunk::<PREFIX_LEN>() else {
            return Err(BAD_COMPRESSION);
        };
        let inner_opcode = i32::from_le_bytes([a, b, c, d]);
        // A negative size reads as one over every limit.
        let size = u32::from_le_bytes([e, f, g, h]);
        if inner_opcode == opcode::COMPRESSED {
            return Err(NESTED_COMPRESSION);
        }
        if size > limit {
            return Err(DECOMPRESSION_BOMB);
        }
        let decoder = match compressor {
            0 => Algorithm::Noop,
            1 => Algorithm::Snappy(SnappyDecoder::new(size)),
            2 => Algorithm::Zlib(Decompress::new(true)),
            3 => {
                let mut decoder = Decoder::new().map_err(|_| BAD_COMPRESSION)?;
                let window = DParameter::WindowLogMax(zstd_window(size));
                decoder.set_parameter(window).map_err(|_| BAD_COMPRESSION)?;
                Algorithm::Zstd(decoder)
            }
            _ => return Err(BAD_COMPRESSION),
        };
        let inflate = Self { decoder, left: size, ended: false, broken: None };
        Ok((inflate, InnerMessage { opcode: inner_opcode, size }))
    }

    /// The most memory that it takes to decompress `size` bytes in all, in bytes.
    pub(crate) fn memory_bound(&self, size: u32) -> usize {
        match self.decoder {
            Algorithm::Noop => 0,
            Algorithm::Snappy(_) | Algorithm::Zlib(_) => DECODER_MEMORY,
            Algorithm::Zstd(_) => DECODER_MEMORY + (1 << zstd_window(size)),
        }
    }

    /// Decompresses more of the message. `sink` gets pieces of at most 16 KiB, in all never more
    /// than the message states.
    pub(crate) fn feed(
        &mut self,
        bytes: &[u8],
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Violation> {
        if let Some(violation) = self.broken {
            return Err(violation);
        }
        let mut out = BoundedSink { left: &mut self.left, sink };
        let fed = match &mut self.decoder {
            Algorithm::Noop => bytes.chunks(MAX_PIECE).try_for_each(|piece| out.take(piece)),
            Algorithm::Snappy(snappy) => {
                let mut over = Ok(());
                let fed =
                    snappy.feed(bytes, &mut |piece| over = over.and_then(|()| out.take(piece)));
                self.ended = snappy.ended();
                fed.and(over)
            }
            Algorithm::Zlib(zlib) => feed_zlib(zlib, bytes, &mut self.ended, &mut out),
            Algorithm::Zstd(zstd) => feed_zstd(zstd, bytes, &mut self.ended, &mut out),
        };
        self.broken = fed.err();
        fed
    }

    /// After the whole message was fed: whether its length was what it states.
    pub(crate) fn finish(&self) -> Result<(), Violation> {
        let ended = self.ended || matches!(self.decoder, Algorithm::Noop);
        match self.broken {
            Some(violation) => Err(violation),
            None if self.left == 0 && ended => Ok(()),
            None => Err(BAD_COMPRESSION),
        }
    }
}

/// The window that a message of this size may need, as a power of two.
fn zstd_window(size: u32) -> u32 {
    ZSTD_WINDOWS[usize::from(size > 1 << ZSTD_WINDOWS[0])]
}

/// The memory of a listener's decompressors that wait for more of their requests.
#[derive(Debug, Default)]
pub(crate) struct DecompressionBudget(AtomicUsize);

/// The share of one decompressor; released when dropped.
#[derive(Debug)]
pub(crate) struct DecompressionReservation {
    of: Arc<DecompressionBudget>,
    bytes: usize,
}

impl DecompressionBudget {
    /// Reserves memory for a decompressor; `None` if it would exceed the limit.
    pub(crate) fn reserve(self: &Arc<Self>, bytes: usize) -> Option<DecompressionReservation> {
        let reserved = DecompressionReservation { of: Arc::clone(self), bytes };
        let before = self.0.fetch_add(bytes, Relaxed);
        (before.saturating_add(bytes) <= MAX_RESERVED).then_some(reserved)
    }
}

impl Drop for DecompressionReservation {
    fn drop(&mut self) {
        self.of.0.fetch_sub(self.bytes, Relaxed);
    }
}

/// The sink, and how many bytes it may still get.
struct BoundedSink<'a> {
    left: &'a mut u32,
    sink: &'a mut dyn FnMut(&[u8]),
}

impl BoundedSink<'_> {
    fn take(&mut self, piece: &[u8]) -> Result<(), Violation> {
        let len = u32::try_from(piece.len()).map_err(|_| DECOMPRESSION_BOMB)?;
        *self.left = self.left.checked_sub(len).ok_or(DECOMPRESSION_BOMB)?;
        if !piece.is_empty() {
            (self.sink)(piece);
        }
        Ok(())
    }

    /// The size of the next piece: one byte more than expected, to detect excess output.
    fn room(&self) -> usize {
        MAX_PIECE.min(*self.left as usize + 1)
    }
}

fn feed_zlib(
    zlib: &mut Decompress,
    mut bytes: &[u8],
    ended: &mut bool,
    out: &mut BoundedSink<'_>,
) -> Result<(), Violation> {
    let mut piece = [0; MAX_PIECE];
    loop {
        if *ended {
            return if bytes.is_empty() { Ok(()) } else { Err(BAD_COMPRESSION) };
        }
        let room = out.room();
        let (read, written) = (zlib.total_in(), zlib.total_out());
        let status = zlib
            .decompress(bytes, &mut piece[..room], FlushDecompress::None)
            .map_err(|_| BAD_COMPRESSION)?;
        let read = (zlib.total_in() - read) as usize;
        let written = (zlib.total_out() - written) as usize;
        bytes = bytes.get(read..).unwrap_or_default();
        out.take(&piece[..written])?;
        *ended = status == Status::StreamEnd;
        let full = written == room;
        if !*ended && ((bytes.is_empty() && !full) || (read == 0 && written == 0)) {
            return Ok(());
        }
    }
}

fn feed_zstd(
    zstd: &mut Decoder<'static>,
    mut bytes: &[u8],
    ended: &mut bool,
    out: &mut BoundedSink<'_>,
) -> Result<(), Violation> {
    let mut piece = [0; MAX_PIECE];
    loop {
        let room = out.room();
        let status = zstd.run_on_buffers(bytes, &mut piece[..room]).map_err(|_| BAD_COMPRESSION)?;
        if status.bytes_read == 0 && status.bytes_written == 0 {
            return Ok(());
        }
        bytes = bytes.get(status.bytes_read..).unwrap_or_default();
        out.take(&piece[..status.bytes_written])?;
        // The end of a frame; another may follow.
        *ended = status.remaining == 0;
        if bytes.is_empty() && (*ended || status.bytes_written < room) {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests;
