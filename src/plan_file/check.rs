//! The checks that need all steps together.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::companion::Folder;
use super::diagnostic::{Diagnostic, Diagnostics, suggest};
use super::file::PlanFile;
use super::sources::{self, reference_of};
use super::template::Inputs;
use crate::host::fs::escape_path;
use crate::host::ssh::known_hosts::KnownHosts;
use crate::host::users::User;
use crate::host::warehouse::{ClientDefaults, ConnectionSpec};
use crate::plan::claim::{Claim, Claims, FileUse, Host, Need, Unseen};
use crate::plan::conflict::{self, ClaimedBelow, Conflict, Reason, TreeAbove, conflicts};
use crate::plan::graph::{Cycle, Graph, Node as GraphNode, Reason as WaitReason};
use crate::resource::{Companion, Step};

/// The relations between the claims of all steps.
#[derive(Debug, Clone, Default)]
pub struct Relations {
    /// The steps that each step waits for.
    pub graph: Graph,
    /// For each step, the claims of other steps inside a tree that it owns.
    pub below: Vec<Vec<ClaimedBelow>>,
    /// For each step, the trees of other steps around what it creates.
    pub above: Vec<Vec<TreeAbove>>,
}

/// The claims of the selected steps and of the others, looked up once for all checks.
pub(super) struct Claimed<'a> {
    steps: Vec<StepClaims<'a>>,
    others: Vec<StepClaims<'a>>,
}

/// A step with its claims, as written, and with resolved paths and databases.
struct StepClaims<'a> {
    step: &'a Step,
    written: Claims,
    located: Claims,
}

impl<'a> Claimed<'a> {
    /// Looks up the claims on the host, which takes a moment for each path.
    pub(super) fn new(
        steps: &'a [Step],
        others: &'a [Step],
        connection: &dyn Fn(&str) -> Option<ConnectionSpec>,
        homes: &Homes<'_>,
        host: &dyn Host,
    ) -> Self {
        let databases = |name: &str| connection(name).map(|spec| spec.database(name));
        let host = &Converged::new(steps, host);
        let of = |step: &'a Step| {
            let written = claims(step, connection, homes, host);
            let located = written.locate(host, &databases);
            StepClaims { step, written, located }
        };
        Self { steps: steps.iter().map(of).collect(), others: others.iter().map(of).collect() }
    }

    fn all(&self) -> impl Iterator<Item = &StepClaims<'a>> {
        self.steps.iter().chain(&self.others)
    }

    fn beside(&self, step: &'a Step) -> impl Iterator<Item = &StepClaims<'a>> {
        self.all().filter(|other| other.step.id != step.id)
    }
}

fn conflicts_of<'a>(steps: impl Iterator<Item = &'a StepClaims<'a>>) -> Vec<Conflict> {
    let (written, located): (Vec<_>, Vec<_>) =
        steps.map(|claimed| (claimed.written.clone(), claimed.located.clone())).unzip();
    conflicts(&written, &located)
}

impl PlanFile {
    /// Returns the files and directories that the steps own, with the step ids. Steps that need values that only an apply has
    /// are left out.
    ///
    /// # Errors
    /// The plan file has flaws, or a variable is unknown.
    pub fn owned_paths(&self, inputs: &Inputs) -> Result<Vec<(PathBuf, String)>, Diagnostics> {
        let described = self.describe(&[], inputs)?;
        let steps = described.into_iter().filter_map(|described| Some((described.id, described.step.ok()?)));
        let owned = steps.flat_map(|(id, step)| {
            let claims = step.resource.claims(&Unseen).owns;
            let paths = claims.iter().filter_map(|claim| Some(claim.file_or_directory()?.to_owned()));
            paths.map(|path| (path, id.clone())).collect::<Vec<_>>()
        });
        Ok(owned.collect())
    }

