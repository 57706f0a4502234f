//! Tables as text: numbers have columns of a fixed width, and texts share the rest of the line.

pub(super) const BOLD: &str = "\x1b[1m";
pub(super) const DIM: &str = "\x1b[2m";
pub(super) const RED: &str = "\x1b[31m";
pub(super) const YELLOW: &str = "\x1b[33m";
pub(super) const CYAN: &str = "\x1b[36m";
pub(super) const RESET: &str = "\x1b[0m";

/// The heads of a table's columns: those of texts come first.
pub(super) struct Heads<'a> {
    pub(super) texts: Vec<&'a str>,
    /// With the width of each column.
    pub(super) numbers: Vec<(&'a str, usize)>,
}

/// A line of a table.
pub(super) struct Line {
    pub(super) texts: Vec<String>,
    /// With the colour of each, or nothing.
    pub(super) numbers: Vec<(String, &'static str)>,
}

/// The table as text, no line longer than `width` columns; `empty` is shown where it has no lines.
/// With `colour` it holds escape codes.
pub(super) fn lay_out(
    heads: &Heads<'_>,
    lines: &[Line],
    empty: &str,
    (width, colour): (usize, bool),
) -> String {
    let numbers: usize = heads.numbers.iter().map(|(_, width)| width + 1).sum();
    let widths = widths(heads, lines, width.saturating_sub(numbers));
    let paint = |code: &str, text: String| match colour && !code.is_empty() {
        true => format!("{code}{text}{RESET}"),
        false => text,
    };
    let fitted = heads.texts.iter().zip(&widths).map(|(head, width)| fit(head, *width));
    let head = fitted.collect::<Vec<_>>().join(" ");
    let numbers = heads.numbers.iter().map(|(head, width)| format!(" {head:>width$}"));
    let head: String = std::iter::once(head).chain(numbers).collect();
    let mut table = vec![paint(BOLD, clip(&head, width))];
    if lines.is_empty() {
        table.push(clip(empty, width));
    }
    for line in lines {
        let texts = line.texts.iter().zip(&widths).map(|(text, width)| fit(text, *width));
        let mut texts: Vec<String> = texts.collect();
        let taken = texts.iter().map(|text| text.chars().count() + 1).sum::<usize>();
        let mut left = (width + 1).saturating_sub(taken);
        if let Some(first) = texts.first_mut() {
            *first = paint(CYAN, std::mem::take(first));
        }
        let mut shown = texts.join(" ");
        for ((number, code), (_, width)) in line.numbers.iter().zip(&heads.numbers) {
            let text = clip(&format!(" {number:>width$}"), left);
            left = left.saturating_sub(text.chars().count());
            shown.push_str(&paint(code, text));
        }
        table.push(shown.trim_end().to_owned());
    }
    table.join("\n")
}

/// The widths of text columns that share `room`. None is wider than its longest text, and what it does
/// not need of its share goes to the others. One column is left free between two.
fn widths(heads: &Heads<'_>, lines: &[Line], room: usize) -> Vec<usize> {
    let texts = heads.texts.len();
    let wish = |(at, head): (usize, &&str)| {
        let longest = lines.iter().map(|line| line.texts[at].chars().count()).max();
        longest.unwrap_or_default().max(head.len())
    };
    let wishes: Vec<usize> = heads.texts.iter().enumerate().map(wish).collect();
    let mut order: Vec<usize> = (0..texts).collect();
    order.sort_by_key(|at| wishes[*at]);
    let mut left = room.saturating_sub(texts.saturating_sub(1));
    let mut widths = vec![0; texts];
    for (done, at) in order.into_iter().enumerate() {
        widths[at] = wishes[at].min(left.div_ceil(texts - done));
        left -= widths[at];
    }
    widths
}

/// A line that is not to be overlooked.
pub(super) fn loud(text: &str, colour: bool) -> String {
    if colour { format!("{YELLOW}{text}{RESET}") } else { text.to_owned() }
}

/// Fits a text to exactly this many columns. Names come from clients, so control characters are
/// removed.
fn fit(text: &str, width: usize) -> String {
    format!("{:<width$}", clip(text, width))
}

/// Truncates a text to this many columns.
pub(super) fn clip(text: &str, width: usize) -> String {
    let mut clipped: String =
        text.chars().take(width).map(|it| if is_plain(it) { it } else { '?' }).collect();
    if text.chars().nth(width).is_some() && clipped.pop().is_some() {
        clipped.push('…');
    }
    clipped.trim_end_matches(' ').to_owned()
}

/// Wraps a text at blanks to this many columns, with later lines indented.
pub(super) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let full = lines.last().filter(|line| !line.trim().is_empty());
        let full = full.map(|line| line.chars().count() + 1 + word.chars().count());
        if full.is_some_and(|full| full > width) {
            lines.push("  ".to_owned());
        }
        if let Some(line) = lines.last_mut() {
            if !line.trim().is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.iter().map(|line| clip(line, width)).collect()
}

/// Whether a character takes its place and does nothing else: no control, no change of direction.
fn is_plain(character: char) -> bool {
    !character.is_control()
        && !matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_are_broken_at_blanks() {
        assert_eq!(wrapped("1 a few words", 80), ["1 a few words"]);
        assert_eq!(wrapped("1 a few words", 8), ["1 a few", "  words"]);
        assert_eq!(wrapped("1 averylongword b", 8), ["1", "  avery…", "  b"]);
        assert_eq!(wrapped("", 8), [""]);
    }
}
