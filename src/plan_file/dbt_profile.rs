//! Connections with the fields of a dbt profile.

use super::diagnostic::Diagnostic;
use super::node::{Node, Value};

/// Returns the problem of a connection with the fields of a dbt profile, which belong in one URL.
pub(super) fn problem(node: &Node) -> Option<Diagnostic> {
    let Value::Mapping(pairs) = &node.value else { return None };
    let find = |names: &[&str]| pairs.iter().find(|(key, _)| key.text().is_some_and(|key| names.contains(&key)));
    if find(&["url"]).is_some() {
        return None;
    }
    let (first, _) = find(&["host", "dbname"])?;
    let value =
        |names: &[&str], missing: &str| find(names).and_then(|(_, value)| value.text()).unwrap_or(missing).to_owned();
    let port = find(&["port"]).and_then(|(_, value)| value.text()).map(|port| format!(":{port}")).unwrap_or_default();
    let (user, host) = (value(&["user", "username"], "USER"), value(&["host"], "HOST"));
    let database = value(&["dbname", "database"], "DATABASE");
    let problem = Diagnostic::at(
        first.span.clone(),
        "a connection has one `url` in place of `host`, `user`, `port` and `dbname`",
    );
    Some(problem.help(format!("write url: \"postgresql://{user}@{host}{port}/{database}\"")))
}
