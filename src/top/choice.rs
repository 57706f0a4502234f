//! What of it all a table shows, and in which order: chosen by arguments, and by keys.

use super::table::Row;
use clap::ValueEnum;

/// What a line of the table is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum View {
    /// An endpoint, and below a listener: what is broken, and since when.
    Now,
    /// An operation on a resource.
    #[default]
    Operations,
    /// A place in a client's program that operations come from.
    #[value(name = "callsites")]
    CallSites,
    /// The shape of a query.
    Shapes,
    /// The connections to an endpoint that operations share.
    Pools,
    /// An open connection.
    Sessions,
    /// A certificate.
    Tls,
    /// An operation that has just ended.
    Live,
}

impl View {
    /// Whether its lines count operations, and can be sorted.
    pub(super) fn counts(self) -> bool {
        matches!(self, View::Operations | View::CallSites | View::Shapes)
    }
}

/// The screens besides operations: the key of each, and its name.
const SCREENS: [(u8, View, &str); 7] = [
    (b'w', View::Now, "now"),
    (b'c', View::CallSites, "call sites"),
    (b'h', View::Shapes, "shapes"),
    (b'u', View::Pools, "pools"),
    (b'i', View::Sessions, "sessions"),
    (b'x', View::Tls, "TLS"),
    (b'v', View::Live, "live"),
];

/// The sort order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Sort {
    /// What takes the most time, all operations of a line together.
    #[default]
    Time,
    /// What there is the most of.
    Ops,
    /// What fails most often.
    Errors,
    /// What is slow half of the time.
    P50,
    /// What is slow now and then.
    P99,
    /// What moves the most bytes.
    Bytes,
    /// Names, from A to Z.
    Name,
}

impl Sort {
    const ALL: [Sort; 7] =
        [Sort::Time, Sort::Ops, Sort::Errors, Sort::P50, Sort::P99, Sort::Bytes, Sort::Name];

    /// What the screen calls it.
    pub fn name(self) -> &'static str {
        match self {
            Sort::Time => "time",
            Sort::Ops => "ops/s",
            Sort::Errors => "errors",
            Sort::P50 => "P50",
            Sort::P99 => "P99",
            Sort::Bytes => "bytes",
            Sort::Name => "name",
        }
    }

    fn next(self) -> Self {
        let at = Self::ALL.iter().position(|it| *it == self).unwrap_or_default();
        Self::ALL[(at + 1) % Self::ALL.len()]
    }

    /// Puts rows into this order.
    pub fn apply(self, rows: &mut [Row]) {
        let measure: fn(&Row) -> f64 = match self {
            Sort::Name => return rows.sort_by(|a, b| a.names().cmp(&b.names())),
            Sort::Time => |row| row.busy,
            Sort::Ops => |row| row.operations,
            Sort::Errors => |row| row.errors,
            Sort::P50 => |row| row.p50_ms.unwrap_or(-1.0),
            Sort::P99 => |row| row.p99_ms.unwrap_or(-1.0),
            Sort::Bytes => |row| row.bytes,
        };
        rows.sort_by(|a, b| measure(b).total_cmp(&measure(a)));
    }
}

/// What was chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ViewOptions {
    /// What lines are.
    pub view: View,
    /// Their order.
    pub sort: Sort,
    /// How often the key was pressed that switches a policy.
    pub switched: u32,
}

impl ViewOptions {
    /// What a key changes; whether it is one that does.
    pub fn press(&mut self, key: u8) -> bool {
        if let Some((_, view, _)) = SCREENS.iter().find(|(it, ..)| *it == key) {
            self.switch_to(*view);
            return true;
        }
        match key {
            b'l' => self.switched = self.switched.wrapping_add(1),
            b's' => self.sort = self.sort.next(),
            b't' => self.sort = Sort::Time,
            b'o' => self.sort = Sort::Ops,
            b'e' => self.sort = Sort::Errors,
            b'm' => self.sort = Sort::P50,
            b'p' => self.sort = Sort::P99,
            b'b' => self.sort = Sort::Bytes,
            b'n' => self.sort = Sort::Name,
            _ => return false,
        }
        true
    }

