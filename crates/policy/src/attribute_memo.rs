//! The attributes of one operation as policies ask for them: each is found once, however many ask.

use foldhash::HashMap;
use operation::{Attempt, AttributeValue, Attributes, LookupRun, OpenSpan, Operation, Rejection};
use std::{
    borrow::Cow,
    cell::{Cell, OnceCell},
    net::IpAddr,
};

/// How many attributes are kept without an allocation.
const INLINE: usize = 8;

/// The attributes that are kept, by name: those that policies are known to ask for.
#[derive(Debug, Default)]
pub(crate) struct AttributeNumbers(HashMap<Box<str>, usize>);

/// The attributes of an operation or a connection. A value that was asked for is kept.
pub(crate) struct AttributeMemo<'a> {
    numbers: &'a AttributeNumbers,
    attributes: &'a dyn Attributes,
    front: &'a [u8],
    first: [OnceCell<AttributeValue<'a>>; INLINE],
    /// The values of further ones, if one of them is asked for.
    others: OnceCell<Box<[OnceCell<AttributeValue<'a>>]>>,
}

impl AttributeNumbers {
    /// Numbers names in this order. The first ones are kept without an allocation.
    pub(crate) fn new<'n>(names: impl IntoIterator<Item = &'n str>) -> Self {
        let mut numbers = HashMap::default();
        for name in names {
            let next = numbers.len();
            numbers.entry(name.into()).or_insert(next);
        }
        Self(numbers)
    }
}

impl<'a> AttributeMemo<'a> {
    /// Of what these attributes read in `front`.
    pub(crate) fn new(
        numbers: &'a AttributeNumbers,
        attributes: &'a dyn Attributes,
        front: &'a [u8],
    ) -> Self {
        Self { numbers, attributes, front, first: Default::default(), others: OnceCell::new() }
    }

    /// Of an operation's attributes.
    pub(crate) fn of_operation(numbers: &'a AttributeNumbers, operation: &Operation<'a>) -> Self {
        Self::new(numbers, operation.attributes, operation.head)
    }

    /// The operation with these attributes.
    pub(crate) fn operation<'m>(&'m self, operation: &Operation<'m>) -> Operation<'m> {
        Operation { attributes: self, ..*operation }
    }

    fn slot(&self, number: usize) -> Option<&OnceCell<AttributeValue<'a>>> {
        let Some(further) = number.checked_sub(INLINE) else { return self.first.get(number) };
        let empty = || vec![OnceCell::new(); self.numbers.0.len() - INLINE].into();
        self.others.get_or_init(empty).get(further)
    }
}

impl Attributes for AttributeMemo<'_> {
    fn get<'b>(&'b self, front: &'b [u8], name: &str) -> AttributeValue<'b> {
        let is_same = std::ptr::eq(front, self.front) || front.is_empty() && self.front.is_empty();
        let number = self.numbers.0.get(name).filter(|_| is_same);
        match number.and_then(|number| self.slot(*number)) {
            Some(slot) => borrowed(slot.get_or_init(|| self.attributes.get(self.front, name))),
            None => self.attributes.get(front, name),
        }
    }

    fn peer(&self) -> Option<IpAddr> {
        self.attributes.peer()
    }

    fn lookups(&self) -> Option<&Cell<LookupRun>> {
        self.attributes.lookups()
    }

    fn on_traced(&self, span: OpenSpan) {
        self.attributes.on_traced(span);
    }

    fn span(&self) -> Option<(&OpenSpan, Vec<Attempt>)> {
        self.attributes.span()
    }

    fn on_rejected(&self, rejection: &Rejection) {
        self.attributes.on_rejected(rejection);
    }
}

/// The same value, of which nothing is copied.
fn borrowed<'b>(value: &'b AttributeValue<'_>) -> AttributeValue<'b> {
    let texts = |values: &'b [Cow<'_, str>]| values.iter().map(|it| Cow::Borrowed(&**it)).collect();
    match value {
        AttributeValue::Known(value) => AttributeValue::known(value),
        AttributeValue::Repeated(values) => AttributeValue::Repeated(texts(values)),
        AttributeValue::Multiple(values) => AttributeValue::Multiple(texts(values)),
        AttributeValue::Absent => AttributeValue::Absent,
        AttributeValue::Unread => AttributeValue::Unread,
        AttributeValue::Unknown => AttributeValue::Unknown,
    }
}
