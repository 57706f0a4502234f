//! The value of an operation's attribute: known, absent, or not known.

use std::borrow::Cow;

/// What is known about one attribute of an operation, such as `user` or `header.x-team`.
///
/// Absent and unknown differ: a policy that fails closed treats an unknown attribute as if it could
/// have any value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttributeValue<'a> {
    /// The attribute has this value.
    Known(Cow<'a, str>),
    /// The attribute occurs more than once, such as a header field on several lines. A glob matches
    /// if any of the values matches.
    Repeated(Vec<Cow<'a, str>>),
    /// The operation concerns all of these, such as a command that names several collections. A glob
    /// matches if any of the values matches; inside `not`, only if all of them do.
    Multiple(Vec<Cow<'a, str>>),
    /// The operation has no such attribute.
    Absent,
    /// Not known yet: the attribute may follow in the unread rest of the request.
    Unread,
    /// Not known, even when the whole request is read.
    Unknown,
}

impl<'a> AttributeValue<'a> {
    /// A known, borrowed value.
    pub fn known(value: &'a str) -> Self {
        AttributeValue::Known(Cow::Borrowed(value))
    }

    /// The value as one text, with several values joined by `, `. `None` if the attribute is absent or
    /// not known.
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

    /// Whether it is unread or unknown, and so may have any value.
    pub fn is_undetermined(&self) -> bool {
        matches!(self, AttributeValue::Unread | AttributeValue::Unknown)
    }

    /// The value after the whole request was read: [`Unread`](Self::Unread) becomes
    /// [`Unknown`](Self::Unknown).
    pub fn at_request_end(self) -> Self {
        if self == AttributeValue::Unread { AttributeValue::Unknown } else { self }
    }

    /// Copies the value, for tests and logs that outlive the request.
    pub fn into_owned(self) -> AttributeValue<'static> {
        let owned = |value: Cow<'a, str>| Cow::Owned(value.into_owned());
        match self {
            AttributeValue::Known(value) => AttributeValue::Known(owned(value)),
            AttributeValue::Repeated(values) => {
                AttributeValue::Repeated(values.into_iter().map(owned).collect())
            }
            AttributeValue::Multiple(values) => {
                AttributeValue::Multiple(values.into_iter().map(owned).collect())
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
    fn an_unknown_value_has_no_text_and_is_not_absent() {
        assert_eq!(AttributeValue::known("a").text().as_deref(), Some("a"));
        assert_eq!(
            AttributeValue::Repeated(vec!["a".into(), "b".into()]).text().as_deref(),
            Some("a, b")
        );
        for value in [AttributeValue::Unread, AttributeValue::Unknown] {
            assert!(value.is_undetermined() && value != AttributeValue::Absent);
            assert_eq!(value.text(), None);
        }
        assert!(!AttributeValue::Absent.is_undetermined());
        assert_eq!(AttributeValue::Unread.at_request_end(), AttributeValue::Unknown);
    }
}
