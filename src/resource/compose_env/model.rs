//! The services of a project as Compose sees them: the values and files that `docker compose config` prints.
//!
//! The rules are those of compose-go's `loader`. A service may extend another one, files are merged, `include` adds files, and
//! `environment` overrides `env_file`. The environment of the shell is unknown and treated as empty.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Component, Path, PathBuf};

use zeroize::Zeroizing;

use super::tree::Tree;
use super::{document, dotenv, occurrences};
use crate::yaml::Document;

/// The maximum number of files in a project.
const MAX_FILES: usize = 200;
/// The maximum depth to which services extend each other and files include each other.
const MAX_DEPTH: usize = 60;
/// The maximum number of values of all services together, including those of the services that they extend.
const MAX_VALUES: usize = 2_000_000;

/// The prefix of the keys for the definitions of the secrets and configs that a service is given.
const GRANTED: &str = "given ";

/// Reads a file. `None` if it does not exist; an error completes "cannot be read: ".
pub type Read<'a> = &'a dyn Fn(&Path) -> Result<Option<Zeroizing<String>>, String>;
type Values = BTreeMap<String, Zeroizing<String>>;

/// A project.
#[derive(Debug, Default)]
pub struct Model {
    pub services: BTreeMap<String, Service>,
    /// The names of the services in the order of the files.
    pub order: Vec<String>,
    /// The compose files that were read, including extended and included ones.
    pub files: Vec<PathBuf>,
    /// For each service, what it is in each of the merged files.
    pub parts: BTreeMap<String, Vec<Parts>>,
}

/// A service and those that it extends, the nearest first. Each has the path of its file.
pub type Parts = Vec<(PathBuf, String)>;

/// A service. Two are equal if Compose makes the same containers from them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Everything but the environment. Paths are absolute, and the definitions of secrets and configs are included.
    pub tree: Tree,
    /// The variables by name. A variable without a value is unset.
    pub environment: BTreeMap<String, Option<Zeroizing<String>>>,
}

/// Why a project cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectError {
    pub path: PathBuf,
    /// Completes "cannot be read: ".
    pub why: String,
}

/// Reads the project of these files, which are merged in this order.
///
/// # Errors
/// A compose file of the project cannot be read.
pub fn load(folder: &Path, files: &[PathBuf], home: Option<&Path>, read: Read<'_>) -> Result<Model, ProjectError> {
    let mut loader = Loader { read, home, files: Vec::new(), order: Vec::new(), parts: BTreeMap::new(), values: 0 };
    // Paths are relative to the first file. `.env` is in the directory in which the command runs.
    let paths = files.first().and_then(|file| file.parent()).unwrap_or(folder);
    let services = loader.group(files, paths, &env_values(&folder.join(".env"), read), 0)?;
    let mut seen = HashSet::new();
    loader.order.retain(|name| services.contains_key(name) && seen.insert(name.clone()));
    Ok(Model { services, order: loader.order, files: loader.files, parts: loader.parts })
}

/// Reads the variables of an `.env` file. Returns none if it cannot be read.
pub fn env_values(path: &Path, read: Read<'_>) -> Values {
    let text = read(path).ok().flatten();
    text.and_then(|text| dotenv::values(&text, &|_| None).ok()).unwrap_or_default()
}

struct Loader<'a> {
    read: Read<'a>,
    home: Option<&'a Path>,
    files: Vec<PathBuf>,
    order: Vec<String>,
    parts: BTreeMap<String, Vec<Parts>>,
    values: usize,
}

/// A compose file, and what its texts and paths are resolved with.
struct File<'a> {
    path: PathBuf,
    folder: &'a Path,
    services: BTreeMap<String, Tree>,
    extended: BTreeMap<String, (Tree, Parts)>,
}

impl Service {
    /// Returns the files with variables for its containers.
    pub fn env_files(&self) -> impl Iterator<Item = PathBuf> {
        self.tree.items_of("env_file").iter().filter_map(|item| item.text_or("path")).map(PathBuf::from)
    }

