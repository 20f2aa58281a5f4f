//! Spans of time as people read them.

use haggle::core::time::Millis;

/// `300 ms`, `2 s`, `1.5 s`.
pub(crate) fn span(span: Millis) -> String {
    match span.0 {
        millis @ 0..1_000 => format!("{millis} ms"),
        millis if millis % 1_000 < 100 => format!("{} s", millis / 1_000),
        millis => format!("{}.{} s", millis / 1_000, millis % 1_000 / 100),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_the_digits_that_matter() {
        let read = [0, 300, 999, 1_000, 1_099, 1_500, 62_950].map(|millis| span(Millis(millis)));
        assert_eq!(read, ["0 ms", "300 ms", "999 ms", "1 s", "1 s", "1.5 s", "62.9 s"]);
    }
}
