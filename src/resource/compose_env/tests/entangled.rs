//! Values that are shared, restricted to a service or referred to, and files that cannot be edited.

use crate::resource::compose_env::document;
use crate::resource::compose_env::edit::{self, EditError};
use crate::resource::compose_env::occurrences::{self, Reading};

fn set(source: &str, service: Option<&str>) -> Result<String, EditError> {
    edit::set(source, "PW", service, "new")
}

/// The occurrences as `place:line services reading`.
fn found(source: &str, service: Option<&str>) -> Vec<String> {
    let document = document::parse(source).unwrap();
    let show = |occurrence: &occurrences::Occurrence| {
        let services: Vec<&str> = occurrence.services.iter().map(String::as_str).collect();
        let reading = match occurrences::read(&document, occurrence, "PW") {
            Reading::Reference { name, .. } => format!("${name}"),
            Reading::Literal(text) => text,
            other => format!("{other:?}"),
        };
        format!("{}:{} [{}] {reading}", occurrence.place, occurrence.line, services.join(","))
    };
    occurrences::find(&document, "PW", service).occurrences.iter().map(show).collect()
}

const SHARED: &str = "\
x-env: &env
  PW: common
x-unused:
  deep:
    - environment: [PW=unused]
services:
  web:
    environment:
      <<: *env
  worker:
    environment:
      <<: [*env]
      PW: own
  list:
    environment: [PW=item, PW, PWX=1]
  none:
    build:
      args: {PW: build}
    labels: {environment: {PW: label}}
";

#[test]
fn every_environment_is_found_and_nothing_else() {
    assert_eq!(
        found(SHARED, None),
        [
            "x-env:2 [web] common",
            "x-unused:5 [] unused",
            "service worker:13 [worker] own",
            "service list:15 [list] item",
            "service list:15 [list] $PW",
        ]
    );
}

#[test]
fn a_service_narrows_to_what_wins_there() {
    assert_eq!(found(SHARED, Some("worker")), ["service worker:13 [worker] own"]);
    assert_eq!(found(SHARED, Some("web")), ["x-env:2 [web] common"]);
    assert_eq!(found(SHARED, Some("none")), Vec::<String>::new());
    let edited = set(SHARED, Some("worker")).unwrap();
    assert_eq!(edited, SHARED.replace("PW: own", "PW: new"));
    let edited = set(SHARED, Some("list")).unwrap();
    assert_eq!(edited, SHARED.replace("PW=item", "PW=new"));
}

#[test]
fn all_of_them_are_edited_at_once() {
    let expected =
        ["common", "unused", "own", "item"].iter().fold(SHARED.to_owned(), |text, old| text.replace(old, "new"));
    let expected = expected.replace("x-new", "x-unused").replace("&new", "&env");
    assert_eq!(set(SHARED, None).unwrap(), expected);
}

#[test]
fn a_service_that_shares_its_value_is_not_edited_alone() {
    let source = "x-env: &env {PW: old}\nservices:\n  a: {environment: *env}\n  b: {environment: *env}\n";
    let error = set(source, Some("a")).unwrap_err().to_string();
    assert_eq!(error, "line 1: service a shares its value with b");
    assert_eq!(set(source, None).unwrap(), source.replace("old", "new"));
}

#[test]
fn a_value_shared_by_thousands_is_edited_in_no_time() {
    let mut source = "x-pw: &pw old\nservices:\n".to_owned();
    for number in 0..4000 {
        source.push_str(&format!("  s{number}: {{environment: {{PW: *pw}}}}\n"));
    }
    let start = std::time::Instant::now();
    assert_eq!(set(&source, None).unwrap(), source.replace("old", "new"));
    assert!(start.elapsed().as_secs() < 30, "{:?}", start.elapsed());
}

