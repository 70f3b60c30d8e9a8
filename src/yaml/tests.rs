use proptest::prelude::*;

use super::*;
use crate::text::Position;

const LIMITS: Limits = Limits { depth: 8, nodes: 100 };

fn read(text: &str) -> Document {
    Document::parse(text, LIMITS).unwrap_or_else(|broken| panic!("{text:?}: {}", broken.error))
}

/// Every node as `line:column bytes`, in the order of the text.
fn places(text: &str) -> Vec<String> {
    let document = read(text);
    let show = |node: &Node| format!("{}:{} {}", node.position.line, node.position.column, &text[node.span.clone()]);
    document.nodes().iter().map(show).collect()
}

#[test]
fn every_node_knows_its_bytes_and_its_position() {
    assert_eq!(
        places("\u{e9}: 'b c'  # d\ne: [1,  \"2\" ]\n"),
        [
            "1:1 \u{e9}: 'b c'  # d\ne: [1,  \"2\" ]",
            "1:1 \u{e9}",
            "1:4 'b c'",
            "2:1 e",
            "2:4 [1,  \"2\" ]",
            "2:5 1",
            "2:9 \"2\""
        ]
    );
    assert_eq!(places("- &a !!str x \n- *a\n")[1..], ["1:3 &a !!str x", "2:3 *a"]);
    assert_eq!(places("[&a 'it''s' , ! \"\\\"\" # c\n]")[1..], ["1:2 &a 'it''s'", "1:15 ! \"\\\"\""]);
    assert_eq!(places("a: |\n\n  b\n    c \n\nd: >-\n  e\n")[2..], ["3:3 b\n    c", "6:1 d", "7:3 e"]);
}

#[test]
fn scalars_keep_their_style_and_tags_and_aliases_stay() {
    let text = "a: x\nb: 'x'\nc: \"x\"\nd: |\n  x\ne: >\n  x\nf: &y !t x\ng: *y\n";
    let document = read(text);
    let value = |key: &str| document.node(document.get(0, key).unwrap());
    let styles = [Style::Plain, Style::SingleQuoted, Style::DoubleQuoted, Style::Literal, Style::Folded];
    for (key, style) in ["a", "b", "c", "d", "e"].into_iter().zip(styles) {
        let Content::Scalar { text, style: found } = &value(key).content else { panic!("{key}") };
        assert_eq!((text.trim_end(), *found), ("x", style), "{key}");
    }
    assert_eq!((value("f").tag.as_deref(), value("f").anchored), (Some("!t"), true));
    let alias = document.get(0, "g").unwrap();
    assert_eq!(document.node(alias).content, Content::Alias(document.get(0, "f").unwrap()));
    assert_eq!(document.text(alias), Some("x"));
}

#[test]
fn a_duplicate_key_is_known_with_both_places() {
    let document = read("a: { b: 1, c: 2, 'b': 3, c: 4, b: 5 }\n");
    let column = |id: NodeId| document.node(id).position.column;
    let places: Vec<_> =
        document.duplicates().iter().map(|found| (column(found.first), column(found.second))).collect();
    assert_eq!(places, [(6, 18), (12, 26), (6, 32)]);
}

#[test]
fn limits_count_what_aliases_stand_for() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let bomb = "- &a [x, x, x, x]\n- &b [*a, *a, *a, *a]\n- &c [*b, *b, *b, *b]\n";
    for (text, error) in [
        (nested(9), ""),
        (nested(10), "nesting of more than 8 levels at line 1, column 10"),
        (format!("- &a {}\n- [[*a]]\n", nested(7)), "nesting of more than 8 levels at line 2, column 5"),
        (format!("- &a {}\n- [*a]\n", nested(7)), ""),
        (bomb.to_owned(), "more than 100 values, aliases expanded, at line 3, column 19"),
        (format!("[{}]", "x,".repeat(99)), ""),
        (format!("[{}]", "x,".repeat(100)), "more than 100 values, aliases expanded, at line 1, column 200"),
        ("a: &x [*x]".to_owned(), "an alias inside of its own anchor at line 1, column 8"),
        ("a\n---\nb".to_owned(), "a second document, but only one is expected, at line 2, column 1"),
        ("a: b: c".to_owned(), "mapping values are not allowed in this context at line 1, column 5"),
    ] {
        let found = Document::parse(&text, LIMITS).map_err(|broken| broken.error.to_string()).err().unwrap_or_default();
        assert_eq!(found, error, "{text}");
    }
}

