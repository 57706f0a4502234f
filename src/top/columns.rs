//! Tables of what the admin interface lists: which columns there are, and which have room.

use super::layout::{Heads, Line, lay_out};

/// A column of a table: texts share what numbers leave of a line.
pub(super) struct ListColumn<R> {
    pub(super) head: &'static str,
    /// The width of a column of numbers; `None` for texts.
    pub(super) width: Option<usize>,
    /// The table must be this wide for it.
    pub(super) from: usize,
    pub(super) show: fn(&R) -> Shown,
}

/// What a column shows of a row, and its colour, if it has one. Texts have none.
pub(super) type Shown = (String, &'static str);

/// A value without a colour.
pub(super) fn plain(text: impl Into<String>) -> Shown {
    (text.into(), "")
}

/// A value that has a colour if there is a reason.
pub(super) fn loud_if(is: bool, text: String, colour: &'static str) -> Shown {
    (text, if is { colour } else { "" })
}

/// The table as text, no line longer than `width` columns; `empty` is shown without rows. Columns of texts
/// come first. With `colour` it holds escape codes.
pub(super) fn render<R>(
    rows: &[R],
    columns: &[ListColumn<R>],
    empty: &str,
    (width, colour): (usize, bool),
) -> String {
    let shown = || columns.iter().filter(|column| width >= column.from);
    let texts: Vec<_> = shown().filter(|column| column.width.is_none()).collect();
    let numbers: Vec<_> = shown().filter_map(|it| Some((it, it.width?))).collect();
    let heads = Heads {
        texts: texts.iter().map(|column| column.head).collect(),
        numbers: numbers.iter().map(|(column, width)| (column.head, *width)).collect(),
    };
    let line = |row: &R| Line {
        texts: texts.iter().map(|column| (column.show)(row).0).collect(),
        numbers: numbers.iter().map(|(column, _)| (column.show)(row)).collect(),
    };
    let lines: Vec<Line> = rows.iter().map(line).collect();
    lay_out(&heads, &lines, empty, (width, colour))
}

/// A time in few columns: `42s`, `7m`, `3h`, `12d`.
pub(super) fn age(seconds: f64) -> String {
    match seconds {
        ..90.0 => format!("{seconds:.0}s"),
        ..5400.0 => format!("{:.0}m", seconds / 60.0),
        ..172_800.0 => format!("{:.0}h", seconds / 3600.0),
        _ => format!("{:.0}d", seconds / 86400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_take_few_columns() {
        let shown = [3.2, 89.0, 600.0, 7200.0, 864_000.0].map(age);
        assert_eq!(shown, ["3s", "89s", "10m", "2h", "10d"]);
    }
}
