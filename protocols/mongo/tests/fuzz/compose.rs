//! Documents that are like a `hello` or its reply, made of a few bytes: most changes of one byte
//! make another such document, where a change of BSON itself makes one that can't be read.

/// A document of these elements.
pub(crate) fn finished(elements: Vec<u8>) -> Vec<u8> {
    let len = elements.len() as u32 + 5;
    [&len.to_le_bytes()[..], &elements, &[0]].concat()
}

/// A document of more bytes is not composed: the codec rewrites messages of up to 64 KiB.
const LONGEST: usize = 32 * 1024;

/// Names of elements, by the low half of a byte.
const NAMES: [&str; 16] = [
    "hello",
    "isMaster",
    "ismaster",
    "compression",
    "hosts",
    "passives",
    "arbiters",
    "me",
    "primary",
    "ok",
    "setName",
    "client",
    "$query",
    "topologyVersion",
    "Hello",
    "",
];

/// Strings, by a byte.
const WORDS: [&str; 24] = [
    "a:1",
    "A:1",
    "b:2",
    "c:3",
    "p:4",
    "x:5",
    "",
    "snappy",
    "zlib",
    "zstd",
    "lz4",
    "none",
    "noop",
    "br",
    "ZSTD",
    "P:11",
    "P:12",
    "p:11",
    "proxy:9",
    "127.0.0.1:27018",
    "é:1",
    "a:1\0b",
    "hidden:6",
    "hello",
];

/// A document: a byte for each element's name (its low half, of [`NAMES`]) and kind (the high
/// half), and what that kind needs.
pub(crate) fn compose(program: &[u8]) -> Vec<u8> {
    let mut bytes = program.iter().copied();
    let mut out = Vec::new();
    while let Some(byte) = bytes.next().filter(|_| out.len() < LONGEST) {
        let name = NAMES[usize::from(byte & 15)];
        let (kind, value) = value(byte >> 4, &mut bytes);
        element(kind, name, &value, &mut out);
    }
    finished(out)
}

fn element(kind: u8, name: &str, value: &[u8], out: &mut Vec<u8>) {
    out.push(kind);
    out.extend(name.as_bytes());
    out.push(0);
    out.extend(value);
}

/// The kind and the value of an element.
fn value(how: u8, bytes: &mut impl Iterator<Item = u8>) -> (u8, Vec<u8>) {
    let mut next = || bytes.next().unwrap_or_default();
    match how {
        0 => (0x10, vec![1, 0, 0, 0]),
        1 => {
            let names = (0..next() % 8).map(|_| next()).collect::<Vec<_>>();
            (0x04, list(&names, 0))
        }
        2 => (0x02, string(WORDS[usize::from(next()) % WORDS.len()].as_bytes())),
        3 => (0x01, f64::from(next() % 3).to_le_bytes().to_vec()),
        4 => (0x08, vec![next() % 2]),
        5 => {
            let (first, len) = (next(), next() % 8);
            (0x04, list(&(0..len).map(|_| next()).collect::<Vec<_>>(), first))
        }
        // The same as a document, and as a symbol.
        6 => (0x03, list(&(0..next() % 4).map(|_| next()).collect::<Vec<_>>(), 0)),
        7 => (0x0E, string(WORDS[usize::from(next()) % WORDS.len()].as_bytes())),
        8 => (0x0A, Vec::new()),
        9 => (0x12, vec![next(), 0, 0, 0, 0, 0, 0, 0]),
        10 => (0x02, string(&(0..next() % 16).map(|_| next()).collect::<Vec<_>>())),
        11 => (0x05, [&[2, 0, 0, 0, next()][..], &[1, 2]].concat()),
        // A kind by itself, and some bytes of a value.
        _ => (next(), (0..next() % 32).map(|_| next()).collect()),
    }
}

fn string(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u32 + 1).to_le_bytes()[..], text, &[0]].concat()
}

/// A list of words whose keys count from `first`; a byte beyond 127 is a number.
fn list(items: &[u8], first: u8) -> Vec<u8> {
    let mut out = Vec::new();
    for (at, item) in items.iter().enumerate() {
        let key = (usize::from(first) + at).to_string();
        match item {
            0..128 => {
                let word = WORDS[usize::from(*item) % WORDS.len()];
                element(0x02, &key, &string(word.as_bytes()), &mut out);
            }
            _ => element(0x10, &key, &[*item, 0, 0, 0], &mut out),
        }
    }
    finished(out)
}
