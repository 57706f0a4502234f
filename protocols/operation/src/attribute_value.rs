//! The value of an operation's attribute: known, absent, or not known.

use std::borrow::Cow;

/// What is known of a fact about an operation, such as `user` or `header.x-team`.
///
/// "Not there" and "not known" differ: a policy that guards treats what is not known as if it
/// could have any value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttributeValue<'a> {
    /// It has this value.
    Known(Cow<'a, str>),
    /// It is there more than once, as a header field on several lines. A match holds if any of
    /// the values fits.
    Repeated(Vec<Cow<'a, str>>),
    /// The operation is about each of these, as a command that names several collections. A match
    /// holds if any of the values fits; inside `not`, only if all of them do.
    Multiple(Vec<Cow<'a, str>>),
    /// It is not there.
    Absent,
    /// It may stand further on in the request than the bytes that have been read.
    Unread,
    /// Not known, however much of the request is read.
    Unknown,
}

impl<'a> AttributeValue<'a> {
    /// A value that borrows.
    pub fn known(value: &'a str) -> Self {
        AttributeValue::Known(Cow::Borrowed(value))
    }

    /// The value as one text; several are joined by a comma and a blank. `None` where there is
    /// none, or none is known.
    pub fn text(self) -> Option<Cow<'a, str>> {
        match self {
            AttributeValue::Known(value) => Some(value),
            AttributeValue::Repeated(values) | AttributeValue::Multiple(values) => {
                Some(values.join(", ").into())
            }
            AttributeValue::Absent | AttributeValue::Unread | AttributeValue::Unknown => None,
        }
    }

    /// The value of an attribute that is either `true` or `false`. `None` if it is absent or not
    /// known.
    pub(crate) fn as_bool(&self) -> Option<bool> {
        match self {
            AttributeValue::Known(value) => value.parse().ok(),
            _ => None,
        }
    }

    /// Whether it may have a value that is not known, or not yet.
    pub fn is_undetermined(&self) -> bool {
        matches!(self, AttributeValue::Unread | AttributeValue::Unknown)
    }

    /// The same fact, of a request that is read to its end: nothing stands further on.
    pub fn at_request_end(self) -> Self {
        if self == AttributeValue::Unread { AttributeValue::Unknown } else { self }
    }

    /// The same fact without a lifetime, as tests and logs keep it.
    pub fn into_owned(self) -> AttributeValue<'static> {
        let own = |value: Cow<'a, str>| Cow::Owned(value.into_owned());
        match self {
            AttributeValue::Known(value) => AttributeValue::Known(own(value)),
            AttributeValue::Repeated(values) => {
                AttributeValue::Repeated(values.into_iter().map(own).collect())
            }
            AttributeValue::Multiple(values) => {
                AttributeValue::Multiple(values.into_iter().map(own).collect())
            }
            AttributeValue::Absent => AttributeValue::Absent,
            AttributeValue::Unread => AttributeValue::Unread,
            AttributeValue::Unknown => AttributeValue::Unknown,
        }
    }
}

impl<'a> From<Option<Cow<'a, str>>> for AttributeValue<'a> {
    fn from(value: Option<Cow<'a, str>>) -> Self {
        value.map_or(AttributeValue::Absent, AttributeValue::Known)
    }
}

impl<'a> From<Option<&'a str>> for AttributeValue<'a> {
    fn from(value: Option<&'a str>) -> Self {
        value.map_or(AttributeValue::Absent, AttributeValue::known)
    }
}

impl From<bool> for AttributeValue<'_> {
    fn from(value: bool) -> Self {
        AttributeValue::known(if value { "true" } else { "false" })
    }
}

impl From<String> for AttributeValue<'_> {
    fn from(value: String) -> Self {
        AttributeValue::Known(Cow::Owned(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_has_no_text_and_is_not_absent() {
        assert_eq!(AttributeValue::known("a").text().as_deref(), Some("a"));
        assert_eq!(
            AttributeValue::Repeated(vec!["a".into(), "b".into()]).text().as_deref(),
            Some("a, b")
        );
        for fact in [AttributeValue::Unread, AttributeValue::Unknown] {
            assert!(fact.is_undetermined() && fact != AttributeValue::Absent);
            assert_eq!(fact.text(), None);
        }
        assert!(!AttributeValue::Absent.is_undetermined());
        assert_eq!(AttributeValue::Unread.at_request_end(), AttributeValue::Unknown);
    }
}
