//! What the containers of each service are created from besides images: files of the host, and variables.
//!
//! By the Compose specification these are `volumes` in the short form (`./dags:/opt/airflow/dags:ro`, a bind mount if the source
//! begins with `.`, `/` or `~`) and in the long form (`type: bind`), `env_file`, and the `secrets` and `configs` that are files.
//! A path is relative to the folder of the compose file.

use std::collections::{BTreeSet, HashSet};
use std::path::{Component, Path, PathBuf};

use super::actual::Service;
use super::diff::place_at;
use super::document::merged;
use super::interpolation;
use super::occurrences::{self, Occurrence, Reading, lookup};
use crate::yaml::{Content, Document, NodeId, Style, is_null};

/// What paths and variables are resolved with.
pub struct Around<'a> {
    /// The compose file's folder.
    pub folder: &'a Path,
    /// The directory that `~` stands for.
    pub home: Option<&'a Path>,
    /// The value of a variable in `.env`, if it has one.
    pub value: &'a dyn Fn(&str) -> Option<String>,
}

/// The services in the order of the file.
pub fn find(document: &Document, around: &Around<'_>) -> Vec<Service> {
    let Some(root) = document.root() else { return Vec::new() };
    let finder = Finder { document, root, around };
    let service = |(name, value): (&str, NodeId)| Service {
        name: name.to_owned(),
        files: finder.files(value),
        variables: finder.variables(value),
    };
    occurrences::services(document).into_iter().map(service).collect()
}

/// The places that use `name`, a variable of `.env`, besides the values of `variable`, in the order of the file.
pub fn elsewhere(document: &Document, variable: &str, name: &str) -> Vec<String> {
    let Some(root) = document.root() else { return Vec::new() };
    let sites = |variable| occurrences::find(document, variable, None).occurrences;
    let ours: HashSet<NodeId> = sites(variable).iter().map(|occurrence| occurrence.node).collect();
    let mut found = BTreeSet::new();
    let blocks = |key: &NodeId| document.text(*key).is_some_and(|key| key.starts_with("x-"));
    let entries = document.entries(root).iter().filter(|(key, _)| !blocks(key));
    let (mut seen, mut stack) = (HashSet::new(), entries.map(|(_, value)| *value).collect::<Vec<_>>());
    while let Some(node) = stack.pop() {
        if !seen.insert(node) {
            continue;
        }
        match &document.node(node).content {
            Content::Sequence(items) => stack.extend(items),
            Content::Mapping(entries) => stack.extend(entries.iter().map(|(_, value)| value)),
            _ => match document.text(node) {
                Some(text) if interpolation::names(text).iter().any(|found| found == name) => {
                    found.extend((!ours.contains(&node)).then_some(node));
                }
                Some(_) => {}
                None => stack.push(document.resolve(node)),
            },
        }
    }
    if variable != name {
        // Places that name the variable without a value.
        let of_itself = |occurrence: &Occurrence| {
            let reading = occurrences::read(document, occurrence, name);
            matches!(reading, Reading::Reference { name: found, .. } if found == name)
        };
        found.extend(sites(name).iter().filter(|occurrence| of_itself(occurrence)).map(|occurrence| occurrence.node));
    }
    let place = |node: NodeId| place_at(&occurrences::place(document, root, node), document.node(node).position.line);
    found.into_iter().map(place).collect()
}

struct Finder<'a> {
    document: &'a Document,
    root: NodeId,
    around: &'a Around<'a>,
}

