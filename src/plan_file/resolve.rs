//! A plan file with its templates evaluated, as YAML: the values that a run would use, with secrets shown as their sources.
//!
//! With the same variables and environment, the output evaluates to the same steps. A template that needs an unset environment
//! variable stays unevaluated. The same applies to URLs with a password, commands that fetch a secret, and the variables in
//! them. A value from outside the plan file that is used in one of these is not evaluated anywhere else either.

use std::collections::BTreeSet;

use minijinja::Environment;
use serde_yaml::{Mapping, Value as Yaml};

use super::diagnostic::is_telling;
use super::literal::literal;
use super::node::{Node, Scalar, Style, Value};
use super::origins::{Origin, Origins, overlap};
use super::template::{Evaluator, OUTSIDE, has_template};
use super::url_password::{has_query, url_password};
use super::{Diagnostic, Diagnostics, Inputs, PlanFile, StepSource, code, de, sources};
use crate::host::warehouse::ConnectionSpec;
use crate::resource::AnyResource;
use crate::resource::reference::Shape;

impl PlanFile {
    /// Returns the evaluated plan file.
    ///
    /// # Errors
    /// The plan file has problems, or a URL contains a password in clear text.
    pub fn resolve(&self, inputs: &Inputs) -> Result<String, Diagnostics> {
        self.validate(inputs)?;
        // The first pass finds what has to remain a template.
        let mut first = self.writer(inputs, BTreeSet::new());
        self.write(&mut first, inputs)?;
        let secret = first.kept.iter().flat_map(|kept| first.origins.of(&kept.written)).collect();
        let mut writer = self.writer(inputs, secret);
        let (top, withheld) = self.write(&mut writer, inputs)?;
        let left: BTreeSet<Origin> = writer.left.iter().flat_map(|text| writer.origins.of(text)).collect();
        let needed: Vec<String> = withheld
            .into_iter()
            .filter(|name| left.contains(&Origin::Given(name.clone())))
            .map(|name| format!("--var {name}=VALUE"))
            .collect();
        // Strings, numbers and booleans can always be written as YAML.
        let text = serde_yaml::to_string(&top).unwrap_or_default();
        if needed.is_empty() {
            return Ok(text);
        }
        let needed = needed.join(" ");
        Ok(format!("# Use this with {needed}: a value that may be a secret is not written here.\n{text}"))
    }

    /// Returns the names of the given variables that secrets are made of: URLs with a password, and commands that fetch a secret.
    pub fn secret_variables(&self, inputs: &Inputs) -> BTreeSet<String> {
        let mut writer = self.writer(inputs, BTreeSet::new());
        // Problems of a step are reported where it is evaluated.
        drop(self.write(&mut writer, inputs));
        let origins = writer.kept.iter().flat_map(|kept| writer.origins.of(&kept.written));
        origins.filter_map(|origin| if let Origin::Given(name) = origin { Some(name) } else { None }).collect()
    }

    fn writer(&self, inputs: &Inputs, secret: BTreeSet<Origin>) -> Writer {
        Writer {
            evaluator: self.evaluator(inputs),
            masked: self.evaluator(&self.masked(inputs)).of_urls(),
            origins: self.origins(inputs),
            secret,
            left: Vec::new(),
            kept: Vec::new(),
        }
    }

