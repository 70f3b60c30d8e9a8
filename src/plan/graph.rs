//! Which step waits for which: what `after` says, and what follows from the claims.
//!
//! What the plan file says comes first. The order of a directory before what is inside it yields to an `after` the other
//! way round, as in Puppet's relationship graph: whoever comes first makes the parents. Every other circle is an error: a
//! checkout cannot be cloned around what is there already, and a table cannot be made before its parent.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::claim::{Claim, Claims, Database, Need, Series};

/// Why a step waits for another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The plan file says so.
    After,
    /// It works at this path, in the other step's own spelling, and the other one makes it or a directory around it.
    Path(PathBuf),
    /// It needs a table that the other one makes.
    Table,
}

/// The steps as a graph without circles, by their places in document order.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    edges: Vec<Vec<(usize, Reason)>>,
    sequence: Vec<usize>,
    slots: Vec<Vec<usize>>,
    yielded: Vec<Vec<usize>>,
}

/// A step as the graph sees it.
#[derive(Debug, Clone, Copy)]
pub struct Node<'a> {
    /// The places of the steps that the plan file wants done before.
    pub after: &'a [usize],
    /// The step's claims as the plan file spells them, and by where they lead.
    pub written: &'a Claims,
    pub located: &'a Claims,
}

impl Graph {
    /// Makes the graph.
    ///
    /// # Errors
    /// The places of steps that wait for each other, the first one again at the end.
    pub fn new(nodes: &[Node<'_>]) -> Result<Self, Vec<usize>> {
        let explicit = nodes.iter().enumerate().map(|(index, node)| {
            let others = node.after.iter().filter(|other| **other != index);
            others.map(|other| (*other, Reason::After)).collect()
        });
        let mut edges: Vec<Vec<(usize, Reason)>> = explicit.collect();
        sequence(&edges)?;
        let owners = Owners::of(nodes);
        let mut yielded = vec![Vec::new(); nodes.len()];
        for (index, node) in nodes.iter().enumerate() {
            for Maker { step: other, reason, may_yield } in owners.makers(node.located, nodes) {
                let edge = (other, reason);
                let known = other == index || edges[index].contains(&edge);
                let yields = may_yield && waits_by_after(&edges, other, index);
                if !known && yields {
                    yielded[other].push(index);
                } else if !known {
                    edges[index].push(edge);
                }
            }
            // What the plan file says is the last reason, since it tells the least of what changes.
            edges[index].sort_by_key(|(_, reason)| *reason == Reason::After);
        }
        let sequence = sequence(&edges)?;
        Ok(Self { edges, sequence, slots: slots(nodes), yielded })
    }

    /// The steps that the one at `index` waits for, and why: a step comes once for each reason.
    pub fn before(&self, index: usize) -> &[(usize, Reason)] {
        &self.edges[index]
    }

    /// All steps, each after those that it waits for, else in document order.
    pub fn sequence(&self) -> &[usize] {
        &self.sequence
    }

    /// The steps inside of the one at `index` that run before it, since the plan file says so: its changes may undo theirs.
    pub fn inside_and_before(&self, index: usize) -> &[usize] {
        &self.yielded[index]
    }

    /// What the step at `index` must not share while it runs: numbers from 0, in ascending order.
    pub fn slots(&self, index: usize) -> &[usize] {
        &self.slots[index]
    }

    /// How many different slots there are.
    pub fn slot_count(&self) -> usize {
        self.slots.iter().flatten().max().map_or(0, |last| last + 1)
    }
}

/// A step that makes what another one needs.
struct Maker {
    step: usize,
    reason: Reason,
    may_yield: bool,
}

/// The steps that make things, by what they make.
struct Owners<'a> {
    /// By the located path: the step, and its claim's place among its own.
    paths: HashMap<&'a Path, Vec<(usize, usize)>>,
    tables: Vec<(usize, &'a Database, Makes<'a>)>,
}

