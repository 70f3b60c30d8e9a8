//! Passwords and tokens in URLs, and the values that they consist of.

use std::collections::BTreeMap;

use super::diagnostic::is_telling;
use super::lookup::UrlSecrets;
use super::node::{Node, Scalar, Style, Value};
use super::origins::{Origin, Origins};
use super::template::{Evaluator, Inputs, has_template};

/// Stands for every letter and digit of a value. It survives filters, parts and changes of case.
const MARK: char = '\u{F8FF}';

/// Stands for a missing value.
const STAND_IN: &str = "\u{F8FE}";

impl UrlSecrets {
    /// Finds the values in the passwords of these URLs. A login without a password may be a user's name, so it does not count.
    ///
    /// A value that only selects a password is not a part of it, and may be shown. Missing values do not matter, because the
    /// rest of a URL is not needed to find its password.
    pub(super) fn find<'a>(
        urls: impl Iterator<Item = &'a Node>,
        vars: &BTreeMap<String, Node>,
        evaluator: &Evaluator,
    ) -> Self {
        let inputs = evaluator.inputs();
        let origins = Origins::new(vars, inputs.vars.keys().cloned());
        let mut found = Self::default();
        for url in urls.filter(|url| url.text().is_some_and(has_template)) {
            let Some(password) = Password::of(url, evaluator.with_stand_in(STAND_IN)) else { continue };
            let any = || inputs.env.keys().cloned().map(Origin::Environment).collect();
            let origins = origins.of(url.text().unwrap_or_default()).into_iter();
            let origins = origins.flat_map(|one| if one == Origin::AnyEnvironment { any() } else { vec![one] });
            for origin in origins.filter(|origin| password.contains(origin)) {
                match origin {
                    Origin::Given(name) => drop(found.given.insert(name)),
                    Origin::Environment(name) => drop(found.environment.insert(name)),
                    Origin::AnyEnvironment => {}
                }
            }
        }
        found
    }
}

/// The password in a URL.
struct Password<'a> {
    url: &'a Node,
    evaluator: Evaluator,
    /// A connection string of keywords can have several passwords.
    parts: Vec<String>,
}

impl<'a> Password<'a> {
    /// Returns `None` if the URL cannot be evaluated.
    fn of(url: &'a Node, evaluator: Evaluator) -> Option<Self> {
        let parts = parts(url, &evaluator)?;
        Some(Self { url, evaluator, parts })
    }

    /// Returns whether a value is in the password.
    fn contains(&self, origin: &Origin) -> bool {
        let inputs = self.evaluator.inputs();
        let Some(value) = value_of(origin, &mut inputs.clone()).filter(|value| !value.is_empty()).cloned() else {
            return false;
        };
        let mut marked = inputs.clone();
        value_of(origin, &mut marked).into_iter().for_each(|value| *value = self.mark(value));
        match parts(self.url, &self.evaluator.with_inputs(marked)) {
            Some(parts) if is_marked(&parts) => return true,
            Some(parts) if parts == self.parts => return false,
            _ => {}
        }
        // The template needs the value itself. If the password then comes from other values, the value has only selected them.
        let mut others = inputs.clone();
        others.env.values_mut().chain(others.vars.values_mut()).for_each(|value| *value = self.mark(value));
        value_of(origin, &mut others).into_iter().for_each(|other| other.clone_from(&value));
        let parts = parts(self.url, &self.evaluator.with_inputs(others)).filter(|parts| is_marked(parts));
        let parts = parts.as_ref().unwrap_or(&self.parts);
        parts.iter().any(|part| part.contains(&value) || value.contains(part.as_str()))
    }

    /// Marks the password in a value that contains all of it, or else the whole value. Keeps punctuation, because it structures
    /// the URL.
    fn mark(&self, value: &str) -> String {
        let mark = |text: &str, is_marked: fn(char) -> bool| -> String {
            text.chars().map(|c| if is_marked(c) { MARK } else { c }).collect()
        };
        let contained = self.parts.iter().filter(|part| value.contains(part.as_str()));
        match contained.max_by_key(|part| part.len()) {
            Some(part) => value.replace(part, &mark(part, |_| true)),
            None => mark(value, char::is_alphanumeric),
        }
    }
}

