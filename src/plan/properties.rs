//! The decisions about claims on thousands of generated plan files, against a model that compares every pair of claims.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use proptest::prelude::*;

use super::claim::{Claim, Claims, Database, FileUse, Need, Series, TreeOwner};
use super::conflict::{claimed_below, conflicts, trees_above};
use super::graph::{Graph, Node, Reason};
use super::period::{Every, Period};

fn path() -> impl Strategy<Value = PathBuf> {
    let parts = prop::collection::vec(prop::sample::select(vec!["a", "b", ".git", "c", "HEAD"]), 1..4);
    parts.prop_map(|parts| PathBuf::from(format!("/{}", parts.join("/"))))
}

/// Two names of one database, and another database.
fn database() -> impl Strategy<Value = Database> {
    let server = |connection: &str, hosts: &[&str]| Database::Server {
        connection: connection.into(),
        addresses: hosts.iter().map(|host| ((*host).to_owned(), 5432)).collect::<BTreeSet<_>>(),
        name: "d".into(),
    };
    prop::sample::select(vec![server("w", &["db", "10.0.0.1"]), server("v", &["10.0.0.1"]), server("x", &["other"])])
}

/// Series of all lengths whose names can meet: `s.h_2025` with `_07` behind it is a month as well.
fn series() -> impl Strategy<Value = Series> {
    let before = prop::sample::select(vec!["s.h_", "s.h_", "s.h_", "s.i_", "s.h_20"]);
    let after =
        prop::sample::select(vec!["", "", "", "_07", "_h2", "_q1", "_w07", "_w53", "_02_29", "_15", "_29", "25"]);
    let every = prop::sample::select(Every::ALL.to_vec());
    let from = prop::sample::select(vec!["2020-02-01", "2024-12-30", "2025-01-01", "2025-07-01", "2026-02-28"]);
    (before, after, every, from, prop::option::of(0u32..4)).prop_map(|(before, after, every, from, more)| {
        let from = Period::of(every, from.parse().unwrap());
        Series { before: before.into(), after: after.into(), every, from, through: more.map(|more| from.plus(more)) }
    })
}

fn table_name() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "s.h_2025_h1",
        "s.h_2026_h2",
        "s.i_2025_h2",
        "s.mart",
        "s.h_2025_q1",
        "s.H_2025_q1",
        "s.h_2025",
        "s.h_2025_07",
    ])
    .prop_map(str::to_owned)
}

fn file_use() -> impl Strategy<Value = FileUse> {
    prop::sample::select(vec![FileUse::Edits, FileUse::MayEdit, FileUse::Needs])
}

fn claim() -> impl Strategy<Value = Claim> {
    let name = || prop::sample::select(vec!["A", "B"]).prop_map(str::to_owned);
    let service = prop::option::of(prop::sample::select(vec!["web", "db"]).prop_map(str::to_owned));
    prop_oneof![
        path().prop_map(Claim::File),
        (path(), any::<bool>()).prop_map(|(path, tree)| Claim::Directory { path, tree: tree.then(TreeOwner::default) }),
        path().prop_map(Claim::Checkout),
        (path(), file_use()).prop_map(|(path, usage)| Claim::EditedFile { path, usage }),
        (path(), name(), service).prop_map(|(file, name, service)| Claim::Variable { file, name, service }),
        (path(), name()).prop_map(|(file, name)| Claim::EnvVariable { file, name }),
        (database(), table_name()).prop_map(|(database, name)| Claim::Table { database, name }),
        (database(), series()).prop_map(|(database, series)| Claim::Series { database, series }),
    ]
}

fn need() -> impl Strategy<Value = Need> {
    prop_oneof![
        path().prop_map(Need::Path),
        path().prop_map(Need::Read),
        path().prop_map(Need::Link),
        (database(), table_name()).prop_map(|(database, name)| Need::Table { database, name }),
    ]
}

/// A step needs the paths that it owns, as every kind has it, and perhaps something else.
fn claims() -> impl Strategy<Value = Claims> {
    (prop::collection::vec(claim(), 1..3), prop::collection::vec(need(), 0..3), prop::collection::vec(path(), 0..2))
        .prop_map(|(owns, mut needs, edits)| {
            needs.extend(owns.iter().filter_map(|claim| Some(Need::Path(claim.path()?.to_owned()))));
            let creates = owns.iter().find_map(Claim::path).map(Path::to_path_buf);
            Claims { owns, creates, needs, edits }
        })
}

