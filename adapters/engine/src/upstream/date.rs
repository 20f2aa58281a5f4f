//! Dates in headers, in the three forms that HTTP has.

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

/// Seconds since 1970; nothing for what is no date, or before that.
pub(super) fn seconds(date: &str) -> Option<u64> {
    let parts = || date.split([' ', ',', '-']).filter(|part| !part.is_empty());
    let name = |part: &str| part.get(..3).map(str::to_ascii_lowercase);
    // The name of the day comes first, and sounds like no month.
    let month =
        parts().skip(1).find_map(|part| MONTHS.iter().position(|month| name(part).as_deref() == Some(*month)))?;
    let clock = parts().find(|part| part.contains(':'))?;
    // In all three the day comes before the year.
    let mut numbers = parts().filter_map(|part| part.parse::<u64>().ok());
    let (day, year) = (numbers.next()?, numbers.next()?);
    let year = match year {
        0..70 => 2000 + year,
        70..100 => 1900 + year,
        1970..10_000 => year,
        _ => return None,
    };
    let mut clock = clock.split(':').map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    if !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    Some(((days(year, month as u64 + 1) + day - 1) * 24 + hour) * 3600 + minute * 60 + second)
}

/// Days from 1970 to the first of a month. Counted in years that begin in March, so that the leap day is their last.
fn days(year: u64, month: u64) -> u64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    // To the first of March of the year 0 there are 719,468.
    year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_moment_in_three_forms() {
        for date in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert_eq!(seconds(date), Some(784_111_777), "{date}");
        }
        assert_eq!(seconds("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(seconds("Thu, 29 Feb 2024 23:59:60 GMT"), Some(1_709_251_200));
        assert_eq!(seconds("Fri, 01 Mar 2024 00:00:00 GMT"), Some(1_709_251_200));
        for none in
            ["", "7", "soon", "Sun, 06 Nov 1994", "Sun, 06 Nov 1066 08:49:37 GMT", "Sun, 32 Nov 1994 08:49:37 GMT"]
        {
            assert_eq!(seconds(none), None, "{none}");
        }
    }
}