#[test]
fn an_alias_is_replaced_where_its_definition_serves_others() {
    for (source, edited) in [
        // The holder has another user.
        (
            "x-pw: &pw old\nservices:\n  a: {environment: {PW: *pw, OTHER: *pw}}\n",
            "x-pw: &pw old\nservices:\n  a: {environment: {PW: \"new\", OTHER: *pw}}\n",
        ),
        // The definition is another variable.
        (
            "services:\n  a: {environment: {DB: &pw old, PW: *pw}}\n",
            "services:\n  a: {environment: {DB: &pw old, PW: \"new\"}}\n",
        ),
        // All of them are this variable.
        (
            "services:\n  a: {environment: {PW: &pw old}}\n  b: {environment: {PW: *pw}}\n",
            "services:\n  a: {environment: {PW: &pw new}}\n  b: {environment: {PW: *pw}}\n",
        ),
        // A list's item.
        (
            "x-i: &i PW=old\nservices:\n  a: {environment: [*i]}\n  b: {environment: [*i], labels: [*i]}\n",
            "x-i: &i PW=old\nservices:\n  a: {environment: [\"PW=new\"]}\n  b: {environment: [\"PW=new\"], labels: [*i]}\n",
        ),
    ] {
        assert_eq!(set(source, None).as_deref(), Ok(edited));
    }
    let narrowed = "services:\n  a: {environment: {PW: &pw old}}\n  b: {environment: {PW: *pw}}\n";
    assert_eq!(set(narrowed, Some("b")).unwrap(), narrowed.replace("*pw", "\"new\""));
}

#[test]
fn a_definition_that_others_use_is_refused() {
    let source = "services:\n  a:\n    environment:\n      PW: &pw old\n      DB: *pw\n";
    let error = set(source, None).unwrap_err().to_string();
    assert_eq!(error, "line 4: the value is also used for something else, in line 5");
}

#[test]
fn references_stay_as_they_are() {
    for value in ["$PW", "${PW}", "'${OTHER:-x}'", "\"${PW:?say}\"", "", "~", "null"] {
        let source = format!("services:\n  a:\n    environment:\n      PW: {value}\n      B: 1\n");
        assert_eq!(set(&source, None).unwrap(), source, "{value}");
        assert_eq!(found(&source, None).len(), 1);
    }
    let source = "services:\n  a:\n    environment:\n      - PW\n      - 'PW=${X}'\n";
    assert_eq!(set(source, None).unwrap(), source);
}

#[test]
fn what_has_another_meaning_is_no_text() {
    for value in ["!!binary b2xk", "[a]", "{a: b}", "!!int 5"] {
        let source = format!("services: {{a: {{environment: {{PW: {value}}}}}}}\n");
        assert!(matches!(set(&source, None), Err(EditError::Entangled { .. })), "{value}");
    }
    for (value, told) in
        [("!secret old", "has the tag !secret"), ("!!int 5", "has the tag !!int"), ("[a]", "is a list")]
    {
        let source = format!("services: {{a: {{environment: {{PW: {value}}}}}}}\n");
        let error = set(&source, None).unwrap_err().to_string();
        assert!(error.contains(&format!("the value {told}")), "{error}");
    }
}

#[test]
fn files_that_are_not_worked_on_are_refused_with_the_place() {
    for (source, told) in [
        ("a: 1\n---\nb: 2\n", "a second document, but only one is expected, at line 2, column 1"),
        ("a:\n  b: 1\n  b: 2\n", "a key that the same mapping has already in line 2 at line 3, column 3"),
        ("a: {b: 1, 'b': 2}\n", "a key that the same mapping has already in line 1 at line 1, column 11"),
        ("# é\na: b\u{2028}c\n", "a unicode line separator, which YAML readers do not agree about at line 2, column 5"),
        ("a: b\u{c}c\n", "a control character, which YAML does not allow at line 1, column 5"),
        ("a: b\r\nc: |\rd\n", "a carriage return without a newline, which is easily overlooked at line 2, column 5"),
        ("a: &x\n  b: *x\n", "an alias inside of its own anchor at line 2, column 6"),
        ("a: *x\n", "while parsing node, found unknown anchor at line 1, column 4"),
        ("a: [1, 2\nb: 3\n", ""),
        ("a:\n\t- b\n", ""),
    ] {
        let error = set(source, None).unwrap_err().to_string();
        assert!(if told.is_empty() { error.contains("at line") } else { error == told }, "{source:?}: {error}");
    }
    let deep = format!("{}{}", "[".repeat(150), "]".repeat(150));
    assert!(set(&deep, None).unwrap_err().to_string().contains("nesting of more than 100 levels"));
}

