//! A bounded table of call sites, shared by all connections of a listener: text in, number out.

use std::sync::OnceLock;

/// How many call sites fit. Clients choose them, so there must be a bound.
const SLOTS: usize = 1024;
/// How many slots are probed for a call site.
const PROBES: usize = 16;

/// Call sites, numbered from 1. None is ever removed; one that does not fit has no number.
#[derive(Debug, Default)]
pub(crate) struct CallSites {
    /// Allocated with the first call site: a thousand listeners may be idle.
    slots: OnceLock<Box<[OnceLock<Box<str>>]>>,
}

impl CallSites {
    /// The number of a call site; 0 if it does not fit.
    pub(crate) fn intern(&self, name: &str) -> u16 {
        let slots = self.slots.get_or_init(|| (0..SLOTS).map(|_| OnceLock::new()).collect());
        let home = fnv1a(name.as_bytes()) as usize;
        for probe in 0..PROBES {
            let at = (home + probe) % SLOTS;
            let Some(slot) = slots.get(at) else { return 0 };
            if **slot.get_or_init(|| name.into()) == *name {
                return at as u16 + 1;
            }
        }
        0
    }

    /// The call site with this number.
    pub(crate) fn get(&self, number: u16) -> Option<&str> {
        let slot = self.slots.get()?.get(usize::from(number).checked_sub(1)?)?;
        slot.get().map(|name| &**name)
    }
}

/// FNV-1a, folded so that its low bits are as well distributed as its high ones.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_number() {
        let names = CallSites::default();
        let (a, b) = (names.intern("checkout"), names.intern("search"));
        assert_ne!(a, b);
        assert_eq!((names.intern("checkout"), names.intern("search")), (a, b));
        assert_eq!((names.get(a), names.get(b)), (Some("checkout"), Some("search")));
        assert_eq!(names.get(0), None);
        assert_eq!(names.get(u16::MAX), None);
    }

    #[test]
    fn a_flood_of_names_fills_the_table_and_no_more() {
        let names = CallSites::default();
        let known = names.intern("first");
        let numbered = (0..100_000).filter(|i| names.intern(&format!("site-{i}")) != 0).count();
        assert!(numbered < SLOTS);
        assert!(numbered > SLOTS / 2);
        assert_eq!(names.intern("first"), known);
    }
}