fn value_of<'a>(origin: &Origin, inputs: &'a mut Inputs) -> Option<&'a mut String> {
    match origin {
        Origin::Given(name) => inputs.vars.get_mut(name),
        Origin::Environment(name) => inputs.env.get_mut(name),
        Origin::AnyEnvironment => None,
    }
}

fn is_marked(parts: &[String]) -> bool {
    parts.iter().any(|part| part.contains(MARK))
}

/// Returns the passwords in a URL that are not empty.
fn parts(url: &Node, evaluator: &Evaluator) -> Option<Vec<String>> {
    let text = match evaluator.node(url) {
        Ok(value) => value.text()?.to_owned(),
        Err(_) => in_pieces(url, evaluator)?,
    };
    let is_keywords = text.contains('=') && !text.contains("://");
    let mut parts = if is_keywords { in_keywords(&text) } else { vec![in_url(&text, false)] };
    parts.retain(|part| !part.is_empty());
    Some(parts)
}

/// Evaluates each expression in a URL separately, so that an expression without a result hides none of the others. Returns
/// `None` if the URL has statements.
fn in_pieces(url: &Node, evaluator: &Evaluator) -> Option<String> {
    let mut rest = url.text().filter(|text| !text.contains("{%"))?;
    let mut whole = String::new();
    while let Some((before, after)) = rest.split_once("{{") {
        let (expression, after) = after.split_once("}}")?;
        let text = format!("{{{{{expression}}}}}");
        let piece = Node { span: url.span.clone(), value: Value::Scalar(Scalar { text, style: Style::Quoted }) };
        let piece = evaluator.node(&piece).ok().filter(|piece| !piece.is_null());
        whole += before;
        whole += piece.as_ref().and_then(Node::text).unwrap_or(STAND_IN);
        rest = after;
    }
    Some(whole + rest)
}

/// Returns whether a text is a single web address with a query or fragment. Both can contain a token under any name.
pub(super) fn has_query(text: &str) -> bool {
    let text = text.trim();
    let is_web = text.starts_with("http://") || text.starts_with("https://");
    is_web && text.contains(['?', '#']) && !text.contains(char::is_whitespace)
}

/// Returns the token in `user:token@host:path`, which git treats as a path on the host `user`.
fn scp_token(text: &str) -> Option<&str> {
    let before_path = text.split('/').next().unwrap_or_default();
    let (login, place) = before_path.rsplit_once('@')?;
    let (_, token) = login.split_once(':')?;
    (place.contains(':') && !text.contains(char::is_whitespace) && !text.contains("://")).then_some(token)
}

/// Returns what may be a password or a token in a URL of a text: the password, the whole login of a web address without one, or a
/// parameter with the name of a secret.
pub(super) fn url_password(text: &str) -> String {
    in_url(text, true)
}

fn in_url(text: &str, login_is_secret: bool) -> String {
    if let Some(token) = scp_token(text) {
        return token.to_owned();
    }
    let urls = text.match_indices("://").map(|(at, mark)| text.split_at(at + mark.len()));
    let mut passwords = urls.map(|(scheme, rest)| {
        let word = rest.split(char::is_whitespace).next().unwrap_or_default();
        let is_web = scheme.ends_with("http://") || scheme.ends_with("https://");
        match word.rfind('@').map(|end| &word[..end]) {
            Some(login) if login.contains(':') => login.split_once(':').unwrap_or_default().1,
            Some(token) if login_is_secret && is_web && !token.contains('/') => token,
            _ => {
                let parameters = word.split_once(['?', '#']).unwrap_or_default().1.split(['&', '#']);
                let mut named = parameters.filter_map(|pair| pair.split_once('='));
                named.find(|(name, _)| is_telling(name)).unwrap_or_default().1
            }
        }
    });
    passwords.find(|password| !password.is_empty()).unwrap_or_default().to_owned()
}

/// Returns the passwords in a connection string of keywords, `user=etl password='a b'`, up to the end of their values.
fn in_keywords(text: &str) -> Vec<String> {
    let values = text.match_indices("password").filter_map(|(at, word)| {
        let value = text[at + word.len()..].trim_start().strip_prefix('=')?.trim_start();
        let quoted = value.strip_prefix('\'').map(|value| value.split('\'').next());
        quoted.unwrap_or_else(|| value.split(char::is_whitespace).next())
    });
    values.map(str::to_owned).collect()
}
