use super::*;
use crate::dice::Dice;

/// Decodes `block` in slices of `step` bytes.
fn decode(block: &[u8], size: usize, step: usize) -> Result<Vec<u8>, Violation> {
    let mut snappy = SnappyDecoder::new(size as u32);
    let mut out = Vec::new();
    for slice in block.chunks(step) {
        snappy.feed(slice, &mut |piece| {
            assert!(piece.len() <= MAX_PIECE);
            out.extend_from_slice(piece);
        })?;
        assert!(snappy.window.len() <= WINDOW + SLACK);
        assert_eq!(snappy.sent, snappy.window.len(), "all that can be told is told");
    }
    if snappy.ended() { Ok(out) } else { Err(BAD_COMPRESSION) }
}

fn block(size: u32, elements: &[&[u8]]) -> Vec<u8> {
    let mut block = Vec::new();
    let mut n = size;
    while n >= 0x80 {
        block.push(n as u8 | 0x80);
        n >>= 7;
    }
    block.push(n as u8);
    block.extend(elements.concat());
    block
}

#[test]
fn what_snap_writes_is_read_however_it_is_cut() {
    let mut dice = Dice::new(1);
    for size in [0, 1, 2, 59, 60, 61, 255, 256, 300, 4096, 65_535, 65_536, 70_000] {
        let plain = dice.text(size);
        let block = snap::raw::Encoder::new().compress_vec(&plain).unwrap();
        for step in [1, 2, 3, 7, 1000, usize::MAX] {
            assert_eq!(decode(&block, size, step).unwrap(), plain, "{size} bytes by {step}");
        }
    }
}

#[test]
fn a_block_can_be_cut_in_two_anywhere() {
    let plain = Dice::new(2).text(2000);
    let block = snap::raw::Encoder::new().compress_vec(&plain).unwrap();
    for cut in 0..=block.len() {
        let mut snappy = SnappyDecoder::new(2000);
        let mut out = Vec::new();
        for half in [&block[..cut], &block[cut..]] {
            snappy.feed(half, &mut |piece| out.extend_from_slice(piece)).unwrap();
        }
        assert!(snappy.ended() && out == plain, "cut at {cut}");
    }
}

#[test]
fn a_block_much_larger_than_the_window_slides_through_it() {
    let plain = Dice::new(3).text(3 * (WINDOW + SLACK) + 12_345);
    let block = snap::raw::Encoder::new().compress_vec(&plain).unwrap();
    for step in [1, 100_003, usize::MAX] {
        assert!(decode(&block, plain.len(), step).unwrap() == plain, "by {step}");
    }
}

#[test]
fn overlapping_copies_repeat() {
    // "ab", then 64 bytes from two back, then 64 from one back with a four-byte offset.
    let block = block(130, &[b"\x04ab", &[63 << 2 | 2, 2, 0], &[63 << 2 | 3, 1, 0, 0, 0]]);
    let expected = ["ab".repeat(33), "b".repeat(64)].concat();
    for step in 1..=block.len() {
        assert_eq!(decode(&block, 130, step).unwrap(), expected.as_bytes());
    }
    assert_eq!(snap::raw::Decoder::new().decompress_vec(&block).unwrap(), expected.as_bytes());
}

#[test]
fn a_copy_reaches_as_far_as_the_window_and_no_further() {
    for (offset, good) in [(WINDOW as u32, true), (WINDOW as u32 + 1, false)] {
        let filler = vec![7; WINDOW + SLACK];
        let literal = (filler.len() as u32 - 1).to_le_bytes();
        let copy = offset.to_le_bytes();
        let size = filler.len() + 4;
        let block = block(
            size as u32,
            &[&[62 << 2, literal[0], literal[1], literal[2]], &filler, &[3 << 2 | 3], &copy],
        );
        for step in [1, 65_536, usize::MAX] {
            let decoded = decode(&block, size, step);
            assert_eq!(decoded.is_ok(), good, "offset {offset} by {step}: {:?}", decoded.err());
        }
    }
}

#[test]
fn copies_from_before_the_beginning_are_corrupt() {
    for copy in [&[1, 0][..], &[1, 3], &[3 << 2 | 2, 3, 0], &[3 << 2 | 3, 0, 0, 0, 0x80]] {
        assert_eq!(decode(&block(6, &[b"\x04ab", copy]), 6, 1), Err(BAD_COMPRESSION), "{copy:?}");
    }
}

#[test]
fn the_length_must_be_the_one_announced() {
    let five = block(5, &[b"\x10abcde"]);
    assert_eq!(decode(&five, 5, 1).unwrap(), b"abcde");
    assert_eq!(decode(&five, 4, 1), Err(DECOMPRESSION_BOMB));
    assert_eq!(decode(&five, 6, 1), Err(BAD_COMPRESSION));
    assert_eq!(
        decode(&block(4, &[b"\x10abcde"]), 4, 1),
        Err(DECOMPRESSION_BOMB),
        "a literal too long"
    );
    assert_eq!(decode(&block(6, &[b"\x10abcde"]), 6, 1), Err(BAD_COMPRESSION), "too short");
    assert_eq!(decode(&[0xFF; 6], 6, 1), Err(BAD_COMPRESSION), "a length without end");
    let four_gigabytes = [63 << 2, 0xFF, 0xFF, 0xFF, 0xFF];
    assert_eq!(decode(&block(5, &[&four_gigabytes]), 5, 1), Err(DECOMPRESSION_BOMB));
}

#[test]
fn mutated_blocks_read_as_snap_reads_them() {
    for seed in 0..4000 {
        let mut dice = Dice::new(seed);
        let size = dice.below(700);
        let plain = dice.text(size);
        let mut block = snap::raw::Encoder::new().compress_vec(&plain).unwrap();
        dice.mutate(&mut block);
        let ours = decode(&block, size, 1 + dice.below(40)).ok();
        let claimed = snap::raw::decompress_len(&block).ok() == Some(size);
        let theirs = snap::raw::Decoder::new().decompress_vec(&block).ok().filter(|_| claimed);
        assert_eq!(ours, theirs.filter(|_| !block.is_empty()), "seed {seed}");
    }
}
