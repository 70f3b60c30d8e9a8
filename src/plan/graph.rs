//! Decides which step waits for which: `after`, and the order that follows from the claims.
//!
//! `after` has priority. A directory normally comes before the steps inside it, but an `after` can reverse that, as in
//! Puppet's relationship graph: the step that runs first creates the parents. An order that follows only from a file that a step
//! reads, or from a symlink on the way to its path, is dropped if the other step already waits for this one. Every other cycle is
//! an error: a checkout cannot be cloned around existing files, and a table cannot be created before its parent.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use super::claim::{Claim, Claims, Database, Need, Series};

/// Why a step waits for another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The plan file says so.
    After,
    /// The step works at this path, in the other step's spelling. The other step creates it or a directory around it.
    Path(PathBuf),
    /// The step reads what the other one makes at this path, in the other step's spelling, if it is there.
    Read(PathBuf),
    /// The step needs a table that the other one creates.
    Table,
    /// The step needs a table with the name of one that the other one creates, if the server ignores the case of names.
    TableOfRedshift,
}

impl Reason {
    /// Whether the step cannot run if the other one failed. A step may not need what it reads. If it does, its own failure reports
    /// that.
    pub fn stops(&self) -> bool {
        !matches!(self, Self::Read(_) | Self::TableOfRedshift)
    }
}

/// Steps that wait for each other: each one for the next for this reason, and the last one for the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cycle(Vec<(usize, Reason)>);

impl Cycle {
    /// Returns the indices of the steps. The first one is repeated at the end.
    pub fn steps(&self) -> Vec<usize> {
        self.0.iter().chain(self.0.first()).map(|(step, _)| *step).collect()
    }

    /// Returns each step, the one that it waits for, and why.
    pub fn edges(&self) -> impl Iterator<Item = (usize, usize, &Reason)> {
        let next = self.0.iter().cycle().skip(1);
        self.0.iter().zip(next).map(|((step, reason), (other, _))| (*step, *other, reason))
    }
}

/// The acyclic graph of steps. Steps are identified by their indices in document order.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    edges: Vec<Vec<(usize, Reason)>>,
    sequence: Vec<usize>,
    locks: Vec<Vec<usize>>,
    inside_and_before: Vec<Vec<usize>>,
}

/// A step as the graph sees it.
#[derive(Debug, Clone, Copy)]
pub struct Node<'a> {
    /// The indices of the steps listed in `after`.
    pub after: &'a [usize],
    /// The step's claims as spelled in the plan file, and located.
    pub written: &'a Claims,
    pub located: &'a Claims,
}

impl Graph {
    /// Creates the graph.
    ///
    /// # Errors
    /// Steps that form a cycle.
    pub fn new(nodes: &[Node<'_>]) -> Result<Self, Cycle> {
        let explicit = nodes.iter().enumerate().map(|(index, node)| {
            let others = node.after.iter().filter(|other| **other != index);
            others.map(|other| (*other, Reason::After)).collect()
        });
        let mut edges: Vec<Vec<(usize, Reason)>> = explicit.collect();
        sequence(&edges)?;
        let owners = Owners::of(nodes);
        let mut inside_and_before = vec![Vec::new(); nodes.len()];
        let mut around = BTreeMap::<_, Vec<_>>::new();
        for (index, node) in nodes.iter().enumerate() {
            for Maker { step: other, reason, directory } in owners.makers(node.located, nodes) {
                let edge = (other, reason);
                match directory {
                    _ if other == index => {}
                    Some(depth) => around.entry(Reverse(depth)).or_default().push((index, edge)),
                    None if edges[index].contains(&edge) => {}
                    None => edges[index].push(edge),
                }
            }
        }
        // The edges that are never dropped are complete here, and inner directories are decided before outer ones. So the graph
        // does not depend on the order of the plan file.
        for (_, candidates) in around {
            add_unless_after(candidates, &mut edges, &mut inside_and_before);
        }
        for (index, node) in nodes.iter().enumerate() {
            for other in owners.makers_on_redshift(node.located) {
                let is_known = edges[index].iter().any(|(step, reason)| *step == other && *reason == Reason::Table);
                if !is_known && !waits(&edges, other, index) {
                    edges[index].push((other, Reason::TableOfRedshift));
                }
            }
            for edge in owners.makers_of_read(node.located, nodes) {
                if !waits(&edges, edge.0, index) && !edges[index].contains(&edge) {
                    edges[index].push(edge);
                }
            }
        }
        // What a step reads may be what reaches the checkout, such as a key. So links come last.
        for (index, node) in nodes.iter().enumerate() {
            for edge in owners.holders_of_links(node.located, nodes) {
                if !waits(&edges, edge.0, index) && !edges[index].contains(&edge) {
                    edges[index].push(edge);
                }
            }
        }
        // `After` comes last, because it says least about which changes matter.
        edges.iter_mut().for_each(|edges| edges.sort_by_key(|(_, reason)| *reason == Reason::After));
        let sequence = sequence(&edges)?;
        Ok(Self { edges, sequence, locks: locks(nodes), inside_and_before })
    }

    /// Returns the steps that the one at `index` waits for, with reasons. A step is listed once for each reason.
    pub fn before(&self, index: usize) -> &[(usize, Reason)] {
        &self.edges[index]
    }

    /// Returns all steps, each after those that it waits for, and otherwise in document order.
    pub fn sequence(&self) -> &[usize] {
        &self.sequence
    }

    /// Returns the steps inside the one at `index` that run before it because of `after`. Its changes may undo theirs.
    pub fn inside_and_before(&self, index: usize) -> &[usize] {
        &self.inside_and_before[index]
    }

    /// Returns the locks that the step at `index` has to hold while it runs: numbers from 0 in ascending order.
    pub fn locks(&self, index: usize) -> &[usize] {
        &self.locks[index]
    }

    /// Returns the number of different locks.
    pub fn lock_count(&self) -> usize {
        self.locks.iter().flatten().max().map_or(0, |last| last + 1)
    }
}

/// A step that creates what another one needs.
struct Maker {
    step: usize,
    reason: Reason,
    /// The depth of the directory, if the step makes one around the needed path. `after` overrides such an order.
    directory: Option<usize>,
}

/// The steps that create things, indexed by what they create.
struct Owners<'a> {
    /// By located path: the step, and the index of the claim.
    paths: HashMap<&'a Path, Vec<(usize, usize)>>,
    /// The same paths in order, so that those below a path follow it.
    sorted: Vec<&'a Path>,
    tables: Vec<(usize, &'a Database, Makes<'a>)>,
}