    /// Returns the files and directories of the host that its containers mount or are given.
    pub fn files(&self) -> BTreeSet<PathBuf> {
        let mut files = BTreeSet::new();
        for item in self.tree.items_of("volumes") {
            let source = match item.text() {
                Some(text) => text.split_once(':').map(|(source, _)| source).filter(|source| source.starts_with('/')),
                None if item.get("type").and_then(Tree::text) == Some("bind") => {
                    item.get("source").and_then(Tree::text)
                }
                None => None,
            };
            files.extend(source.map(PathBuf::from));
        }
        for kind in ["secrets", "configs"] {
            for given in self.tree.items_of(&format!("{GRANTED}{kind}")) {
                let definition = given.items().first();
                files.extend(definition.and_then(|definition| definition.get("file")?.text()).map(PathBuf::from));
            }
        }
        files
    }

    /// Returns whether the containers of `other` have to be recreated to become those of this service.
    pub fn recreates(&self, other: &Self) -> bool {
        let containers = |service: &Self| {
            let mut tree = service.tree.clone();
            if let Tree::Map(map) = &mut tree {
                // Recreating containers does not build images again.
                map.retain(|key, _| !["build", "develop", "profiles", "depends_on"].contains(&key.as_str()));
            }
            tree
        };
        self.environment != other.environment || containers(self) != containers(other)
    }
}

