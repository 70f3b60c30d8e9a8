//! The values that a template uses from outside the plan file.

use std::collections::{BTreeMap, BTreeSet};

use minijinja::Environment;

use crate::plan_file::code;
use crate::plan_file::node::Node;
use crate::plan_file::template::environment_names_in;

/// A value from outside the plan file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    /// The value of a `--var`.
    Given(String),
    Environment(String),
    /// An environment variable whose name comes from an expression.
    AnyEnvironment,
}

/// The variables of a plan file, and which of them are given.
#[derive(Debug, Clone, Default)]
pub(super) struct Origins {
    vars: BTreeMap<String, Node>,
    given: BTreeSet<String>,
}

impl Origins {
    pub(super) fn new(vars: &BTreeMap<String, Node>, given: impl Iterator<Item = String>) -> Self {
        Self { vars: vars.clone(), given: given.collect() }
    }

    /// Returns the origins that a text uses, directly or through variables.
    pub(super) fn of(&self, text: &str) -> BTreeSet<Origin> {
        let mut found = BTreeSet::new();
        let mut known = BTreeSet::new();
        let mut texts = vec![text];
        while let Some(text) = texts.pop() {
            let mut names = BTreeSet::new();
            environment_names_in(text, &mut names);
            if text.split("env_var").skip(1).any(|call| !names_a_variable(call)) {
                found.insert(Origin::AnyEnvironment);
            }
            found.extend(names.into_iter().map(Origin::Environment));
            for name in code::undeclared(&Environment::new(), text).unwrap_or_default() {
                if self.given.contains(&name) {
                    found.insert(Origin::Given(name));
                } else if let Some((name, node)) = self.vars.get_key_value(&name)
                    && known.insert(name)
                {
                    texts.extend(node.text());
                }
            }
        }
        found
    }
}

/// Returns whether the argument of a call of `env_var` is a text without an expression: `('NAME')`, possibly with a default.
fn names_a_variable(call: &str) -> bool {
    let argument = call.trim_start().trim_start_matches('(').trim_start();
    let quote = argument.chars().next().filter(|c| matches!(c, '\'' | '"'));
    let rest = quote.and_then(|quote| argument[1..].split_once(quote)).map(|(_, rest)| rest.trim_start());
    rest.is_some_and(|rest| rest.starts_with([')', ',']))
}

/// Returns whether two sets have an origin in common.
pub(super) fn overlap(one: &BTreeSet<Origin>, other: &BTreeSet<Origin>) -> bool {
    let is_environment = |origin: &Origin| !matches!(origin, Origin::Given(_));
    let any = |of: &BTreeSet<Origin>, in_other: &BTreeSet<Origin>| {
        of.contains(&Origin::AnyEnvironment) && in_other.iter().any(is_environment)
    };
    !one.is_disjoint(other) || any(one, other) || any(other, one)
}
