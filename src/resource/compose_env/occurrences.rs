//! Finds the places of a compose file that set a variable.
//!
//! These are in the `environment` of every service (a mapping or a list, through aliases and `<<` merges) and in every
//! `environment` inside of a top-level `x-` block, whether the block is used or not.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::document::{self, merged};
use super::interpolation::{self, Template};
use super::scalar;
use crate::yaml::{Content, Document, NodeId, Style, is_null};

/// One place that sets the variable.
#[derive(Debug, Clone)]
pub struct Occurrence {
    /// The value in a mapping, or the whole item of a list. It is a scalar or an alias of one.
    pub node: NodeId,
    /// Whether it is an item of a list, `NAME=value`.
    pub item: bool,
    /// The part of the file, such as `service web` or `x-common`.
    pub place: String,
    /// From 1.
    pub line: usize,
    /// The services whose containers get this value, in alphabetical order.
    pub services: BTreeSet<String>,
}

/// How Compose reads an occurrence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// A text, as a container gets it.
    Literal(String),
    /// A number, boolean or date, which reaches a container in another spelling.
    Retyped,
    /// A text with variables in it.
    Mixed,
    /// The value of a variable of the shell or of `.env`. A name without a value refers to itself.
    Reference { name: String, refuses_empty: bool },
    /// A value with a tag that changes its meaning, a list or a mapping. The text completes "the value …".
    Foreign(String),
}

/// The result of a search, and where it was made.
#[derive(Debug, Default)]
pub struct Found {
    pub occurrences: Vec<Occurrence>,
    /// In the order of the file.
    pub services: Vec<String>,
    /// The keys that name other files, which are not read: `env_file`, `extends`, `include`.
    pub not_searched: BTreeSet<String>,
}

/// The services in the order of the file, followed by merged ones.
pub fn services(document: &Document) -> Vec<(&str, NodeId)> {
    let mut found: Vec<(&str, NodeId)> = Vec::new();
    let mut names = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let mut stack: Vec<NodeId> = document.root().and_then(|root| document.get(root, "services")).into_iter().collect();
    while let Some(mapping) = stack.pop() {
        if !seen.insert(document.resolve(mapping)) {
            continue;
        }
        for (key, value) in document.entries(mapping) {
            let Some(name) = document.text(*key).filter(|name| *name != "<<") else { continue };
            if names.insert(name) {
                found.push((name, *value));
            }
        }
        stack.extend(merged(document, mapping).into_iter().rev());
    }
    found
}

/// Where the value of a variable is written.
#[derive(Debug, Default)]
pub struct Homes {
    /// Whether it is in the compose file itself.
    pub in_compose_file: bool,
    /// The variables of `.env` that hold it.
    pub in_env_file: BTreeSet<String>,
}

/// Returns where a compose file has the value of the variable; `None` if the text is not a compose file.
pub fn homes(text: &str, variable: &str, service: Option<&str>) -> Option<Homes> {
    let document = document::parse(text).ok()?;
    let mut homes = Homes::default();
    for occurrence in find(&document, variable, service).occurrences {
        match read(&document, &occurrence, variable) {
            Reading::Reference { name, .. } => drop(homes.in_env_file.insert(name)),
            _ => homes.in_compose_file = true,
        }
    }
    Some(homes)
}

/// The names of all variables that some `environment` has.
pub fn variables(document: &Document) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mappings = document.nodes().iter().filter_map(|node| match &node.content {
        Content::Mapping(entries) => Some(entries),
        _ => None,
    });
    for (key, environment) in mappings.flatten() {
        if document.text(*key) != Some("environment") {
            continue;
        }
        if let Content::Sequence(items) = &document.node(document.resolve(*environment)).content {
            let items = items.iter().filter_map(|item| document.text(*item));
            names.extend(items.map(|item| item.split('=').next().unwrap_or(item).to_owned()));
        }
        for mapping in merged(document, *environment).into_iter().chain([*environment]) {
            let keys = document.entries(mapping).iter().filter_map(|(name, _)| document.text(*name));
            names.extend(keys.filter(|name| *name != "<<").map(str::to_owned));
        }
    }
    names
}

