//! A truth value with two kinds of doubt.

/// Whether a condition holds, if that is known. Ordered so that the smaller of two values is their
/// conjunction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Truth {
    /// The condition does not hold.
    No,
    /// It depends on an attribute in a part of the request that is not read yet.
    Unread,
    /// It depends on an attribute that can't be known.
    Unknown,
    /// The condition holds.
    Yes,
}

impl Truth {
    /// Whether both hold.
    pub(super) fn and(self, other: Truth) -> Truth {
        self.min(other)
    }

    /// Whether at least one of the two holds.
    pub(super) fn or(self, other: Truth) -> Truth {
        self.not().and(other.not()).not()
    }

    /// The opposite.
    pub(super) fn not(self) -> Truth {
        match self {
            Truth::No => Truth::Yes,
            Truth::Yes => Truth::No,
            doubt => doubt,
        }
    }

    /// Whether it is neither `Yes` nor `No`.
    pub fn is_in_doubt(self) -> bool {
        matches!(self, Truth::Unread | Truth::Unknown)
    }
}

impl From<bool> for Truth {
    fn from(holds: bool) -> Self {
        if holds { Truth::Yes } else { Truth::No }
    }
}

#[cfg(test)]
mod tests {
    use super::Truth::{No, Unknown, Unread, Yes};

    #[test]
    fn unknown_decides_only_where_no_other_value_does() {
        assert_eq!([Yes.and(Unknown), Yes.and(Unread), No.and(Unread)], [Unknown, Unread, No]);
        assert_eq!([Yes.or(Unread), No.or(Unknown), No.or(No)], [Yes, Unknown, No]);
        assert_eq!([Yes.not(), No.not(), Unread.not()], [No, Yes, Unread]);
        // More of the request may still decide.
        assert_eq!([Unknown.and(Unread), Unknown.or(Unread)], [Unread, Unread]);
    }
}