    /// Writes the plan file. Also returns the names of the given variables whose values are not written.
    fn write(&self, writer: &mut Writer, inputs: &Inputs) -> Result<(Mapping, Vec<String>), Diagnostics> {
        let mut top = Mapping::new();
        top.insert("name".into(), self.name.as_str().into());
        let mut problems = Vec::new();
        let mut connections = Mapping::new();
        for (name, node) in &self.connections {
            match writer.connection(name, node) {
                Ok(connection) => drop(connections.insert(name.as_str().into(), connection)),
                Err(problem) => problems.push(problem),
            }
        }
        let mut steps = Vec::new();
        for written in &self.steps {
            match writer.step(written) {
                Ok(step) => steps.push(Yaml::Mapping(step)),
                Err(problem) => problems.push(problem),
            }
        }
        let mut withheld = Vec::new();
        if !writer.left.is_empty() && !self.vars.is_empty() {
            let in_urls = self.variables_in(&mut writer.kept);
            let mut vars = Mapping::new();
            for (name, node) in &self.vars {
                // A given value may be a secret too.
                let is_secret =
                    |given: &str| in_urls.contains(name) || is_telling(name) || !url_password(given).is_empty();
                let value = match inputs.vars.get(name) {
                    Some(given) if !is_secret(given) => literal(given).into(),
                    Some(_) => {
                        withheld.push(name.clone());
                        writer.as_written(node)
                    }
                    None => writer.as_written(node),
                };
                vars.insert(name.as_str().into(), value);
            }
            top.insert("vars".into(), Yaml::Mapping(vars));
        }
        problems.extend(writer.kept.iter().filter_map(Kept::in_clear));
        if !problems.is_empty() {
            return Err(self.problems(problems));
        }
        if !connections.is_empty() {
            top.insert("connections".into(), Yaml::Mapping(connections));
        }
        top.insert("steps".into(), Yaml::Sequence(steps));
        Ok((top, withheld))
    }

    /// Returns the inputs with all given values replaced.
    fn masked(&self, inputs: &Inputs) -> Inputs {
        let outside = |name: &String| (name.clone(), OUTSIDE.to_owned());
        Inputs {
            vars: inputs.vars.keys().map(outside).collect(),
            env: self.environment_names().iter().map(outside).collect(),
            client: inputs.client.clone(),
            host: inputs.host,
        }
    }

    /// Returns the variables that URLs with a password use. Adds their texts to those that are kept as written.
    fn variables_in(&self, kept: &mut Vec<Kept>) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        let mut next = 0;
        while let Some(Kept { written, password, .. }) = kept.get(next).cloned() {
            next += 1;
            for name in code::undeclared(&Environment::new(), &written).unwrap_or_default() {
                if let Some(node) = self.vars.get(&name)
                    && names.insert(name)
                {
                    let written = node.text().unwrap_or_default().to_owned();
                    kept.push(Kept {
                        span: node.span.clone(),
                        written,
                        password: password.clone(),
                        is_in_clear: false,
                    });
                }
            }
        }
        names
    }
}

/// A text that is kept as written, because its value contains a password.
#[derive(Clone)]
struct Kept {
    span: std::ops::Range<usize>,
    written: String,
    password: String,
    /// Whether a part of the password is written in the plan file.
    is_in_clear: bool,
}

impl Kept {
    fn in_clear(&self) -> Option<Diagnostic> {
        let is_in_clear = self.is_in_clear || (!self.password.is_empty() && self.written.contains(&self.password));
        is_in_clear.then(|| {
            Diagnostic::at(self.span.clone(), "a password is written here in clear")
                .help("move it into the environment: {{ env_var('NAME') }}; a connection takes password: { env: NAME }")
        })
    }
}

struct Writer {
    evaluator: Evaluator,
    /// Evaluates with all given values replaced.
    masked: Evaluator,
    origins: Origins,
    /// Values that are not evaluated anywhere, because a URL with a password or a command that fetches a secret uses them.
    secret: BTreeSet<Origin>,
    /// The templates that were kept as written. They may need the variables.
    left: Vec<String>,
    /// URLs with a password, and words of commands.
    kept: Vec<Kept>,
}

