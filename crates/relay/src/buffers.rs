//! A worker's buffers, lent to connections while they have bytes buffered.

use super::splice::Pipes;
use std::cell::RefCell;

/// Buffer sizes in bytes. Small messages need the first only; bulk transfers need few system calls.
const SIZES: [usize; 3] = [16 * 1024, 64 * 1024, 256 * 1024];

/// How many spare buffers of each size are kept.
const MAX_SPARE: [usize; 3] = [64, 16, 8];

/// The class of a flow that fills even the largest size.
pub(super) const LARGEST_CLASS: usize = SIZES.len();

/// How many bytes a read must return for the flow to keep its class.
const MIN_FILL: [usize; LARGEST_CLASS + 1] = [0, 4 * 1024, 16 * 1024, 128 * 1024];

/// Reads start at a cache line. An allocator places a large block 16 bytes into a page, just behind
/// where the kernel's own data starts in its pages, and copying to such an address takes some
/// processors twice as long.
const CACHE_LINE: usize = 64;

/// A worker's spare buffers.
#[derive(Debug, Default)]
pub struct Buffers {
    spare: RefCell<[Vec<Vec<u8>>; 3]>,
    /// Pipes for bytes that are forwarded without being parsed.
    pub(super) pipes: Pipes,
}

impl Buffers {
    /// Returns a buffer of this class. Bytes in it are padding before the place where data starts.
    pub(super) fn take(&self, class: usize) -> Vec<u8> {
        let place = class.min(LARGEST_CLASS - 1);
        let spare = self.spare.borrow_mut()[place].pop();
        let mut buffer = spare.unwrap_or_else(|| Vec::with_capacity(SIZES[place] + CACHE_LINE));
        buffer.resize(buffer.as_ptr().align_offset(CACHE_LINE).min(CACHE_LINE), 0);
        buffer
    }

    /// Takes a buffer back. One that a codec has grown to another size is freed.
    pub(super) fn give(&self, mut buffer: Vec<u8>) {
        if let Some(class) = SIZES.iter().position(|size| *size + CACHE_LINE == buffer.capacity())
            && let Some(spare) = self.spare.borrow_mut().get_mut(class)
            && spare.len() < MAX_SPARE[class]
        {
            buffer.clear();
            spare.push(buffer);
        }
    }

    /// The class to ask for next, after a read of `n` bytes into `room` bytes. Reads of an encrypted
    /// connection end with a record: they fill a buffer, but not its bytes for alignment.
    pub(super) fn next_class(&self, class: usize, n: usize, room: usize) -> usize {
        if n + CACHE_LINE >= room {
            (class + 1).min(LARGEST_CLASS)
        } else if n < MIN_FILL[class] {
            class - 1
        } else {
            class
        }
    }
}

#[cfg(feature = "testing")]
impl Buffers {
    /// How many pipes exist, and how many of them are spare.
    pub fn count_pipes(&self) -> (usize, usize) {
        self.pipes.count()
    }

    /// Takes all pipes away until the result is dropped, so that bytes are copied.
    pub fn withhold_pipes(&self) -> impl Sized + use<> {
        std::iter::from_fn(|| self.pipes.take()).collect::<Vec<_>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back() {
        let buffers = Buffers::default();
        let mut one = buffers.take(0);
        one.extend_from_slice(b"used");
        let at = one.as_ptr();
        buffers.give(one);
        let again = buffers.take(0);
        assert_eq!(again.as_ptr(), at);
        assert!(!again.ends_with(b"used"));
    }

    #[test]
    fn data_begins_with_a_cache_line() {
        let buffers = Buffers::default();
        for (class, size) in SIZES.into_iter().enumerate() {
            let mut buffer = buffers.take(class);
            let begin = buffer.len();
            buffer.push(0);
            assert_eq!(buffer[begin..].as_ptr().align_offset(CACHE_LINE), 0);
            assert!(buffer.capacity() - begin >= size);
        }
    }

    #[test]
    fn buffers_grow_with_what_flows_and_shrink_again() {
        let buffers = Buffers::default();
        let mut class = 0;
        for _ in 0..5 {
            class = buffers.next_class(class, 4096, 4096);
        }
        assert_eq!(class, LARGEST_CLASS);
        assert_eq!(buffers.next_class(class, 200_000, 4 << 20), LARGEST_CLASS);
        assert_eq!(buffers.next_class(class, 70_000, 4 << 20), LARGEST_CLASS - 1);
        for _ in 0..5 {
            class = buffers.next_class(class, 100, 4096);
        }
        assert_eq!(class, 0);
    }

    #[test]
    fn full_records_make_buffers_grow() {
        let buffers = Buffers::default();
        for (class, size) in SIZES.into_iter().enumerate() {
            let buffer = buffers.take(class);
            let room = buffer.capacity() - buffer.len();
            assert_eq!(buffers.next_class(class, size, room), class + 1);
        }
    }

    #[test]
    fn spare_buffers_are_bounded() {
        let buffers = Buffers::default();
        for _ in 0..1000 {
            buffers.give(Vec::with_capacity(SIZES[0] + CACHE_LINE));
        }
        assert_eq!(buffers.spare.borrow()[0].len(), MAX_SPARE[0]);
    }
}
