//! A plan file with its templates evaluated, as YAML: what a run would go by, with secrets shown as their sources.
//!
//! The law: what is printed evaluates to the same steps. A template that wants an environment variable that is not set stays
//! as it is written, and so does a URL that holds a password.

use serde_yaml::{Mapping, Value as Yaml};

use super::literal::literal;
use super::node::{Node, Scalar, Style, Value};
use super::template::{Evaluator, has_template};
use super::{Diagnostic, Diagnostics, Inputs, PlanFile, StepSource, de, sources};
use crate::resource::AnyResource;
use crate::resource::reference::Shape;

impl PlanFile {
    /// The evaluated plan file.
    ///
    /// # Errors
    /// What is wrong with the plan file, or a URL in clear text holds a password.
    pub fn resolve(&self, inputs: &Inputs) -> Result<String, Diagnostics> {
        self.validate(inputs)?;
        let mut writer = Writer { evaluator: self.evaluator(inputs), keeps_templates: false };
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
        if !problems.is_empty() {
            return Err(self.problems(problems));
        }
        if writer.keeps_templates && !self.vars.is_empty() {
            let vars = self.vars.iter().map(|(name, node)| {
                let value = writer.variable(inputs.vars.get(name), node);
                (Yaml::from(name.as_str()), value)
            });
            top.insert("vars".into(), Yaml::Mapping(vars.collect()));
        }
        if !connections.is_empty() {
            top.insert("connections".into(), Yaml::Mapping(connections));
        }
        top.insert("steps".into(), Yaml::Sequence(steps));
        // Strings, numbers and booleans always have a form in YAML.
        Ok(serde_yaml::to_string(&top).unwrap_or_default())
    }
}

struct Writer {
    evaluator: Evaluator,
    /// Whether a template was left as it is: it may need the variables.
    keeps_templates: bool,
}

impl Writer {
    fn step(&mut self, written: &StepSource) -> Result<Mapping, Diagnostic> {
        let mut step = Mapping::new();
        step.insert("id".into(), written.id.as_str().into());
        for (key, node) in
            [("title", &written.title), ("why", &written.why), ("symptom", &written.symptom), ("when", &written.when)]
        {
            let text = self.evaluator.prose(node);
            if !text.is_empty() {
                step.insert(key.into(), literal(&text).into());
            }
        }
        for (key, node) in [("run_as", &written.run_as), ("max_changes", &written.max_changes)] {
            let evaluated = self.evaluator.node(node)?;
            if !evaluated.is_null() {
                let value = match (&evaluated.value, key) {
                    (Value::Scalar(scalar), "max_changes") => plain(&scalar.text),
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
        // A scalar may stand for a string or for a number: the form is taken that means the same to the kind.
        let mut means_the_same = |place: &[usize], scalar: &Scalar| {
            wanted
                .as_ref()
                .is_none_or(|wanted| read(written.kind, &with_scalar(&body, place, scalar)).as_ref() == Some(wanted))
        };
        let value = self.value(&written.body, &body, &mut means_the_same);
        step.insert(written.kind.into(), value);
        Ok(step)
    }

    /// The keys of a step's kind. Text that has secrets in it, or may have, stays as it is written.
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
                _ => self.evaluator.node(value)?,
            };
            Ok((key.clone(), value))
        };
        let pairs = pairs.iter().map(evaluate).collect::<Result<_, Diagnostic>>()?;
        Ok(Node { span: written.body.span.clone(), value: Value::Mapping(pairs) })
    }

    fn connection(&mut self, name: &str, node: &Node) -> Result<Yaml, Diagnostic> {
        let evaluated = self.evaluator.node(node)?;
        let spec: Option<crate::host::warehouse::ConnectionSpec> = de::from_node(&evaluated).ok();
        let holds_password = spec.as_ref().is_some_and(|spec| spec.password_in_url().is_some());
        let mut evaluated = evaluated;
        if holds_password
            && let Value::Mapping(pairs) = &mut evaluated.value
            && let Some((_, url)) = pairs.iter_mut().find(|(key, _)| key.text() == Some("url"))
        {
            let written = node.get("url").and_then(Node::text).filter(|text| has_template(text));
            if written.is_none() {
                let message = format!("the url of connection `{name}` holds a password");
                return Err(Diagnostic::at(url.span.clone(), message)
                    .help("take it out of the url, and name its source: password: { env: NAME }"));
            }
            // Stays as it is written.
            url.value = Value::Unset(String::new());
        }
        let wanted = spec.map(|spec| spec.settings());
        let whole = evaluated.clone();
        let mut means_the_same = |place: &[usize], scalar: &Scalar| {
            let spec =
                de::from_node::<crate::host::warehouse::ConnectionSpec>(&with_scalar(&whole, place, scalar)).ok();
            wanted.is_none() || holds_password || spec.map(|spec| spec.settings()) == wanted
        };
        Ok(self.value(node, &evaluated, &mut means_the_same))
    }

    fn variable(&mut self, given: Option<&String>, node: &Node) -> Yaml {
        if let Some(given) = given {
            return literal(given).into();
        }
        match self.evaluator.node(node) {
            Ok(evaluated) => self.value(node, &evaluated, &mut |_, _| true),
            Err(_) => node.text().unwrap_or_default().into(),
        }
    }

    /// The YAML of a value. `means_the_same` tells whether the scalar at a place may be written in that style.
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
                self.keeps_templates = true;
                written.text().unwrap_or_default().into()
            }
            (_, Value::Scalar(scalar)) => scalar_value(scalar, &mut |scalar| means_the_same(place, scalar)),
            // A template gives a scalar, never a list or a mapping.
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

