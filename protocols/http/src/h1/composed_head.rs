//! A composed head, whose lines are edited in place.

use super::{attributes::HeadView, compose::write_field};
use crate::{header_lines::HeaderLines, routes::RequestHead};
use http::{HeaderName, HeaderValue};
use std::ops::Range;

/// A head at the end of a buffer.
pub(super) struct ComposedHead<'o> {
    bytes: &'o mut Vec<u8>,
    /// Where it begins.
    start: usize,
}

impl<'o> ComposedHead<'o> {
    /// The head that begins here in `bytes`, and ends with them.
    pub(super) fn new(bytes: &'o mut Vec<u8>, start: usize) -> Self {
        Self { bytes, start }
    }

    /// The place of the first line of this name.
    fn find(&self, name: &HeaderName) -> Option<Range<usize>> {
        self.lines().find(|line| value_of(&self.bytes[line.clone()], name).is_some())
    }

    /// The value of the first line of this name.
    fn value(&self, name: &HeaderName) -> Option<&[u8]> {
        self.lines().find_map(|line| value_of(&self.bytes[line], name))
    }

    /// The places of its field lines, each with its CRLF.
    fn lines(&self) -> impl Iterator<Item = Range<usize>> {
        let length = |at: usize| Some(memchr::memchr(b'\n', self.bytes.get(at..)?)? + 1);
        let mut at = self.start + length(self.start).unwrap_or_default();
        std::iter::from_fn(move || {
            // The empty line is the end.
            let length = length(at).filter(|length| *length > 2)?;
            at += length;
            Some(at - length..at)
        })
    }

    /// Replaces the path of a request.
    pub(super) fn set_path(&mut self, path: &str) {
        let line = &self.bytes[self.start..];
        let Some(begin) = memchr::memchr(b' ', line).map(|at| at + 1) else { return };
        let Some(length) = memchr::memchr2(b' ', b'?', &line[begin..]) else { return };
        let begin = self.start + begin;
        self.bytes.splice(begin..begin + length, path.bytes());
    }

    /// Replaces the value of a request's `host`.
    pub(super) fn set_host(&mut self, host: &HeaderValue) {
        let Some(line) = self.find(&http::header::HOST) else { return };
        let value = line.start + "host:".len()..line.end - 2;
        self.bytes.splice(value, [b" ", host.as_bytes()].concat());
    }
}

/// The value of a field line, if it has this name.
fn value_of<'l>(line: &'l [u8], name: &HeaderName) -> Option<&'l [u8]> {
    let (own, value) = line.split_at_checked(name.as_str().len())?;
    let named = own.eq_ignore_ascii_case(name.as_str().as_bytes());
    value.strip_prefix(b":").filter(|_| named).map(<[u8]>::trim_ascii)
}

impl HeaderLines for ComposedHead<'_> {
    fn has(&self, name: &HeaderName, value: &HeaderValue) -> bool {
        let is_value = |line| value_of(&self.bytes[line], name) == Some(value.as_bytes());
        self.lines().any(is_value)
    }

    fn remove(&mut self, name: &HeaderName) {
        while let Some(line) = self.find(name) {
            self.bytes.drain(line);
        }
    }

    fn set(&mut self, name: &HeaderName, value: &HeaderValue) {
        self.remove(name);
        self.add(name, value);
    }

    fn add(&mut self, name: &HeaderName, value: &HeaderValue) {
        self.bytes.truncate(self.bytes.len() - 2);
        write_field(self.bytes, name.as_str().as_bytes(), value.as_bytes());
        self.bytes.extend_from_slice(b"\r\n");
    }
}

/// A request whose fields are those that the service gets.
pub(super) struct ComposedRequest<'a> {
    pub(super) view: &'a HeadView<'a>,
    pub(super) head: &'a ComposedHead<'a>,
}

impl RequestHead for ComposedRequest<'_> {
    fn method(&self) -> &str {
        self.view.method()
    }

    fn path(&self) -> &str {
        self.view.path()
    }

    fn query(&self) -> Option<&str> {
        self.view.query()
    }

    fn authority(&self) -> Option<&str> {
        RequestHead::authority(self.view)
    }

    fn header(&self, name: &HeaderName) -> Option<&[u8]> {
        self.head.value(name)
    }

    fn has_header(&self, name: &HeaderName, test: &dyn Fn(&[u8]) -> bool) -> bool {
        let mut lines = self.head.lines();
        lines.any(|line| value_of(&self.head.bytes[line], name).is_some_and(test))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "GET /old?a=/b HTTP/1.1\r\nHost: shop\r\nX-A: 1\r\nx-ab: 2\r\nx-a:3\r\n\r\n";

    /// The head after an edit; other bytes before it stay.
    fn edited(edit: impl Fn(&mut ComposedHead<'_>)) -> String {
        let mut bytes = format!("before\r\n\r\n{HEAD}").into_bytes();
        let start = bytes.len() - HEAD.len();
        edit(&mut ComposedHead::new(&mut bytes, start));
        let text = String::from_utf8(bytes).unwrap();
        text.strip_prefix("before\r\n\r\n").unwrap().to_owned()
    }

    #[test]
    fn lines_are_removed_set_and_added_in_any_case() {
        let (name, new) = (HeaderName::from_static("x-a"), HeaderValue::from_static("new"));
        let rest = "GET /old?a=/b HTTP/1.1\r\nHost: shop\r\nx-ab: 2\r\n";
        assert_eq!(edited(|head| head.remove(&name)), format!("{rest}\r\n"));
        assert_eq!(edited(|head| head.set(&name, &new)), format!("{rest}x-a: new\r\n\r\n"));
        let added = HEAD.replace("\r\n\r\n", "\r\nx-a: new\r\n\r\n");
        assert_eq!(edited(|head| head.add(&name, &new)), added);
    }

    #[test]
    fn values_are_found_without_blanks() {
        let mut bytes = HEAD.as_bytes().to_vec();
        let head = ComposedHead::new(&mut bytes, 0);
        let [known, other] = ["x-a", "x"].map(|name| name.parse::<HeaderName>().unwrap());
        assert!(head.has(&known, &HeaderValue::from_static("3")));
        assert!(!head.has(&known, &HeaderValue::from_static("2")));
        assert_eq!((head.value(&known), head.value(&other)), (Some(&b"1"[..]), None));
    }

    #[test]
    fn path_and_host_are_replaced_and_the_query_stays() {
        assert_eq!(edited(|head| head.set_path("/new/x")), HEAD.replace("/old", "/new/x"));
        let host = HeaderValue::from_static("service:80");
        assert_eq!(edited(|head| head.set_host(&host)), HEAD.replace("shop", "service:80"));
    }
}
