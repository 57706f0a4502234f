//! The clients of many policies, looked up together: networks by length, globs by text.

use super::{
    super::peers::{PeerMatcher, PeerPattern, masked, with_text},
    text_index::TextIndex,
};
use crate::position_set::PositionSet;
use foldhash::HashMap;
use std::net::IpAddr;

/// The matchers of clients, and which policy has which.
#[derive(Debug, Default)]
pub(super) struct PeerIndex {
    networks: HashMap<(IpAddr, u8), Vec<usize>>,
    /// The lengths of these networks, of IPv4 and of IPv6.
    lengths: [Vec<u8>; 2],
    globs: Option<TextIndex>,
}

impl PeerIndex {
    /// An index of these matchers, each with the position of its policy.
    pub(super) fn new<'p>(matchers: impl IntoIterator<Item = (&'p PeerMatcher, usize)>) -> Self {
        let (mut index, mut globs) = (Self::default(), Vec::new());
        for (matcher, position) in matchers {
            match matcher.pattern() {
                PeerPattern::Glob(glob) => globs.push((glob, position)),
                PeerPattern::Network(first, bits) => {
                    index.networks.entry((*first, *bits)).or_default().push(position);
                    let lengths = &mut index.lengths[usize::from(first.is_ipv6())];
                    if !lengths.contains(bits) {
                        lengths.push(*bits);
                    }
                }
            }
        }
        index.globs = (!globs.is_empty()).then(|| TextIndex::new(globs));
        index
    }

    /// Adds the policies that have a matcher with this client.
    pub(super) fn find(&self, peer: IpAddr, found: &mut PositionSet) {
        // A dual-stack socket reports IPv4 addresses as IPv6 ones.
        let peer = peer.to_canonical();
        for bits in &self.lengths[usize::from(peer.is_ipv6())] {
            let policies = self.networks.get(&(masked(peer, *bits), *bits));
            policies.into_iter().flatten().for_each(|position| found.insert(*position));
        }
        if let Some(globs) = &self.globs {
            with_text(peer, |text| globs.find(text, found));
        }
    }
}