/// A plain scalar by YAML's core schema.
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

/// The resource as JSON; `None` where it cannot be read, as where an environment variable is not set.
fn read(kind: &'static str, body: &Node) -> Option<serde_json::Value> {
    let resource = de::with_seed(body, AnyResource::seed(kind)).ok()?.ok()?;
    serde_json::to_value(resource).ok()
}

/// The same tree with another scalar at a place.
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
mod tests {
    use std::path::Path;

    use serde_json::{Value as Json, json};

    use super::*;
    use crate::plan_file::{Selection, Step};

    fn plan_files() -> Vec<(String, String)> {
        let top = Path::new(env!("CARGO_MANIFEST_DIR"));
        let files =
            ["fixtures/plans/valid", "plans"].iter().flat_map(|folder| std::fs::read_dir(top.join(folder)).unwrap());
        let files =
            files.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|it| it == "yaml"));
        files.map(|path| (path.display().to_string(), std::fs::read_to_string(&path).unwrap())).collect()
    }

    /// What evaluating comes to; a step that wants an unset variable is the failure that names it.
    fn meaning(name: &str, text: &str, inputs: &Inputs) -> Json {
        let plan = PlanFile::parse(name, text).unwrap();
        let evaluator = plan.evaluator(inputs);
        let steps: Vec<Json> = plan
            .steps
            .iter()
            .map(|written| match plan.step(written, &evaluator) {
                Ok(Step { id, prose, run_as, after, max_changes, resource, .. }) => json!({
                    "id": id, "prose": format!("{prose:?}"), "run_as": run_as, "after": after, "max_changes": max_changes,
                    "resource": resource,
                }),
                Err(problems) => json!([written.id, problems.iter().map(|problem| &problem.message).collect::<Vec<_>>()]),
            })
            .collect();
        let connections: Vec<Json> = plan
            .connections
            .iter()
            .map(|(name, node)| match plan.connection(node, &evaluator) {
                Ok(spec) => {
                    json!([name, spec.settings(), spec.password_in_url().map(|password| password.expose().to_vec())])
                }
                Err(problems) => json!([name, problems.iter().map(|problem| &problem.message).collect::<Vec<_>>()]),
            })
            .collect();
        json!([plan.name, connections, steps])
    }

    #[test]
    fn what_is_printed_evaluates_to_the_same_steps() {
        let files = plan_files();
        assert!(files.len() > 12, "{}", files.len());
        for (path, text) in files {
            let plan = PlanFile::parse(&path, &text).unwrap();
            let given = plan.environment_names().into_iter().map(|name| {
                let value =
                    if name.ends_with("URL") { "postgresql://etl:hunter2@db.example/warehouse" } else { "/srv/5" };
                (name, value.to_owned())
            });
            let with_values = Inputs { env: given.collect(), ..Inputs::default() };
            for inputs in [Inputs::default(), with_values] {
                let resolved = plan.resolve(&inputs).unwrap_or_else(|problems| panic!("{path}: {problems}"));
                assert!(!resolved.contains("hunter2"), "{path}:\n{resolved}");
                assert_eq!(meaning(&path, &resolved, &inputs), meaning(&path, &text, &inputs), "{path}:\n{resolved}");
                let again = PlanFile::parse(&path, &resolved).unwrap();
                assert_eq!(again.resolve(&inputs).unwrap(), resolved, "{path}");
                again.evaluate(&inputs, &Selection::default()).map(drop).unwrap_or_else(|problems| {
                    assert!(inputs.env.is_empty(), "{path}: {problems}\n{resolved}");
                });
            }
        }
    }

    fn resolved(text: &str, vars: &[(&str, &str)]) -> String {
        let vars = vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        PlanFile::parse("x.yaml", text).unwrap().resolve(&Inputs { vars, ..Inputs::default() }).unwrap()
    }

    #[test]
    fn templates_give_way_to_their_values() {
        let text = "
name: x
vars: { home: /srv, deep: \"{{ home }}/a\", wide: true, owner: \"50000\", none: null }
steps:
  - id: one
    title: In {{ home }}
    max_changes: \"{{ 2 + 3 }}\"
    directory: { path: \"{{ deep }}\", owner: \"{{ owner }}\", group: \"{{ none }}\", mode: \"0750\", recursive: \"{{ wide }}\" }
";
        assert_eq!(
            resolved(text, &[("home", "/opt")]),
            "name: x
steps:
- id: one
  title: In /opt
  max_changes: 5
  directory:
    path: /opt/a
    owner: '50000'
    group: null
    mode: '0750'
    recursive: true
"
        );
    }

    #[test]
    fn text_that_looks_like_a_template_stays_text() {
        let text = "name: x\nsteps:\n  - { id: one, directory: { path: \"{% raw %}/srv/{{ a }}{% endraw %}\" } }\n";
        let printed = resolved(text, &[]);
        let inputs = Inputs::default();
        assert_eq!(meaning("x.yaml", &printed, &inputs), meaning("x.yaml", text, &inputs));
        assert_eq!(meaning("x.yaml", &printed, &inputs)[2][0]["resource"]["directory"]["path"], "/srv/{{ a }}");
    }

    #[test]
    fn a_password_in_clear_is_not_printed() {
        let text = "name: x\nconnections: { w: { url: 'postgresql://u:hunter2@h/d' } }\nsteps:\n  - { id: one, directory: { path: /srv/a } }\n";
        let refused = PlanFile::parse("x.yaml", text).unwrap().resolve(&Inputs::default()).unwrap_err();
        let shown = refused.to_string();
        assert!(shown.contains("holds a password") && !shown.contains("hunter2"), "{shown}");
    }
}