    /// Returns the problems that these steps have with each other, and their relations. What the other steps own is left to
    /// them as well.
    pub(super) fn check_steps(&self, claimed: &Claimed<'_>) -> (Vec<Diagnostic>, Relations) {
        let steps: Vec<&Step> = claimed.steps.iter().map(|claimed| claimed.step).collect();
        let mut problems = Vec::new();
        self.references(&steps, &mut problems);
        let after: Vec<Vec<usize>> = steps
            .iter()
            .map(|step| step.after.iter().filter_map(|id| steps.iter().position(|other| other.id == *id)).collect())
            .collect();
        let nodes: Vec<GraphNode<'_>> = (after.iter().zip(&claimed.steps))
            .map(|(after, StepClaims { written, located, .. })| GraphNode { after, written, located })
            .collect();
        let below = claimed.steps.iter().map(|own| {
            let others = claimed.beside(own.step).map(|other| (other.step.id.as_str(), &other.located));
            conflict::claimed_below(&own.located, others)
        });
        let above = claimed
            .steps
            .iter()
            .map(|own| conflict::trees_above(&own.located, claimed.beside(own.step).map(|other| &other.located)));
        let (below, above) = (below.collect(), above.collect());
        match Graph::new(&nodes) {
            Ok(graph) => (problems, Relations { graph, below, above }),
            Err(cycle) => {
                // Two steps that own one path also wait for each other. Only the ownership is reported, by `check_all`.
                let conflicts = conflicts_of(claimed.steps.iter());
                let members = cycle.steps();
                let undo_each_other =
                    |found: &Conflict| [found.first, found.second].iter().all(|step| members.contains(step));
                if problems.is_empty() && !conflicts.iter().any(undo_each_other) {
                    problems.push(self.cycle(&cycle, |index| &steps[index].id));
                }
                (problems, Relations::default())
            }
        }
    }

    /// Reports steps that would undo each other, or that wait for each other by `after`, whether they are selected or not. One
    /// of them alone would undo the other too.
    pub(super) fn check_all(&self, claimed: &Claimed<'_>) -> Vec<Diagnostic> {
        let position = |step: &Step| self.steps.iter().position(|written| written.id == step.id);
        let mut all: Vec<&StepClaims<'_>> = claimed.all().collect();
        all.sort_by_key(|claimed| position(claimed.step));
        let steps: Vec<&Step> = all.iter().map(|claimed| claimed.step).collect();
        let conflicts = conflicts_of(all.into_iter());
        self.after_cycle().into_iter().chain(conflicts.iter().map(|conflict| self.undoing(&steps, conflict))).collect()
    }

    /// Reports two steps that would undo each other, with the places of both.
    fn undoing(&self, steps: &[&Step], conflict: &Conflict) -> Diagnostic {
        let (first, second) = (&steps[conflict.first].id, &steps[conflict.second].id);
        let claim = match &conflict.located {
            Some(path) => format!("{} (which is {})", conflict.claim, path.display()),
            None => conflict.claim.to_string(),
        };
        let (message, help) = match conflict.reason {
            Reason::Same => (format!("steps `{first}` and `{second}` both own {claim}"), "remove it from one of them"),
            Reason::BelowFile => (
                format!(
                    "one of the steps `{first}` and `{second}` makes a file where the other needs a directory: {claim}"
                ),
                "correct one of the two paths",
            ),
            Reason::InGitDirectory => (
                format!(
                    "one of the steps `{first}` and `{second}` manages a directory in the other's git directory, or a file that git writes there: {claim}"
                ),
                "leave the git directory to the step of the checkout; it belongs to the `run_as` user of that step",
            ),
            Reason::EditsOwnedFile => (
                format!(
                    "one of the steps `{first}` and `{second}` owns the content of {claim}, and the other sets a value in it"
                ),
                "set the value where the content comes from, or remove the file from one of them",
            ),
        };
        Diagnostic::at(self.place(second), message).related(self.place(first), "the other step").help(help)
    }

    /// Returns the problem of steps that wait for each other by `after` alone. It does not depend on anything else in them.
    fn after_cycle(&self) -> Option<Diagnostic> {
        let position = |id: &String| self.steps.iter().position(|step| step.id == *id);
        let after: Vec<Vec<usize>> =
            self.steps.iter().map(|step| step.after.iter().filter_map(|(id, _)| position(id)).collect()).collect();
        let none = Claims::default();
        let nodes: Vec<GraphNode<'_>> =
            after.iter().map(|after| GraphNode { after, written: &none, located: &none }).collect();
        let cycle = Graph::new(&nodes).err()?;
        Some(self.cycle(&cycle, |index| &self.steps[index].id))
    }