impl Writer {
    fn step(&mut self, written: &StepSource) -> Result<Mapping, Diagnostic> {
        let mut step = Mapping::new();
        step.insert("id".into(), written.id.as_str().into());
        for (key, node) in
            [("title", &written.title), ("why", &written.why), ("symptom", &written.symptom), ("when", &written.when)]
        {
            let text = self.evaluator.prose(node);
            if let Some(written) = node.text().filter(|_| !url_password(&text).is_empty()) {
                self.keep(node, url_password(&text));
                step.insert(key.into(), written.into());
            } else if let Some(written) = self.secret_template(node) {
                step.insert(key.into(), written);
            } else if !text.is_empty() {
                step.insert(key.into(), literal(&text).into());
            }
        }
        for (key, node) in [("run_as", &written.run_as), ("max_changes", &written.max_changes)] {
            let evaluated = self.evaluator.node(node)?;
            if !evaluated.is_null() {
                let value = match (self.secret_template(node), &evaluated.value, key) {
                    (Some(written), ..) => written,
                    (_, Value::Scalar(scalar), "max_changes") => plain(&scalar.text),
                    _ => self.value(node, &evaluated, &mut |_, _| true),
                };
                step.insert(key.into(), value);
            }
        }
        if !written.after.is_empty() {
            let after = written.after.iter().map(|(id, _)| Yaml::from(id.as_str()));
            step.insert("after".into(), Yaml::Sequence(after.collect()));
        }
        let body = self.body(written)?;
        let wanted = read(written.kind, &body);
        // A scalar can be written as a string or as a number. The form that means the same to the kind is used.
        let mut means_the_same = |place: &[usize], scalar: &Scalar| {
            wanted
                .as_ref()
                .is_none_or(|wanted| read(written.kind, &with_scalar(&body, place, scalar)).as_ref() == Some(wanted))
        };
        let mut printed = body.clone();
        self.keep_logins(&written.body, &mut printed);
        self.keep_commands(&written.body, &mut printed);
        let value = self.value(&written.body, &printed, &mut means_the_same);
        step.insert(written.kind.into(), value);
        Ok(step)
    }

    /// Evaluates the keys of a step's kind. Text that contains secrets, or may contain them, is kept as written.
    fn body(&self, written: &StepSource) -> Result<Node, Diagnostic> {
        let Value::Mapping(pairs) = &written.body.value else { return self.evaluator.node(&written.body) };
        let reference = sources::reference_of(written.kind);
        let secrets = sources::of(&written.body, reference).into_iter().map(|(name, _)| name.to_owned()).collect();
        let evaluate = |(key, value): &(Node, Node)| {
            let shape = key.text().and_then(|name| reference.key(name)).map(|key| key.shape);
            let value = match shape {
                Some(Shape::Document) => match self.evaluator.document(value, &secrets) {
                    Ok(text @ Node { value: Value::Scalar(_), .. }) => text,
                    _ => Node { span: value.span.clone(), value: Value::Unset(String::new()) },
                },
                _ if key.text() == Some("url") => self.evaluator.of_remotes().node(value)?,
                _ => self.evaluator.node(value)?,
            };
            Ok((key.clone(), value))
        };
        let pairs = pairs.iter().map(evaluate).collect::<Result<_, Diagnostic>>()?;
        Ok(Node { span: written.body.span.clone(), value: Value::Mapping(pairs) })
    }

    fn connection(&mut self, name: &str, node: &Node) -> Result<Yaml, Diagnostic> {
        let mut evaluated = self.evaluator.of_urls().node(node)?;
        let read = |node: &Node| de::from_node::<ConnectionSpec>(node).ok();
        let spec = read(&evaluated);
        let holds_password = spec.as_ref().is_some_and(|spec| spec.password_in_url().is_some());
        if holds_password
            && let Value::Mapping(pairs) = &mut evaluated.value
            && let Some((_, url)) = pairs.iter_mut().find(|(key, _)| key.text() == Some("url"))
        {
            let written = node.get("url").filter(|url| url.text().is_some_and(has_template));
            let Some(written) = written else {
                let message = format!("the url of connection `{name}` holds a password");
                return Err(Diagnostic::at(url.span.clone(), message)
                    .help("take it out of the url, and name its source: password: { env: NAME }"));
            };
            let secret = spec.as_ref().and_then(ConnectionSpec::password_in_url).map(|secret| secret.expose().to_vec());
            let secret = String::from_utf8_lossy(&secret.unwrap_or_default()).into_owned();
            url.value = Value::Unset(String::new());
            self.keep(written, secret);
        }
        let wanted = spec.map(|spec| spec.settings());
        let whole = evaluated.clone();
        self.keep_commands(node, &mut evaluated);
        let mut means_the_same = |place: &[usize], scalar: &Scalar| {
            let spec = read(&with_scalar(&whole, place, scalar));
            wanted.is_none() || holds_password || spec.map(|spec| spec.settings()) == wanted
        };
        Ok(self.value(node, &evaluated, &mut means_the_same))
    }