fn steps() -> impl Strategy<Value = Vec<(Claims, Vec<usize>)>> {
    prop::collection::vec((claims(), prop::collection::vec(0usize..5, 0..2)), 2..6).prop_map(|mut steps| {
        let count = steps.len();
        for (index, (_, after)) in steps.iter_mut().enumerate() {
            after.retain(|other| *other < count && *other != index);
        }
        steps
    })
}

/// Whether steps with these claims would undo each other.
fn undo_each_other(one: &Claim, other: &Claim) -> bool {
    let may_edit = |claim: &Claim| matches!(claim, Claim::EditedFile { usage: FileUse::MayEdit, .. });
    let is_file = |claim: &Claim| matches!(claim, Claim::File(_) | Claim::EditedFile { .. }) && !may_edit(claim);
    let in_git = |inside: &Claim, checkout: &Claim| match (inside, checkout) {
        (Claim::Directory { path, .. }, Claim::Checkout(top)) => path.starts_with(top.join(".git")),
        (Claim::File(path) | Claim::EditedFile { path, .. }, Claim::Checkout(top)) => {
            *path == top.join(".git") || path.starts_with(top.join(".git/HEAD"))
        }
        _ => false,
    };
    match (one, other) {
        (Claim::Variable { file, name, service }, Claim::Variable { file: file2, name: name2, service: service2 }) => {
            (file, name) == (file2, name2) && (service == service2 || service.is_none() || service2.is_none())
        }
        (Claim::EnvVariable { file, name }, Claim::EnvVariable { file: file2, name: name2 }) => {
            (file, name) == (file2, name2)
        }
        (Claim::Table { database, name }, Claim::Table { database: database2, name: name2 }) => {
            database.is_same(database2) && name == name2
        }
        (Claim::Table { database, name }, Claim::Series { database: database2, series })
        | (Claim::Series { database: database2, series }, Claim::Table { database, name }) => {
            database.is_same(database2) && makes(series, name)
        }
        (Claim::Series { database, series }, Claim::Series { database: database2, series: series2 }) => {
            database.is_same(database2) && meet(series, series2)
        }
        _ => match (one.path(), other.path()) {
            (Some(path), Some(path2)) if path == path2 => {
                let edits = [one, other].map(|claim| matches!(claim, Claim::EditedFile { .. }));
                let needs = |claim: &Claim| matches!(claim, Claim::EditedFile { usage: FileUse::Needs, .. });
                let is_whole_file = |claim: &Claim| matches!(claim, Claim::File(_));
                let is_left_alone = (needs(one) && is_whole_file(other)) || (needs(other) && is_whole_file(one));
                edits != [true, true] && !may_edit(one) && !may_edit(other) && !is_left_alone
            }
            (Some(path), Some(path2)) => {
                (is_file(one) && path2.starts_with(path))
                    || (is_file(other) && path.starts_with(path2))
                    || in_git(one, other)
                    || in_git(other, one)
            }
            _ => false,
        },
    }
}

/// All periods that the names of generated series can have in common, with their names.
fn calendar(every: Every) -> &'static HashMap<String, Period> {
    static CALENDARS: LazyLock<HashMap<Every, HashMap<String, Period>>> = LazyLock::new(|| {
        let calendar = |every: Every| {
            let last = if every == Every::Year { "2700-01-01" } else { "2033-01-01" };
            let [first, last] = ["2019-12-01", last].map(|day| Period::of(every, day.parse().unwrap()));
            first.through(last).map(|period| (period.to_string(), period)).collect()
        };
        Every::ALL.into_iter().map(|every| (every, calendar(every))).collect()
    });
    &CALENDARS[&every]
}

fn is_in(series: &Series, period: Period) -> bool {
    period >= series.from && series.through.is_none_or(|through| period <= through)
}

fn makes(series: &Series, table: &str) -> bool {
    let name = table.strip_prefix(&series.before).and_then(|rest| rest.strip_suffix(&series.after));
    name.and_then(|name| calendar(series.every).get(name)).is_some_and(|period| is_in(series, *period))
}