    /// Shows this, or operations if it is shown already.
    fn switch_to(&mut self, view: View) {
        self.view = if self.view == view { View::Operations } else { view };
    }

    /// The lines that list the keys.
    pub fn keys(&self) -> [String; 2] {
        let screen = |(key, view, name): &(u8, View, &str)| {
            let name = if self.view == *view { "operations" } else { name };
            format!("  {} {name}", char::from(*key))
        };
        let order = match self.view {
            View::Now => "endpoints out of use first".to_owned(),
            View::Pools => "the fullest first".to_owned(),
            View::Sessions => "the most bytes first".to_owned(),
            View::Tls => "the first to end first".to_owned(),
            View::Live => "the latest first".to_owned(),
            View::Operations | View::CallSites | View::Shapes => {
                format!("sort by t o e m p b n: {}  * in all", self.sort.name())
            }
        };
        [format!("q quit{}", SCREENS.iter().map(screen).collect::<String>()), order]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_choose_what_is_shown_and_in_which_order() {
        let mut choice = ViewOptions::default();
        assert!(choice.press(b'c') && choice.press(b'p'));
        assert_eq!((choice.view, choice.sort), (View::CallSites, Sort::P99));
        let [screens, order] = choice.keys();
        assert!(screens.contains("c operations") && order.contains(": P99"));
        assert!(choice.press(b'c') && choice.press(b's'));
        assert_eq!((choice.view, choice.sort), (View::Operations, Sort::Bytes));
        assert!(choice.press(b'u') && choice.press(b'c') && choice.press(b'u'));
        assert_eq!(choice.view, View::Pools);
        let screens =
            "q quit  w now  c call sites  h shapes  u operations  i sessions  x TLS  v live";
        assert_eq!(choice.keys(), [screens, "the fullest first"]);
        assert!(choice.press(b'h'));
        assert_eq!(choice.view, View::Shapes);
        assert!(choice.keys()[0].contains("h operations"));
        assert!(choice.press(b'h'));
        assert_eq!(choice.view, View::Operations);
        for (key, view, _) in SCREENS {
            assert!(choice.press(key));
            assert_eq!(choice.view, view);
            assert!(choice.keys().iter().all(|line| line.chars().count() <= 80));
            assert!(choice.press(key));
        }
        // What an arrow sends is no key of these.
        assert!(b"\x1b[A\x1b[B\x1b[C\x1b[D".iter().all(|key| !choice.press(*key)));
    }

    #[test]
    fn the_key_for_the_next_order_comes_round() {
        let mut choice = ViewOptions::default();
        for _ in Sort::ALL {
            choice.press(b's');
        }
        assert_eq!(choice, ViewOptions::default());
    }

    #[test]
    fn rows_come_in_the_order_that_was_chosen() {
        let row = |operation: &str, operations, errors, p99_ms, bytes, busy| {
            let operation = operation.to_owned();
            Row { operation, operations, errors, p99_ms, bytes, busy, ..Row::default() }
        };
        let mut rows = [
            row("b", 1.0, 3.0, Some(2.0), 1.0, 2.0),
            row("a", 2.0, 1.0, None, 3.0, 1.0),
            row("c", 3.0, 2.0, Some(3.0), 2.0, 3.0),
        ];
        for (sort, order) in [
            (Sort::Time, "cba"),
            (Sort::Ops, "cab"),
            (Sort::Errors, "bca"),
            (Sort::P99, "cba"),
            (Sort::Bytes, "acb"),
            (Sort::Name, "abc"),
        ] {
            sort.apply(&mut rows);
            let names: String = rows.iter().map(|row| row.operation.as_str()).collect();
            assert_eq!(names, order, "{sort:?}");
        }
    }
}
