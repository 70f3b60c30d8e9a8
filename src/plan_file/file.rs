//! A plan file as it was written.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::companion::Folder;
use super::diagnostic::{Diagnostic, Diagnostics, Source};
use super::node::Node;

/// A plan file as written, before anything is evaluated.
#[derive(Debug, Clone)]
pub struct PlanFile {
    pub(super) source: Source,
    /// Where to find the files beside it that it names.
    pub(super) folder: Folder,
    pub name: String,
    pub(super) vars: BTreeMap<String, Node>,
    /// Variables with a wrong declaration.
    pub(super) misdeclared: BTreeSet<String>,
    pub(super) connections: BTreeMap<String, Node>,
    pub(super) steps: Vec<StepSource>,
    /// Every id in the file, including those of steps that could not be read.
    pub(super) ids: Vec<String>,
    /// The problems of its shape. Every use of a plan file with flaws fails with an error that lists them all.
    pub(super) flaws: Vec<Diagnostic>,
}

impl PlanFile {
    /// Returns the same plan file with the directory in which it finds the files that it names.
    pub fn in_folder(self, folder: Folder) -> Self {
        Self { folder, ..self }
    }

    /// Returns the path as the user gave it.
    pub fn path(&self) -> &str {
        &self.source.path
    }

    /// Returns the line of the first value that may be a password in clear text.
    pub fn written_secret(&self) -> Option<usize> {
        self.source.written_secret()
    }

    /// Fails if there are any problems or flaws. They are listed in the order of the text.
    pub(super) fn result_of(&self, problems: Vec<Diagnostic>) -> Result<(), Diagnostics> {
        let mut list = self.flaws.clone();
        // A flaw in the shape of a value explains more than the problem that the kind reports for it.
        list.extend(problems.into_iter().filter(|problem| {
            problem.span.is_none() || !self.flaws.iter().any(|flaw| flaw.place() == problem.place())
        }));
        list.sort_by_key(|problem| problem.place().map(|span| span.start));
        list.dedup();
        // One declaration corrects every use of a variable, so only the first use is reported. If the declaration itself is
        // wrong, no use is reported.
        let mut told = self.misdeclared.clone();
        list.retain(|problem| problem.variable.as_deref().is_none_or(|name| told.insert(name.to_owned())));
        if list.is_empty() { Ok(()) } else { Err(self.problems(list)) }
    }

    /// Returns these problems as problems of this file.
    pub(super) fn problems(&self, list: Vec<Diagnostic>) -> Diagnostics {
        Diagnostics { source: self.source.clone(), list }
    }
}

/// A step before its templates are evaluated.
#[derive(Debug, Clone)]
pub(super) struct StepSource {
    pub(super) id: String,
    /// The place of the id. Problems of the step as a whole are reported there.
    pub(super) span: Range<usize>,
    pub(super) title: Node,
    pub(super) why: Node,
    pub(super) symptom: Node,
    pub(super) when: Node,
    pub(super) run_as: Node,
    pub(super) after: Vec<(String, Range<usize>)>,
    pub(super) max_changes: Node,
    pub(super) kind: &'static str,
    pub(super) kind_span: Range<usize>,
    pub(super) body: Node,
}
