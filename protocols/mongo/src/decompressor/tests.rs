use super::*;
use crate::dice::Dice;
use std::io::Write;

const LIMIT: u32 = 48_000_000;
const IDS: [u8; 4] = [0, 1, 2, 3];

fn deflate(compressor: u8, plain: &[u8]) -> Vec<u8> {
    match compressor {
        1 => snap::raw::Encoder::new().compress_vec(plain).unwrap(),
        2 => {
            let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::new(6));
            zlib.write_all(plain).unwrap();
            zlib.finish().unwrap()
        }
        3 => zstd::bulk::compress(plain, 3).unwrap(),
        _ => plain.to_vec(),
    }
}

fn head(opcode: i32, size: u32, compressor: u8) -> [u8; 9] {
    let mut head = [compressor; 9];
    head[..4].copy_from_slice(&opcode.to_le_bytes());
    head[4..8].copy_from_slice(&size.to_le_bytes());
    head
}

/// Inflates in slices of `step` bytes; what came out before an error comes with it.
fn inflate(
    compressor: u8,
    size: u32,
    bytes: &[u8],
    step: usize,
) -> Result<Vec<u8>, (Violation, Vec<u8>)> {
    let (mut inflate, original) =
        Decompressor::begin(&head(2013, size, compressor), LIMIT).unwrap();
    assert_eq!(original, InnerMessage { opcode: 2013, size });
    let mut out = Vec::new();
    let mut fed = Ok(());
    for slice in bytes.chunks(step) {
        fed = fed.and(inflate.feed(slice, &mut |piece| {
            assert!(!piece.is_empty() && piece.len() <= MAX_PIECE);
            out.extend_from_slice(piece);
        }));
    }
    assert!(out.len() <= size as usize, "more came out than was claimed");
    match fed.and(inflate.finish()) {
        Ok(()) => Ok(out),
        Err(violation) => Err((violation, out)),
    }
}

#[test]
fn every_compressor_is_read_however_it_is_cut() {
    let mut dice = Dice::new(1);
    for size in [0, 1, 5, 100, 16_383, 16_384, 16_385, 32_768, 65_536, 200_000] {
        let plain = dice.text(size);
        for id in IDS {
            let bytes = deflate(id, &plain);
            for step in [1, 13, 4096, usize::MAX] {
                let out = inflate(id, size as u32, &bytes, step);
                assert!(out.as_ref() == Ok(&plain), "{size} bytes of {id} by {step}");
            }
        }
    }
}

#[test]
fn a_message_can_be_cut_in_two_anywhere() {
    let plain = Dice::new(2).text(3000);
    for id in IDS {
        let bytes = deflate(id, &plain);
        for cut in 0..=bytes.len() {
            let (mut inflate, _) = Decompressor::begin(&head(2013, 3000, id), LIMIT).unwrap();
            let mut out = Vec::new();
            for half in [&bytes[..cut], &bytes[cut..]] {
                inflate.feed(half, &mut |piece| out.extend_from_slice(piece)).unwrap();
            }
            assert_eq!(inflate.finish(), Ok(()), "{id} cut at {cut}");
            assert!(out == plain, "{id} cut at {cut}");
        }
    }
}

#[test]
fn incompressible_and_uniform_data_are_read() {
    let mut dice = Dice::new(3);
    let noise: Vec<u8> = (0..300_000).map(|_| dice.next() as u8).collect();
    for plain in [noise, vec![0; 5_000_000]] {
        for id in IDS {
            let out = inflate(id, plain.len() as u32, &deflate(id, &plain), 8192);
            assert!(out.as_ref() == Ok(&plain), "compressor {id}");
        }
    }
}

#[test]
fn the_front_is_there_before_the_rest_has_come() {
    let plain = Dice::new(4).text(400_000);
    for id in IDS {
        let bytes = deflate(id, &plain);
        let (mut inflate, _) = Decompressor::begin(&head(2013, 400_000, id), LIMIT).unwrap();
        let mut out = Vec::new();
        inflate
            .feed(&bytes[..bytes.len() * 3 / 4], &mut |piece| out.extend_from_slice(piece))
            .unwrap();
        assert!(out.len() > 100_000, "{id} held back all but {}", out.len());
        assert!(plain.starts_with(&out));
        assert_eq!(inflate.finish(), Err(BAD_COMPRESSION), "it is not all here");
    }
}

#[test]
fn a_claim_beyond_the_limit_is_a_bomb() {
    for claim in [LIMIT + 1, u32::MAX, 1 << 31] {
        assert_eq!(
            Decompressor::begin(&head(2013, claim, 2), LIMIT).err(),
            Some(DECOMPRESSION_BOMB)
        );
    }
    assert!(Decompressor::begin(&head(2013, LIMIT, 2), LIMIT).is_ok());
}

