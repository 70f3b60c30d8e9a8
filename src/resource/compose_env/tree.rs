//! What a compose file holds after aliases, `<<` and variables are resolved, and how Compose lays one part over another.
//!
//! The rules are those of compose-go's `override/merge.go` and `override/uncity.go`: mappings are merged key by key, lists are
//! joined, and anything else is replaced. `environment` and its like are merged by name, whether they are mappings or lists.
//! `!reset` removes what is beneath, and `!override` replaces it as a whole.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use zeroize::Zeroizing;

use super::document::merged;
use super::interpolation;
use crate::yaml::{Content, Document, NodeId, Style, is_null};

/// A value. The texts may be passwords.
#[derive(Clone, PartialEq, Eq)]
pub enum Tree {
    Null,
    Text(Zeroizing<String>),
    List(Vec<Self>),
    Map(BTreeMap<String, Self>),
    /// `!reset`.
    Reset,
    /// `!override`.
    Override(Box<Self>),
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tree(..)")
    }
}

impl Tree {
    /// Reads a node, with the variables that have a value substituted.
    pub fn read(document: &Document, node: NodeId, value: &dyn Fn(&str) -> Option<String>) -> Self {
        let node = document.resolve(node);
        let tree = match &document.node(node).content {
            Content::Scalar { text, style } if *style == Style::Plain && is_null(text) => Self::Null,
            // Compose refuses a text that cannot be substituted.
            Content::Scalar { text, .. } => Self::of(interpolation::fill(text, value).unwrap_or_else(|| text.clone())),
            Content::Sequence(items) => {
                Self::List(items.iter().map(|item| Self::read(document, *item, value)).collect())
            }
            Content::Mapping(entries) => {
                let mut map = BTreeMap::new();
                for (key, entry) in entries {
                    if let Some(name) = document.text(*key).filter(|name| *name != "<<") {
                        map.insert(name.to_owned(), Self::read(document, *entry, value));
                    }
                }
                for beneath in merged(document, node) {
                    let Some(Self::Map(beneath)) = Self::read(document, beneath, value).settle() else { continue };
                    for (name, entry) in beneath {
                        match map.get_mut(&name) {
                            None => drop(map.insert(name, entry)),
                            // What is removed lets the merged value through, which replaces what is beneath.
                            Some(own @ Self::Reset) => *own = Self::Override(Box::new(entry)),
                            Some(_) => {}
                        }
                    }
                }
                Self::Map(map)
            }
            Content::Alias(_) => Self::Null,
        };
        match document.node(node).tag.as_deref() {
            Some("!reset") => Self::Reset,
            Some("!override") => Self::Override(Box::new(tree)),
            _ => tree,
        }
    }

    pub fn of(text: String) -> Self {
        Self::Text(Zeroizing::new(text))
    }

    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The items of a list, or the single value there; empty for nothing.
    pub fn items(&self) -> &[Self] {
        match self {
            Self::List(items) => items,
            Self::Null | Self::Reset => &[],
            single => std::slice::from_ref(single),
        }
    }