/// Whether two series make a table of one name.
fn meet(one: &Series, other: &Series) -> bool {
    let own = calendar(one.every).iter().filter(|(_, period)| is_in(one, **period));
    own.map(|(name, _)| format!("{}{name}{}", one.before, one.after)).any(|table| makes(other, &table))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, max_global_rejects: 100_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Two steps are refused if and only if the model finds two claims of theirs that exclude each other, whichever stands
    /// first; of several steps, if and only if two of them are.
    #[test]
    fn steps_that_would_undo_each_other_are_refused_and_no_others(steps in steps()) {
        let all: Vec<Claims> = steps.iter().map(|(claims, _)| claims.clone()).collect();
        let mut wrong_pairs = Vec::new();
        for (second, theirs) in all.iter().enumerate() {
            for (first, ours) in all[..second].iter().enumerate() {
                let expected = ours.owns.iter().any(|one| theirs.owns.iter().any(|other| undo_each_other(one, other)));
                for pair in [[ours.clone(), theirs.clone()], [theirs.clone(), ours.clone()]] {
                    prop_assert_eq!(!conflicts(&pair, &pair).is_empty(), expected, "{:?}", pair);
                }
                if expected {
                    wrong_pairs.push((first, second));
                }
            }
        }
        let found: Vec<(usize, usize)> = conflicts(&all, &all).iter().map(|found| (found.first, found.second)).collect();
        prop_assert!(found.iter().all(|pair| wrong_pairs.contains(pair)), "{found:?} {wrong_pairs:?}");
        prop_assert_eq!(found.is_empty(), wrong_pairs.is_empty());
    }

    /// Two series overlap if and only if they have a table in common, whichever is asked.
    #[test]
    fn series_overlap_if_they_make_a_table_of_one_name(one in series(), other in series()) {
        prop_assert_eq!(one.overlaps(&other), meet(&one, &other), "{:?} {:?}", one, other);
        prop_assert_eq!(other.overlaps(&one), one.overlaps(&other));
    }

    /// The graph of steps that are accepted has no circle, keeps every `after`, and puts who makes a thing before who needs
    /// it, unless an `after` says otherwise. Who makes what is read comes before the reader, unless it waits for the reader; that makes
    /// no circle, and a failure of the maker does not stop the reader.
    #[test]
    fn accepted_steps_run_in_an_order_that_holds(steps in steps()) {
        let all: Vec<Claims> = steps.iter().map(|(claims, _)| claims.clone()).collect();
        prop_assume!(conflicts(&all, &all).is_empty());
        let nodes: Vec<Node<'_>> =
            steps.iter().map(|(claims, after)| Node { after, written: claims, located: claims }).collect();
        match Graph::new(&nodes) {
            Ok(graph) => {
                let place = |step: usize| graph.sequence().iter().position(|other| *other == step).unwrap();
                prop_assert_eq!(graph.sequence().iter().collect::<BTreeSet<_>>().len(), steps.len());
                for (index, (claims, after)) in steps.iter().enumerate() {
                    for other in after {
                        prop_assert!(place(*other) < place(index));
                    }
                    for (other, reason) in graph.before(index) {
                        prop_assert!(place(*other) < place(index));
                        let model = match reason {
                            Reason::After => after.contains(other),
                            Reason::Read(_) => is_read(&steps[*other].0, claims) || holds_link(&steps[*other].0, claims),
                            Reason::Path(_) => brings(&steps[*other].0, claims),
                            Reason::Table => brings(&steps[*other].0, claims),
                            Reason::TableOfRedshift => brings(&folded(&steps[*other].0), &folded(claims)),
                        };
                        prop_assert!(model, "{index} waits for {other}: {reason:?}");
                        prop_assert_eq!(reason.stops(), !matches!(reason, Reason::Read(_) | Reason::TableOfRedshift));
                    }
                    for (other, (theirs, _)) in steps.iter().enumerate().filter(|(other, _)| *other != index) {
                        if brings(theirs, claims) {
                            let yielded = graph.inside_and_before(other).contains(&index);
                            prop_assert!(place(other) < place(index) || yielded, "{index} needs what {other} makes");
                        }
                        if is_read(theirs, claims) || holds_link(theirs, claims) {
                            let waits = waits_for(&graph, other, index);
                            prop_assert!(place(other) < place(index) || waits, "{index} reads or passes what {other} makes");
                        }
                        let shared = claims.edits.iter().any(|path| theirs.edits.contains(path));
                        let same_lock = graph.locks(index).iter().any(|lock| graph.locks(other).contains(lock));
                        prop_assert_eq!(shared, same_lock);
                    }
                }
            }
            Err(cycle) => {
                let order = cycle.steps();
                prop_assert!(order.len() > 2 && order.first() == order.last(), "{cycle:?}");
                prop_assert_eq!(cycle.edges().map(|(step, other, _)| [step, other]).collect::<Vec<_>>(),
                    order.windows(2).map(|pair| [pair[0], pair[1]]).collect::<Vec<_>>());
                for (step, other, reason) in cycle.edges() {
                    let waits = match reason {
                        Reason::After => steps[step].1.contains(&other),
                        Reason::Path(_) | Reason::Table => brings(&steps[other].0, &steps[step].0),
                        Reason::Read(_) | Reason::TableOfRedshift => false,
                    };
                    prop_assert!(waits, "{cycle:?}");
                }
                let edges: Vec<(usize, usize, &Reason)> = cycle.edges().collect();
                let has_after = edges.iter().any(|(.., reason)| **reason == Reason::After);
                let could_yield = |(step, other, reason): &(usize, usize, &Reason)| {
                    matches!(reason, Reason::Path(_)) && is_only_inside(&steps[*other].0, &steps[*step].0)
                };
                prop_assert!(!has_after || !edges.iter().any(could_yield), "an edge could have yielded: {cycle:?}");
            }
        }
    }

    /// The order of the plan file decides neither whether the steps can be ordered, nor which steps wait for which.
    #[test]
    fn the_order_of_the_document_does_not_decide(steps in steps()) {
        let all: Vec<Claims> = steps.iter().map(|(claims, _)| claims.clone()).collect();
        prop_assume!(conflicts(&all, &all).is_empty());
        let last = steps.len() - 1;
        let reversed: Vec<(Claims, Vec<usize>)> = steps.iter().rev()
            .map(|(claims, after)| (claims.clone(), after.iter().map(|other| last - other).collect())).collect();
        let graph = |steps: &[(Claims, Vec<usize>)]| {
            let nodes: Vec<Node<'_>> =
                steps.iter().map(|(claims, after)| Node { after, written: claims, located: claims }).collect();
            Graph::new(&nodes)
        };
        let (one, other) = (graph(&steps), graph(&reversed));
        prop_assert_eq!(one.is_ok(), other.is_ok(), "{:?} {:?}", one, other);
        if let (Ok(one), Ok(other)) = (one, other) {
            for index in 0..steps.len() {
                let waits = |graph: &Graph, index: usize, at: &dyn Fn(usize) -> usize| -> BTreeSet<usize> {
                    // Of two steps that only read from each other, the one that is written first waits.
                    let needs = |step: usize| brings(&all[at(step)], &all[at(index)]);
                    let waits = graph.before(index).iter().filter(|(step, reason)| *reason == Reason::After || needs(*step));
                    waits.map(|(step, _)| at(*step)).collect()
                };
                prop_assert_eq!(waits(&one, index, &|step| step), waits(&other, last - index, &|step| last - step));
                let yielded = |graph: &Graph, index: usize, at: &dyn Fn(usize) -> usize| -> BTreeSet<usize> {
                    graph.inside_and_before(index).iter().map(|step| at(*step)).collect()
                };
                prop_assert_eq!(yielded(&one, index, &|step| step), yielded(&other, last - index, &|step| last - step));
            }
        }
    }

    /// A tree leaves out exactly what other steps own below it.
    #[test]
    fn a_tree_leaves_out_what_others_own_below_it(steps in steps()) {
        let all: Vec<Claims> = steps.iter().map(|(claims, _)| claims.clone()).collect();
        prop_assume!(conflicts(&all, &all).is_empty());
        for (index, own) in all.iter().enumerate() {
            let others = all.iter().enumerate().filter(|(other, _)| *other != index).map(|(_, claims)| ("step", claims));
            let found: BTreeSet<PathBuf> = claimed_below(own, others).into_iter().map(|below| below.path).collect();
            let tops = own.owns.iter().filter(|claim| claim.is_whole()).filter_map(Claim::path);
            let theirs = || all.iter().enumerate().filter(|(other, _)| *other != index).flat_map(|(_, claims)| &claims.owns);
            let expected: BTreeSet<PathBuf> = tops
                .flat_map(|top| theirs().filter_map(move |claim| Some(claim.path()?.strip_prefix(top).ok()?.to_owned())))
                .filter(|path| !path.as_os_str().is_empty())
                .collect();
            prop_assert_eq!(found, expected);
        }
    }

    /// The trees around what a step creates do not depend on the order of its claims.
    #[test]
    fn the_order_of_claims_has_no_meaning(steps in steps()) {
        let mut all: Vec<Claims> = steps.iter().map(|(claims, _)| claims.clone()).collect();
        let heights = |all: &[Claims]| -> Vec<Vec<usize>> {
            let above = |own: &Claims| trees_above(own, all.iter()).iter().map(|tree| tree.height).collect();
            all.iter().map(above).collect()
        };
        let before = heights(&all);
        all.iter_mut().for_each(|claims| claims.owns.reverse());
        prop_assert_eq!(heights(&all), before);
    }
}

