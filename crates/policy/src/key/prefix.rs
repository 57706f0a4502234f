//! The part of a client's address that is used in a key: all of it, or its network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use values::Diagnostic;

/// How many leading bits of a client's address count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Prefix {
    /// Of an IPv4 address, 8 to 32.
    v4: u8,
    /// Of an IPv6 address, 16 to 128.
    v6: u8,
}

impl Prefix {
    /// The whole address.
    pub(crate) const WHOLE: Self = Self { v4: 32, v6: 128 };

    /// The prefix of a part of a key: `peer`, `peer/64` (an IPv6 address counts by its first 64
    /// bits, an IPv4 address as a whole) or `peer/24/56` (IPv4 first). `None` if the text is no
    /// such part, or a length is out of its range.
    pub(crate) fn of(part: &str) -> Option<Self> {
        let mut words = part.split('/');
        if words.next() != Some("peer") {
            return None;
        }
        let mut lengths = words.map(length);
        let prefix = match (lengths.next(), lengths.next(), lengths.next()) {
            (None, ..) => Self::WHOLE,
            (Some(v6), None, _) => Self { v6: v6?, ..Self::WHOLE },
            (Some(v4), Some(v6), None) => Self { v4: v4?, v6: v6? },
            _ => return None,
        };
        let fits = (8..=32).contains(&prefix.v4) && (16..=128).contains(&prefix.v6);
        // `peer/24` probably means IPv4, so it is rejected.
        let clear = part.matches('/').count() != 1 || prefix.v6 > 32;
        (fits && clear).then_some(prefix)
    }

    /// What is wrong with a part that begins like one of these, and is none.
    pub(crate) fn fault(part: &str) -> Option<Diagnostic> {
        part.strip_prefix("peer/")?;
        let hint = "write `peer`, `peer/64` (IPv6 by its first 64 bits, 33 to 128; IPv4 as a whole) or \
                    `peer/24/64` (IPv4 by its first 24 bits, 8 to 32, and IPv6 by 16 to 128)";
        Some(Diagnostic::new(format!("`{part}` is no part of an address"), hint))
    }

    /// The part's name in a config.
    pub(crate) fn name(self) -> String {
        match self {
            Self::WHOLE => "peer".to_owned(),
            Self { v4: 32, v6 } if v6 > 32 => format!("peer/{v6}"),
            Self { v4, v6 } => format!("peer/{v4}/{v6}"),
        }
    }

    /// The bits that count, as an IPv6 address. An IPv4 address is the same whether the
    /// listener's socket is of IPv4 or of both.
    pub(super) fn bits(self, peer: IpAddr) -> u128 {
        match self.network(peer) {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
            IpAddr::V6(ip) => ip.to_bits(),
        }
    }

    /// What a store calls the client: an address, or a network such as `2001:db8::/64`.
    pub(crate) fn text(self, peer: IpAddr) -> String {
        let network = self.network(peer);
        match (network, self.v4, self.v6) {
            (IpAddr::V4(_), 32, _) | (IpAddr::V6(_), _, 128) => network.to_string(),
            (IpAddr::V4(_), length, _) | (IpAddr::V6(_), _, length) => {
                format!("{network}/{length}")
            }
        }
    }

    fn network(self, peer: IpAddr) -> IpAddr {
        match peer.to_canonical() {
            IpAddr::V4(ip) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.v4)).unwrap_or(0);
                Ipv4Addr::from_bits(ip.to_bits() & mask).into()
            }
            IpAddr::V6(ip) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.v6)).unwrap_or(0);
                Ipv6Addr::from_bits(ip.to_bits() & mask).into()
            }
        }
    }
}

/// A number of bits, as its digits alone: what a config says has one name.
fn length(text: &str) -> Option<u8> {
    let length: u8 = text.parse().ok()?;
    (length.to_string() == text).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(part: &str, peer: &str) -> String {
        Prefix::of(part).unwrap().text(peer.parse().unwrap())
    }

    #[test]
    fn a_prefix_cuts_an_address_to_its_network() {
        let (v4, v6) = ("10.1.2.3", "2001:db8:1:2:3:4:5:6");
        assert_eq!((text("peer", v4), text("peer", v6)), (v4.to_owned(), v6.to_owned()));
        assert_eq!(text("peer/64", v6), "2001:db8:1:2::/64");
        assert_eq!(text("peer/48", v6), "2001:db8:1::/48");
        assert_eq!(text("peer/24/56", v4), "10.1.2.0/24");
        assert_eq!(text("peer/24/56", v6), "2001:db8:1::/56");
        assert_eq!(text("peer/32/128", v6), v6);
    }

    #[test]
    fn an_ipv4_address_is_whole_unless_it_has_a_length_of_its_own() {
        assert_eq!(text("peer/64", "10.1.2.3"), "10.1.2.3");
        assert_eq!(text("peer/64", "::ffff:10.1.2.3"), "10.1.2.3");
        assert_eq!(text("peer/8/64", "::ffff:10.1.2.3"), "10.0.0.0/8");
    }

    #[test]
    fn every_prefix_has_one_name_which_is_read_back() {
        for part in ["peer", "peer/64", "peer/33", "peer/24/64", "peer/32/32", "peer/8/16"] {
            assert_eq!(Prefix::of(part).unwrap().name(), part);
        }
        assert_eq!(Prefix::of("peer/32/64").unwrap().name(), "peer/64");
    }

    #[test]
    fn an_invalid_prefix_is_rejected_with_a_hint() {
        let wrong =
            ["peer/", "peer/24", "peer/0", "peer/129", "peer/064", "peer/+64", "peer/64/24/1"];
        for part in wrong.into_iter().chain(["peer/64/24", "peer/33/64", "peer/x", "peer/7/64"]) {
            assert_eq!(Prefix::of(part), None, "{part}");
            assert!(Prefix::fault(part).is_some(), "{part}");
        }
        assert!(Prefix::of("user").is_none() && Prefix::fault("user").is_none());
    }
}
