//! A connection of the plan file: the settings that its URL leaves out, and whether a problem is in the plan file or in the
//! environment.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::file::PlanFile;
use super::keys::by_key;
use super::node::Node;
use super::origins::{Origin, Origins};
use super::template::{Evaluator, has_template};
use super::{Diagnostic, Inputs, dbt_profile, de, reference, sources};
use crate::failure::Failure;
use crate::host::warehouse::{ConnectionSpec, Incomplete};

/// Why the settings that the URL of a connection leaves out could not be added.
pub enum Problem {
    /// A service or a variable cannot be used on this host.
    OfHost(Box<Diagnostic>),
    OfPlanFile(Box<Diagnostic>),
}

/// Returns the connection, completed by its service and by the environment.
///
/// # Errors
/// The missing settings cannot be added, or the completed connection is wrong.
pub fn completed(node: &Node, spec: ConnectionSpec, inputs: &Inputs) -> Result<ConnectionSpec, Problem> {
    let span = node.get("url").map_or_else(|| node.span.clone(), |url| url.span.clone());
    let problem = |Failure { message, hint }| Box::new(Diagnostic { help: hint, ..Diagnostic::at(span, message) });
    spec.completed(&inputs.client).map_err(|incomplete| match incomplete {
        Incomplete::OfHost(failure) => Problem::OfHost(problem(failure)),
        Incomplete::OfUrl(failure) => Problem::OfPlanFile(problem(failure)),
    })
}

impl PlanFile {
    /// Returns a connection with its templates evaluated, or every problem of it.
    pub(super) fn connection(&self, node: &Node, evaluator: &Evaluator) -> Result<ConnectionSpec, Vec<Diagnostic>> {
        if let Some(problem) = dbt_profile::problem(node) {
            return Err(vec![problem]);
        }
        let sources = sources::problems(node, &reference::CONNECTION, &self.vars);
        let read = |node: &Node| de::from_node(node).map(Ok);
        let of_urls = evaluator.of_urls();
        let value_of = |key: &str, value: &Node| {
            let evaluator = if key == "url" { &of_urls } else { evaluator };
            sources::evaluated(value, reference::CONNECTION.key(key).map(|key| key.shape), evaluator)
        };
        match by_key(node, &node.span, evaluator, value_of, read) {
            Ok(spec) if sources.is_empty() => Ok(spec),
            Ok(_) => Err(sources),
            Err(found) => Err([sources::without_those_within(found, &sources), sources].concat()),
        }
    }
}

/// Returns where the URL of a connection is, if it is a template.
fn url_template(connection: &Node) -> Option<(&str, &Range<usize>)> {
    let url = connection.get("url")?;
    url.text().filter(|text| has_template(text)).map(|text| (text, &url.span))
}

/// Returns whether a template of the URL has a wrong value. Then the environment is wrong and not the plan file, so only the
/// steps with this connection fail.
pub fn is_of_value(connection: &Node, problem: &Diagnostic) -> bool {
    let inside =
        |span: &Range<usize>| problem.span.as_ref().is_some_and(|at| span.start <= at.start && at.end <= span.end);
    problem.variable.is_none() && url_template(connection).is_some_and(|(_, span)| inside(span))
}

/// Returns whether the problem may come from an environment variable that is set.
pub(super) fn is_of_environment(connection: &Node, problem: &Diagnostic, origins: &Origins, inputs: &Inputs) -> bool {
    is_of_value(connection, problem)
        && of_url(connection, origins).iter().any(|origin| match origin {
            Origin::Environment(name) => inputs.env.contains_key(name),
            Origin::AnyEnvironment => true,
            Origin::Given(_) => false,
        })
}

/// Returns the inputs without the environment variables that the URL uses. A problem that remains is one of the plan file.
pub(super) fn without_environment(connection: &Node, origins: &Origins, inputs: &Inputs) -> Inputs {
    let used = of_url(connection, origins);
    let env = match used.contains(&Origin::AnyEnvironment) {
        true => BTreeMap::new(),
        false => {
            let is_used = |name: &str| used.contains(&Origin::Environment(name.to_owned()));
            inputs
                .env
                .iter()
                .filter(|(name, _)| !is_used(name))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect()
        }
    };
    Inputs { env, ..inputs.clone() }
}

/// Adds to the hint the names that the URL uses from outside the plan file, because the message is about its value. The
/// template itself is not shown, because it may contain a part of a password.
pub(super) fn with_origins(connection: &Node, origins: &Origins, mut problem: Diagnostic) -> Diagnostic {
    if problem.unset.is_none() && is_of_value(connection, &problem) {
        let (mut environment, mut given) = (Vec::new(), Vec::new());
        for origin in of_url(connection, origins) {
            match origin {
                Origin::Environment(name) => environment.push(name),
                Origin::Given(name) => given.push(format!("`--var {name}`")),
                Origin::AnyEnvironment => {}
            }
        }
        let variables = match &environment[..] {
            [] => None,
            [name] => Some(format!("environment variable {name}")),
            names => Some(format!("environment variables {}", names.join(", "))),
        };
        let names: Vec<String> = variables.into_iter().chain(given).collect();
        let found = match names.is_empty() {
            true => "the url is a template: check it, and the values in it".to_owned(),
            false => format!("check the url, and what it gets from {}", names.join(" and ")),
        };
        problem.help = Some(problem.help.map_or(found.clone(), |help| format!("{help}; {found}")));
    }
    problem
}

fn of_url(connection: &Node, origins: &Origins) -> BTreeSet<Origin> {
    url_template(connection).map(|(text, _)| origins.of(text)).unwrap_or_default()
}
