//! The part of a match that is evaluated for each operation of a series.

use super::{
    Applicability, KnownFields, Match, MatchInput, OTHER_RESOURCES, SeriesField, SeriesMatcher,
    Truth, all, any, glob, glob::Glob,
};
use operation::AttributeValue;

/// The conditions that the series does not decide, by level: from the match itself to the innermost
/// `not` that matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResidualMatch {
    pub(super) levels: Box<[ResidualLevel]>,
}

/// The undecided part of one level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ResidualLevel {
    /// The result of the series' fields: `Yes`, or `Unknown` if one of them is partly unknown.
    fields: Truth,
    /// The result of the main resource, if an operation's other resources may change it.
    resource: Option<Truth>,
}

/// Whether a condition is inside `not`. If an operation has several values, one must match; inside
/// `not` all must, or an exclusion would cover values that it does not name.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Negation {
    negated: bool,
}

impl Negation {
    /// The next level, inside one more `not`.
    pub(super) fn inner(self) -> Self {
        Self { negated: !self.negated }
    }

    /// Combines the results of several values of one operation.
    fn combine<T>(self, items: &[T], holds: impl Fn(&T) -> Truth) -> Truth {
        if self.negated { all(items, holds) } else { any(items, holds) }
    }

    /// Whether an attribute's value matches.
    pub(super) fn attribute_matches(
        self,
        attribute: AttributeValue<'_>,
        holds: impl Fn(&str) -> Truth,
    ) -> Truth {
        match attribute {
            AttributeValue::Known(value) => holds(&value),
            AttributeValue::Repeated(values) => any(&values, |value| holds(value)),
            AttributeValue::Multiple(values) => self.combine(&values, |value| holds(value)),
            AttributeValue::Absent => Truth::No,
            AttributeValue::Unread => Truth::Unread,
            AttributeValue::Unknown => Truth::Unknown,
        }
    }
}

impl Match {
    /// Evaluates the match with the known fields.
    pub fn resolve(&self, known: &KnownFields<'_>) -> Applicability {
        self.resolve_at(known, Negation::default())
    }

    fn resolve_at(&self, known: &KnownFields<'_>, negation: Negation) -> Applicability {
        let mut level = ResidualLevel { fields: Truth::Yes, resource: None };
        for matcher in &self.series_matchers {
            let truth = matcher.matches(known);
            // With this result the main resource alone decides; otherwise the others count too.
            let decides = if negation.negated { Truth::No } else { Truth::Yes };
            if matcher.field == SeriesField::Resource && known.others && truth != decides {
                level.resource = Some(truth);
            } else {
                level.fields = level.fields.and(truth);
            }
        }
        if level.fields == Truth::No {
            return Applicability::Never;
        }
        let not = self.not.as_ref();
        let inner =
            match not.map_or(Applicability::Never, |not| not.resolve_at(known, negation.inner())) {
                Applicability::Always => return Applicability::Never,
                Applicability::PerOperation(residual) => residual.levels,
                Applicability::Never => Box::default(),
            };
        let decided = level == ResidualLevel { fields: Truth::Yes, resource: None };
        if decided && self.operation_matchers.is_empty() && inner.is_empty() {
            return Applicability::Always;
        }
        let levels = std::iter::once(level).chain(inner).collect();
        Applicability::PerOperation(ResidualMatch { levels })
    }

    /// Whether it applies to an operation, evaluated at these levels.
    pub(super) fn matches_levels(
        &self,
        levels: &[ResidualLevel],
        input: &MatchInput<'_>,
        negation: Negation,
    ) -> Truth {
        let Some((level, inner)) = levels.split_first() else { return Truth::Yes };
        let mut truth = level.fields.or_unread(input.partial);
        if let Some(main) = level.resource {
            truth = truth.and(self.any_resource_matches(
                main.or_unread(input.partial),
                input,
                negation,
            ));
        }
        for matcher in &self.operation_matchers {
            if truth == Truth::No {
                return truth;
            }
            truth = truth.and(matcher.matches(input, negation));
        }
        match &self.not {
            Some(not) if !inner.is_empty() && truth != Truth::No => {
                truth.and(not.matches_levels(inner, input, negation.inner()).not())
            }
            _ => truth,
        }
    }

    /// Whether an operation's resources match; `main` is the result of its main resource.
    pub(super) fn any_resource_matches(
        &self,
        main: Truth,
        input: &MatchInput<'_>,
        negation: Negation,
    ) -> Truth {
        let globs =
            self.series_matchers.iter().find(|matcher| matcher.field == SeriesField::Resource);
        let Some(SeriesMatcher { globs, .. }) = globs.filter(|_| input.others) else { return main };
        let fits = |resource: &str| matches_resource(globs, resource, input.partial);
        match input.get(OTHER_RESOURCES) {
            AttributeValue::Absent => main,
            others => {
                negation.combine(&[main, negation.attribute_matches(others, fits)], |truth| *truth)
            }
        }
    }
}

/// Whether a resource, of which a part may not be known, matches one of these globs. `partial`: more
/// of the request can be read.
pub(super) fn matches_resource(globs: &[Glob], resource: &str, partial: bool) -> Truth {
    let known = glob::KnownText::resource(resource);
    any(globs, |glob| glob.matches_known(known)).or_unread(partial)
}

impl Truth {
    /// `Unread` in place of `Unknown` if more of the request can be read.
    fn or_unread(self, partial: bool) -> Self {
        if self == Truth::Unknown && partial { Truth::Unread } else { self }
    }
}