#[test]
fn what_was_read_before_an_error_is_kept() {
    let broken = Document::parse("a: 1\nb:\n  c: 2\n  d: [3, 4\ne: 5\n", LIMITS).unwrap_err();
    let read = &broken.read;
    let b = read.get(0, "b").unwrap();
    assert_eq!(read.get(b, "c").and_then(|value| read.text(value)), Some("2"));
    let Content::Sequence(items) = &read.node(read.get(b, "d").unwrap()).content else { panic!("{read:?}") };
    assert_eq!(items.iter().filter_map(|item| read.text(*item)).collect::<Vec<_>>(), ["3"]);
}

#[test]
fn a_block_at_the_end_of_a_text_without_a_line_ending_has_none_either() {
    for (text, value) in
        [("a: |\n  b", "b"), ("a: |\n  b\n", "b\n"), ("a: >\n  b\n  c", "b c"), ("a: |+\n  b\n\n", "b\n\n")]
    {
        let document = read(text);
        assert_eq!(document.text(document.get(0, "a").unwrap()), Some(value), "{text:?}");
        let other: serde_yaml::Value = serde_yaml::from_str(text).unwrap();
        assert_eq!(other["a"], value, "{text:?}");
    }
}

#[test]
fn a_place_in_a_value_is_found_in_the_source() {
    for (source, line, column, word) in [
        ("a: |\n  one two\n  three  four\n", 2, 8, Some("four")),
        ("a: |\n  one two\n  three  four\n", 1, 1, Some("one")),
        ("a: |  # c\n\n  one\n\n    \u{e9} two\n", 4, 5, Some("two")),
        ("a: |\r\n  one\r\n  two\r\n", 2, 1, Some("two")),
        ("a: |2\n   one\n", 1, 2, Some("one")),
        ("a: |-\n  'one' two\n", 1, 7, Some("two")),
        ("a: one two", 1, 5, Some("two")),
        ("a: 'one two' # c", 1, 5, Some("two")),
        ("a: \"one two\"", 1, 8, Some("")),
        ("a: 'it''s two'", 1, 6, None),
        ("a: \"o\\ne two\"", 2, 3, None),
        ("a: one\n  two three\n", 1, 9, None),
        ("a: >\n  one\n  two three\n", 1, 9, None),
        ("a: |\n  one\n", 7, 1, None),
        ("a: |\n  one\n", 1, 9, None),
        ("a: |\n  one\n", 0, 0, None),
    ] {
        let document = read(source);
        let id = document.get(0, "a").unwrap();
        let position = Position { line, column };
        let found = locate(source, &document.node(id).span, document.text(id).unwrap(), position);
        assert_eq!(found.map(|found| &source[found]), word, "{source:?} {position}");
    }
}

#[test]
fn a_template_before_a_place_hides_it() {
    let source = "a: |\n  one {{ x }}\n  two three\n";
    let span = read(source).node(2).span.clone();
    let locate = |text: &str, line, column| locate(source, &span, text, Position { line, column });
    assert_eq!(locate("one y\ntwo three\n", 2, 5), None);
    assert_eq!(locate("one y\ntwo three\n", 1, 1).map(|found| &source[found]), Some("one"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_text_is_read_or_refused_with_places_inside_of_it(text in "([-:,&*!|>'\"#?{}\\[\\]ab\u{e9} \n]|: |- |\n  ){0,40}") {
        let (document, error) = match Document::parse(&text, LIMITS) {
            Ok(document) => (document, None),
            Err(broken) => (broken.read, Some(broken.error)),
        };
        let is_inside = |span: &std::ops::Range<usize>| text.get(span.clone()).is_some();
        prop_assert!(error.iter().all(|error| is_inside(&error.span)), "{:?}", error);
        for (id, node) in document.nodes().iter().enumerate() {
            prop_assert!(is_inside(&node.span), "{:?}", node);
            let before = id.checked_sub(1).map(|id| document.node(id).span.start);
            prop_assert!(before.is_none_or(|before| before <= node.span.start), "{:?}", document);
            if let Content::Scalar { text: value, style: Style::Plain } = &node.content
                && !node.anchored
                && node.tag.is_none()
                && !value.is_empty()
                && !value.contains([' ', '\n'])
            {
                prop_assert_eq!(&text[node.span.clone()], value);
            }
        }
    }
}