impl Loader<'_> {
    /// Reads the files to merge, and the files that they include.
    fn group(
        &mut self,
        files: &[PathBuf],
        folder: &Path,
        env: &Values,
        depth: usize,
    ) -> Result<BTreeMap<String, Service>, ProjectError> {
        let mut services: BTreeMap<String, Tree> = BTreeMap::new();
        let mut granted = Tree::Map(BTreeMap::new());
        let mut included = BTreeMap::new();
        for path in files {
            let document = self.document(path, depth)?;
            let value = |name: &str| env.get(name).map(|value| value.to_string());
            let mut file = self.file(path, folder, &document, env)?;
            self.order.extend(occurrences::services(&document).into_iter().map(|(name, _)| name.to_owned()));
            for name in file.services.keys().cloned().collect::<Vec<_>>() {
                let (over, parts) = self.extend(&mut file, &name, env, 0)?;
                self.parts.entry(name.clone()).or_default().push(parts);
                let merged = match services.remove(&name) {
                    Some(beneath) => beneath.overlay(over, &mut Vec::new()),
                    None => over.settle(),
                };
                services.extend(merged.map(|merged| (name, merged)));
            }
            let Some(root) = document.root() else { continue };
            let mut grants = BTreeMap::new();
            for kind in ["secrets", "configs"] {
                let Some(found) = document.get(root, kind) else { continue };
                grants.insert(kind.to_owned(), self.with_paths(Tree::read(&document, found, &value), folder));
            }
            granted = granted.overlay(Tree::Map(grants), &mut vec!["granted".to_owned()]).unwrap_or(Tree::Null);
            let includes = document.get(root, "include").map(|found| Tree::read(&document, found, &value));
            for include in includes.iter().flat_map(Tree::items) {
                included.append(&mut self.include(include, folder, env, depth)?);
            }
        }
        for (name, tree) in services {
            let service = self.service(tree, &granted, env);
            included.insert(name, service);
        }
        Ok(included)
    }

    fn include(
        &mut self,
        include: &Tree,
        folder: &Path,
        env: &Values,
        depth: usize,
    ) -> Result<BTreeMap<String, Service>, ProjectError> {
        let texts = |key| include.items_of(key).iter().filter_map(Tree::text).collect::<Vec<_>>();
        let paths = include.text().map_or_else(|| texts("path"), |path| vec![path]);
        let paths: Vec<PathBuf> = paths.into_iter().map(|path| normal(&folder.join(path))).collect();
        let own = include.get("project_directory").and_then(Tree::text).map(|path| normal(&folder.join(path)));
        let Some(inner) = own.or_else(|| paths.first()?.parent().map(Path::to_owned)) else {
            return Ok(BTreeMap::new());
        };
        let named: Vec<PathBuf> = texts("env_file").into_iter().map(|path| normal(&folder.join(path))).collect();
        let mut env = env.clone();
        for path in if named.is_empty() { vec![inner.join(".env")] } else { named } {
            for (name, value) in env_values(&path, self.read) {
                env.entry(name).or_insert(value);
            }
        }
        self.group(&paths, &inner, &env, depth + 1)
    }

    fn document(&mut self, path: &Path, depth: usize) -> Result<Document, ProjectError> {
        let error = |why: String| ProjectError { path: path.to_owned(), why };
        if depth > MAX_DEPTH || self.files.len() >= MAX_FILES {
            return Err(error(format!(
                "the project has more than {MAX_FILES} files, or files that include themselves"
            )));
        }
        let text = (self.read)(path).map_err(error)?.ok_or_else(|| error("it does not exist".to_owned()))?;
        if !self.files.iter().any(|file| file == path) {
            self.files.push(path.to_owned());
        }
        document::parse(&text).map_err(|unreadable| error(unreadable.to_string()))
    }

    fn file<'a>(
        &mut self,
        path: &Path,
        folder: &'a Path,
        document: &Document,
        env: &Values,
    ) -> Result<File<'a>, ProjectError> {
        let value = |name: &str| env.get(name).map(|value| value.to_string());
        let mut services = BTreeMap::new();
        for (name, node) in occurrences::services(document) {
            let mut tree = Tree::read(document, node, &value);
            for key in ["env_file", "volumes"] {
                if let Tree::Map(map) = &mut tree
                    && let Some(found) = map.remove(key)
                {
                    map.insert(key.to_owned(), self.with_paths(found, folder));
                }
            }
            services.insert(name.to_owned(), tree);
        }
        Ok(File { path: path.to_owned(), folder, services, extended: BTreeMap::new() })
    }

    /// Returns a service merged over the one that it extends, and all services that it consists of.
    fn extend(
        &mut self,
        file: &mut File<'_>,
        name: &str,
        env: &Values,
        depth: usize,
    ) -> Result<(Tree, Parts), ProjectError> {
        if let Some(known) = file.extended.get(name) {
            return Ok(known.clone());
        }
        let error = |why: String| ProjectError { path: file.path.clone(), why };
        if depth > MAX_DEPTH {
            return Err(error(format!("services extend each other more than {MAX_DEPTH} times, or in a circle")));
        }
        let Some(tree) = file.services.get(name) else {
            return Err(error(format!("it has no service {name}, which another one extends")));
        };
        let mut tree = tree.clone();
        let mut parts = vec![(file.path.clone(), name.to_owned())];
        let extends = match &mut tree {
            Tree::Map(map) => map.remove("extends"),
            _ => None,
        };
        if let Some(extends) = extends
            && let Some(base) = extends.text_or("service")
        {
            let (base, parts_of_base) = match extends.get("file").and_then(Tree::text) {
                None => self.extend(file, base, env, depth + 1)?,
                Some(other) => {
                    let path = normal(&file.folder.join(other));
                    let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
                    let document = self.document(&path, depth)?;
                    let mut other = self.file(&path, &folder, &document, env)?;
                    self.extend(&mut other, base, env, depth + 1)?
                }
            };
            parts.extend(parts_of_base);
            let beneath = base.settle().unwrap_or(Tree::Null);
            tree = beneath.overlay(tree, &mut Vec::new()).unwrap_or(Tree::Null);
        }
        self.values += tree.size();
        if self.values > MAX_VALUES {
            return Err(ProjectError { path: file.path.clone(), why: "its services are too large".to_owned() });
        }
        file.extended.insert(name.to_owned(), (tree.clone(), parts.clone()));
        Ok((tree, parts))
    }

    /// Makes the paths of a list of mounts or files, or of the definitions of secrets, absolute.
    fn with_paths(&self, tree: Tree, folder: &Path) -> Tree {
        let absolute = |path: &str| absolute(path, folder, self.home);
        match tree {
            Tree::List(items) => Tree::List(items.into_iter().map(|item| self.with_paths(item, folder)).collect()),
            Tree::Override(tree) => Tree::Override(Box::new(self.with_paths(*tree, folder))),
            Tree::Text(text) => {
                let (path, rest) = text.find(':').map_or((text.as_str(), ""), |at| text.split_at(at));
                let is_path = rest.is_empty() || path.starts_with(['.', '/', '~']);
                match absolute(path).filter(|_| is_path) {
                    Some(path) => Tree::of(format!("{path}{rest}")),
                    None => Tree::Text(text),
                }
            }
            Tree::Map(map) => {
                let is_bind = map.get("type").is_none_or(|kind| kind.text() == Some("bind"));
                let entry = |(key, value): (String, Tree)| {
                    let path =
                        value.text().filter(|_| matches!(&*key, "path" | "file") || (key == "source" && is_bind));
                    let path = path.and_then(absolute).map(Tree::of);
                    let value = match value {
                        Tree::Map(_) => self.with_paths(value, folder),
                        value => path.unwrap_or(value),
                    };
                    (key, value)
                };
                Tree::Map(map.into_iter().map(entry).collect())
            }
            other => other,
        }
    }

    /// Resolves the environment of a service, and the secrets and configs that it is given.
    fn service(&self, mut tree: Tree, granted: &Tree, env: &Values) -> Service {
        let mut environment = BTreeMap::new();
        let own = tree.get("environment").map(Tree::pairs).unwrap_or_default();
        for item in tree.items_of("env_file") {
            let Some(path) = item.text_or("path") else { continue };
            let Some(text) = (self.read)(Path::new(path)).ok().flatten() else { continue };
            if item.get("format").and_then(Tree::text) == Some("raw") {
                let pairs = text.lines().filter_map(|line| line.split_once('='));
                environment
                    .extend(pairs.map(|(name, value)| (name.to_owned(), Some(Zeroizing::new(value.to_owned())))));
                continue;
            }
            let outer = |name: &str| {
                let own = || own.iter().rfind(|(found, _)| *found == name).and_then(|(_, value)| *value);
                env.get(name).map(|value| value.to_string()).or_else(|| own().map(str::to_owned))
            };
            let values = dotenv::values(&text, &outer).unwrap_or_default();
            environment.extend(values.into_iter().map(|(name, value)| (name, Some(value))));
        }
        for (name, value) in own {
            let value = value.map(|value| Zeroizing::new(value.to_owned()));
            environment.insert(name.to_owned(), value.or_else(|| env.get(name).cloned()));
        }
        if let Tree::Map(map) = &mut tree {
            map.remove("environment");
            grant(map, granted, env);
            if let Some(Tree::Map(build)) = map.get_mut("build") {
                grant(build, granted, env);
            }
        }
        Service { tree, environment }
    }
}