#[test]
fn a_file_without_services_has_no_place() {
    for source in ["", "# nothing\n", "[]", "a", "services:\n", "services: []\n", "services: {a: ~}\n", "x-a: *b\n"] {
        if let Ok(document) = document::parse(source) {
            assert!(occurrences::find(&document, "PW", None).occurrences.is_empty(), "{source}");
        }
    }
}

#[test]
fn styles_are_kept_where_they_hold_the_value() {
    let in_file = |value: &str| format!("services:\n  a:\n    environment:\n      PW: {value}\n      B: 1\n");
    for (old, password, new) in [
        ("old", "n3w", "n3w"),
        ("old", "n w", "\"n w\""),
        ("old\u{a0}  # c", "n3w", "n3w  # c"),
        ("old", "a$b", "a$$b"),
        ("'old'", "it's $1", "'it''s $$1'"),
        ("'old'", "a\nb", "\"a\\nb\""),
        ("\"old\"", "a\\\"b", "\"a\\\\\\\"b\""),
        ("|-  # c\n        old\n", "n w", "|-  # c\n        n w\n"),
        (">\n        old", "n w\n", ">\n        n w"),
        ("|  # c\n        old\n", "n w", "\"n w\"  # c\n"),
        ("|-\n        old \t", "n w", "\"n w\" \t"),
        ("|-\n        old\n          \n", "n w", "\"n w\"\n          \n"),
        ("|\n        old  # no comment \n", "n w\n", "\"n w\\n\" \n"),
        ("!<tag:yaml.org,2002:str> 12", "n3w", "!<tag:yaml.org,2002:str> n3w"),
        ("&a !!str  old", "0123", "&a !!str  \"0123\""),
    ] {
        assert_eq!(edit::set(&in_file(old), "PW", None, password), Ok(in_file(new)), "{old} {password}");
    }
}

#[test]
fn a_block_at_the_end_of_a_file_without_a_line_ending_has_none_either() {
    for (block, value) in [
        ("|\n        old", "old"),
        (">\n        old", "old"),
        ("|+\n        old", "old"),
        ("|\n        old\n", "old\n"),
    ] {
        let source = format!("services:\n  a:\n    environment:\n      PW: {block}");
        assert!(found(&source, None)[0].ends_with(&format!("[a] {value}")), "{:?}", found(&source, None));
        let read: serde_yaml::Value = serde_yaml::from_str(&source).unwrap();
        assert_eq!(read["services"]["a"]["environment"]["PW"], value);
        for new in ["new", "new\n", "new\n\n"] {
            let edited = edit::set(&source, "PW", None, new).unwrap();
            let read: serde_yaml::Value = serde_yaml::from_str(&edited).unwrap();
            assert_eq!(read["services"]["a"]["environment"]["PW"], new, "{edited}");
        }
    }
}

#[test]
fn an_edit_that_changes_anything_else_is_not_let_through() {
    let source = "a: &x old\nb: !!str 1\nc: *x\nd: [1]\n";
    let old = document::parse(source).unwrap();
    let target = old.nodes().iter().position(|node| node.span.end == "a: &x old".len()).unwrap();
    let targets = [(target, "new".to_owned())].into();
    assert_eq!(edit::prove(&old, &source.replace("old", "'new'"), &targets), Ok(()));
    for (from, to) in [
        ("old", "other"),
        ("old", "new, too"),
        ("&x old", "new"),
        ("&x old", "!!str &x new"),
        ("old\nb", "new\ne"),
        ("old\nb: !!str 1", "new\nb: 1"),
        ("old\nb: !!str 1", "new\nb: !!str '1'"),
        ("old\nb: !!str 1\nc: *x", "new\nb: !!str 1\nc: new"),
        ("old\nb: !!str 1\nc: *x\nd: [1]", "new\nb: !!str 1\nc: *x\nd: [1, 2]"),
        ("old\nb: !!str 1\nc: *x\nd: [1]", "new\nb: !!str 1\nc: *x\nd: {1: 1}"),
        ("old\n", "new\n---\n"),
        ("old\n", "'new\n"),
    ] {
        let edited = source.replace(from, to);
        assert!(edited != source && edit::prove(&old, &edited, &targets).is_err(), "{edited}");
    }
}
