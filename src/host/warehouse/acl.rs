//! Parses access lists (`pg_class.relacl`): `dbt=ar/owner,"group etl"=r/owner,=r/owner`.
//!
//! They are parsed here because Redshift has no `aclexplode`. The letters are documented at
//! <https://www.postgresql.org/docs/current/ddl-priv.html>.

use std::collections::{BTreeMap, BTreeSet};

use super::account::Privilege;

/// Returns the privileges by holder: the name of a user, `group NAME` for a group, and `public` for everyone. The
/// owner's own entry is left out, because ownership implies it.
pub(super) fn read(list: &str, owner: &str) -> BTreeMap<String, BTreeSet<Privilege>> {
    let mut grants: BTreeMap<String, BTreeSet<Privilege>> = BTreeMap::new();
    for (holder, letters) in entries(list).into_iter().filter(|(holder, _)| holder != owner) {
        grants.entry(holder).or_default().extend(letters.chars().filter_map(Privilege::from_letter));
    }
    grants
}

/// Returns the holders of a privilege by its letter, which schemas have others of: U and C.
pub(super) fn holders(list: &str, letter: char) -> BTreeSet<String> {
    entries(list).into_iter().filter(|(_, letters)| letters.contains(letter)).map(|(holder, _)| holder).collect()
}

/// Returns each holder with the letters of its privileges.
fn entries(list: &str) -> Vec<(String, &str)> {
    let mut entries = Vec::new();
    let mut rest = list;
    while !rest.is_empty() {
        let (holder, after) = identifier(rest);
        let Some(after) = after.strip_prefix('=') else { break };
        let letters_end = after.find('/').unwrap_or(after.len());
        let (_, next) = identifier(after[letters_end..].trim_start_matches('/'));
        let holder = if holder.is_empty() { "public".to_owned() } else { holder };
        entries.push((holder, &after[..letters_end]));
        rest = next.strip_prefix(',').unwrap_or_default();
    }
    entries
}

/// Parses a name, optionally quoted, up to `=`, `,` or the end. Redshift writes `group NAME`.
fn identifier(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut quoted = false;
    let mut letters = text.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' if quoted && letters.peek().is_some_and(|(_, next)| *next == '"') => {
                letters.next();
                name.push('"');
            }
            '"' => quoted = !quoted,
            '=' | ',' if !quoted => return (name, &text[at..]),
            letter => name.push(letter),
        }
    }
    (name, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use Privilege::{Insert, Select};

    #[test]
    fn parses_users_groups_and_public() {
        let read = read(r#"me=arwdDxt/me,dbt=a*r/me,group etl=r/me,"a,""b=c"=r/me,=r/"o,wner""#, "me");
        let expected = [
            ("dbt", vec![Select, Insert]),
            ("group etl", vec![Select]),
            ("a,\"b=c", vec![Select]),
            ("public", vec![Select]),
        ];
        let expected = expected.into_iter().map(|(who, what)| (who.to_owned(), what.into_iter().collect())).collect();
        assert_eq!(read, expected);
    }

    proptest::proptest! {
        #[test]
        fn never_panics(list in "[a-z\"=/,* é]{0,40}") {
            read(&list, "o");
        }
    }
}
