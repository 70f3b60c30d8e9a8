//! Checks the editor with an independent YAML reader and an independent reading of Compose's `$`.

use proptest::prelude::*;
use serde_yaml::Value;

use crate::resource::compose_env::{document, edit, occurrences};

/// One way to write a value.
struct Template {
    name: &'static str,
    text: &'static str,
    /// The keys that lead to the value. A number is an item of a list.
    path: &'static [&'static str],
    /// The text before and after the value, which no edit may change.
    before: &'static str,
    after: &'static str,
}

const fn template(
    name: &'static str,
    path: &'static [&'static str],
    before: &'static str,
    text: &'static str,
    after: &'static str,
) -> Template {
    Template { name, text, path, before, after }
}

const PW: &[&str] = &["services", "web", "environment", "PW"];
const ITEM: &[&str] = &["services", "web", "environment", "1"];

/// Every way to write a value: the text before it, the value, the text after it.
const TEMPLATES: &[Template] = &[
    template("plain", PW, "services:\n  web:\n    environment:\n      A: 1\n      PW: ", "old", "\n      B: 2\n"),
    template("plain, at the end", PW, "services:\n  web:\n    environment:\n      PW: ", "old", ""),
    template(
        "plain, comment",
        PW,
        "services:\n  web:\n    environment:\n      PW:   ",
        "old",
        "   # old \n      B: x\n",
    ),
    template("plain, CRLF", PW, "services:\r\n  web:\r\n    environment:\r\n      PW: ", "old", "\r\n      B: x\r\n"),
    template(
        "plain, several lines",
        PW,
        "services:\n  web:\n    environment:\n      PW: ",
        "old\n        and\n\n        more",
        " # c\n      B: x\n",
    ),
    template("number", PW, "services:\n  web:\n    environment:\n      PW: ", "0123", "\n"),
    template("float", PW, "services:\n  web:\n    environment: {PW: ", "1e3", "}\n"),
    template(
        "unicode before",
        PW,
        "# \u{1f600} é\nservices:\n  web:\n    image: \"é\"\n    environment:\n      É: 日本\n      PW: ",
        "öld",
        " # ü\n",
    ),
    template("byte order mark", PW, "\u{feff}services:\n  web:\n    environment:\n      PW: ", "old", "\n"),
    template("single quotes", PW, "services:\n  web:\n    environment:\n      PW: ", "'o''ld'", " # 'c'\n"),
    template(
        "single quotes, several lines",
        PW,
        "services:\n  web:\n    environment:\n      PW: ",
        "'o\n\n        ld'",
        " # c\n      B: x\n",
    ),
    template("double quotes", PW, "services:\n  web:\n    environment:\n      PW: ", r#""o\"\\l\x64""#, " # \"c\"\n"),
    template(
        "double quotes, several lines",
        PW,
        "services:\n  web:\n    environment:\n      PW: ",
        "\"o\\\n        l\n        d\"",
        "\n      B: x\n",
    ),
    template("quoted key", PW, "services:\n  web:\n    environment:\n      'PW' : ", "old", "\n"),
    template("anchor", PW, "services:\n  web:\n    environment:\n      PW: &pw ", "old", " # c\n"),
    template("tag", PW, "services:\n  web:\n    environment:\n      PW: !!str ", "123", " # c\n"),
    template("tag alone", PW, "services:\n  web:\n    environment:\n      PW: !!str", "", "\n      B: x\n"),
    template(
        "tag and anchor, quoted",
        PW,
        "services:\n  web:\n    environment:\n      PW: !!str &a ",
        "'old'",
        " # c\n",
    ),
    template(
        "anchor and tag on the line before",
        PW,
        "services:\n  web:\n    environment:\n      PW: &a !!str # c\n        ",
        "old",
        "\n",
    ),
    template(
        "block, literal, stripped",
        PW,
        "services:\n  web:\n    environment:\n      PW: ",
        "|-\n        old",
        "\n      B: x\n",
    ),
    template(
        "block, literal, clipped",
        PW,
        "services:\n  web:\n    environment:\n      PW: ",
        "|\n        old\n        more",
        "\n\n      B: x\n",
    ),
    template(
        "block, literal, kept",
        PW,
        "services:\n  web:\n    environment:\n      PW: ",
        "|+\n        old\n",
        "\n      B: x\n",
    ),
    template(
        "block, folded",
        PW,
        "services:\n  web:\n    environment:\n      PW: ",
        ">-\n        old\n        and\n\n        more",
        "\n# c\n      B: x\n",
    ),
    template(
        "block, folded, blank first",
        PW,
        "services:\n  web:\n    environment:\n      PW: ",
        ">\n\n        old",
        "\n",
    ),
    template(
        "block, indented by number",
        PW,
        "services:\n  web:\n    environment:\n      PW: ",
        "|2-\n          old",
        "\n      B: x\n",
    ),
    template(
        "block, anchor",
        PW,
        "services:\n  web:\n    environment:\n      PW: &a ",
        "|-\n        old",
        "\n      B: x\n",
    ),
    template(
        "block, CRLF",
        PW,
        "services:\r\n  web:\r\n    environment:\r\n      PW: ",
        "|-\r\n        old",
        "\r\n      B: x\r\n",
    ),
    template("block, the end", PW, "services:\n  web:\n    environment:\n      PW: ", "|-\n        old", ""),
    template("flow mapping", PW, "services: {web: {environment: {A: 1, PW: ", "old", ", B: 2}}}\n"),
    template("flow mapping, last", PW, "services: {web: {environment: {A: 1, PW: ", "old", "}}}\n"),
    template("flow mapping, as JSON", PW, r#"{"services":{"web":{"environment":{"PW":"#, r#""old""#, "}}}}"),
    template("list", ITEM, "services:\n  web:\n    environment:\n      - A=1\n      - ", "PW=old", "\n      - B=2\n"),
    template(
        "list, indentless",
        ITEM,
        "services:\n  web:\n    environment:\n    - A=1\n    - ",
        "PW=old",
        " # c\n    image: x\n",
    ),
    template("list, nothing", ITEM, "services:\n  web:\n    environment:\n      - A=1\n      - ", "PW=", "\n"),
    template(
        "list, single quotes",
        ITEM,
        "services:\n  web:\n    environment:\n      - A=1\n      - ",
        "'PW=o''ld'",
        "\n",
    ),
    template(
        "list, double quotes",
        ITEM,
        "services:\n  web:\n    environment:\n      - A=1\n      - ",
        "\"PW=old\"",
        " # c\n",
    ),
    template(
        "list, block",
        ITEM,
        "services:\n  web:\n    environment:\n      - A=1\n      - ",
        ">-\n        PW=old",
        "\n      - B=2\n",
    ),
    template("flow list", ITEM, "services: {web: {environment: [A=1, ", "PW=old", "]}}\n"),
    template("flow list, quoted", ITEM, "services: {web: {environment: [\"A=1\", ", "\"PW=old\"", ", 'B=2' ]}}\n"),
    template(
        "x- block, merged",
        &["x-env", "PW"],
        "x-env: &env\n  PW: ",
        "old",
        "\nservices:\n  web:\n    environment:\n      <<: *env\n      A: 1\n",
    ),
    template(
        "x- block, whole services",
        &["x-common", "environment", "PW"],
        "x-common: &common\n  environment: &env\n    PW: ",
        "old",
        "\nservices:\n  web:\n    <<: *common\n  worker:\n    <<: *common\n    environment:\n      <<: [*env]\n",
    ),
    template(
        "alias of a holder",
        &["x-pw"],
        "x-pw: &pw ",
        "old",
        "\nservices:\n  web:\n    environment: {PW: *pw }\n  worker:\n    environment:\n      PW: *pw\n",
    ),
    template(
        "alias of another variable",
        PW,
        "services:\n  web:\n    environment:\n      OTHER: &pw old\n      PW: ",
        "*pw",
        " # c\n",
    ),
    template("mixed", PW, "services:\n  web:\n    environment:\n      PW: ", "pa$word", "\n"),
];

/// Compose's substitution without variables: `$$` is `$`, and any other `$` fails the test.
fn interpolated(text: &str) -> String {
    let mut value = String::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        value.push(letter);
        if letter == '$' {
            assert_eq!(letters.next(), Some('$'), "a variable in {text:?}");
        }
    }
    value
}

fn at<'a>(root: &'a Value, path: &[&str]) -> &'a Value {
    path.iter().fold(root, |value, key| match value {
        Value::Sequence(items) => &items[key.parse::<usize>().unwrap()],
        _ => value.get(*key).unwrap_or_else(|| panic!("no {key} in {value:?}")),
    })
}