enum Makes<'a> {
    Table(&'a str),
    Series(&'a Series),
}

impl<'a> Owners<'a> {
    fn of(nodes: &[Node<'a>]) -> Self {
        let mut owners = Self { paths: HashMap::new(), tables: Vec::new() };
        for (index, node) in nodes.iter().enumerate() {
            for (at, claim) in node.located.owns.iter().enumerate() {
                match claim {
                    Claim::File(path) | Claim::Checkout(path) | Claim::Directory { path, .. } => {
                        owners.paths.entry(path).or_default().push((index, at));
                    }
                    Claim::Table { database, name } => owners.tables.push((index, database, Makes::Table(name))),
                    Claim::Series { database, series } => owners.tables.push((index, database, Makes::Series(series))),
                    Claim::EditedFile { .. } | Claim::Variable { .. } | Claim::EnvVariable { .. } => {}
                }
            }
        }
        owners
    }

    /// The steps that make what these claims need.
    fn makers(&self, claims: &Claims, nodes: &[Node<'_>]) -> Vec<Maker> {
        let mut makers = Vec::new();
        for need in &claims.needs {
            match need {
                Need::Path(needed) => {
                    for around in needed.ancestors() {
                        for (other, at) in self.paths.get(around).into_iter().flatten() {
                            let claim = &nodes[*other].located.owns[*at];
                            // A file holds nothing, and what a step itself makes at the path is its own.
                            if matches!(claim, Claim::File(_)) == (around == needed) {
                                makers.push(Maker {
                                    step: *other,
                                    reason: Reason::Path(respelled(needed, around, nodes[*other].written, *at)),
                                    may_yield: matches!(claim, Claim::Directory { .. }),
                                });
                            }
                        }
                    }
                }
                Need::Table { database, name } => {
                    makers.extend(self.tables.iter().filter_map(|(other, theirs, makes)| {
                        let makes = match makes {
                            Makes::Table(table) => table == name,
                            Makes::Series(series) => series.contains(name),
                        };
                        let maker = Maker { step: *other, reason: Reason::Table, may_yield: false };
                        (makes && theirs.is_same(database)).then_some(maker)
                    }));
                }
            }
        }
        makers
    }
}

/// The needed path as the step that makes it would spell it, since its changes name paths in its spelling.
fn respelled(needed: &Path, around: &Path, written: &Claims, at: usize) -> PathBuf {
    let top = written.owns.get(at).and_then(Claim::path).unwrap_or(around);
    match needed.strip_prefix(around) {
        Ok(rest) if !rest.as_os_str().is_empty() => top.join(rest),
        _ => top.to_path_buf(),
    }
}

fn slots(nodes: &[Node<'_>]) -> Vec<Vec<usize>> {
    let mut numbers: HashMap<&Path, usize> = HashMap::new();
    let each = nodes.iter().map(|node| {
        let mut slots: Vec<usize> = Vec::new();
        for path in &node.located.edits {
            let next = numbers.len();
            slots.push(*numbers.entry(path).or_insert(next));
        }
        slots.sort_unstable();
        slots.dedup();
        slots
    });
    each.collect()
}

/// Whether `from` waits for `to`, directly or by other steps, on some way that has an `after`.
fn waits_by_after(edges: &[Vec<(usize, Reason)>], from: usize, to: usize) -> bool {
    // Each step is met at most twice: on a way with an `after`, and on one without.
    let mut seen = vec![[false; 2]; edges.len()];
    let mut open = vec![(from, false)];
    while let Some((step, by_after)) = open.pop() {
        if step == to && by_after {
            return true;
        }
        if !std::mem::replace(&mut seen[step][usize::from(by_after)], true) {
            open.extend(edges[step].iter().map(|(other, reason)| (*other, by_after || *reason == Reason::After)));
        }
    }
    false
}

#[derive(Clone, Copy, PartialEq)]
enum Mark {
    New,
    Open,
    Done,
}

/// All steps, each after those that it waits for.
fn sequence(edges: &[Vec<(usize, Reason)>]) -> Result<Vec<usize>, Vec<usize>> {
    let mut sequence = Vec::new();
    let mut marks = vec![Mark::New; edges.len()];
    for start in 0..edges.len() {
        // By a stack of its own: a chain of thousands of steps must not exhaust the thread's.
        let mut path: Vec<(usize, usize)> = Vec::new();
        if marks[start] == Mark::New {
            marks[start] = Mark::Open;
            path.push((start, 0));
        }
        while let Some((step, at)) = path.last_mut() {
            let step = *step;
            let Some((other, _)) = edges[step].get(*at) else {
                marks[step] = Mark::Done;
                sequence.push(step);
                path.pop();
                continue;
            };
            *at += 1;
            match marks[*other] {
                Mark::Done => {}
                Mark::New => {
                    marks[*other] = Mark::Open;
                    path.push((*other, 0));
                }
                Mark::Open => {
                    let from = path.iter().position(|(step, _)| step == other).unwrap_or(0);
                    let mut circle: Vec<usize> = path[from..].iter().map(|(step, _)| *step).collect();
                    circle.push(*other);
                    return Err(circle);
                }
            }
        }
    }
    Ok(sequence)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(path: &str) -> Claims {
        Claims {
            owns: vec![Claim::Directory { path: path.into(), tree: None }],
            needs: vec![Need::Path(path.into())],
            edits: Vec::new(),
        }
    }

    fn graph(steps: &[(&[usize], Claims)]) -> Result<Graph, Vec<usize>> {
        let nodes: Vec<Node<'_>> =
            steps.iter().map(|(after, claims)| Node { after, written: claims, located: claims }).collect();
        Graph::new(&nodes)
    }

    #[test]
    fn every_reason_to_wait_is_kept() {
        let graph = graph(&[(&[], directory("/srv/code")), (&[0], directory("/srv/code/logs"))]).unwrap();
        assert_eq!(graph.before(1), [(0, Reason::Path("/srv/code/logs".into())), (0, Reason::After)]);
    }

    #[test]
    fn steps_that_wait_for_each_other_are_an_error() {
        let circle = graph(&[(&[1], directory("/srv/a")), (&[0], directory("/srv/b"))]).unwrap_err();
        assert_eq!(circle, [0, 1, 0]);
    }

    #[test]
    fn an_implied_order_yields_to_after() {
        let graph = graph(&[(&[1], directory("/srv/code")), (&[], directory("/srv/code/logs"))]).unwrap();
        assert_eq!(graph.sequence(), [1, 0]);
        assert_eq!(graph.before(1), []);
        assert_eq!(graph.inside_and_before(0), [1]);
    }

    #[test]
    fn an_implied_order_yields_to_after_by_way_of_a_third_step() {
        let steps = [
            (&[2][..], directory("/srv/code")),
            (&[][..], directory("/srv/code/logs")),
            (&[1][..], directory("/srv/else")),
        ];
        assert_eq!(graph(&steps).unwrap().sequence(), [1, 2, 0]);
    }

    #[test]
    fn a_checkout_cannot_come_after_what_is_inside_it() {
        let code = Claims { owns: vec![Claim::Checkout("/srv/code".into())], ..directory("/srv/code") };
        assert_eq!(graph(&[(&[1], code), (&[], directory("/srv/code/logs"))]).unwrap_err(), [0, 1, 0]);
    }

    #[test]
    fn tables_like_each_other_are_a_circle() {
        let like = |own: &str, parent: &str| {
            let database = Database::Connection("w".into());
            Claims {
                owns: vec![Claim::Table { database: database.clone(), name: own.into() }],
                needs: vec![Need::Table { database, name: parent.into() }],
                edits: Vec::new(),
            }
        };
        assert_eq!(graph(&[(&[], like("s.a", "s.b")), (&[], like("s.b", "s.a"))]).unwrap_err(), [0, 1, 0]);
    }

    #[test]
    fn edits_of_one_directory_share_a_slot_and_no_order() {
        let edits = |path: &str| Claims { edits: vec![path.into()], ..Claims::default() };
        let graph = graph(&[(&[1], edits("/srv")), (&[], edits("/srv")), (&[], edits("/opt"))]).unwrap();
        assert_eq!(graph.slots(0), graph.slots(1));
        assert_ne!(graph.slots(1), graph.slots(2));
        assert_eq!(graph.sequence(), [1, 0, 2]);
        assert_eq!(graph.slot_count(), 2);
    }
}