/// Whether a step waits for another, directly or through others.
fn waits_for(graph: &Graph, step: usize, other: usize) -> bool {
    graph.before(step).iter().any(|(before, _)| *before == other || waits_for(graph, *before, other))
}

/// The claims with the names of tables as Redshift stores them.
fn folded(claims: &Claims) -> Claims {
    let mut claims = claims.clone();
    for need in &mut claims.needs {
        if let Need::Table { name, .. } = need {
            name.make_ascii_lowercase();
        }
    }
    for claim in &mut claims.owns {
        match claim {
            Claim::Table { name, .. } => name.make_ascii_lowercase(),
            Claim::Series { series, .. } => *series = series.folded(),
            _ => {}
        }
    }
    claims
}

/// Whether the checkout of the first step is around a symlink on the way to a path of the second.
fn holds_link(maker: &Claims, needing: &Claims) -> bool {
    needing.needs.iter().any(|need| {
        maker.owns.iter().any(|claim| match (need, claim) {
            (Need::Link(link), Claim::Checkout(path)) => link != path && link.starts_with(path),
            _ => false,
        })
    })
}

/// Whether the first step makes something that the second reads.
fn is_read(maker: &Claims, reader: &Claims) -> bool {
    reader.needs.iter().any(|need| {
        maker.owns.iter().any(|claim| match (need, claim) {
            (Need::Read(read), Claim::File(path)) => path.starts_with(read),
            (Need::Read(read), Claim::Checkout(path)) => {
                read.starts_with(path) && read != path || path.starts_with(read)
            }
            _ => false,
        })
    })
}

/// Whether the first step makes something that the second needs, and all of it is directories around what the second needs.
fn is_only_inside(maker: &Claims, needing: &Claims) -> bool {
    let directories = |is_directory: bool| {
        let owns = maker.owns.iter().filter(|claim| matches!(claim, Claim::Directory { .. }) == is_directory);
        Claims { owns: owns.cloned().collect(), ..Claims::default() }
    };
    brings(&directories(true), needing) && !brings(&directories(false), needing)
}

/// Whether the first step makes something that the second needs.
fn brings(maker: &Claims, needing: &Claims) -> bool {
    needing.needs.iter().any(|need| {
        maker.owns.iter().any(|claim| match (need, claim) {
            (Need::Path(needed), Claim::File(path)) => needed == path,
            (Need::Path(needed), Claim::Checkout(path) | Claim::Directory { path, .. }) => {
                needed != path && needed.starts_with(path)
            }
            (Need::Table { database, name }, Claim::Table { database: theirs, name: made }) => {
                theirs.is_same(database) && made == name
            }
            (Need::Table { database, name }, Claim::Series { database: theirs, series }) => {
                theirs.is_same(database) && makes(series, name)
            }
            _ => false,
        })
    })
}
