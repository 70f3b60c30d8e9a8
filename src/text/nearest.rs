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
        .filter(|(distance, candidate)| *distance <= limit(candidate))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}
