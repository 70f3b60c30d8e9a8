//! Which module of the sources uses which, as far as their paths tell: `use` lines, and paths in code. Tests are left out.
//!
//! A name that a module passes on (`pub use`) is the use of the module that defines it. A method of a type is named without
//! its module, so methods that are kept in another file than their type are not seen.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A path in code: `["super", "tree", "walk"]`.
type Names = Vec<String>;

/// The modules of a crate, by path: `host::fs::open`. The crate itself is the empty path.
pub struct Modules(BTreeMap<String, Module>);

#[derive(Default)]
struct Module {
    text: String,
    /// What `use` lines bring in, by the name that it has here.
    imports: BTreeMap<String, Names>,
    /// What is used here: imports that are not passed on, and paths in code.
    used: BTreeSet<Names>,
}

impl Modules {
    /// Reads all modules of the crate whose sources are in `src`.
    pub fn read(src: &Path) -> Self {
        let mut modules = BTreeMap::from([(String::new(), Module::default())]);
        read_folder(src, "", &mut modules);
        Self(modules)
    }

    /// The paths of all modules.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The text of a module.
    pub fn text(&self, module: &str) -> &str {
        &self.0[module].text
    }

    /// The modules that define what `module` uses, itself left out.
    pub fn used_by(&self, module: &str) -> BTreeSet<String> {
        let used = self.0[module].used.iter().filter_map(|names| self.module_of(module, names, true, 0));
        used.filter(|used| used != module).collect()
    }

    /// The modules by whose paths `module` names what it uses, whether they define it or pass it on.
    pub fn named_by(&self, module: &str) -> BTreeSet<String> {
        self.0[module].used.iter().filter_map(|names| self.module_of(module, names, false, 0)).collect()
    }

    /// The module that defines what `module` calls `names`, or without `follow` the one that passes it on. None for what
    /// other crates define, and for names of modules.
    fn module_of(&self, module: &str, names: &[String], follow: bool, depth: usize) -> Option<String> {
        let (first, rest) = names.split_first()?;
        let (mut at, mut rest) = match first.as_str() {
            "crate" => (String::new(), rest),
            "self" => (module.to_owned(), rest),
            "super" => (parent(module), rest),
            name if self.0.contains_key(&child(module, name)) => (child(module, name), rest),
            name => return self.import(module, name, rest, follow, depth),
        };
        while let Some((name, further)) = rest.split_first() {
            if name == "super" {
                at = parent(&at);
            } else if self.0.contains_key(&child(&at, name)) {
                at = child(&at, name);
            } else if follow && self.0[&at].imports.contains_key(name) {
                return self.import(&at, name, further, follow, depth);
            } else {
                return Some(at);
            }
            rest = further;
        }
        None
    }

    /// The module of what is called `rest` in the import `name` of `module`.
    fn import(&self, module: &str, name: &str, rest: &[String], follow: bool, depth: usize) -> Option<String> {
        let import = self.0[module].imports.get(name).filter(|_| depth < 8)?;
        self.module_of(module, &[import.as_slice(), rest].concat(), follow, depth + 1)
    }

    /// The circles of modules below `room`: each a set of modules that use one another, by some way.
    pub fn circles(&self, room: &str) -> Vec<BTreeSet<String>> {
        let inside = |module: &str| module == room || module.starts_with(&format!("{room}::"));
        let uses: BTreeMap<&str, BTreeSet<String>> = self
            .paths()
            .filter(|path| inside(path))
            .map(|path| (path, self.used_by(path).into_iter().filter(|used| inside(used)).collect()))
            .collect();
        let reached: BTreeMap<&str, BTreeSet<&str>> = uses
            .keys()
            .map(|from| {
                let mut found = BTreeSet::new();
                let mut next: Vec<&str> = vec![from];
                while let Some(module) = next.pop() {
                    next.extend(uses[module].iter().map(String::as_str).filter(|used| found.insert(*used)));
                }
                (*from, found)
            })
            .collect();
        let mut circles = BTreeSet::new();
        for (module, found) in &reached {
            if found.contains(module) {
                let back = found.iter().filter(|other| reached[**other].contains(module));
                circles.insert(back.map(|other| (*other).to_owned()).collect::<BTreeSet<String>>());
            }
        }
        circles.into_iter().collect()
    }

