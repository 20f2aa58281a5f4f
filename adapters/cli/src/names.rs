//! Names that people may have meant.

/// The known names that are nearest to a wrong one, the nearest first; at most three, none that is far off.
pub(crate) fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut near: Vec<(usize, &str)> = known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&wrong.to_lowercase(), &name.to_lowercase()), name))
        .filter(|(distance, name)| {
            let longest = name.chars().count().max(wrong.chars().count());
            *distance * 2 <= longest || name.contains(wrong)
        })
        .collect();
    near.sort_unstable();
    near.dedup();
    near.into_iter().take(3).map(|(_, name)| name).collect()
}

/// `; did you mean A or B?`, or nothing.
pub(crate) fn did_you_mean<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    match nearest(wrong, known).as_slice() {
        [] => String::new(),
        names => format!("; did you mean {}?", names.join(" or ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_names_come_first_and_far_ones_not_at_all() {
        let known = ["haggle-tiny-stories", "llama-3.2-1b", "llama-3.2-3b"];
        assert_eq!(nearest("haggle-tiny-story", known), ["haggle-tiny-stories"]);
        assert_eq!(nearest("LLAMA-3.2-3b", known), ["llama-3.2-3b", "llama-3.2-1b"]);
        assert_eq!(nearest("tiny", known), ["haggle-tiny-stories"]);
        assert!(nearest("gpt", known).is_empty());
        assert_eq!(did_you_mean("x", known), "");
    }
}