enum Makes<'a> {
    Table(&'a str),
    Series(&'a Series),
}

impl<'a> Owners<'a> {
    fn of(nodes: &[Node<'a>]) -> Self {
        let mut owners = Self { paths: HashMap::new(), sorted: Vec::new(), tables: Vec::new() };
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
        owners.sorted = owners.paths.keys().copied().collect();
        owners.sorted.sort_unstable();
        owners
    }

    /// Returns the steps that create what these claims need.
    fn makers(&self, claims: &Claims, nodes: &[Node<'_>]) -> Vec<Maker> {
        let mut makers = Vec::new();
        for need in &claims.needs {
            match need {
                Need::Path(needed) => {
                    for around in needed.ancestors() {
                        for (other, at) in self.paths.get(around).into_iter().flatten() {
                            let claim = &nodes[*other].located.owns[*at];
                            // A file contains nothing, and a step does not wait for what it creates at the path itself.
                            if matches!(claim, Claim::File(_)) == (around == needed) {
                                makers.push(Maker {
                                    step: *other,
                                    reason: Reason::Path(respelled(needed, around, nodes[*other].written, *at)),
                                    directory: matches!(claim, Claim::Directory { .. })
                                        .then(|| around.components().count()),
                                });
                            }
                        }
                    }
                }
                Need::Read(_) | Need::Link(_) => {}
                Need::Table { database, name } => {
                    makers.extend(self.tables.iter().filter_map(|(other, theirs, makes)| {
                        let makes = match makes {
                            Makes::Table(table) => table == name,
                            Makes::Series(series) => series.contains(name),
                        };
                        let maker = Maker { step: *other, reason: Reason::Table, directory: None };
                        (makes && theirs.is_same(database)).then_some(maker)
                    }));
                }
            }
        }
        makers
    }

    /// Returns the steps that create what these claims need if the server ignores the case of names.
    fn makers_on_redshift(&self, claims: &Claims) -> Vec<usize> {
        let mut makers = Vec::new();
        for need in &claims.needs {
            let Need::Table { database, name } = need else { continue };
            for (other, theirs, makes) in &self.tables {
                let makes = match makes {
                    Makes::Table(table) => *table != name && table.eq_ignore_ascii_case(name),
                    Makes::Series(series) => {
                        !series.contains(name) && series.folded().contains(&name.to_ascii_lowercase())
                    }
                };
                if makes && theirs.is_same(database) && !makers.contains(other) {
                    makers.push(*other);
                }
            }
        }
        makers
    }

    /// Returns the steps whose checkout is around a symlink on the way to a path of these claims, with reasons.
    fn holders_of_links(&self, claims: &Claims, nodes: &[Node<'_>]) -> Vec<(usize, Reason)> {
        let mut holders = Vec::new();
        for need in &claims.needs {
            let Need::Link(link) = need else { continue };
            for around in link.ancestors().skip(1) {
                for (step, at) in self.paths.get(around).into_iter().flatten() {
                    if matches!(nodes[*step].located.owns[*at], Claim::Checkout(_)) {
                        // The symlink exists now, so the step can run even if the checkout fails.
                        holders.push((*step, Reason::Read(respelled(link, around, nodes[*step].written, *at))));
                    }
                }
            }
        }
        holders
    }

    /// Returns the steps that make what these claims read if it is there, with reasons.
    fn makers_of_read(&self, claims: &Claims, nodes: &[Node<'_>]) -> Vec<(usize, Reason)> {
        let mut makers = Vec::new();
        for need in &claims.needs {
            let Need::Read(read) = need else { continue };
            let below = self.sorted.partition_point(|path| *path < read.as_path());
            let below = self.sorted[below..].iter().take_while(|path| path.starts_with(read)).copied();
            for path in read.ancestors().skip(1).chain(below) {
                for (step, at) in self.paths.get(path).into_iter().flatten() {
                    let is_read = match nodes[*step].located.owns[*at] {
                        Claim::File(_) => path.starts_with(read),
                        Claim::Checkout(_) => true,
                        _ => false,
                    };
                    if is_read {
                        let within = if read.starts_with(path) { read.as_path() } else { path };
                        makers.push((*step, Reason::Read(respelled(within, path, nodes[*step].written, *at))));
                    }
                }
            }
        }
        makers.sort_by_key(|(step, _)| *step);
        makers
    }
}

/// Returns the needed path as the step that creates it would spell it, because its changes use its own spelling.
fn respelled(needed: &Path, around: &Path, written: &Claims, at: usize) -> PathBuf {
    let top = written.owns.get(at).and_then(Claim::path).unwrap_or(around);
    match needed.strip_prefix(around) {
        Ok(rest) if !rest.as_os_str().is_empty() => top.join(rest),
        _ => top.to_path_buf(),
    }
}

fn locks(nodes: &[Node<'_>]) -> Vec<Vec<usize>> {
    let mut numbers: HashMap<&Path, usize> = HashMap::new();
    let each = nodes.iter().map(|node| {
        let mut locks: Vec<usize> = Vec::new();
        for path in &node.located.edits {
            let next = numbers.len();
            locks.push(*numbers.entry(path).or_insert(next));
        }
        locks.sort_unstable();
        locks.dedup();
        locks
    });
    each.collect()
}

/// Adds the edges from directories around a path, each with the step that waits. Drops those that contradict an `after`.
fn add_unless_after(
    candidates: Vec<(usize, (usize, Reason))>,
    edges: &mut [Vec<(usize, Reason)>],
    inside_and_before: &mut [Vec<usize>],
) {
    let mut added: Vec<(usize, (usize, Reason))> = Vec::new();
    for (index, edge) in candidates {
        if !edges[index].contains(&edge) {
            edges[index].push(edge.clone());
            added.push((index, edge));
        }
    }
    let yields = |(index, (other, _)): &(usize, (usize, Reason))| waits_by_after(edges, *other, *index);
    let yielding: Vec<_> = added.into_iter().filter(yields).collect();
    for (index, edge) in yielding {
        edges[index].retain(|kept| *kept != edge);
        if !inside_and_before[edge.0].contains(&index) {
            inside_and_before[edge.0].push(index);
        }
    }
}

/// Returns whether `from` is `to` or waits for it, directly or indirectly.
fn waits(edges: &[Vec<(usize, Reason)>], from: usize, to: usize) -> bool {
    let mut seen = vec![false; edges.len()];
    let mut open = vec![from];
    while let Some(step) = open.pop() {
        if step == to {
            return true;
        }
        if !std::mem::replace(&mut seen[step], true) {
            open.extend(edges[step].iter().map(|(other, _)| *other));
        }
    }
    false
}

/// Returns whether `from` waits for `to`, directly or indirectly, on a path that contains an `after`.
fn waits_by_after(edges: &[Vec<(usize, Reason)>], from: usize, to: usize) -> bool {
    // Each step is visited at most twice: on a path with an `after`, and on one without.
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

/// Sorts the steps topologically.
fn sequence(edges: &[Vec<(usize, Reason)>]) -> Result<Vec<usize>, Cycle> {
    let mut sequence = Vec::new();
    let mut marks = vec![Mark::New; edges.len()];
    for start in 0..edges.len() {
        // An explicit stack: a chain of thousands of steps must not exhaust the thread's stack.
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
                    // Each step of the path is at the edge after the one that it was left by.
                    let left_by = |(step, at): &(usize, usize)| (*step, edges[*step][*at - 1].1.clone());
                    return Err(Cycle(path[from..].iter().map(left_by).collect()));
                }
            }
        }
    }
    Ok(sequence)
}

#[cfg(test)]
#[path = "graph_tests.rs"]
mod tests;
