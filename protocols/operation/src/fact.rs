//! What is known of a fact about an operation: its value, that there is none, or neither.

use std::borrow::Cow;

/// What is known of a fact about an operation, such as `user` or `header.x-team`.
///
/// "Not there" and "not known" differ: a policy that guards treats what is not known as if it
/// could have any value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact<'a> {
    /// It has this value.
    Is(Cow<'a, str>),
    /// It is there more than once, as a header field on several lines. A match holds if any of
    /// the values fits.
    Lines(Vec<Cow<'a, str>>),
    /// The operation is about each of these, as a command that names several collections. A match
    /// holds if any of the values fits; inside `not`, only if all of them do.
    Each(Vec<Cow<'a, str>>),
    /// It is not there.
    Absent,
    /// It may stand further on in the request than the bytes that have been read.
    Unread,
    /// It can't be told, however much of the request is read.
    Unknown,
}

impl<'a> Fact<'a> {
    /// A value that borrows.
    pub fn is(value: &'a str) -> Self {
        Fact::Is(Cow::Borrowed(value))
    }

    /// The value as one text; several are joined by a comma and a blank. `None` where there is
    /// none, or none is known.
    pub fn text(self) -> Option<Cow<'a, str>> {
        match self {
            Fact::Is(value) => Some(value),
            Fact::Lines(values) | Fact::Each(values) => Some(values.join(", ").into()),
            Fact::Absent | Fact::Unread | Fact::Unknown => None,
        }
    }

    /// Whether it may have a value that is not known, or not yet.
    pub fn is_in_doubt(&self) -> bool {
        matches!(self, Fact::Unread | Fact::Unknown)
    }

    /// The same fact, of a request that is read to its end: nothing stands further on.
    pub fn read_to_the_end(self) -> Self {
        if self == Fact::Unread { Fact::Unknown } else { self }
    }

    /// The same fact without a lifetime, as tests and logs keep it.
    pub fn into_owned(self) -> Fact<'static> {
        let own = |value: Cow<'a, str>| Cow::Owned(value.into_owned());
        match self {
            Fact::Is(value) => Fact::Is(own(value)),
            Fact::Lines(values) => Fact::Lines(values.into_iter().map(own).collect()),
            Fact::Each(values) => Fact::Each(values.into_iter().map(own).collect()),
            Fact::Absent => Fact::Absent,
            Fact::Unread => Fact::Unread,
            Fact::Unknown => Fact::Unknown,
        }
    }
}

impl<'a> From<Option<Cow<'a, str>>> for Fact<'a> {
    fn from(value: Option<Cow<'a, str>>) -> Self {
        value.map_or(Fact::Absent, Fact::Is)
    }
}

impl<'a> From<Option<&'a str>> for Fact<'a> {
    fn from(value: Option<&'a str>) -> Self {
        value.map_or(Fact::Absent, Fact::is)
    }
}

impl From<String> for Fact<'_> {
    fn from(value: String) -> Self {
        Fact::Is(Cow::Owned(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_has_no_text_and_is_not_absent() {
        assert_eq!(Fact::is("a").text().as_deref(), Some("a"));
        assert_eq!(Fact::Lines(vec!["a".into(), "b".into()]).text().as_deref(), Some("a, b"));
        for fact in [Fact::Unread, Fact::Unknown] {
            assert!(fact.is_in_doubt() && fact != Fact::Absent);
            assert_eq!(fact.text(), None);
        }
        assert!(!Fact::Absent.is_in_doubt());
        assert_eq!(Fact::Unread.read_to_the_end(), Fact::Unknown);
    }
}
