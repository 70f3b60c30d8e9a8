use serde_json::{Value as Json, json};

use super::*;
use crate::plan_file::{Selection, Step, project};

/// Returns the valid plan files of the project with their texts.
fn plan_files() -> Vec<(String, String)> {
    let files = project::VALID.map(project::plan_files).concat();
    files.into_iter().map(|path| (path.display().to_string(), std::fs::read_to_string(&path).unwrap())).collect()
}

/// Returns the evaluated plan file. A step with an unset variable is replaced by its failure, which names the variable.
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
            let value = if name.ends_with("URL") { "postgresql://etl:hunter2@db.example/warehouse" } else { "/srv/5" };
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
fn commands_that_fetch_secrets_keep_their_templates() {
    let text = "
name: x
vars: { place: prod, token: \"{{ env_var('TOKEN') }}\" }
connections:
  w:
    url: postgresql://etl@db.example/warehouse
    password: { command: [vault, read, \"{{ place }}\", \"-token={{ token }}\"] }
steps:
  - id: pw
    compose_env:
      file: /srv/app/compose.yaml
      variable: PW
      value: { command: [curl, -H, \"Authorization: Bearer {{ env_var('TOKEN') }}\", https://vault.example/pw] }
  - id: t
    table: { connection: w, ddl: CREATE TABLE a.b (c int) }
";
    let inputs = Inputs { env: [("TOKEN".to_owned(), "canary".to_owned())].into(), ..Inputs::default() };
    let resolved = PlanFile::parse("x.yaml", text).unwrap().resolve(&inputs).unwrap();
    assert!(!resolved.contains("canary") && resolved.contains("Bearer {{ env_var(''TOKEN'') }}"), "{resolved}");
    assert_eq!(meaning("x.yaml", &resolved, &inputs), meaning("x.yaml", text, &inputs), "{resolved}");
}

#[test]
fn templates_are_replaced_by_their_values() {
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

fn with_secrets(text: &str) -> Result<String, Diagnostics> {
    let env = ["PW", "URL", "TOKEN"].map(|name| {
        let value = if name == "URL" { "postgresql://etl:hunter2@db.example/dw" } else { "hunter2" };
        (name.to_owned(), value.to_owned())
    });
    let vars = text.contains("given:").then(|| ("given".to_owned(), "hunter2".to_owned()));
    let inputs = Inputs { env: env.into(), vars: vars.into_iter().collect(), ..Inputs::default() };
    let plan = PlanFile::parse("x.yaml", text).unwrap();
    let printed = plan.resolve(&inputs)?;
    assert_eq!(meaning("x.yaml", &printed, &inputs), meaning("x.yaml", text, &inputs), "{text}\n{printed}");
    Ok(printed)
}

const STEPS: &str = "\nsteps:\n  - { id: one, directory: { path: /srv/a } }\n";

#[test]
fn passwords_from_outside_stay_templates() {
    for head in [
        "vars: { url: \"{{ env_var('URL') }}\" }\nconnections: { w: { url: '{{ url }}' } }",
        "vars: { pw: \"{{ env_var('PW') }}\", host: h }\nconnections: { w: { url: 'postgresql://u:{{ pw }}@{{ host }}/d' } }",
        "vars: { pw: \"{{ env_var('PW') }}\", more: '{{ pw }}' }\nconnections: { w: { url: 'postgresql://u@h/d?password={{ more }}' } }",
        "vars: { given: '' }\nconnections: { w: { url: 'postgresql://u:{{ given }}@h:{{ 5000 + 439 }}/d' } }",
        "vars: { unused_password: \"{{ env_var('PW') }}\" }\nconnections: { w: { url: \"{{ env_var('NONE') }}\" } }",
    ] {
        let printed =
            with_secrets(&format!("name: x\n{head}{STEPS}")).unwrap_or_else(|wrong| panic!("{head}: {wrong}"));
        assert!(!printed.contains("hunter2"), "{printed}");
    }
    for url in [
        "https://git.example/x.git?private_token={{ env_var('TOKEN') }}",
        "https://git.example/x.git?t={{ env_var('TOKEN') }}",
        "https://git.example/x.git#{{ env_var('TOKEN') }}",
        "me:{{ env_var('TOKEN') }}@git.example:x.git",
    ] {
        let text = format!(
            "name: x\nsteps:\n  - {{ id: one, file: {{ path: /srv/a, content: \"{url}\" }} }}\n  - {{ id: two, repository: {{ path: /srv/b, url: \"{url}\", branch: main }} }}\n"
        );
        // The kind may refuse a URL with a query before anything is printed.
        let printed = with_secrets(&text).unwrap_or_else(|refused| refused.to_string());
        assert!(!printed.contains("hunter2"), "{printed}");
    }
    let remote = "name: x\nvars: { at: 'https://me:{{ env_var(\"TOKEN\") }}@h' }\nsteps:\n  - id: one\n    title: From {{ at }}/x\n    repository: { path: /srv/a, url: '{{ at }}/x', branch: main }\n";
    let printed = with_secrets(remote).unwrap_or_else(|wrong| panic!("{wrong}"));
    assert!(!printed.contains("hunter2"), "{printed}");
}

#[test]
fn what_a_secret_is_made_of_is_evaluated_nowhere() {
    for (vars, secret) in [
        ("{ pw: \"{{ env_var('PW') }}\", host: h.example }", "pw"),
        ("{ raw: \"{{ env_var('PW') }}\", pw: '{{ raw }}', host: h.example }", "raw"),
        ("{ pw: \"{{ env_var('PW') }}\", host: h.example }", "env_var('PW')"),
        ("{ pw: \"{{ env_var('PW') }}\", host: h.example }", "env_var('P' ~ 'W')"),
        ("{ pw: \"{{ env_var('P' ~ 'W') }}\", host: h.example }", "env_var('PW')"),
        ("{ given: '', pw: '{{ given }}', host: h.example }", "given"),
    ] {
        let text = |w: &str, file: &str| {
            format!(
            "name: x
vars: {vars}
connections:
  w: {{ {w} }}
  other: {{ url: \"postgresql://u@{{{{ host }}}}/d?options=-c%20a.b%3D{{{{ {secret} }}}}&application_name={{{{ {secret} }}}}\" }}
steps:
  - id: one
    title: \"Connects to {{{{ host }}}}\"
    why: \"with {{{{ {secret} }}}}\"
    symptom: \"{{{{ {secret} | upper | lower }}}}\"
    file: {{ {file} }}
  - {{ id: two, table: {{ connection: w, ddl: CREATE TABLE a.b (c int) }} }}
  - {{ id: three, table: {{ connection: other, ddl: CREATE TABLE a.c (c int) }} }}
"
        )
        };
        let url = "url: 'postgresql://u:{{ pw }}@{{ host }}/d'";
        let command = "url: 'postgresql://u@{{ host }}/d', password: { command: [vault, -token, '{{ pw }}'] }";
        let plain = "path: /srv/a, content: b";
        let made_of_it = format!("path: \"/srv/{{{{ {secret} }}}}\", content: \"a {{{{ {secret} }}}} b\"");
        for (w, file) in [(url, plain), (command, plain), (command, &made_of_it)] {
            let text = text(w, file);
            let printed = with_secrets(&text).unwrap_or_else(|wrong| panic!("{text}\n{wrong}"));
            assert!(!printed.contains("hunter2"), "{printed}");
            assert!(printed.contains("title: Connects to h.example"), "{printed}");
        }
        // A plan would show a part of the password.
        let wrong = with_secrets(&text(url, &made_of_it)).unwrap_err().to_string();
        assert!(wrong.contains("is part of a password in a URL") && !wrong.contains("hunter2"), "{wrong}");
    }
}

#[test]
fn a_secret_that_was_given_is_named_at_the_top() {
    let url = "connections: { w: { url: 'postgresql://u:{{ given }}@h/d' } }";
    let printed = with_secrets(&format!("name: x\nvars: {{ given: '' }}\n{url}{STEPS}")).unwrap();
    assert!(printed.starts_with("# Use this with --var given=VALUE: "), "{printed}");
    // A variable that nothing uses is not needed.
    let printed = with_secrets(&format!("name: x\nvars: {{ given: '' }}{STEPS}")).unwrap();
    assert!(printed.starts_with("name: x"), "{printed}");
}

#[test]
fn passwords_in_the_plan_file_are_refused() {
    for head in [
        "vars: { at: 'https://h/x?access_token=hunter2' }\nconnections: { w: { url: \"{{ env_var('NONE') }}\" } }",
        "connections: { w: { url: \"postgresql://u:hunter2@{{ env_var('PW') }}/d\" } }",
        "vars: { pw: hunter2 }\nconnections: { w: { url: 'postgresql://u:{{ pw }}@h/d' } }",
        "vars: { url: 'postgresql://u:hunter2@h/d' }\nconnections: { w: { url: '{{ url }}' } }",
        "vars: { n: 2 }\nconnections: { w: { url: 'postgresql://u:hunter{{ n }}@h/d' } }",
        "connections: { w: { url: \"postgresql://u:{{ 'hun' ~ 'ter2' }}@h/d\" } }",
        "connections: { w: { url: \"postgresql://u:{{ env_var('OTHER', 'hunter2') }}@h/d\" } }",
    ] {
        let refused = with_secrets(&format!("name: x\n{head}{STEPS}"))
            .map_or_else(|wrong| wrong.to_string(), |printed| panic!("{head}:\n{printed}"));
        assert!(refused.contains("password"), "{refused}");
    }
}

#[test]
fn a_password_in_clear_is_not_printed() {
    let text = "name: x\nconnections: { w: { url: 'postgresql://u:hunter2@h/d' } }\nsteps:\n  - { id: one, directory: { path: /srv/a } }\n";
    let refused = PlanFile::parse("x.yaml", text).unwrap().resolve(&Inputs::default()).unwrap_err();
    let shown = refused.to_string();
    assert!(shown.contains("holds a password") && !shown.contains("hunter2"), "{shown}");
}
