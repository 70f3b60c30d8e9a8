//! Validates `fixtures/plans/valid/*.yaml`, which have no problems, and `fixtures/plans/invalid/*.yaml`, whose output has to be
//! that of the `.txt` file beside each. To see the output of a new file, run
//! `cd fixtures/plans/invalid && provision validate CASE.yaml`.

use std::path::Path;

use super::project::{INVALID, VALID, plan_files};
use super::{Inputs, PlanFile};

/// Returns the problems of a plan file without a host, or `None` if there are none.
fn problems_of(path: &Path) -> Option<String> {
    let name = path.file_name().unwrap().to_str().unwrap();
    let text = std::fs::read_to_string(path).unwrap();
    let result = PlanFile::parse(name, &text).and_then(|plan| plan.validate(&Inputs::default()));
    result.err().map(|problems| problems.to_string())
}

#[test]
fn valid_plan_files_have_no_problems() {
    let cases = plan_files(VALID[0]);
    assert!(cases.len() >= 12, "{} cases", cases.len());
    for case in cases {
        assert_eq!(problems_of(&case), None, "{}", case.display());
    }
}

#[test]
fn each_invalid_plan_file_gets_its_message() {
    let cases = plan_files(INVALID);
    assert!(cases.len() >= 40, "{} cases", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        let found = anstream::adapter::strip_str(&problems_of(case).unwrap_or_default()).to_string();
        let expected = std::fs::read_to_string(case.with_extension("txt")).unwrap_or_default();
        if found.trim_end() != expected.trim_end() || found.is_empty() {
            wrong.push(format!("--- {}\nexpected:\n{expected}\nfound:\n{found}", case.display()));
        }
        assert!(!found.contains("the-secret-itself"), "{} shows a secret:\n{found}", case.display());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_line_break_in_a_wrong_value_is_not_taken_for_a_hint() {
    let text = "name: x\nsteps:\n  - { id: a, repository: { path: /srv/a, branch: \"a\\nb\" } }\n";
    let refused = PlanFile::parse("x.yaml", text).and_then(|plan| plan.validate(&Inputs::default())).unwrap_err();
    let messages: Vec<_> = refused.list.iter().map(|problem| (problem.message.as_str(), &problem.help)).collect();
    assert_eq!(messages, [("`a\nb` is not a valid branch name", &None)]);
}

#[test]
fn an_expression_with_thousands_of_operators_is_evaluated_or_refused() {
    // A stack overflow ends the process, and all tests with it.
    let branches = |count| format!("{{% if a is defined %}}a{}{{% endif %}}", "{% elif a is defined %}b".repeat(count));
    let sum = |count| format!("{{{{ 1{} }}}}", " + 1".repeat(count));
    let filters = |count| "{{ 1 ".to_owned() + &"| abs".repeat(count) + " }}";
    let problem_of = |expression: String| {
        let text = format!(
            "name: x\nvars: {{ a: 1 }}\nsteps:\n  - {{ id: a, file: {{ path: /srv/a, content: '{expression}' }} }}\n"
        );
        let checked = PlanFile::parse("x.yaml", &text).and_then(|plan| plan.validate(&Inputs::default()));
        checked.err().map(|problems| problems.list[0].message.clone())
    };
    for expression in [sum(400), filters(25_000), branches(6_000)] {
        assert_eq!(problem_of(expression), None);
    }
    let too_long = "the expressions of the template are longer than 128 KiB";
    for expression in [sum(100_000), filters(100_000), branches(40_000)] {
        assert_eq!(problem_of(expression).as_deref(), Some(too_long));
    }
    let too_many = "the expressions of the template have too many operators";
    let chain = |operator: &str, count| format!("{{{{ a{} }}}}", format!("{operator}a").repeat(count));
    let start = std::time::Instant::now();
    for expression in [
        sum(30_000),
        chain("~", 50_000),
        chain(" ~ \"1\" ~ ", 10_000),
        chain("**", 30_000),
        chain(" and ", 20_000),
        format!("{{{{ {}a }}}}", "not ".repeat(30_000)),
        format!("{{{{ {}a }}}}", "-".repeat(50_000)),
    ] {
        assert_eq!(problem_of(expression).as_deref(), Some(too_many));
    }
    let item = "{'name': 'site', 'root': root ~ '/site', 'port': base + 0, 'last': -1}, ";
    for expression in [
        chain("~", 700),
        chain(" and ", 400),
        "{{ a ~ a }} ".repeat(5_000),
        format!("{{% set sites = [{}] %}}", item.repeat(1_000)),
        format!("{{% set users = [{}] %}}", "dict(name='user', uid=1000, gid=1000), ".repeat(2_000)),
        format!("{{{{ f({}) }}}}", "a + 1, ".repeat(10_000)),
        chain(" ~ \"server-000.example.com:9092,\" ~ ", 300),
    ] {
        assert_ne!(problem_of(expression).as_deref(), Some(too_many));
    }
    assert!(start.elapsed() < std::time::Duration::from_secs(10), "{:?}", start.elapsed());
    // Text is not limited by it.
    assert_eq!(problem_of("x".repeat(200_000) + "{{ 1 }}"), None);
}

#[test]
fn a_typing_error_and_an_expression_that_is_too_large_have_their_place() {
    let problem_of = |lines: &[String]| {
        let content: String = lines.iter().map(|line| format!("        {line}\n")).collect();
        let head =
            "name: x\nvars: { base: /srv }\nsteps:\n  - id: a\n    file:\n      path: /srv/a\n      content: |\n";
        let text = format!("{head}{content}");
        let checked = PlanFile::parse("x.yaml", &text).and_then(|plan| plan.validate(&Inputs::default()));
        let problems = checked.err().unwrap();
        let problem = &problems.list[0];
        let span = problem.span.clone().unwrap();
        (problem.message.clone(), text[..span.start].matches('\n').count() - head.matches('\n').count())
    };
    let mut lines = vec!["url = https://host/a-b/{{ base }}/c-d".to_owned(); 2_000];
    lines[15] = "path = {{ base }/a-b".to_owned();
    let (message, line) = problem_of(&lines);
    assert!(message.contains("unexpected `}`") && line == 15, "{line}: {message}");
    lines[15] = "path".to_owned();
    lines[30] = format!("{{{{ base{} }}}}", " ~ base".repeat(5_000));
    let (message, line) = problem_of(&lines);
    assert_eq!((&*message, line), ("the expressions of the template have too many operators", 30));
}

#[test]
fn a_selection_without_steps_names_the_options_that_were_given() {
    let text =
        "name: x\nsteps:\n  - { id: a, directory: { path: /srv/a } }\n  - { id: b, directory: { path: /srv/b } }\n";
    let plan = PlanFile::parse("x.yaml", text).unwrap();
    let message_and_help = |only: &[&str], skip: &[&str]| {
        let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
        let selection = super::Selection { only: ids(only), skip: ids(skip) };
        let problem = plan.evaluate(&Inputs::default(), &selection).unwrap_err().list.remove(0);
        format!("{}; {}", problem.message, problem.help.unwrap())
    };
    assert!(!message_and_help(&[], &["a", "b"]).contains("--only"));
    assert!(message_and_help(&["a"], &["a"]).contains("--only"));
}

#[test]
fn the_url_of_a_connection_may_have_the_source_of_its_password() {
    let text = "name: x\nvars: { pw: \"{{ env_var('PW') }}\" }\nconnections:\n  dw: { url: \"postgresql://me:{{ pw }}@db.example/dw?sslmode=disable\" }\n  \
                by-source: { url: \"postgresql://me@db.example/dw?sslmode=disable\", password: { env: PW } }\nsteps:\n  \
                - { id: a, table: { connection: dw, ddl: \"CREATE TABLE s.t (a int)\" } }\n";
    let plan = PlanFile::parse("x.yaml", text).unwrap();
    for value in [None, Some("hunter2")] {
        let env = value.map(|value| ("PW".to_owned(), value.to_owned())).into_iter().collect();
        let inputs = Inputs { env, ..Inputs::default() };
        assert_eq!(plan.validate(&inputs), Ok(()));
        let resolved = plan.resolve(&inputs);
        assert!(!format!("{resolved:?}").contains("hunter2"), "{resolved:?}");
    }
}

/// This holds whether the variable is set or not.
#[test]
fn the_source_of_a_secret_is_never_shown_by_a_template() {
    let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/plans/invalid/secret-source-in-a-template.yaml");
    let plan = PlanFile::parse("x.yaml", &std::fs::read_to_string(case).unwrap()).unwrap();
    for value in [None, Some("hunter2")] {
        let env = value.map(|value| ("SMTP_PW".to_owned(), value.to_owned())).into_iter().collect();
        let inputs = Inputs { env, ..Inputs::default() };
        let problems = plan.validate(&inputs).unwrap_err();
        assert_eq!(problems.list.len(), 4, "{problems}");
        assert!(plan.evaluate(&inputs, &super::Selection::default()).is_err() && plan.resolve(&inputs).is_err());
        let described = format!("{:?} {problems}", plan.describe(&[], &inputs).unwrap());
        assert!(!described.contains("hunter2"), "{described}");
        let only = super::Selection { only: vec!["conf".into()], skip: Vec::new() };
        assert!(plan.evaluate(&inputs, &only).is_err(), "the other step is not selected");
    }
}

/// Returns the problems of a step whose path is `path`, beside a connection with this URL.
fn problems_beside(url: &str, path: &str, vars: &[(&str, &str)], env: &[(&str, &str)]) -> String {
    let text = format!(
        "name: x\nvars: {{ stage: prod, given: '', host: }}\nconnections: {{ w: {{ url: \"{url}\" }} }}\nsteps:\n  \
         - {{ id: t, table: {{ connection: w, ddl: CREATE TABLE a.b (c int) }} }}\n  \
         - {{ id: d, directory: {{ path: \"/x/{path}\" }} }}\n"
    );
    let owned = |pairs: &[(&str, &str)]| pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    let inputs = Inputs { vars: owned(vars), env: owned(env), ..Inputs::default() };
    let selection = super::Selection { only: vec!["d".into()], skip: Vec::new() };
    let evaluated = PlanFile::parse("x.yaml", &text).and_then(|plan| plan.evaluate(&inputs, &selection).map(drop));
    evaluated.err().map(|problems| problems.to_string()).unwrap_or_default()
}

#[test]
fn a_value_that_only_selects_a_password_may_be_shown() {
    let env = [("PW_DEV", "dev-canary1"), ("PW_PROD", "canary2"), ("STAGE", "DEV"), ("R", "E"), ("PW_DE_E", "canary3")];
    for (password, shown) in [
        ("{{ env_var('PW_' ~ (stage|upper)) }}", "{{ stage }}"),
        ("{{ env_var('PW_' ~ env_var('STAGE')) }}", "{{ env_var('STAGE') }}"),
        ("{{ env_var('PW_' ~ env_var('STAGE')[:2] ~ '_' ~ env_var('R')) }}", "{{ env_var('R') }}"),
        ("{% if stage == 'dev' %}{{ env_var('PW_DEV') }}{% else %}{{ env_var('PW_PROD') }}{% endif %}", "{{ stage }}"),
        ("{{ {'dev': env_var('PW_DEV')}[stage] }}", "{{ stage }}"),
    ] {
        for url in ["postgresql://etl:VALUE@{{ stage }}:1/{{ stage }}", "user={{ stage }} password='VALUE'"] {
            let url = url.replace("VALUE", password);
            let problems = problems_beside(&url, shown, &[("stage", "dev")], &env);
            assert_eq!(problems, "", "{url}");
        }
    }
}

#[test]
fn a_value_in_a_password_is_not_shown_whatever_a_template_does_with_it() {
    let env = [
        ("PW", "canary1"),
        ("LOGIN", "etl:canary1"),
        ("HALF", "etl:cana"),
        ("URL", "postgresql://etl:canary1@h/d"),
        ("WORDS", "user=etl sslpassword=a password=canary1"),
        ("STAGE", "PW"),
        ("SIGNS", "!!!!"),
    ];
    for (url, shown) in [
        ("postgresql://etl:{{ env_var('PW') | upper }}@h/d", "{{ env_var('PW') }}"),
        ("postgresql://etl:{{ env_var('PW')[3:] }}@h/d", "{{ env_var('PW') }}"),
        ("postgresql://etl:{{ env_var('PW') | reverse }}@h/d", "{{ env_var('PW') }}"),
        ("postgresql://etl:x{{ env_var('PW') if env_var('PW') == 'canary1' }}y@h/d", "{{ env_var('PW') }}"),
        ("postgresql://etl:{{ env_var(env_var('STAGE')) }}@h/d", "{{ env_var('PW') }}"),
        ("postgresql://{{ env_var('LOGIN') }}@h/d", "{{ env_var('LOGIN') }}"),
        ("postgresql://etl:{{ (env_var('LOGIN') | split(':') | list)[1] }}@h/d", "{{ env_var('LOGIN') }}"),
        ("postgresql://{{ env_var('HALF') }}ry1@h/d", "{{ env_var('HALF') }}"),
        ("{{ env_var('URL') }}", "{{ env_var('URL') }}"),
        ("{{ env_var('WORDS') }}", "{{ env_var('WORDS') }}"),
        ("postgresql://etl:{{ env_var('SIGNS') }}@h/d", "{{ env_var('SIGNS') }}"),
        ("postgresql://etl:{{ given }}@h/d", "{{ given }}"),
    ] {
        let problems = problems_beside(url, shown, &[("given", "canary1")], &env);
        assert!(problems.contains("part of a password in a URL") && !problems.contains("canary"), "{url} {problems}");
    }
}

#[test]
fn a_value_in_a_password_is_not_shown_if_the_rest_of_the_url_has_no_value() {
    for place in [
        "{{ env_var('DBHOST') }}:1",
        "h:{{ env_var('DBPORT') | int + 1 }}",
        "{{ env_var('DB_' ~ env_var('STAGE')) }}",
        "{{ host }}",
        "{{ host | upper }}",
        "{{ (env_var('HOSTS') | split(',') | list)[1] }}",
    ] {
        for url in [
            format!("postgresql://etl:{{{{ env_var('PW') }}}}@{place}/d"),
            format!(
                "postgresql://{{{{ env_var('DBUSER') }}}}:{{{{ env_var('PW') }}}}{{{{ env_var('SALT') }}}}@{place}/d"
            ),
            format!("host='{place}' password='{{{{ env_var('PW') }}}}'"),
        ] {
            let problems = problems_beside(&url, "{{ env_var('PW') }}", &[], &[("PW", "canary1")]);
            assert!(
                problems.contains("part of a password in a URL") && !problems.contains("canary"),
                "{url} {problems}"
            );
        }
    }
}

#[test]
fn a_password_in_a_template_of_a_url_is_not_shown_when_its_value_is_wrong() {
    let urls = [
        "postgresql://u:LITERALPW@{{ env_var('H') }}/d",
        "postgresql://u@{{ env_var('H') }}/d?password=LITERALPW",
        "postgresql://u:{{ env_var('PW', 'LITERALPW') }}@{{ env_var('H') }}/d",
        "{{ 'postgresql://u:LITERALPW@' }}{{ env_var('H') }}/d",
        "postgresql://u:LITERALPW@{{ host }}/d",
        "postgresql://u:LITERALPW@{{ env_var('H' ~ suffix) }}/d",
    ];
    let mut wrong = 0;
    for url in urls {
        let text = format!(
            "name: x\nvars: {{ host: \"{{{{ env_var('H') }}}}\", suffix: '' }}\nconnections:\n  w: {{ url: \"{url}\" }}\nsteps:\n  \
             - {{ id: t, table: {{ connection: w, ddl: \"CREATE TABLE s.t (a int)\" }} }}\n"
        );
        let plan = PlanFile::parse("x.yaml", &text).unwrap();
        for host in ["", "h:99999999", "[x", "h h"] {
            let env = std::collections::BTreeMap::from([("H".to_owned(), host.to_owned())]);
            let inputs = Inputs { env, ..Inputs::default() };
            let Err(problem) = &plan.evaluate(&inputs, &super::Selection::default()).unwrap().connections["w"] else {
                continue;
            };
            wrong += 1;
            let (message, help) = (&problem.message, problem.help.as_deref().unwrap());
            assert!(!message.contains("LITERALPW") && !help.contains("LITERALPW"), "{url} {host}: {message}; {help}");
            assert!(
                help.contains("environment variable H")
                    || help.contains("variables H, PW")
                    || help.contains("is a template"),
                "{url} {host}: {help}"
            );
            assert!(plan.validate(&inputs).is_ok(), "{url} {host}");
        }
    }
    assert!(wrong >= 12, "{wrong}");
}

#[test]
fn a_mistake_in_a_url_is_one_whatever_the_environment_is() {
    for (url, is_valid) in [
        ("postgresql://u@{{ env_var('H', 'h') }}/d?sslmode=foo", false),
        ("postgresql://{{ env_var('H', 'u') }}@{{ '[x' }}/d", false),
        ("postgresql://u@{{ env_var('H', 'h') }}/d", true),
        ("postgresql://u@{{ env_var('H') }}/d", true),
    ] {
        let text = format!(
            "name: x\nconnections:\n  w: {{ url: \"{url}\" }}\nsteps:\n  \
             - {{ id: t, table: {{ connection: w, ddl: \"CREATE TABLE s.t (a int)\" }} }}\n"
        );
        let plan = PlanFile::parse("x.yaml", &text).unwrap();
        for host in [None, Some("h"), Some("h:99999999"), Some("[x"), Some("")] {
            let env = host.map(|host| ("H".to_owned(), host.to_owned())).into_iter().collect();
            let inputs = Inputs { env, ..Inputs::default() };
            assert_eq!(plan.validate(&inputs).is_ok(), is_valid, "{url} {host:?}");
        }
    }
}