impl Finder<'_> {
    fn files(&self, service: NodeId) -> Vec<PathBuf> {
        let mounts = self.items(service, "volumes").into_iter().filter_map(|item| self.bind_source(item));
        let env_files = self.items(service, "env_file").into_iter().filter_map(|item| self.own_text(item, "path"));
        let granted = ["secrets", "configs"].into_iter().flat_map(|kind| {
            let items = self.items(service, kind).into_iter();
            items.filter_map(move |item| self.granted(kind, &self.own_text(item, "source")?))
        });
        let paths: BTreeSet<PathBuf> =
            mounts.chain(env_files).chain(granted).filter_map(|path| self.absolute(&path)).collect();
        paths.into_iter().collect()
    }

    /// The items of the list under `key`, or the single value there.
    fn items(&self, service: NodeId, key: &str) -> Vec<NodeId> {
        let Some(list) = lookup(self.document, service, key, true).first().copied() else { return Vec::new() };
        match &self.document.node(self.document.resolve(list)).content {
            Content::Sequence(items) => items.clone(),
            _ => vec![list],
        }
    }

    fn bind_source(&self, item: NodeId) -> Option<String> {
        let Some(text) = self.document.text(item) else {
            let kind = self.own_text(item, "type")?;
            return (kind == "bind").then(|| self.own_text(item, "source")).flatten();
        };
        let text = interpolation::fill(text, self.around.value)?;
        let (source, _) = text.split_once(':')?;
        source.starts_with(['.', '/', '~']).then(|| source.to_owned())
    }

    /// The text of an item, or the text under `key` in it, after substitution.
    fn own_text(&self, item: NodeId, key: &str) -> Option<String> {
        let text = self.document.text(item).or_else(|| self.document.text(self.document.get(item, key)?))?;
        interpolation::fill(text, self.around.value)
    }

    /// The file of a top-level secret or config.
    fn granted(&self, kind: &str, name: &str) -> Option<String> {
        let all = self.document.get(self.root, kind)?;
        let file = self.document.get(self.document.get(all, name)?, "file")?;
        interpolation::fill(self.document.text(file)?, self.around.value)
    }

    fn absolute(&self, path: &str) -> Option<PathBuf> {
        let path = match path.strip_prefix('~') {
            Some("") => self.around.home?.to_owned(),
            Some(rest) => self.around.home?.join(rest.strip_prefix('/')?),
            None => self.around.folder.join(path),
        };
        let mut absolute = PathBuf::new();
        for component in path.components() {
            match component {
                Component::CurDir => {}
                Component::ParentDir => drop(absolute.pop()),
                other => absolute.push(other),
            }
        }
        Some(absolute)
    }

    /// The variables in all texts of a service, including merged ones.
    fn variables(&self, service: NodeId) -> Vec<String> {
        let mut names = BTreeSet::new();
        let (mut seen, mut stack) = (HashSet::new(), vec![service]);
        while let Some(node) = stack.pop() {
            let node = self.document.resolve(node);
            if !seen.insert(node) {
                continue;
            }
            match &self.document.node(node).content {
                Content::Scalar { text, .. } => names.extend(interpolation::names(text)),
                Content::Sequence(items) => stack.extend(items),
                Content::Mapping(entries) => stack.extend(entries.iter().flat_map(|(key, value)| [key, value])),
                Content::Alias(_) => {}
            }
        }
        let (mut seen, mut stack) = (HashSet::new(), lookup(self.document, service, "environment", false));
        while let Some(environment) = stack.pop() {
            if seen.insert(self.document.resolve(environment)) {
                names.extend(self.named_alone(environment));
                stack.extend(merged(self.document, environment));
            }
        }
        names.into_iter().collect()
    }

    /// The variables that an `environment` names without a value. Compose takes the value of the shell or of `.env`.
    fn named_alone(&self, environment: NodeId) -> Vec<String> {
        if let Content::Sequence(items) = &self.document.node(self.document.resolve(environment)).content {
            let texts = items.iter().filter_map(|item| self.document.text(*item));
            return texts.filter(|text| !text.contains('=')).map(str::to_owned).collect();
        }
        let alone = |(_, value): &&(NodeId, NodeId)| {
            let node = self.document.node(self.document.resolve(*value));
            matches!(&node.content, Content::Scalar { text, style: Style::Plain } if is_null(text))
        };
        let entries = self.document.entries(environment).iter().filter(alone);
        entries.filter_map(|(key, _)| self.document.text(*key)).map(str::to_owned).collect()
    }
}