#[test]
fn a_message_that_holds_more_than_it_claims_is_a_bomb() {
    let zeros = vec![0; 5_000_000];
    for id in [1, 2, 3] {
        let bytes = deflate(id, &zeros);
        for claim in [0, 1, 1000, 1_000_000, 4_999_999] {
            let (violation, out) = inflate(id, claim, &bytes, 4096).unwrap_err();
            assert_eq!(violation, DECOMPRESSION_BOMB, "compressor {id}, {claim} bytes");
            assert!(out.iter().all(|b| *b == 0));
        }
    }
    assert_eq!(inflate(0, 4, b"12345", 1).unwrap_err(), (DECOMPRESSION_BOMB, b"1234".to_vec()));
}

#[test]
fn a_message_that_holds_less_than_it_claims_is_corrupt() {
    let plain = Dice::new(5).text(1000);
    for id in IDS {
        let bytes = deflate(id, &plain);
        for claim in [1001, 47_000_000] {
            let (violation, _) = inflate(id, claim, &bytes, 100).unwrap_err();
            assert_eq!(violation, BAD_COMPRESSION, "compressor {id}, {claim} bytes");
        }
    }
}

#[test]
fn every_prefix_of_a_message_is_incomplete() {
    let plain = Dice::new(6).text(500);
    for id in IDS {
        let bytes = deflate(id, &plain);
        for cut in 0..bytes.len() {
            let (violation, out) = inflate(id, 500, &bytes[..cut], 64).unwrap_err();
            assert_eq!(violation, BAD_COMPRESSION, "{id} cut at {cut}");
            assert!(plain.starts_with(&out));
        }
    }
}

#[test]
fn what_follows_the_end_is_corrupt_or_too_much() {
    for id in IDS {
        let mut bytes = deflate(id, b"a message");
        bytes.extend(b"\x04more");
        let (violation, out) = inflate(id, 9, &bytes, 3).unwrap_err();
        assert!([BAD_COMPRESSION, DECOMPRESSION_BOMB].contains(&violation));
        assert!(b"a message".starts_with(&out[..]));
    }
}

#[test]
fn nested_messages_and_unknown_compressors_are_rejected() {
    assert_eq!(Decompressor::begin(&head(2012, 10, 1), LIMIT).err(), Some(NESTED_COMPRESSION));
    for id in 4..=255 {
        assert_eq!(Decompressor::begin(&head(2013, 10, id), LIMIT).err(), Some(BAD_COMPRESSION));
    }
    for len in 0..9 {
        assert_eq!(
            Decompressor::begin(&head(2013, 10, 1)[..len], LIMIT).err(),
            Some(BAD_COMPRESSION)
        );
    }
}

#[test]
fn a_zstd_window_beyond_the_bound_is_refused() {
    // Magic, no content size, a window of 2^`window` bytes, one empty last block.
    let frame = |window: u8| [0x28, 0xB5, 0x2F, 0xFD, 0, (window - 10) << 3, 1, 0, 0];
    let begins = |size: u32, window| {
        let (mut inflate, _) = Decompressor::begin(&head(2013, size, 3), LIMIT).unwrap();
        inflate.feed(&frame(window), &mut |_| {})
    };
    for (size, allowed) in [(0, 22), (1 << 22, 22), ((1 << 22) + 1, 23), (LIMIT, 23)] {
        assert_eq!(begins(size, allowed), Ok(()), "{size}");
        assert_eq!(begins(size, allowed + 1), Err(BAD_COMPRESSION), "{size}");
    }
}

#[test]
fn decoders_that_wait_share_a_bound() {
    let all = Arc::new(DecompressionBudget::default());
    let (inflate, _) = Decompressor::begin(&head(2013, LIMIT, 3), LIMIT).unwrap();
    let footprint = inflate.memory_bound(LIMIT);
    let held: Vec<_> = std::iter::from_fn(|| all.reserve(footprint)).take(1000).collect();
    assert_eq!(held.len(), MAX_RESERVED / footprint);
    drop(held);
    assert!(all.reserve(MAX_RESERVED).is_some());
}

#[test]
fn mutated_messages_never_panic_nor_give_more_than_claimed() {
    for seed in 0..3000 {
        let mut dice = Dice::new(seed);
        let size = dice.below(2000);
        let plain = dice.text(size);
        let id = IDS[dice.below(4)];
        let mut bytes = deflate(id, &plain);
        dice.mutate(&mut bytes);
        if let Err((violation, _)) = inflate(id, size as u32, &bytes, 1 + dice.below(500)) {
            assert!([BAD_COMPRESSION, DECOMPRESSION_BOMB].contains(&violation), "seed {seed}");
        }
    }
}

#[test]
fn an_error_is_final() {
    let (mut inflate, _) = Decompressor::begin(&head(2013, 3, 0), LIMIT).unwrap();
    assert_eq!(inflate.feed(b"four", &mut |_| {}), Err(DECOMPRESSION_BOMB));
    assert_eq!(
        inflate.feed(b"abc", &mut |_| panic!("nothing is read after an error")),
        Err(DECOMPRESSION_BOMB)
    );
    assert_eq!(inflate.finish(), Err(DECOMPRESSION_BOMB));
}
