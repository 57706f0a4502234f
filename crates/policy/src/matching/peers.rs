//! The key `peer`: an address, a network, or a glob over addresses.

use super::glob::{Glob, is_glob};
use std::{
    io::{Cursor, Write},
    net::IpAddr,
};
use values::Diagnostic;

/// A set of client addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerMatcher {
    /// As in the config.
    text: Box<str>,
    pattern: PeerPattern,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PeerPattern {
    /// Addresses that share this many leading bits.
    Network(IpAddr, u8),
    /// Addresses whose text matches.
    Glob(Glob),
}

const HINT: &str = "write an address, a network such as `10.0.0.0/8`, or a glob such as `10.0.*`";

impl PeerMatcher {
    /// Reads it.
    ///
    /// # Errors
    /// Why the text is no address, network or glob.
    pub fn parse(text: &str) -> Result<Self, Diagnostic> {
        let pattern = match text.split_once('/') {
            Some((address, bits)) => network(text, address, bits)?,
            None if is_glob(text) => PeerPattern::Glob(Glob::new(text)),
            None => {
                let wrong = |_| Diagnostic::new(format!("`{text}` is no IP address"), HINT);
                let address: IpAddr = text.parse().map_err(wrong)?;
                let address = address.to_canonical();
                PeerPattern::Network(address, bits_of(address))
            }
        };
        Ok(Self { text: text.into(), pattern })
    }

    /// As in the config.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// What it matches.
    pub(super) fn pattern(&self) -> &PeerPattern {
        &self.pattern
    }

    /// Whether an address is in the set.
    pub fn contains(&self, peer: IpAddr) -> bool {
        // A dual-stack socket reports IPv4 addresses as IPv6 ones.
        let peer = peer.to_canonical();
        match &self.pattern {
            PeerPattern::Network(first, bits) => {
                let same_family = first.is_ipv4() == peer.is_ipv4();
                same_family && masked(peer, *bits) == masked(*first, *bits)
            }
            PeerPattern::Glob(glob) => with_text(peer, |text| glob.matches(text)) == Some(true),
        }
    }
}

fn network(text: &str, address: &str, bits: &str) -> Result<PeerPattern, Diagnostic> {
    let wrong = |why: String| Diagnostic::new(format!("`{text}` is no network: {why}"), HINT);
    let first: IpAddr =
        address.parse().map_err(|_| wrong(format!("`{address}` is no IP address")))?;
    let most = bits_of(first);
    let digits = bits.bytes().all(|b| b.is_ascii_digit());
    let bits = bits.parse().ok().filter(|bits| digits && *bits <= most);
    let bits: u8 = bits.ok_or_else(|| wrong(format!("after the `/` comes 0 to {most}")))?;
    let network = masked(first, bits);
    if network != first {
        let message = format!("`{text}` is an address inside a network, and not the network");
        let hint = format!("write `{network}/{bits}`, or the address alone: `{first}`");
        return Err(Diagnostic::new(message, hint));
    }
    // An IPv4-mapped IPv6 address.
    let canonical = first.to_canonical();
    match bits.checked_sub(most - bits_of(canonical)) {
        Some(bits) => Ok(PeerPattern::Network(canonical, bits)),
        None => Ok(PeerPattern::Network(first, bits)),
    }
}

fn bits_of(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// Reads the text of an address, without an allocation. `None` if it is too long, which no address is.
pub(super) fn with_text<T>(address: IpAddr, read: impl FnOnce(&str) -> T) -> Option<T> {
    let mut text = Cursor::new([0; 64]);
    write!(text, "{address}").ok()?;
    let end = usize::try_from(text.position()).ok()?;
    let bytes = text.get_ref().get(..end)?;
    std::str::from_utf8(bytes).ok().map(read)
}

/// The address with all but its first `bits` bits cleared.
pub(super) fn masked(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}
