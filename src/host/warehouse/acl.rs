//! Access lists (`pg_class.relacl`) as text: `dbt=ar/owner,"group etl"=r/owner,=r/owner`.
//!
//! Read here rather than by `aclexplode`, which Redshift does not have. The letters are those of
//! <https://www.postgresql.org/docs/current/ddl-priv.html>.

use std::collections::{BTreeMap, BTreeSet};

use super::catalog::Privilege;

/// Who holds what: a user by its name, a group as `group NAME`, everybody as `public`. The owner's own entry is left
/// out, for ownership says more.
pub(super) fn read(list: &str, owner: &str) -> BTreeMap<String, BTreeSet<Privilege>> {
    let mut grants: BTreeMap<String, BTreeSet<Privilege>> = BTreeMap::new();
    let mut rest = list;
    while !rest.is_empty() {
        let (holder, after) = identifier(rest);
        let Some(after) = after.strip_prefix('=') else { break };
        let letters_end = after.find('/').unwrap_or(after.len());
        let (_, next) = identifier(after[letters_end..].trim_start_matches('/'));
        let holder = if holder.is_empty() { "public".to_owned() } else { holder };
        if holder != owner {
            let privileges = after[..letters_end].chars().filter_map(Privilege::from_letter);
            grants.entry(holder).or_default().extend(privileges);
        }
        rest = next.strip_prefix(',').unwrap_or_default();
    }
    grants
}

/// A name, in quotation marks where it needs them, up to `=`, `,` or the end. Redshift writes `group NAME`.
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
    fn reads_users_groups_and_everybody() {
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