fn check(template: &Template, password: &str) {
    let Template { name, text, path, before, after } = template;
    let source = format!("{before}{text}{after}");
    let edited = edit::set(&source, "PW", None, password).unwrap_or_else(|error| panic!("{name}: {error}\n{source}"));
    let unproven = format!("{name}: {password:?}\n{source}\n->\n{edited}");
    assert!(edited.starts_with(before), "{unproven}");
    assert!(edited.ends_with(after), "{unproven}");
    // The library does not read a byte order mark.
    let value: Value = serde_yaml::from_str(edited.trim_start_matches('\u{feff}')).expect(&unproven);
    let Value::String(found) = at(&value, path) else { panic!("no text: {unproven}") };
    let found = interpolated(found);
    let found = if path == &ITEM { found.strip_prefix("PW=").expect(&unproven) } else { &found };
    assert_eq!(found, password, "{unproven}");
    // A second edit changes nothing, and `diff` reads the new value.
    assert_eq!(edit::set(&edited, "PW", None, password).unwrap(), edited, "{unproven}");
    let document = document::parse(&edited).unwrap();
    for occurrence in occurrences::find(&document, "PW", None).occurrences {
        let reading = occurrences::read(&document, &occurrence, "PW");
        assert_eq!(reading, occurrences::Reading::Literal(password.to_owned()), "{unproven}");
    }
}

