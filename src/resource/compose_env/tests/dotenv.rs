use proptest::prelude::*;

use crate::resource::compose_env::dotenv::{Entry, Value, last, read, set};

fn text(value: &str) -> Value {
    Value::Text(value.to_owned())
}

fn only(source: &str) -> Entry {
    let mut entries = read(source).unwrap_or_else(|error| panic!("{source:?}: {error}"));
    assert_eq!(entries.len(), 1, "{source:?}: {entries:?}");
    entries.remove(0)
}

#[test]
fn values_are_read_as_compose_reads_them() {
    for (source, value) in [
        ("A=b", "b"),
        ("A=b\r\n", "b"),
        ("A = b c  # d", "b c"),
        ("A=b#c", "b#c"),
        ("A=b\t#c", "b\t#c"),
        ("A: b", "b"),
        ("A=", ""),
        ("export A=b", "b"),
        ("\u{feff}# c\n\n  A=b", "b"),
        ("A='b # $c \"d\" \\n'", "b # $c \"d\" \\n"),
        ("A='it\\'s'", "it's"),
        ("A='a\\\\'", "a\\\\"),
        ("A='a\nb' # c\n", "a\nb"),
        (r#"A="a\tb\"c\\d\$e$$f\n\r\a\0101\x""#, "a\tb\"c\\d$e$f\n\r\u{7}A\\x"),
        ("A=\"a\nb\"", "a\nb"),
        ("A=a$$b", "a$b"),
        ("A=a'b'", "a'b'"),
    ] {
        let entry = only(source);
        assert_eq!((entry.name.as_str(), entry.value), ("A", text(value)), "{source:?}");
    }
    for source in ["A=$B", "A=${B:-c}", "A=\"x$B\"", "A=a$"] {
        assert_eq!(only(source).value, Value::Expanded, "{source}");
    }
    assert_eq!(only("A\n").value, Value::Inherited);
    assert_eq!(only("exported=1").name, "exported");
}

#[test]
fn what_compose_refuses_is_refused_with_its_place() {
    for (source, told) in [
        ("A=1\nB!=2\n", "a character that a name cannot have at line 2, column 2"),
        ("A=1\nB='2\nC=3\n", "a quoted value without an end at line 2, column 3"),
        ("A=1\nB", "a value without a name at line 2, column 1"),
        ("=1", "a value without a name at line 1, column 1"),
        ("A B=1", "a name with a space in it at line 1, column 1"),
    ] {
        assert_eq!(read(source).unwrap_err().to_string(), told, "{source}");
    }
}

/// The text before a value, the value, and the text after it.
const FILES: &[(&str, &str, &str)] = &[
    ("A=", "old", "\nB=2\n"),
    ("# c\n\nexport A=", "old", " # c\r\nB=2"),
    ("B='x\ny'\nA=", "'o ld'", " # c\n"),
    ("A = ", "\"o\\\"ld\"", ""),
    ("A=1\nB=$A\nA=", "${B}", "\nC=$B\n"),
    ("\u{feff}É=ü\nA: ", "old", "\nA\n"),
    ("A=", "", "\nB=2\n"),
    ("A=", "''", "\n"),
];

fn check(password: &str) {
    for (before, old, after) in FILES {
        let source = format!("{before}{old}{after}");
        let edited = set(&source, "A", password).unwrap().unwrap_or_else(|| panic!("{source:?} {password:?}"));
        assert!(edited.starts_with(before) && edited.ends_with(after), "{edited:?}");
        assert_eq!(last(&read(&edited).unwrap(), "A").unwrap().value, text(password), "{edited:?}");
        assert_eq!(set(&edited, "A", password).unwrap().unwrap(), edited, "a second edit changed {edited:?}");
    }
    for source in ["", "B=1", "B=1\n", "B=1\r\n", "# A=1", "A\n", "B=''", "\u{feff}"] {
        let edited = set(source, "A", password).unwrap().unwrap_or_else(|| panic!("{source:?} {password:?}"));
        assert!(edited.starts_with(source) && edited.ends_with('\n'), "{edited:?}");
        assert_eq!(last(&read(&edited).unwrap(), "A").unwrap().value, text(password), "{edited:?}");
    }
}

#[test]
fn telling_passwords_are_held() {
    super::editor::TELLING.iter().for_each(|password| check(password));
}

#[test]
fn quotes_are_kept_where_they_hold_the_value() {
    for (source, value, edited) in [
        ("A=old", "n3w", "A=n3w"),
        ("A=old", "n w", "A='n w'"),
        ("A='old'", "n3w", "A='n3w'"),
        ("A=\"old\"", "n3w", "A=\"n3w\""),
        ("A=\"old\"", "n$w", "A='n$w'"),
        ("A='old'", "it's", "A=\"it's\""),
        ("A='old'", "a\\", "A=\"a\\\\\""),
        ("", "n3w", "A='n3w'\n"),
    ] {
        assert_eq!(set(source, "A", value).unwrap().as_deref(), Some(edited), "{source} {value}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_password_is_held(password in super::editor::password()) {
        check(&password);
    }

    #[test]
    fn reading_never_panics(text in "[A-C=:'\"\\\\$ #\n\r\u{feff}é{}0-9x-]{0,40}") {
        let _ = read(&text);
        let _ = set(&text, "A", "n'e\"w\\");
    }
}

/// Reads a line of `.env` by Compose's documentation (docs.docker.com, "Syntax for environment files in Docker Compose"),
/// independently of the program.
fn documented(line: &str) -> String {
    let (_, value) = line.split_once('=').unwrap();
    if let Some(rest) = value.strip_prefix('\'') {
        // "Single quoted values are used literally"; a quote is escaped with a backslash.
        let mut text = String::new();
        let mut letters = rest.chars().peekable();
        while let Some(letter) = letters.next() {
            match letter {
                '\'' => break,
                '\\' if letters.peek() == Some(&'\'') => text.extend(letters.next()),
                other => text.push(other),
            }
        }
        return text;
    }
    if let Some(rest) = value.strip_prefix('"') {
        // "Common shell escape sequences including \n, \r, \t, and \\ are supported in double-quoted values"; `\$` and
        // `\"` keep those two from being read.
        let mut text = String::new();
        let mut letters = rest.chars();
        loop {
            match letters.next().expect("a closing quote") {
                '"' => return text,
                '$' => panic!("a variable in {line:?}"),
                '\\' => text.push(match letters.next().unwrap() {
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    letter @ ('\\' | '"' | '$') => letter,
                    other => panic!("\\{other} in {line:?}"),
                }),
                other => text.push(other),
            }
        }
    }
    // "Inline comments for unquoted values must be preceded with a space"; interpolation applies.
    let value = value.split(" #").next().unwrap().trim_end();
    assert!(!value.contains('$'), "a variable in {line:?}");
    value.to_owned()
}

#[test]
fn the_documented_table_is_read_by_the_independent_reader() {
    for (line, value) in [
        ("VAR=VAL", "VAL"),
        ("VAR=VAL # comment", "VAL"),
        ("VAR=VAL# not a comment", "VAL# not a comment"),
        ("VAR=\"VAL # not a comment\"", "VAL # not a comment"),
        ("VAR=\"VAL\" # comment", "VAL"),
        ("VAR='$OTHER'", "$OTHER"),
        ("VAR='${OTHER}'", "${OTHER}"),
        ("VAR='Let\\'s go!'", "Let's go!"),
        ("VAR=\"{\\\"hello\\\": \\\"json\\\"}\"", "{\"hello\": \"json\"}"),
        ("VAR=\"some\\tvalue\"", "some\tvalue"),
        ("VAR='some\\tvalue'", "some\\tvalue"),
    ] {
        assert_eq!(documented(line), value, "{line}");
        assert_eq!(only(line).value, text(value), "{line}");
    }
}

#[test]
fn what_is_written_is_what_the_documentation_says() {
    for password in super::editor::TELLING {
        for old in ["", "A=old\n", "A='old'\n", "A=\"old\"\n", "A=old # c\n", "A='o' # c\n"] {
            let edited = set(old, "A", password).unwrap().unwrap();
            assert_eq!(documented(edited.trim_end_matches('\n')), *password, "{edited:?}");
        }
    }
}