/// Adds the definitions of the secrets and configs that a service or its build is given, with the values of variables.
fn grant(map: &mut BTreeMap<String, Tree>, granted: &Tree, env: &Values) {
    for kind in ["secrets", "configs"] {
        let definition = |name: &str| {
            let definition = granted.get(kind)?.get(name)?;
            let value = definition.get("environment").and_then(|variable| env.get(variable.text()?));
            let value = value.map_or(Tree::Null, |value| Tree::Text(value.clone()));
            Some(Tree::List(vec![definition.clone(), value]))
        };
        let items = map.get(kind).map_or(&[][..], Tree::items);
        let definitions = items.iter().filter_map(|item| definition(item.text_or("source")?)).collect();
        map.insert(format!("{GRANTED}{kind}"), Tree::List(definitions));
    }
}

/// Returns the absolute path that Compose makes from a text. `None` for the home directory of another user.
fn absolute(path: &str, folder: &Path, home: Option<&Path>) -> Option<String> {
    let path = match path.strip_prefix('~') {
        Some("") => home?.to_owned(),
        Some(rest) => home?.join(rest.strip_prefix('/')?),
        None => folder.join(path),
    };
    normal(&path).into_os_string().into_string().ok()
}

/// Returns the path without `.` and `..`.
pub fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => drop(normal.pop()),
            other => normal.push(other),
        }
    }
    normal
}