/// Finds the places that set `variable`, for all services or one, in the order of the text.
pub fn find(document: &Document, variable: &str, service: Option<&str>) -> Found {
    let Some(root) = document.root() else { return Found::default() };
    let by_name = services(document).into_iter().collect();
    let mut finder = Finder { document, variable, services: by_name, sites: BTreeMap::new() };
    let mut found = Found::default();
    if document.get(root, "include").is_some() {
        found.not_searched.insert("include".to_owned());
    }
    for (name, value) in services(document) {
        found.services.push(name.to_owned());
        if !lookup(document, value, "env_file", true).is_empty() {
            found.not_searched.insert("env_file".to_owned());
        }
        let extends = lookup(document, value, "extends", true);
        if extends.first().is_some_and(|extends| document.get(*extends, "file").is_some()) {
            found.not_searched.insert("extends".to_owned());
        }
        // For one service only the winning value counts. For all of them, an overridden value of a merge counts too.
        for site in finder.winning(value) {
            finder.sites.entry(site).or_default().insert(name.to_owned());
        }
        if service.is_none() {
            for site in finder.of_service(value, false) {
                finder.sites.entry(site).or_default();
            }
        }
    }
    if service.is_none() {
        for (key, value) in document.entries(root) {
            if document.text(*key).is_some_and(|name| name.starts_with("x-")) {
                finder.in_block(*value);
            }
        }
    }
    found.occurrences = finder.occurrences(root);
    if let Some(service) = service {
        found.occurrences.retain(|occurrence| occurrence.services.contains(service));
    }
    found
}

/// Reads an occurrence as Compose does.
pub fn read(document: &Document, occurrence: &Occurrence, variable: &str) -> Reading {
    let node = document.node(document.resolve(occurrence.node));
    let Content::Scalar { text, style } = &node.content else {
        return Reading::Foreign("is a list or a mapping".to_owned());
    };
    let tagged_text = match node.tag.as_deref() {
        None => false,
        Some("tag:yaml.org,2002:str" | "!") => true,
        Some(tag) => {
            let tag = tag.strip_prefix("tag:yaml.org,2002:").map_or(tag.to_owned(), |name| format!("!!{name}"));
            return Reading::Foreign(format!("has the tag {}", tag.escape_debug()));
        }
    };
    let of_itself = || Reading::Reference { name: variable.to_owned(), refuses_empty: false };
    let value = if occurrence.item {
        match text.strip_prefix(variable).and_then(|rest| rest.strip_prefix('=')) {
            Some(value) => value,
            None => return of_itself(),
        }
    } else {
        let plain = *style == Style::Plain && !tagged_text;
        if plain && is_null(text) {
            return of_itself();
        }
        if plain && !scalar::is_verbatim(text) {
            return Reading::Retyped;
        }
        text
    };
    match interpolation::read(value) {
        Template::Literal(value) => Reading::Literal(value),
        Template::Mixed => Reading::Mixed,
        Template::Reference { name, refuses_empty } => Reading::Reference { name, refuses_empty },
    }
}

/// A node that sets the variable, and whether it is an item of a list.
type Site = (NodeId, bool);

struct Finder<'a> {
    document: &'a Document,
    variable: &'a str,
    services: HashMap<&'a str, NodeId>,
    sites: BTreeMap<Site, BTreeSet<String>>,
}

