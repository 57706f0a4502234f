//! What of a match is left to be asked of each operation of a series.

use super::{
    Applies, Asked, Fixed, Known, Match, OTHER_RESOURCES, Truth, Word, all, any, glob, glob::Glob,
};
use operation::AttributeValue;

/// What of a match is left to be asked of each operation of a series: what the series alone does
/// not decide, level by level, from the match itself to the innermost `not` that matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rest {
    pub(super) levels: Box<[Level]>,
}

/// What is left of one level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Level {
    /// What the series' words say: `Yes`, or `Unknown` where one of them is not wholly known.
    words: Truth,
    /// What the series' own resource says, where an operation's other resources may say more.
    resource: Option<Truth>,
}

/// How deep inside of `not` a key stands. Of an operation that is about several things, one has
/// to fit for a match to hold; inside of `not` all have to, or what is excluded would cover what
/// was never named.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Depth {
    negated: bool,
}

impl Depth {
    /// One `not` further in.
    pub(super) fn inner(self) -> Self {
        Self { negated: !self.negated }
    }

    /// Whether an operation fits that is about all of these.
    fn of_each<T>(self, items: &[T], holds: impl Fn(&T) -> Truth) -> Truth {
        if self.negated { all(items, holds) } else { any(items, holds) }
    }

    /// Whether a fact fits.
    pub(super) fn of_fact(self, fact: AttributeValue<'_>, holds: impl Fn(&str) -> Truth) -> Truth {
        match fact {
            AttributeValue::Known(value) => holds(&value),
            AttributeValue::Repeated(values) => any(&values, |value| holds(value)),
            AttributeValue::Multiple(values) => self.of_each(&values, |value| holds(value)),
            AttributeValue::Absent => Truth::No,
            AttributeValue::Unread => Truth::Unread,
            AttributeValue::Unknown => Truth::Unknown,
        }
    }
}

impl Match {
    /// Whether it applies, as far as what is known decides that.
    pub(crate) fn resolve(&self, known: &Known<'_>) -> Applies {
        self.resolve_at(known, Depth::default())
    }

    fn resolve_at(&self, known: &Known<'_>, depth: Depth) -> Applies {
        let mut level = Level { words: Truth::Yes, resource: None };
        for fixed in &self.fixed {
            let truth = fixed.holds(known);
            // Of several resources one decides, or has to be joined by the others.
            let decides = if depth.negated { Truth::No } else { Truth::Yes };
            if fixed.word == Word::Resource && known.others && truth != decides {
                level.resource = Some(truth);
            } else {
                level.words = level.words.and(truth);
            }
        }
        if level.words == Truth::No {
            return Applies::Never;
        }
        let not = self.not.as_ref();
        let inner = match not.map_or(Applies::Never, |not| not.resolve_at(known, depth.inner())) {
            Applies::Always => return Applies::Never,
            Applies::Varies(rest) => rest.levels,
            Applies::Never => Box::default(),
        };
        let decided = level == Level { words: Truth::Yes, resource: None };
        if decided && self.varying.is_empty() && inner.is_empty() {
            return Applies::Always;
        }
        let levels = std::iter::once(level).chain(inner).collect();
        Applies::Varies(Rest { levels })
    }

    /// Whether it holds of an operation, where these levels are left to be asked.
    pub(super) fn asks(&self, levels: &[Level], asked: &Asked<'_>, depth: Depth) -> Truth {
        let Some((level, inner)) = levels.split_first() else { return Truth::Yes };
        let mut truth = level.words.in_time(asked.partial);
        if let Some(own) = level.resource {
            truth = truth.and(self.of_resources(own.in_time(asked.partial), asked, depth));
        }
        for varying in &self.varying {
            if truth == Truth::No {
                return truth;
            }
            truth = truth.and(varying.holds(asked, depth));
        }
        match &self.not {
            Some(not) if !inner.is_empty() && truth != Truth::No => {
                truth.and(not.asks(inner, asked, depth.inner()).not())
            }
            _ => truth,
        }
    }

    /// Whether an operation's resources fit, of which its `own` does or does not.
    pub(super) fn of_resources(&self, own: Truth, asked: &Asked<'_>, depth: Depth) -> Truth {
        let globs = self.fixed.iter().find(|fixed| fixed.word == Word::Resource);
        let Some(Fixed { globs, .. }) = globs.filter(|_| asked.others) else { return own };
        let fits = |resource: &str| fits_resource(globs, resource, asked.partial);
        match asked.get(OTHER_RESOURCES) {
            AttributeValue::Absent => own,
            fact => depth.of_each(&[own, depth.of_fact(fact, fits)], |truth| *truth),
        }
    }
}

/// Whether a resource, of which a part may not be known, matches one of these; `partial` says
/// that more of the request may be read.
pub(super) fn fits_resource(globs: &[Glob], resource: &str, partial: bool) -> Truth {
    let word = glob::Word::resource(resource);
    any(globs, |glob| glob.fits(word)).in_time(partial)
}

impl Truth {
    /// What is not known of a word may be known when more of the request is read.
    fn in_time(self, partial: bool) -> Self {
        if self == Truth::Unknown && partial { Truth::Unread } else { self }
    }
}