/// Passwords: any text without NUL, with a preference for characters that mean something to YAML or Compose.
pub fn password() -> impl Strategy<Value = String> {
    let letter = prop_oneof![
        4 => proptest::char::range('!', '~'),
        3 => proptest::sample::select("$${}\"'\\#:%&*!|>-?,[]@` =~".chars().collect::<Vec<_>>()),
        1 => proptest::sample::select("\n\r\t\u{1}\u{7f}\u{85}\u{a0}\u{2028}\u{feff}\u{fffe}\u{1f600}".chars().collect::<Vec<_>>()),
        1 => any::<char>().prop_filter("NUL is refused", |c| *c != '\0'),
    ];
    proptest::collection::vec(letter, 0..24).prop_map(String::from_iter)
}

pub const TELLING: &[&str] = &[
    "",
    " ",
    "a",
    "new",
    "0123",
    "007",
    "1e3",
    "0x1f",
    "0o7",
    "123",
    "-1",
    "+1",
    "1_000",
    "12:30",
    "true",
    "True",
    "yes",
    "NO",
    "null",
    "~",
    ".inf",
    "2026-01-01",
    "=",
    "<<",
    "a b",
    " a",
    "a ",
    "a: b",
    "a #b",
    "#a",
    "a:",
    "- a",
    "? a",
    "*a",
    "&a",
    "!a",
    "%a",
    "@a",
    "`a",
    "|",
    ">",
    "{a}",
    "[a]",
    "a,b",
    "'",
    "\"",
    "it's",
    "\"q\"",
    "\\",
    "a\\",
    "\\n",
    "$",
    "$$",
    "$a",
    "${a}",
    "${a:-b}",
    "a$",
    "$$$a",
    "\n",
    "a\n",
    "a\n\n",
    "\na",
    "a\nb",
    "\t",
    "\ta",
    "a\t",
    "\r\n",
    "---",
    "...",
    "--- a",
    "a\u{85}b",
    "a\u{2028}b",
    "\u{feff}",
    "\u{feff}a",
    "é",
    "日本",
    "\u{1f600}",
    "\u{e000}",
    "\u{10ffff}",
    "\u{fffe}",
    "\u{7f}",
    "\u{1b}[31m",
    "\u{202e}x",
    "PW=x",
    "old",
    "export",
    "9hunter",
];

#[test]
fn every_style_takes_the_telling_passwords() {
    for template in TEMPLATES {
        for password in TELLING {
            check(template, password);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_style_takes_any_password(password in password()) {
        for template in TEMPLATES {
            check(template, &password);
        }
    }
}