    pub fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Map(map) => map.get(key),
            _ => None,
        }
    }

    /// The items under a key, as for [`Self::items`].
    pub fn items_of(&self, key: &str) -> &[Self] {
        self.get(key).map_or(&[], Self::items)
    }

    /// The text itself, or the text under a key of the mapping: the short and the long form of an item.
    pub fn text_or(&self, key: &str) -> Option<&str> {
        self.text().or_else(|| self.get(key)?.text())
    }

    /// How many values there are in it.
    pub fn size(&self) -> usize {
        match self {
            Self::List(items) => 1 + items.iter().map(Self::size).sum::<usize>(),
            Self::Map(map) => 1 + map.values().map(Self::size).sum::<usize>(),
            _ => 1,
        }
    }

    /// The entries of a mapping, or of a list of `NAME=value`, the strongest last. A name alone has no value.
    pub fn pairs(&self) -> Vec<(&str, Option<&str>)> {
        match self {
            Self::Map(map) => map.iter().map(|(name, value)| (name.as_str(), value.text())).collect(),
            Self::List(items) => items.iter().filter_map(Self::text).map(pair).collect(),
            _ => Vec::new(),
        }
    }

    /// Resolves the tags of a tree that lies over nothing. Returns `None` if nothing is left.
    pub fn settle(self) -> Option<Self> {
        match self {
            Self::Reset => None,
            Self::Override(tree) => tree.settle(),
            Self::Map(map) => {
                let map = map.into_iter().filter_map(|(name, value)| Some((name, value.settle()?)));
                Some(Self::Map(map.collect()))
            }
            other => Some(other),
        }
    }

    /// Lays `over` over this part of a service. `path` has the keys from the service to here.
    ///
    /// Returns `None` if nothing is left.
    pub fn overlay(self, over: Self, path: &mut Vec<String>) -> Option<Self> {
        if matches!(over, Self::Reset | Self::Override(_)) {
            return over.settle();
        }
        let keys: Vec<&str> = path.iter().map(String::as_str).collect();
        match keys[..] {
            ["command" | "entrypoint"] | ["healthcheck", "test"] => over.settle(),
            [key] | ["build" | "deploy", key] if MERGED_BY_NAME.contains(&key) => Some(self.joined_by_name(&over)),
            ["depends_on" | "networks" | "models"] => self.into_map().merge(over.into_map(), path),
            ["build"] => self.into_build().merge(over.into_build(), path),
            [key] if JOINED.contains(&key) => {
                let items: Vec<Self> = self.items().iter().chain(over.items()).cloned().collect();
                Some(Self::List(last_of_each(items, |item| target(key, item))))
            }
            _ => self.merge(over, path),
        }
    }

    fn merge(self, over: Self, path: &mut Vec<String>) -> Option<Self> {
        match (self, over) {
            (Self::Map(mut map), Self::Map(others)) => {
                for (name, value) in others {
                    let merged = match map.remove(&name) {
                        Some(beneath) => {
                            path.push(name.clone());
                            let merged = beneath.overlay(value, path);
                            path.pop();
                            merged
                        }
                        None => value.settle(),
                    };
                    map.extend(merged.map(|merged| (name, merged)));
                }
                Some(Self::Map(map))
            }
            (Self::List(mut items), Self::List(others)) => {
                items.extend(others);
                Some(Self::List(items))
            }
            (found @ (Self::Map(_) | Self::List(_)), Self::Null) => Some(found),
            (_, over) => over.settle(),
        }
    }

    /// Joins two mappings or lists of `NAME=value`.
    fn joined_by_name(&self, over: &Self) -> Self {
        let reset = |name: &str| over.get(name) == Some(&Self::Reset);
        // A list keeps what `!reset` names.
        let is_map = matches!(self, Self::Map(_));
        let beneath = self.pairs().into_iter().filter(|(name, _)| !is_map || !reset(name));
        let over = over.pairs().into_iter().filter(|(name, _)| !reset(name));
        let text = |(name, value): (&str, Option<&str>)| {
            Self::of(value.map_or_else(|| name.to_owned(), |value| format!("{name}={value}")))
        };
        let items: Vec<Self> = beneath.chain(over).map(text).collect();
        Self::List(last_of_each(items, |item| item.text().map(|text| pair(text).0.to_owned())))
    }

    /// A list of names as a mapping.
    fn into_map(self) -> Self {
        match self {
            Self::List(items) => {
                Self::Map(items.iter().filter_map(|item| Some((item.text()?.to_owned(), Self::Null))).collect())
            }
            other => other,
        }
    }

    fn into_build(self) -> Self {
        match self {
            context @ Self::Text(_) => Self::Map([("context".to_owned(), context)].into()),
            other => other,
        }
    }
}

/// Mappings that may be written as lists of `NAME=value`.
const MERGED_BY_NAME: [&str; 6] = ["environment", "labels", "annotations", "args", "sysctls", "extra_hosts"];
/// Lists whose items have a name or a target. Some may be written as a single value.
const JOINED: [&str; 9] =
    ["env_file", "label_file", "dns", "dns_opt", "dns_search", "tmpfs", "volumes", "secrets", "configs"];

/// Splits an item of a list of `NAME=value`.
fn pair(item: &str) -> (&str, Option<&str>) {
    item.split_once('=').map_or((item, None), |(name, value)| (name, Some(value)))
}

/// What an item of a list is about. A later item about the same replaces it.
fn target(key: &str, item: &Tree) -> Option<String> {
    let target = match (key, item.text()) {
        ("volumes", Some(text)) => text.split(':').nth(1).unwrap_or(text),
        ("volumes", None) => item.get("target")?.text()?,
        ("env_file" | "label_file", _) => item.text_or("path")?,
        ("secrets" | "configs", _) => item.text().or_else(|| item.get("target")?.text()).or(item.text_or("source"))?,
        (_, text) => text?,
    };
    Some(target.to_owned())
}

/// Lets the last item of each name take the place of the first one.
fn last_of_each(items: Vec<Tree>, name: impl Fn(&Tree) -> Option<String>) -> Vec<Tree> {
    let mut places = HashMap::new();
    let mut kept: Vec<Tree> = Vec::new();
    for item in items {
        match name(&item).map(|name| *places.entry(name).or_insert(kept.len())) {
            Some(place) if place < kept.len() => kept[place] = item,
            _ => kept.push(item),
        }
    }
    kept
}
