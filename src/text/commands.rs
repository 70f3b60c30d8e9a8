//! The form of commands in messages: a command is in backticks, which keeps it in one line and shows where it ends.
//!
//! These tests read the sources, so a message that no test causes is checked as well.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The programs that messages name, without those of other distributions.
const PROGRAMS: &str = include_str!("../../fixtures/programs-in-messages.txt");

fn is_program(word: &str) -> bool {
    PROGRAMS.lines().any(|program| program == word)
}

/// Returns the string literals of the program, without those of tests, with their files.
fn literals() -> Vec<(PathBuf, String)> {
    fn read(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("tests") || name.contains("_tests") || name.contains("fuzzing") || name == "commands.rs"
            {
                continue;
            }
            if path.is_dir() {
                read(&path, found);
            } else if name.ends_with(".rs") {
                let text = fs::read_to_string(&path).unwrap();
                let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
                found.extend(in_code(text).into_iter().map(|literal| (path.clone(), literal)));
            }
        }
    }
    let mut found = Vec::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    found
}

/// Returns the string literals of a source. A comment has none, and a raw string is read as far as its first quotation mark.
fn in_code(text: &str) -> Vec<String> {
    let (mut found, mut literal) = (Vec::new(), None::<String>);
    for line in text.lines() {
        if literal.is_none() && line.trim_start().starts_with("//") {
            continue;
        }
        let mut letters = line.chars().peekable();
        if literal.is_some() {
            while letters.next_if(|letter| letter.is_whitespace()).is_some() {}
        }
        while let Some(letter) = letters.next() {
            match (&mut literal, letter) {
                (None, '\'') if letters.peek() == Some(&'"') => drop(letters.next()),
                (None, '"') => literal = Some(String::new()),
                (Some(_), '"') => found.extend(literal.take()),
                (Some(text), '\\') => match letters.next() {
                    Some('n') => text.push('\n'),
                    Some(other) => text.push(other),
                    None => {}
                },
                (Some(text), letter) => text.push(letter),
                (None, _) => {}
            }
        }
    }
    found
}

/// Replaces `{…}` of a format string by `1`, which is a valid id, number and path, and `{{` by `{`.
fn filled_in(text: &str) -> String {
    let mut out = String::new();
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '{' | '}' if letters.next_if_eq(&letter).is_some() => out.push(letter),
            '{' => {
                letters.by_ref().find(|letter| *letter == '}');
                out.push('1');
            }
            letter => out.push(letter),
        }
    }
    out
}

/// Returns the parts of a text that are in backticks, and the text without them.
fn quoted(text: &str) -> (Vec<&str>, String) {
    let parts: Vec<&str> = text.split('`').collect();
    (parts.iter().copied().skip(1).step_by(2).collect(), parts.iter().copied().step_by(2).collect::<Vec<_>>().join("`"))
}

fn parses(command: &str) -> bool {
    Command::new("bash").args(["-n", "-c", command]).output().unwrap().status.success()
}

#[test]
fn commands_in_messages_parse_and_their_programs_exist() {
    let mut seen = BTreeSet::new();
    for (path, literal) in literals() {
        let literal = filled_in(&literal);
        for command in quoted(&literal).0 {
            let Some((program, _)) = command.split_once(' ').filter(|(program, _)| is_program(program)) else {
                continue;
            };
            assert!(parses(command), "{}: {command}", path.display());
            seen.insert(program.to_owned());
        }
    }
    assert!(seen.len() > 15, "{seen:?}");
    for program in PROGRAMS.lines().filter(|program| !["provision", "docker", "sudo"].contains(program)) {
        let found = Command::new("bash").args(["-c", &format!("command -v {program}")]).output().unwrap();
        assert!(found.status.success(), "{program}");
    }
}

#[test]
fn commands_in_messages_are_in_backticks() {
    let mut wrong = Vec::new();
    for (path, literal) in literals() {
        let outside = quoted(&literal).1;
        for (at, _) in outside.match_indices([':', '(', ';']) {
            let rest = outside[at + 1..].trim_start();
            let Some((program, rest)) = rest.split_once(' ') else { continue };
            // Prose can begin with such a word: "install it".
            let is_argument = rest.starts_with(['-', '/', '{', '.']);
            let is_sql = ["ALTER", "CREATE", "DROP", "GRANT"].contains(&program) && literal.contains(';');
            if is_sql || is_argument && is_program(program) {
                wrong.push(format!("{}: {literal}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
