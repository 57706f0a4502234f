//! The smuggling corpus: client bytes, expected responses, and what the service may see.
//!
//! The whole proxy's test includes it by `#[path]`. The format is described in the corpus file.

/// One connection.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// All bytes of the client.
    pub(crate) bytes: Vec<u8>,
    /// Statuses of the responses, in order.
    pub(crate) client: Vec<u16>,
    /// The proxy then waits for more.
    pub(crate) waits: bool,
    /// The violation that is counted. The last response is then the rejection.
    pub(crate) fault: Option<&'static str>,
    /// Requests that the service receives, in order.
    pub(crate) upstream: Vec<Seen>,
}

/// A request that the service receives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// Path and query, or `*`.
    pub(crate) target: String,
    /// Length of its body without chunk framing. `None`: it must not look complete; the service may
    /// also receive nothing of the request.
    pub(crate) body: Option<usize>,
}

/// All cases.
///
/// # Panics
/// If the file is not written as its head says.
#[must_use]
pub(crate) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let text = include_str!("../../../../fixtures/http/smuggling.txt");
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (word, rest) = line.split_once(' ').unwrap();
        if word == "case" {
            cases.push(Case::new(rest));
            continue;
        }
        let case = cases.last_mut().unwrap();
        match word {
            "|" => unescape(rest, &mut case.bytes),
            "client" => {
                case.waits = rest.ends_with("waits");
                let statuses = rest.split(' ').filter(|word| *word != "waits");
                case.client = statuses.map(|status| status.parse().unwrap()).collect();
            }
            "fault" => case.fault = Some(rest),
            "upstream" => case.upstream.push(Seen::read(rest)),
            other => panic!("{}: no such word: {other}", case.name),
        }
    }
    cases
}

impl Case {
    fn new(name: &'static str) -> Self {
        let (client, upstream) = (Vec::new(), Vec::new());
        Self { name, bytes: Vec::new(), client, waits: false, fault: None, upstream }
    }
}

impl Seen {
    fn read(text: &str) -> Self {
        let [method, target, body] = text.split(' ').collect::<Vec<_>>().try_into().unwrap();
        let body = (body != "cut").then(|| body.parse().unwrap());
        Self { method: method.to_owned(), target: target.to_owned(), body }
    }
}

fn unescape(text: &str, out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        rest = &rest[next.len_utf8()..];
        match next {
            '{' => {
                let (repeated, after) = rest.split_once('}').unwrap();
                let (repeated, times) = repeated.rsplit_once('*').unwrap();
                let mut once = Vec::new();
                unescape(repeated, &mut once);
                out.extend(once.repeat(times.parse().unwrap()));
                rest = after;
            }
            '\\' => {
                let (escape, after) = rest.split_at(1);
                rest = after;
                out.push(match escape {
                    "r" => b'\r',
                    "n" => b'\n',
                    "t" => b'\t',
                    "0" => 0,
                    "\\" => b'\\',
                    "x" => {
                        let (digits, after) = rest.split_at(2);
                        rest = after;
                        u8::from_str_radix(digits, 16).unwrap()
                    }
                    other => panic!("no such escape: \\{other}"),
                });
            }
            other => out.extend(other.encode_utf8(&mut [0; 4]).bytes()),
        }
    }
}
