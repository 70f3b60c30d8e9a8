//! Compares what `LIKE … INCLUDING …` copies apart from the columns.

use std::collections::BTreeSet;

use super::clauses::Included;
use crate::host::warehouse::{Computed, Dialect, Relation, Shown};

/// Returns what the parent has and the table does not, of what LIKE includes.
pub fn differences(
    included: &BTreeSet<Included>,
    parent: &Relation,
    found: &Relation,
    dialect: Dialect,
) -> Vec<String> {
    let mut differences = Vec::new();
    let is_among =
        |names: &[&String], name: &String| names.iter().any(|one| dialect.comparable(one) == dialect.comparable(name));
    // The catalog does not tell a default from an identity that accepts values, so both have to be included.
    if included.contains(&Included::Defaults)
        && (included.contains(&Included::Identity) || dialect == Dialect::Redshift)
    {
        let theirs: Vec<&String> = found.inserts.defaults.iter().collect();
        let missing = parent.inserts.defaults.iter().filter(|name| !is_among(&theirs, name));
        differences.extend(missing.map(|name| format!("column {} has no default", Shown(name))));
    }
    for (what, computed, words) in [
        (Included::Identity, Computed::Identity, "an identity column"),
        (Included::Generated, Computed::Generated, "a generated column"),
    ] {
        if !included.contains(&what) {
            continue;
        }
        let theirs = computed_columns(found, computed);
        let missing = computed_columns(parent, computed).into_iter().filter(|name| !is_among(&theirs, name));
        differences.extend(missing.map(|name| format!("column {} is not {words}", Shown(name))));
    }
    let is_included = |guard: &&String| {
        let check = guard.starts_with("CHECK ") && included.contains(&Included::Constraints);
        let index = ["PRIMARY KEY ", "UNIQUE ", "EXCLUDE "].iter().any(|kind| guard.starts_with(kind));
        check || (index && included.contains(&Included::Indexes))
    };
    let guards = parent.inserts.guards.difference(&found.inserts.guards).filter(is_included);
    differences.extend(guards.map(|guard| format!("it has no {guard}")));
    differences
}

fn computed_columns(relation: &Relation, computed: Computed) -> Vec<&String> {
    relation.inserts.computed.iter().filter(|(_, how)| **how == computed).map(|(name, _)| name).collect()
}
