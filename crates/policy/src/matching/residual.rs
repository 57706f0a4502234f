//! The part of a match that is evaluated for each operation of a series.

use super::{
    Applicability, KnownFields, Match, MatchInput, OTHER_RESOURCES, SeriesField, SeriesMatcher,
    Truth, all, any, glob, glob::Glob,
};
use operation::AttributeValue;

/// What of a match is left to be asked of each operation of a series: what the series alone does
/// not decide, level by level, from the match itself to the innermost `not` that matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResidualMatch {
    pub(super) levels: Box<[ResidualLevel]>,
}

/// What is left of one level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ResidualLevel {
    /// What the series' words say: `Yes`, or `Unknown` where one of them is not wholly known.
    words: Truth,
    /// What the series' own resource says, where an operation's other resources may say more.
    resource: Option<Truth>,
}

/// How deep inside of `not` a key stands. Of an operation that is about several things, one has
/// to fit for a match to hold; inside of `not` all have to, or what is excluded would cover what
/// was never named.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Negation {
    negated: bool,
}

impl Negation {
    /// One `not` further in.
    pub(super) fn inner(self) -> Self {
        Self { negated: !self.negated }
    }

    /// Whether an operation fits that is about all of these.
    fn combine<T>(self, items: &[T], holds: impl Fn(&T) -> Truth) -> Truth {
        if self.negated { all(items, holds) } else { any(items, holds) }
    }

    /// Whether a fact fits.
    pub(super) fn fact_matches(
        self,
        fact: AttributeValue<'_>,
        holds: impl Fn(&str) -> Truth,
    ) -> Truth {
        match fact {
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
    /// Whether it applies, as far as what is known decides that.
    pub fn resolve(&self, known: &KnownFields<'_>) -> Applicability {
        self.resolve_at(known, Negation::default())
    }

    fn resolve_at(&self, known: &KnownFields<'_>, negation: Negation) -> Applicability {
        let mut level = ResidualLevel { words: Truth::Yes, resource: None };
        for fixed in &self.fixed {
            let truth = fixed.matches(known);
            // Of several resources one decides, or has to be joined by the others.
            let decides = if negation.negated { Truth::No } else { Truth::Yes };
            if fixed.word == SeriesField::Resource && known.others && truth != decides {
                level.resource = Some(truth);
            } else {
                level.words = level.words.and(truth);
            }
        }
        if level.words == Truth::No {
            return Applicability::Never;
        }
        let not = self.not.as_ref();
        let inner =
            match not.map_or(Applicability::Never, |not| not.resolve_at(known, negation.inner())) {
                Applicability::Always => return Applicability::Never,
                Applicability::PerOperation(rest) => rest.levels,
                Applicability::Never => Box::default(),
            };
        let decided = level == ResidualLevel { words: Truth::Yes, resource: None };
        if decided && self.varying.is_empty() && inner.is_empty() {
            return Applicability::Always;
        }
        let levels = std::iter::once(level).chain(inner).collect();
        Applicability::PerOperation(ResidualMatch { levels })
    }

    /// Whether it applies to an operation, with these levels to evaluate.
    pub(super) fn matches_levels(
        &self,
        levels: &[ResidualLevel],
        input: &MatchInput<'_>,
        negation: Negation,
    ) -> Truth {
        let Some((level, inner)) = levels.split_first() else { return Truth::Yes };
        let mut truth = level.words.or_unread(input.partial);
        if let Some(own) = level.resource {
            truth =
                truth.and(self.any_resource_matches(own.or_unread(input.partial), input, negation));
        }
        for varying in &self.varying {
            if truth == Truth::No {
                return truth;
            }
            truth = truth.and(varying.matches(input, negation));
        }
        match &self.not {
            Some(not) if !inner.is_empty() && truth != Truth::No => {
                truth.and(not.matches_levels(inner, input, negation.inner()).not())
            }
            _ => truth,
        }
    }

    /// Whether an operation's resources fit, of which its `own` does or does not.
    pub(super) fn any_resource_matches(
        &self,
        own: Truth,
        input: &MatchInput<'_>,
        negation: Negation,
    ) -> Truth {
        let globs = self.fixed.iter().find(|fixed| fixed.word == SeriesField::Resource);
        let Some(SeriesMatcher { globs, .. }) = globs.filter(|_| input.others) else { return own };
        let fits = |resource: &str| matches_resource(globs, resource, input.partial);
        match input.get(OTHER_RESOURCES) {
            AttributeValue::Absent => own,
            fact => negation.combine(&[own, negation.fact_matches(fact, fits)], |truth| *truth),
        }
    }
}

/// Whether a resource, of which a part may not be known, matches one of these; `partial` says
/// that more of the request may be read.
pub(super) fn matches_resource(globs: &[Glob], resource: &str, partial: bool) -> Truth {
    let word = glob::KnownText::resource(resource);
    any(globs, |glob| glob.matches_known(word)).or_unread(partial)
}

impl Truth {
    /// What is not known of a word may be known when more of the request is read.
    fn or_unread(self, partial: bool) -> Self {
        if self == Truth::Unknown && partial { Truth::Unread } else { self }
    }
}