    /// Reports steps that wait for each other. The help explains what is not in an `after`.
    fn cycle<'a>(&self, cycle: &Cycle, id: impl Fn(usize) -> &'a str) -> Diagnostic {
        let ids: Vec<&str> = cycle.steps().into_iter().map(&id).collect();
        let place = ids.first().map_or(0..0, |id| self.place(id));
        let message = format!("steps wait for each other: {}", ids.join(" -> "));
        let implied = cycle.edges().filter_map(|(step, other, reason)| {
            let (step, other) = (id(step), id(other));
            match reason {
                WaitReason::After => None,
                WaitReason::Path(path) | WaitReason::Read(path) => {
                    Some(format!("`{step}` needs {}, which `{other}` makes", escape_path(path)))
                }
                WaitReason::Table | WaitReason::TableOfRedshift => Some(format!("`{step}` needs a table of `{other}`")),
            }
        });
        let implied: Vec<String> = implied.collect();
        let written: Vec<String> = cycle
            .edges()
            .filter(|(.., reason)| **reason == WaitReason::After)
            .map(|(step, other, _)| format!("`{}` from the `after` of `{}`", id(other), id(step)))
            .collect();
        let help = match (written.as_slice(), implied.as_slice()) {
            (_, []) => "remove one `after` from the cycle".to_owned(),
            ([], implied) => format!("correct one of these steps: {}", implied.join("; ")),
            (written, implied) => format!("remove {}: {}", written.join(" or "), implied.join("; ")),
        };
        Diagnostic::at(place, message).help(help)
    }

    fn references(&self, steps: &[&Step], problems: &mut Vec<Diagnostic>) {
        let ids: Vec<&str> = self.ids.iter().map(String::as_str).collect();
        let known: HashSet<&str> = ids.iter().copied().collect();
        for step in &self.steps {
            for (id, span) in &step.after {
                if *id == step.id {
                    let problem = Diagnostic::at(span.clone(), format!("step `{id}` waits for itself"));
                    problems.push(problem.help("remove it from `after`"));
                } else if !known.contains(id.as_str()) {
                    let problem = Diagnostic::at(span.clone(), format!("`after` names an unknown step: `{id}`"));
                    problems.push(problem.help(suggest(id, &ids)));
                }
            }
        }
        let names: Vec<&str> = self.connections.keys().map(String::as_str).collect();
        for step in steps {
            if let Some(name) = step.resource.connection()
                && !self.connections.contains_key(name)
            {
                let message = format!("step `{}` uses a connection that is not declared: `{name}`", step.id);
                let place = self.key(&step.id, "connection").unwrap_or_else(|| self.place(&step.id));
                let help = if names.is_empty() {
                    format!("declare it: `connections:` at the top, with `{name}: {{ url: … }}` below it")
                } else {
                    suggest(name, &names)
                };
                problems.push(Diagnostic::at(place, message).help(help));
            }
        }
    }

    /// Returns the problems of secret sources that read what a step makes. Sources are read once, before any step runs.
    pub(super) fn check_sources<'a>(
        &self,
        steps: &[Step],
        connections: impl Iterator<Item = (&'a str, &'a ConnectionSpec)>,
        host: &dyn Host,
    ) -> Vec<Diagnostic> {
        let of_steps = steps.iter().flat_map(|step| {
            let place = |name: &str| self.source(&step.id, name).unwrap_or_else(|| self.place(&step.id));
            let secrets = step.resource.site().secrets();
            secrets.into_iter().map(move |(key, source)| (format!("step `{}`", step.id), place(key), source))
        });
        let of_connections = connections.filter_map(|(name, spec)| {
            let place = self
                .connections
                .get(name)
                .and_then(|node| node.get("password"))
                .map_or(0..0, |value| value.span.clone());
            Some((format!("connection `{name}`"), place, spec.password.as_ref()?))
        });
        let mut problems = Vec::new();
        for (who, place, source) in of_steps.collect::<Vec<_>>().into_iter().chain(of_connections) {
            let brought = source.files().into_iter().find_map(|file| {
                // A command may read another line of a file that is only edited.
                let is_whole = source.file() == Some(file);
                let step = steps.iter().find(|step| brings(step, file, is_whole, host))?;
                Some((file, step))
            });
            if let Some((file, step)) = brought {
                let owns = step.resource.claims(&Unseen).owns;
                let edits = owns.iter().any(|claim| matches!(claim, Claim::EditedFile { .. }));
                let (verb, remedy) = match edits {
                    true => ("edits", "use another source".to_owned()),
                    false => ("makes", format!("keep the source outside of {}", step.resource.target())),
                };
                let message =
                    format!("{who} reads its secret from {}, which step `{}` {verb}", file.display(), step.id);
                let help =
                    format!("sources are read before any step runs, so this would read the old content: {remedy}");
                problems.push(Diagnostic::at(place, message).help(help));
            }
        }
        for step in steps {
            problems.extend(step.companions.iter().filter_map(|file| self.brought_companion(step, file, steps, host)));
        }
        problems
    }

    /// Returns the problem if a step makes a template that this step uses. A checkout that also contains the plan file is not a
    /// problem, because both come with the next pull.
    fn brought_companion(&self, step: &Step, file: &Companion, steps: &[Step], host: &dyn Host) -> Option<Diagnostic> {
        let holds_plan_file =
            |step: &Step| matches!(&self.folder, Folder::At(folder) if brings(step, folder, true, host));
        let by = steps.iter().find(|other| brings(other, &file.path, true, host) && !holds_plan_file(other))?;
        let (shown, target) = (file.shown(), by.resource.target());
        let message = format!("step `{}` uses the template {shown}, which step `{}` makes", step.id, by.id);
        Some(Diagnostic::at(self.place(&step.id), message).related(self.place(&by.id), "the other step").help(format!(
            "templates are read before any step runs, so the old file would be used: keep it outside of {target}"
        )))
    }

    fn place(&self, id: &str) -> Range<usize> {
        self.steps.iter().find(|step| step.id == id).map_or(0..0, |step| step.span.clone())
    }

    /// Returns the place of a value of a step's resource.
    fn key(&self, id: &str, name: &str) -> Option<Range<usize>> {
        let step = self.steps.iter().find(|step| step.id == id)?;
        step.body.get(name).map(|value| value.span.clone())
    }

    /// Returns the place of the source with this name in a step.
    fn source(&self, id: &str, name: &str) -> Option<Range<usize>> {
        let step = self.steps.iter().find(|step| step.id == id)?;
        let mut sources = sources::of(&step.body, reference_of(step.kind)).into_iter();
        sources.find(|(known, _)| *known == name).map(|(_, source)| source.span.clone())
    }
}