    /// Keeps a text as written.
    fn keep(&mut self, written: &Node, password: String) {
        let masked = self.masked.node(written).ok();
        let masked = masked.as_ref().and_then(Node::text).map(url_password).unwrap_or_default();
        let is_in_clear = !masked.replace(OUTSIDE, "").is_empty();
        let text = written.text().unwrap_or_default().to_owned();
        self.left.push(text.clone());
        self.kept.push(Kept { span: written.span.clone(), written: text, password, is_in_clear });
    }

    /// Returns the text as written if its template uses a value that is not evaluated anywhere.
    fn secret_template(&mut self, written: &Node) -> Option<Yaml> {
        let text = written.text().filter(|text| has_template(text) && overlap(&self.origins.of(text), &self.secret))?;
        self.left.push(text.to_owned());
        Some(text.into())
    }

    /// Keeps every URL with a password in the body of a step as written.
    fn keep_logins(&mut self, written: &Node, evaluated: &mut Node) {
        match (&written.value, &mut evaluated.value) {
            (Value::Mapping(before), Value::Mapping(pairs)) => {
                for ((_, value), (_, before)) in pairs.iter_mut().zip(before) {
                    self.keep_logins(before, value);
                }
            }
            (Value::Sequence(before), Value::Sequence(items)) => {
                for (item, before) in items.iter_mut().zip(before) {
                    self.keep_logins(before, item);
                }
            }
            (_, Value::Scalar(scalar)) if !url_password(&scalar.text).is_empty() => {
                let password = url_password(&scalar.text);
                self.keep(written, password);
                evaluated.value = Value::Unset(String::new());
            }
            (_, Value::Scalar(scalar)) if has_query(&scalar.text) && written.text().is_some_and(has_template) => {
                self.keep(written, String::new());
                evaluated.value = Value::Unset(String::new());
            }
            _ => {}
        }
    }

    /// Keeps the templates in the `command` of every secret source, because its arguments can be secrets.
    fn keep_commands(&mut self, written: &Node, evaluated: &mut Node) {
        let (Value::Mapping(before), Value::Mapping(pairs)) = (&written.value, &mut evaluated.value) else { return };
        for ((key, value), (_, before)) in pairs.iter_mut().zip(before) {
            match (key.text(), &mut value.value, &before.value) {
                (Some("command"), Value::Sequence(words), Value::Sequence(before)) => {
                    for (word, before) in words.iter_mut().zip(before) {
                        if before.text().is_some_and(has_template) {
                            self.keep(before, String::new());
                            word.value = Value::Unset(String::new());
                        }
                    }
                }
                _ => self.keep_commands(before, value),
            }
        }
    }

    /// Returns a value as written, including its templates, as YAML.
    fn as_written(&mut self, node: &Node) -> Yaml {
        match node.text() {
            Some(text) if has_template(text) => text.into(),
            text => {
                let password = url_password(text.unwrap_or_default());
                if !password.is_empty() {
                    self.keep(node, password);
                }
                self.value(node, node, &mut |_, _| true)
            }
        }
    }

    /// Returns a value as YAML. `means_the_same` returns whether the scalar at a place can be written in that style.
    fn value(
        &mut self,
        written: &Node,
        evaluated: &Node,
        means_the_same: &mut dyn FnMut(&[usize], &Scalar) -> bool,
    ) -> Yaml {
        self.at(written, evaluated, &mut Vec::new(), means_the_same)
    }