impl Finder<'_> {
    /// The winning sites of one service, or of the service of the same file that it extends.
    fn winning(&self, mut service: NodeId) -> Vec<Site> {
        let mut seen = HashSet::new();
        while seen.insert(service) {
            let sites = self.of_service(service, true);
            // `!reset` and `!override` cut off what is extended.
            let own = self.document.get(service, "environment");
            let cut = own.is_some_and(|own| {
                let entry = self.document.get(own, self.variable);
                has_tag(self.document, own, &["!reset", "!override"])
                    || entry.is_some_and(|entry| has_tag(self.document, entry, &["!reset"]))
            });
            if !sites.is_empty() || cut {
                return sites;
            }
            let extends = lookup(self.document, service, "extends", true);
            let Some(extends) = extends.first().filter(|extends| self.document.get(**extends, "file").is_none()) else {
                break;
            };
            let name = self.document.text(*extends).or_else(|| {
                let service = self.document.get(*extends, "service")?;
                self.document.text(service)
            });
            let Some(base) = name.and_then(|name| self.services.get(name)) else { break };
            service = *base;
        }
        Vec::new()
    }

    /// The sites in one service: the winning ones, or all of them.
    fn of_service(&self, service: NodeId, winning: bool) -> Vec<Site> {
        let mut sites = Vec::new();
        for environment in lookup(self.document, service, "environment", winning) {
            sites.extend(self.in_environment(environment, winning));
        }
        sites
    }

    fn in_environment(&self, environment: NodeId, winning: bool) -> Vec<Site> {
        if let Content::Sequence(items) = &self.document.node(self.document.resolve(environment)).content {
            let named = |item: &&NodeId| {
                let rest = self.document.text(**item).and_then(|text| text.strip_prefix(self.variable));
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
            };
            return items.iter().filter(named).map(|item| (*item, true)).collect();
        }
        lookup(self.document, environment, self.variable, winning).into_iter().map(|value| (value, false)).collect()
    }

    /// Finds every `environment` inside of a block. Aliases are not followed: what they stand for is found where it is written.
    fn in_block(&mut self, node: NodeId) {
        match &self.document.node(node).content {
            Content::Mapping(entries) => {
                for (key, value) in entries {
                    if self.document.text(*key) == Some("environment") {
                        for site in self.in_environment(*value, false) {
                            self.sites.entry(site).or_default();
                        }
                    } else {
                        self.in_block(*value);
                    }
                }
            }
            Content::Sequence(items) => items.iter().for_each(|item| self.in_block(*item)),
            Content::Scalar { .. } | Content::Alias(_) => {}
        }
    }

    fn occurrences(self, root: NodeId) -> Vec<Occurrence> {
        let sites = self.sites.into_iter();
        sites
            .map(|((node, item), services)| Occurrence {
                node,
                item,
                place: place(self.document, root, node),
                line: self.document.node(node).position.line,
                services,
            })
            .collect()
    }
}

/// The values under `key` in a mapping and in the mappings that are merged into it: the winning one, or all. `!reset` removes
/// one.
pub fn lookup(document: &Document, mapping: NodeId, key: &str, winning: bool) -> Vec<NodeId> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    let mut stack = vec![mapping];
    while let Some(mapping) = stack.pop() {
        if !seen.insert(document.resolve(mapping)) {
            continue;
        }
        found.extend(document.get(mapping, key).filter(|value| !has_tag(document, *value, &["!reset"])));
        if winning && !found.is_empty() {
            break;
        }
        stack.extend(merged(document, mapping).into_iter().rev());
    }
    found
}

/// Whether the value has one of Compose's tags.
fn has_tag(document: &Document, value: NodeId, tags: &[&str]) -> bool {
    document.node(document.resolve(value)).tag.as_deref().is_some_and(|tag| tags.contains(&tag))
}

/// The part of the file that contains a node: `service web`, or the top-level key.
pub fn place(document: &Document, root: NodeId, node: NodeId) -> String {
    // Nodes are numbered in the order of the text, so the node is under the last key before it.
    let under = |mapping: NodeId| {
        let entries = document.entries(mapping);
        entries[..entries.partition_point(|(key, _)| *key < node)].last()
    };
    let Some((key, value)) = under(root) else { return "the file".to_owned() };
    let top = document.text(*key).unwrap_or("the file");
    if top == "services"
        && let Some((service, _)) = under(*value)
        && let Some(name) = document.text(*service)
    {
        return format!("service {name}");
    }
    top.to_owned()
}
