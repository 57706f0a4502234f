//! What a fuzzer's bytes stand for: a match, and an operation of which some is known.

use super::reference::{OTHERS, Wanted};
use operation::{AttributeValue, Attributes, OTHER_RESOURCES, Operation, Protocol};
use std::{collections::BTreeMap, net::IpAddr};

/// A protocol whose operations are about one resource, and one about several.
pub(crate) const PROTOCOLS: [&Protocol; 2] = [
    &Protocol { attributes: &["user", "comment"], ..Protocol::plain("a") },
    &Protocol { attributes: &["user", "comment", OTHER_RESOURCES], ..Protocol::plain("ab") },
];

/// The keys of a match. `not` is apart.
const KEYS: [&str; 9] = [
    "listener",
    "protocol",
    "operation",
    "resource",
    "peer",
    "user",
    "comment",
    "callsite",
    OTHERS,
];

/// The letters of globs, and of what they are matched with.
pub(crate) const GLOB: [char; 6] = ['*', '?', 'a', 'b', '.', 'é'];
pub(crate) const TEXT: [char; 5] = ['a', 'b', '.', 'é', '?'];

/// The attributes that are facts.
pub(crate) const FACTS: [&str; 4] = ["user", "comment", "callsite", OTHERS];

const LISTENERS: [&str; 2] = ["a", "b.a"];

const CLIENTS: [&str; 8] = [
    "10.0.0.0/8",
    "10.0.0.7",
    "::ffff:10.0.0.7",
    "::ffff:10.0.0.0/104",
    "10.0.*",
    "2001:db8::/32",
    "::/0",
    "*::?",
];

const PEERS: [&str; 5] = ["10.0.0.7", "::ffff:10.0.0.8", "11.0.0.7", "2001:db8::1", "fe80::1"];

/// How deep `not` may stand in `not`.
pub(crate) const DEEPEST: usize = 3;

/// What is known of an operation.
pub(crate) struct Case {
    pub(crate) protocol: usize,
    pub(crate) listener: &'static str,
    pub(crate) operation: String,
    pub(crate) resource: String,
    pub(crate) peer: Option<IpAddr>,
    pub(crate) partial: bool,
    pub(crate) callsite: bool,
    pub(crate) others: bool,
    pub(crate) facts: BTreeMap<&'static str, AttributeValue<'static>>,
}

impl Attributes for Case {
    fn get<'a>(&'a self, _: &'a [u8], name: &str) -> AttributeValue<'a> {
        self.facts.get(name).cloned().unwrap_or(AttributeValue::Absent)
    }

    fn peer(&self) -> Option<IpAddr> {
        self.peer
    }
}

impl Case {
    pub(crate) fn operation(&self) -> Operation<'_> {
        Operation {
            protocol: PROTOCOLS[self.protocol],
            name: &self.operation,
            resource: &self.resource,
            head: b"",
            attributes: self,
            long_poll: false,
            limit_exempt: false,
            may_have_callsite: self.callsite,
            known_names: false,
            partial: self.partial,
            may_have_other_resources: self.others,
            query_shape: None,
        }
    }

    pub(crate) fn told(&self) -> String {
        let Self { operation, resource, peer, partial, facts, listener, protocol, .. } = self;
        let protocol = PROTOCOLS[*protocol].name;
        format!(
            "{listener}/{protocol}: {operation:?} {resource:?} by {peer:?}, partial: {partial}, {facts:?}"
        )
    }
}

/// A fuzzer's bytes; behind their end are zeros.
pub(crate) struct Bytes<'b>(pub(crate) &'b [u8]);

impl Bytes<'_> {
    fn next(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn below(&mut self, most: usize) -> usize {
        usize::from(self.next()) % most
    }

    pub(crate) fn text(&mut self, letters: &[char], most: usize) -> String {
        (0..self.below(most + 1)).map(|_| letters[self.below(letters.len())]).collect()
    }

    fn resource(&mut self) -> String {
        match self.below(8) {
            0 => "?".to_owned(),
            1 => "?.?".to_owned(),
            2 => format!("?.{}", self.text(&TEXT, 3)),
            3 => format!("{}.?", self.text(&TEXT, 3)),
            4 => String::new(),
            _ => self.text(&TEXT, 4),
        }
    }

    /// A match, with `not` in it at most so deep.
    pub(crate) fn wanted(&mut self, depth: usize) -> Wanted {
        let mask = u16::from_le_bytes([self.next(), self.next()]);
        let mut keys = Vec::new();
        for (at, key) in KEYS.into_iter().enumerate().filter(|(at, _)| mask >> at & 1 == 1) {
            let glob = |bytes: &mut Self| match KEYS[at] {
                "peer" => CLIENTS[bytes.below(CLIENTS.len())].to_owned(),
                _ => bytes.text(&GLOB, 4),
            };
            keys.push((key, (0..1 + self.below(3)).map(|_| glob(self)).collect()));
        }
        let nested = depth > 0 && mask >> KEYS.len() & 1 == 1;
        Wanted { keys, not: nested.then(|| Box::new(self.wanted(depth - 1))) }
    }

    pub(crate) fn case(&mut self) -> Case {
        let how = self.next();
        let protocol = usize::from(how & 1);
        let (partial, callsite) = (how & 2 != 0, how & 4 != 0);
        let others = protocol == 1 && how & 8 != 0;
        let name = if how & 16 == 0 { self.text(&TEXT, 3) } else { "?".to_owned() };
        let listener = LISTENERS[usize::from(how >> 5 & 1)];
        let resource = self.resource();
        let peer = self.below(PEERS.len() + 1);
        let peer = PEERS.get(peer).map(|peer| peer.parse().expect("an address"));
        let mut facts = BTreeMap::new();
        for name in FACTS {
            let fact = self.fact(name == OTHERS);
            let silent = name == "callsite" && !callsite || name == OTHERS && !others;
            facts.insert(name, if silent { AttributeValue::Absent } else { fact });
        }
        Case {
            protocol,
            listener,
            operation: name,
            resource,
            peer,
            partial,
            callsite,
            others,
            facts,
        }
    }

    /// A fact, of other resources or of something else.
    fn fact(&mut self, others: bool) -> AttributeValue<'static> {
        let how = self.below(7);
        let mut value = || if others { self.resource() } else { self.text(&TEXT, 4) };
        let mut values = |more: usize| (0..=more).map(|_| value().into()).collect();
        match how {
            0 => AttributeValue::Absent,
            1 => AttributeValue::Known(value().into()),
            // Other resources never stand on several lines.
            2 if !others => AttributeValue::Repeated(values(1)),
            2 | 3 => AttributeValue::Multiple(values(1)),
            4 => AttributeValue::Multiple(values(2)),
            5 => AttributeValue::Unread,
            _ => AttributeValue::Unknown,
        }
    }
}
