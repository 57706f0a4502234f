//! A worker's buffers, lent to connections while bytes are in hand.

use super::splice::Pipes;
use std::cell::RefCell;

/// The sizes lent out. Small messages want no more than the first; bulk wants few system calls.
const SIZES: [usize; 3] = [16 * 1024, 64 * 1024, 256 * 1024];

/// How many of each size are kept for the next to come.
const KEPT: [usize; 3] = [64, 16, 8];

/// The grade of what fills even the largest.
pub(super) const BULK: usize = SIZES.len();

/// What a read has to bring to keep its grade.
const LEAST: [usize; BULK + 1] = [0, 4 * 1024, 16 * 1024, 128 * 1024];

/// Bytes are read to the beginning of a cache line. An allocator puts a large block 16 bytes into
/// a page, just behind where the kernel's own bytes begin in theirs, and copying to such a place
/// takes some processors twice as long.
const LINE: usize = 64;

/// A worker's spare buffers.
#[derive(Debug, Default)]
pub struct Buffers {
    spare: RefCell<[Vec<Vec<u8>>; 3]>,
    /// For what goes on without having been read.
    pub(super) pipes: Pipes,
}

impl Buffers {
    /// A buffer of this grade. What it holds already is no data, but lies before where data
    /// should begin.
    pub(super) fn take(&self, grade: usize) -> Vec<u8> {
        let place = grade.min(BULK - 1);
        let spare = self.spare.borrow_mut()[place].pop();
        let mut buffer = spare.unwrap_or_else(|| Vec::with_capacity(SIZES[place] + LINE));
        buffer.resize(buffer.as_ptr().align_offset(LINE).min(LINE), 0);
        buffer
    }

    /// Takes a buffer back. One that a codec made grow to an odd size is let go.
    pub(super) fn give(&self, mut buffer: Vec<u8>) {
        if let Some(grade) = SIZES.iter().position(|size| *size + LINE == buffer.capacity())
            && let Some(spare) = self.spare.borrow_mut().get_mut(grade)
            && spare.len() < KEPT[grade]
        {
            buffer.clear();
            spare.push(buffer);
        }
    }

    /// The grade to ask for next, when `n` bytes came where there was `room`.
    pub(super) fn regrade(&self, grade: usize, n: usize, room: usize) -> usize {
        if n == room {
            (grade + 1).min(BULK)
        } else if n < LEAST[grade] {
            grade - 1
        } else {
            grade
        }
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
        for (grade, size) in SIZES.into_iter().enumerate() {
            let mut buffer = buffers.take(grade);
            let begin = buffer.len();
            buffer.push(0);
            assert_eq!(buffer[begin..].as_ptr().align_offset(LINE), 0);
            assert!(buffer.capacity() - begin >= size);
        }
    }

    #[test]
    fn buffers_grow_with_what_flows_and_shrink_again() {
        let buffers = Buffers::default();
        let mut grade = 0;
        for _ in 0..5 {
            grade = buffers.regrade(grade, 4096, 4096);
        }
        assert_eq!(grade, BULK);
        assert_eq!(buffers.regrade(grade, 200_000, 4 << 20), BULK);
        assert_eq!(buffers.regrade(grade, 70_000, 4 << 20), BULK - 1);
        for _ in 0..5 {
            grade = buffers.regrade(grade, 100, 4096);
        }
        assert_eq!(grade, 0);
    }

    #[test]
    fn spare_buffers_are_bounded() {
        let buffers = Buffers::default();
        for _ in 0..1000 {
            buffers.give(Vec::with_capacity(SIZES[0] + LINE));
        }
        assert_eq!(buffers.spare.borrow()[0].len(), KEPT[0]);
    }
}
