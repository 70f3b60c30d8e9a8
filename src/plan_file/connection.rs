//! A connection of the plan file: what its URL leaves out, and whether the plan file or the environment makes it wrong.

use std::ops::Range;

use super::node::Node;
use super::{Diagnostic, Inputs};
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
/// What is left out cannot be added, or the whole is wrong.
pub fn completed(node: &Node, spec: ConnectionSpec, inputs: &Inputs) -> Result<ConnectionSpec, Problem> {
    let span = node.get("url").map_or_else(|| node.span.clone(), |url| url.span.clone());
    let problem = |Failure { message, hint }| Box::new(Diagnostic { help: hint, ..Diagnostic::at(span, message) });
    spec.completed(&inputs.client).map_err(|incomplete| match incomplete {
        Incomplete::OfHost(failure) => Problem::OfHost(problem(failure)),
        Incomplete::OfUrl(failure) => Problem::OfPlanFile(problem(failure)),
    })
}

/// Returns the template of a connection's URL, if it is one.
fn url_template(connection: &Node) -> Option<(&str, &Range<usize>)> {
    let url = connection.get("url")?;
    url.text().filter(|text| text.contains("{{") || text.contains("{%")).map(|text| (text, &url.span))
}

/// Returns whether the problem is that a template of the URL yields one that is wrong. Then the environment is wrong and not the plan
/// file, so that only the steps with this connection fail.
pub fn is_of_value(connection: &Node, problem: &Diagnostic) -> bool {
    let inside =
        |span: &Range<usize>| problem.span.as_ref().is_some_and(|at| span.start <= at.start && at.end <= span.end);
    problem.variable.is_none() && url_template(connection).is_some_and(|(_, span)| inside(span))
}

/// Names the template in the hint, because the message is about its value.
pub fn with_template(connection: &Node, mut problem: Diagnostic) -> Diagnostic {
    if let (None, Some((template, _))) = (&problem.unset, url_template(connection)) {
        let found = format!("the url is made by `{template}`; check the values that it uses");
        problem.help = Some(problem.help.map_or(found.clone(), |help| format!("{help}; {found}")));
    }
    problem
}
