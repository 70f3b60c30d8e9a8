//! Passwords and tokens in URLs, and what they are made of.

use std::collections::BTreeMap;

use super::diagnostic::is_telling;
use super::lookup::UrlSecrets;
use super::node::Node;
use super::origins::{Origin, Origins};
use super::template::{Evaluator, OUTSIDE, has_template};

impl UrlSecrets {
    /// Finds what changes the passwords in these URLs. A login without a password may be a user's name, and does not count.
    pub(super) fn find<'a>(
        urls: impl Iterator<Item = &'a Node>,
        vars: &BTreeMap<String, Node>,
        evaluator: &Evaluator,
    ) -> Self {
        let inputs = evaluator.inputs();
        let origins = Origins::new(vars, inputs.vars.keys().cloned());
        let mut found = Self::default();
        for url in urls.filter(|url| url.text().is_some_and(has_template)) {
            let password = |evaluator: &Evaluator| {
                let value = evaluator.node(url).ok()?;
                let text = value.text()?;
                Some(if text.contains('=') && !text.contains("://") { in_keywords(text) } else { in_url(text, false) })
            };
            let Some(real) = password(evaluator).filter(|password| !password.is_empty()) else { continue };
            let any = || inputs.env.keys().cloned().map(Origin::Environment).collect();
            let origins = origins.of(url.text().unwrap_or_default()).into_iter();
            let origins = origins.flat_map(|one| if one == Origin::AnyEnvironment { any() } else { vec![one] });
            for origin in origins {
                let mut inputs = inputs.clone();
                let (name, value, names) = match origin {
                    Origin::Given(name) => (name.clone(), inputs.vars.get_mut(&name), &mut found.given),
                    Origin::Environment(name) => (name.clone(), inputs.env.get_mut(&name), &mut found.environment),
                    Origin::AnyEnvironment => continue,
                };
                let Some(value) = value else { continue };
                OUTSIDE.clone_into(value);
                if password(&evaluator.with_inputs(inputs)).as_ref() != Some(&real) {
                    names.insert(name);
                }
            }
        }
        found
    }
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

/// Returns the password in a connection string of keywords, `user=etl password='a b'`, up to the end of its value.
fn in_keywords(text: &str) -> String {
    let values = text.match_indices("password").filter_map(|(at, word)| {
        let value = text[at + word.len()..].trim_start().strip_prefix('=')?.trim_start();
        let quoted = value.strip_prefix('\'').map(|value| value.split('\'').next());
        quoted.unwrap_or_else(|| value.split(char::is_whitespace).next())
    });
    values.collect::<Vec<_>>().join(" ")
}