    fn at(
        &mut self,
        written: &Node,
        evaluated: &Node,
        place: &mut Vec<usize>,
        means_the_same: &mut dyn FnMut(&[usize], &Scalar) -> bool,
    ) -> Yaml {
        match (&written.value, &evaluated.value) {
            (Value::Mapping(before), Value::Mapping(pairs)) => {
                let mut mapping = Mapping::new();
                for (index, ((key, value), (_, before))) in pairs.iter().zip(before).enumerate() {
                    place.push(index);
                    mapping
                        .insert(key.text().unwrap_or_default().into(), self.at(before, value, place, means_the_same));
                    place.pop();
                }
                Yaml::Mapping(mapping)
            }
            (Value::Sequence(before), Value::Sequence(items)) => {
                let mut sequence = Vec::new();
                for (index, (item, before)) in items.iter().zip(before).enumerate() {
                    place.push(index);
                    sequence.push(self.at(before, item, place, means_the_same));
                    place.pop();
                }
                Yaml::Sequence(sequence)
            }
            (_, Value::Unset(_)) => {
                self.left.push(written.text().unwrap_or_default().to_owned());
                written.text().unwrap_or_default().into()
            }
            (_, Value::Scalar(scalar)) => match self.secret_template(written) {
                Some(written) => written,
                None => scalar_value(scalar, &mut |scalar| means_the_same(place, scalar)),
            },
            // A template evaluates to a scalar, never to a list or a mapping.
            _ => Yaml::Null,
        }
    }
}

fn scalar_value(scalar: &Scalar, means_the_same: &mut dyn FnMut(&Scalar) -> bool) -> Yaml {
    let Scalar { text, style } = scalar;
    // Jinja writes a boolean as `True`.
    let bare = if text == "True" || text == "False" { text.to_lowercase() } else { text.clone() };
    let mut fits = |text: &str, style| means_the_same(&Scalar { text: text.to_owned(), style });
    match style {
        Style::RenderedNone => Yaml::Null,
        Style::Plain => plain(text),
        Style::Quoted => literal(text).into(),
        Style::Native if fits(&bare, Style::Plain) => plain(&bare),
        Style::Native if fits(text, Style::Quoted) => literal(text).into(),
        Style::Native => expression(&bare),
        Style::Rendered if plain(text).is_string() || fits(text, Style::Quoted) => literal(text).into(),
        Style::Rendered if fits(text, Style::Plain) => plain(text),
        Style::Rendered => expression(&format!("'{text}'")),
    }
}

/// Returns a plain scalar according to YAML's core schema.
fn plain(text: &str) -> Yaml {
    match serde_yaml::from_str::<Yaml>(text) {
        Ok(value @ (Yaml::Null | Yaml::Bool(_) | Yaml::Number(_))) if written(&value) == text => value,
        Ok(Yaml::Null) => Yaml::Null,
        _ => literal(text).into(),
    }
}

fn written(value: &Yaml) -> String {
    serde_yaml::to_string(value).unwrap_or_default().trim_end().to_owned()
}

fn expression(text: &str) -> Yaml {
    format!("{{{{ {text} }}}}").into()
}

/// Returns the resource as JSON. `None` if it cannot be read, for example because an environment variable is not set.
fn read(kind: &'static str, body: &Node) -> Option<serde_json::Value> {
    let resource = de::with_seed(body, AnyResource::seed(kind)).ok()?.ok()?;
    serde_json::to_value(resource).ok()
}

/// Returns the same tree with another scalar at a place.
fn with_scalar(node: &Node, place: &[usize], scalar: &Scalar) -> Node {
    let mut node = node.clone();
    set_scalar(&mut node, place, scalar);
    node
}

fn set_scalar(node: &mut Node, place: &[usize], scalar: &Scalar) {
    match (&mut node.value, place.split_first()) {
        (Value::Mapping(pairs), Some((index, rest))) => set_scalar(&mut pairs[*index].1, rest, scalar),
        (Value::Sequence(items), Some((index, rest))) => set_scalar(&mut items[*index], rest, scalar),
        (Value::Scalar(there), None) => there.clone_from(scalar),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
