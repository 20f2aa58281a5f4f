//! Tables for people: as wide as their content, and no wider than the terminal.

use std::io;

use crate::screen::{Painted, Screen, in_line};

const GAP: &str = "  ";

/// A table with a heading. Where it is too wide, the cells of the column `long` lose their beginnings: of a peer's id the
/// end tells more.
pub(crate) struct Table<const N: usize> {
    rows: Vec<[String; N]>,
    long: usize,
    note: String,
}

impl<const N: usize> Table<N> {
    pub(crate) fn new(heading: [&str; N], long: usize) -> Self {
        debug_assert!(long < N, "a column of the table");
        Table { rows: vec![heading.map(str::to_owned)], long, note: String::new() }
    }

    pub(crate) fn add(&mut self, row: [String; N]) {
        self.rows.push(row.map(|cell| in_line(&cell)));
    }

    /// A line below it.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.note = note.into();
    }

    pub(crate) fn print(&self) -> io::Result<()> {
        let width = Screen::Out.width();
        let note = (!self.note.is_empty()).then(|| in_line(&self.note));
        let mut lines = self.lines(width).into_iter().chain(note);
        lines.try_for_each(|line| Screen::Out.paint(&Painted::from(line).then("\n")))
    }

    fn lines(&self, width: usize) -> Vec<String> {
        let mut widths = [0; N];
        for row in &self.rows {
            widths.iter_mut().zip(row).for_each(|(width, cell)| *width = cell.chars().count().max(*width));
        }
        let all = widths.iter().sum::<usize>() + GAP.len() * (N - 1);
        let least = self.rows[0][self.long].chars().count();
        widths[self.long] = widths[self.long].saturating_sub(all.saturating_sub(width)).max(least);
        let line = |row: &[String; N]| {
            let cell = |(at, cell): (usize, &String)| {
                let (cell, width) = (end_of(cell, widths[at]), widths[at]);
                // What is compared digit by digit stands right.
                if self.is_right(at) { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
            };
            row.iter().enumerate().map(cell).collect::<Vec<_>>().join(GAP).trim_end().to_owned()
        };
        self.rows.iter().map(line).collect()
    }

    fn is_right(&self, at: usize) -> bool {
        let number = |cell: &String| cell.is_empty() || cell.starts_with(|c: char| c.is_ascii_digit() || c == '-');
        at != self.long && self.rows[1..].iter().all(|row| number(&row[at]))
    }
}

fn end_of(text: &str, width: usize) -> String {
    let long = text.chars().count();
    if long <= width {
        return text.into();
    }
    format!("…{}", text.chars().skip(long - width.saturating_sub(1)).collect::<String>())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_table_is_as_wide_as_its_content_or_the_terminal() {
        let mut table = Table::new(["peer", "price", "free"], 0);
        table.add(["12D3KooWEyoppNCUx8Yx66oV9fJn".into(), "0.5".into(), "1 of 4".into()]);
        table.add(["short".into(), "12.25".into(), "0\nof 1".into()]);
        let lines = [
            "peer                          price  free",
            "12D3KooWEyoppNCUx8Yx66oV9fJn    0.5  1 of 4",
            "short                         12.25  0 of 1",
        ];
        assert_eq!(table.lines(80)[1..], lines[1..]);
        assert_eq!(table.lines(30)[1], "…CUx8Yx66oV9fJn    0.5  1 of 4");
    }

    proptest! {
        #[test]
        fn no_line_is_wider_than_asked(cells in prop::collection::vec(("[a-z]{0,60}", "[0-9]{1,9}"), 0..5), width in 40_usize..120) {
            let mut table = Table::new(["peer", "price"], 0);
            cells.into_iter().for_each(|(peer, price)| table.add([peer, price]));
            for line in table.lines(width) {
                prop_assert!(line.chars().count() <= width, "{line:?}");
            }
        }
    }
}
