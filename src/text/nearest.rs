//! What was meant by a word that is not known.

/// Returns the known word that is most similar to `word`, if it is similar enough to be meant.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = |candidate: &str| (candidate.len().max(word.len()) / 3).max(1);
    let length = word.chars().count();
    known
        .into_iter()
        // The distance is at least the difference in length, and much slower to compute.
        .filter(|candidate| candidate.chars().count().abs_diff(length) <= limit(candidate))
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        // A word that shares no letter with the candidate is not a typo of it.
        .filter(|(distance, candidate)| {
            *distance <= limit(candidate) && *distance < length.max(candidate.chars().count())
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn similar_words_are_found_and_others_are_not() {
        for (word, known, expected) in [
            ("aply", &["apply", "plan"][..], Some("apply")),
            ("id", &["ids", "x"], Some("ids")),
            ("xd", &["id"], Some("id")),
            ("x", &["d", "t"], None),
            ("repositroy", &["directory", "repository"], Some("repository")),
            ("\u{e4}pply", &["apply"], Some("apply")),
            ("table", &["repository"], None),
        ] {
            assert_eq!(nearest(word, known.iter().copied()), expected, "{word}");
        }
    }
}
