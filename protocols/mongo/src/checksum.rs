//! The checksum of an `OP_MSG`: CRC-32C of the whole message, header included, without the
//! checksum.
//!
//! Source: the driver specification `message/OP_MSG`, `checksumPresent`.

use crate::{
    header::{HEADER_LEN, flag, opcode},
    number::u32_at,
};

/// Header, flags and checksum, in bytes.
const SHORTEST: usize = HEADER_LEN + 8;

/// Updates the checksum of a changed message, if it has one.
pub(crate) fn seal(message: &mut [u8]) {
    if present(message)
        && let Some((rest, checksum)) = message.split_last_chunk_mut::<4>()
    {
        *checksum = crc32c::crc32c(rest).to_le_bytes();
    }
}

/// Whether the message has no checksum, or a correct one.
pub(crate) fn valid(message: &[u8]) -> bool {
    match message.split_last_chunk::<4>() {
        Some((rest, checksum)) if present(message) => {
            *checksum == crc32c::crc32c(rest).to_le_bytes()
        }
        _ => true,
    }
}

/// Whether this is an `OP_MSG` that ends with a checksum.
pub(crate) fn present(message: &[u8]) -> bool {
    message.len() >= SHORTEST
        && u32_at(message, 12) == Some(opcode::MSG.cast_unsigned())
        && u32_at(message, HEADER_LEN).is_some_and(|flags| flags & flag::CHECKSUM_PRESENT != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(flags: u8) -> Vec<u8> {
        let mut message = vec![33, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xDD, 7, 0, 0, flags, 0, 0, 0];
        message.extend(*b"\0\x05\0\0\0\0");
        message.extend([0; 7]);
        message
    }

    #[test]
    fn a_sealed_message_is_valid_and_a_changed_one_is_not() {
        let mut sealed = message(1);
        assert!(!valid(&sealed));
        seal(&mut sealed);
        assert!(valid(&sealed));
        for at in [0, 5, 17, 25, sealed.len() - 1] {
            let mut changed = sealed.clone();
            changed[at] ^= 0x40;
            assert!(!valid(&changed), "byte {at}");
        }
    }

    #[test]
    fn a_message_without_a_checksum_is_left_alone() {
        let mut plain = message(2);
        seal(&mut plain);
        assert_eq!(plain, message(2));
        assert!(valid(&plain));
    }

    #[test]
    fn only_an_op_msg_can_have_a_checksum() {
        let mut reply = message(1);
        reply[12..16].copy_from_slice(&1_i32.to_le_bytes());
        let before = reply.clone();
        seal(&mut reply);
        assert_eq!(reply, before);
        assert!(valid(&[]) && valid(&reply));
    }

    #[test]
    fn the_sum_is_castagnolis() {
        // The check value of CRC-32C over "123456789" (RFC 3720, appendix B.4).
        assert_eq!(crc32c::crc32c(b"123456789"), 0xE306_9283);
    }
}