/// The host as it will be with the files of the steps.
struct Converged<'a> {
    host: &'a dyn Host,
    /// The texts by resolved path. `None` if the plan file does not contain the text.
    texts: HashMap<PathBuf, Option<String>>,
}

impl<'a> Converged<'a> {
    fn new(steps: &[Step], host: &'a dyn Host) -> Self {
        let texts = steps.iter().flat_map(|step| {
            let owns = step.resource.claims(&Unseen).owns;
            let files = owns.into_iter().filter_map(|claim| match claim {
                Claim::File(path) => Some((host.path(&path), step.resource.text_of_file())),
                _ => None,
            });
            files.collect::<Vec<_>>()
        });
        Self { host, texts: texts.collect() }
    }
}

impl Host for Converged<'_> {
    fn path(&self, written: &Path) -> PathBuf {
        self.host.path(written)
    }

    fn links(&self, written: &Path) -> Vec<PathBuf> {
        self.host.links(written)
    }

    fn read(&self, path: &Path) -> Option<Vec<u8>> {
        match self.texts.get(&self.host.path(path)) {
            Some(text) => text.clone().map(String::into_bytes),
            None => self.host.read(path),
        }
    }
}

/// The user who starts the run, and the home directories in which the run reads for this user.
pub(super) struct Homes<'a> {
    client: &'a ClientDefaults,
    launching: User,
    /// The home directory of the user's steps. As in a worker, it comes from the user database if `HOME` is unset.
    steps: PathBuf,
}

impl<'a> Homes<'a> {
    pub(super) fn of(client: &'a ClientDefaults) -> Self {
        let launching = User::acting();
        Self { client, steps: client.home.clone().unwrap_or_else(|| launching.home.clone()), launching }
    }
}

/// Returns the claims of a step, with the files that its connection needs and those that it reads in its user's home.
fn claims(
    step: &Step,
    connection: &dyn Fn(&str) -> Option<ConnectionSpec>,
    homes: &Homes<'_>,
    host: &dyn Host,
) -> Claims {
    let mut claims = step.resource.claims(host);
    let home = match &step.run_as {
        Some(user) if *user != homes.launching.name => User::by_name(user).ok().flatten().map(|user| user.home),
        _ => Some(homes.steps.clone()),
    };
    claims.needs.extend(step.resource.reads(home.as_deref(), host).into_iter().map(Need::Read));
    if let Some(spec) = step.resource.connection().and_then(connection) {
        claims.needs.extend(spec.files().into_iter().map(Need::Path));
        claims.needs.extend(homes.client.files(&spec).into_iter().map(Need::Read));
        if spec.needs_known_hosts() {
            let known_hosts = KnownHosts::of(homes.client.home.as_deref());
            claims.needs.extend(known_hosts.paths().iter().cloned().map(Need::Read));
        }
    }
    claims
}

/// Returns whether a step creates the file at this path, or with `edits` changes a part of it.
fn brings(step: &Step, path: &Path, edits: bool, host: &dyn Host) -> bool {
    let path = host.path(path);
    step.resource.claims(host).owns.iter().any(|claim| match claim {
        Claim::File(own) => host.path(own) == path,
        Claim::EditedFile { path: own, usage: FileUse::Edits | FileUse::MayEdit } => edits && host.path(own) == path,
        Claim::Checkout(own) => path.starts_with(host.path(own)),
        _ => false,
    })
}