    /// A circle for a reader: each module, and which others of the circle it uses.
    pub fn describe(&self, circle: &BTreeSet<String>) -> String {
        let line = |module: &String| {
            let used = self.used_by(module).intersection(circle).cloned().collect::<Vec<_>>().join(", ");
            format!("{module} uses {used}")
        };
        circle.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

fn child(module: &str, name: &str) -> String {
    if module.is_empty() { name.to_owned() } else { format!("{module}::{name}") }
}

fn parent(module: &str) -> String {
    module.rsplit_once("::").map_or(String::new(), |(parent, _)| parent.to_owned())
}

fn read_folder(folder: &Path, module: &str, modules: &mut BTreeMap<String, Module>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        // Tests may reach for anything.
        let is_test =
            ["tests", "testing", "fixtures", "properties"].contains(&name.as_str()) || name.ends_with("_tests");
        if is_test || module.is_empty() && ["main", "lib", "arrows", "fuzzing"].contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() {
            read_folder(&path, &child(module, &name), modules);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let own = if name == "mod" { module.to_owned() } else { child(module, &name) };
            modules.insert(own, read_module(&std::fs::read_to_string(&path).unwrap()));
        }
    }
}

fn read_module(text: &str) -> Module {
    let own_tests = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    let lines = text[..own_tests].lines().filter(|line| !line.trim_start().starts_with("//"));
    let mut module = Module { text: text.to_owned(), ..Module::default() };
    let mut code = String::new();
    let mut statement: Option<String> = None;
    for line in lines {
        let trimmed = line.trim();
        let begins =
            ["use ", "pub use ", "pub(crate) use ", "pub(super) use "].iter().any(|begin| trimmed.starts_with(begin));
        let is_open = statement.is_some();
        if begins || is_open {
            let statement_text = statement.get_or_insert_default();
            statement_text.push_str(trimmed);
            statement_text.push(' ');
            if trimmed.ends_with(';') {
                module.read_use(&statement.take().unwrap_or_default());
            }
        } else {
            code.push_str(line);
            code.push('\n');
        }
    }
    module.used.extend(paths_in(&code));
    module
}

impl Module {
    fn read_use(&mut self, statement: &str) {
        let (visibility, tree) = statement.split_once("use ").unwrap();
        let mut found = Vec::new();
        read_tree(&[], tree.trim().trim_end_matches(';'), &mut found);
        for (name, path) in found {
            if visibility.is_empty() {
                self.used.insert(path.clone());
            }
            self.imports.insert(name, path);
        }
    }
}

/// Reads `a::{b, c::d as e}` as `b` = `a::b` and `e` = `a::c::d`.
fn read_tree(before: &[String], tree: &str, found: &mut Vec<(String, Names)>) {
    let tree = tree.trim();
    let names = |path: &str| -> Names {
        let path = path.split("::").map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned);
        before.iter().cloned().chain(path).collect()
    };
    if let Some((path, inner)) = tree.split_once('{') {
        let (before, mut depth, mut begin) = (names(path), 0, 0);
        let inner = inner.trim_end().strip_suffix('}').unwrap_or(inner);
        for (at, letter) in inner.char_indices().chain([(inner.len(), ',')]) {
            match letter {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    read_tree(&before, &inner[begin..at], found);
                    begin = at + 1;
                }
                _ => {}
            }
        }
    } else if !tree.is_empty() {
        let (path, alias) = tree.split_once(" as ").unwrap_or((tree, ""));
        let mut path = names(path);
        if path.last().is_some_and(|last| last == "self" || last == "*") && path.len() > 1 {
            path.pop();
        }
        let name = if alias.is_empty() { path.last().cloned().unwrap_or_default() } else { alias.to_owned() };
        found.push((name, path));
    }
}

/// All paths and names in code.
fn paths_in(code: &str) -> BTreeSet<Names> {
    let mut found = BTreeSet::new();
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let (mut rest, mut after_fn) = (code, false);
    while let Some(begin) = rest.find(is_word) {
        // A field or method belongs to no module, and what is defined here is not used.
        let is_member = rest[..begin].ends_with('.') && !rest[..begin].ends_with("..");
        let is_own = is_member || std::mem::take(&mut after_fn);
        rest = &rest[begin..];
        let mut names = Names::new();
        loop {
            let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            names.push(rest[..end].to_owned());
            rest = &rest[end..];
            match rest.strip_prefix("::").filter(|further| further.starts_with(is_word)) {
                Some(further) => rest = further,
                None => break,
            }
        }
        let is_path = names.len() > 1 || names[0].starts_with(char::is_uppercase) || rest.starts_with('(');
        after_fn = names[0] == "fn";
        if !is_own && is_path {
            found.insert(names);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circles(files: &[(&str, &str)]) -> Vec<Vec<String>> {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Modules::read(folder.path()).circles("room").into_iter().map(|circle| circle.into_iter().collect()).collect()
    }

    #[test]
    fn siblings_that_use_one_another_are_a_circle() {
        let found = circles(&[
            ("room/mod.rs", "mod a;\nmod b;\nmod c;\npub use c::C;\n"),
            ("room/a.rs", "use super::{C, b};\nfn f() { b::g() }\n"),
            ("room/b.rs", "pub fn g() -> C { crate::room::a::f() }\n"),
            ("room/c.rs", "pub struct C;\n"),
        ]);
        assert_eq!(found, [["room::a", "room::b"]]);
    }

    #[test]
    fn a_child_that_uses_what_its_parent_defines_is_a_circle_if_the_parent_uses_the_child() {
        let child = ("room/child.rs", "use super::Thing;\npub fn f(_: Thing) {}\n");
        let passes_on = "mod child;\npub use child::f;\npub struct Thing;\n";
        assert!(circles(&[("room/mod.rs", passes_on), child]).is_empty());
        for used in ["fn g() { child::f(Thing) }", "fn g() { f(Thing) }", "fn g() { self::child::f(Thing) }"] {
            let found = circles(&[("room/mod.rs", &format!("{passes_on}{used}\n")), child]);
            assert_eq!(found, [["room", "room::child"]], "{used}");
        }
    }

    #[test]
    fn a_name_that_the_parent_passes_on_is_where_it_is_defined() {
        let parent = ("room/mod.rs", "mod a;\nmod b;\npub use b::{self, g as called};\nfn h() { a::f() }\n");
        assert!(
            circles(&[parent, ("room/a.rs", "fn f() { super::called() }\n"), ("room/b.rs", "fn g() {}\n")]).is_empty()
        );
    }

    #[test]
    fn tests_and_comments_use_nothing() {
        let a = ("room/a.rs", "use super::b;\n#[cfg(test)]\nmod tests {\n    use super::*;\n}\n");
        let b = ("room/b.rs", "//! See [`super::a`].\n#[cfg(test)]\nmod tests {\n    use super::super::a;\n}\n");
        assert!(circles(&[("room/mod.rs", "mod a;\nmod b;\n"), a, b, ("room/tests.rs", "use super::a;\n")]).is_empty());
    }
}
