//! Checks the commands in the output of the program: a command in backticks, or on a line of its own, is pasted by people.

use std::collections::HashSet;
use std::process::Command;
use std::sync::{LazyLock, Mutex};

use clap::Parser;
use provision::cli::Arguments;
use serde_json::Value;

/// The programs that the commands begin with.
const PROGRAMS: &str = include_str!("../../../fixtures/programs-in-messages.txt");

/// Words that have to be replaced by values that the program knows.
const UNFILLED: &[&str] = &["DIR", "FILE", "HOST", "ID", "USER", "…"];

/// Checks all commands in the output of one run of the program.
pub fn check(argv: &[String], stdout: &str, stderr: &str) {
    // Contents of files, and usage lines.
    const OTHERS: &[&str] = &["show", "explain", "man", "completions", "schema", "help", "--help", "-h"];
    if argv.iter().any(|word| OTHERS.contains(&word.as_str())) {
        return;
    }
    for text in [stdout, stderr] {
        for command in commands(text) {
            if let Err(why) = check_command(&command) {
                panic!("a command in the output does not work: {why}\n{command}\n{argv:?}\n{text}");
            }
        }
    }
}

/// Returns the commands in a text. A JSON line is a value with texts.
pub fn commands(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Ok(value @ Value::Object(_)) = serde_json::from_str(line) {
            in_value(&value, &mut found);
            continue;
        }
        if !line.contains("```") {
            found.extend(line.split('`').skip(1).step_by(2).filter(|part| is_command(part)).map(str::to_owned));
        }
        found.extend(line.split_once(": provision rescue ").map(|(_, rest)| format!("provision rescue {rest}")));
        let own = line.trim_start();
        if line.starts_with("  ")
            && ["provision rescue ", "docker compose ", "cd "].iter().any(|start| own.starts_with(start))
        {
            let mut command = own.to_owned();
            while command.ends_with('\\') {
                command = format!("{}\n{}", command, lines.next().unwrap_or_default());
            }
            found.push(command);
        }
    }
    found
}

/// Returns a command in which the program is at `binary`.
pub fn at(command: &str, binary: &str) -> String {
    let own = command.strip_prefix("provision ").map(|arguments| format!("{binary} {arguments}"));
    ["sudo", "|", "&&"].iter().fold(own.unwrap_or_else(|| command.to_owned()), |command, before| {
        command.replace(&format!("{before} provision "), &format!("{before} {binary} "))
    })
}

fn in_value(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) if text.contains('`') => found.extend(commands(text)),
        Value::Array(values) => values.iter().for_each(|value| in_value(value, found)),
        Value::Object(values) => {
            for (key, value) in values {
                match value {
                    Value::String(command) if key == "command" && command.contains(' ') => found.push(command.clone()),
                    value => in_value(value, found),
                }
            }
        }
        _ => {}
    }
}

fn is_command(text: &str) -> bool {
    text.split_once(' ').is_some_and(|(program, _)| PROGRAMS.lines().any(|known| known == program))
}

fn check_command(command: &str) -> Result<(), String> {
    static GOOD: LazyLock<Mutex<HashSet<String>>> = LazyLock::new(Mutex::default);
    if GOOD.lock().unwrap().contains(command) {
        return Ok(());
    }
    if let Some(letter) = command.chars().find(|letter| letter.is_control() && *letter != '\n' || *letter == '\u{fffd}')
    {
        return Err(format!("it has the character {letter:?}"));
    }
    let parsed = Command::new("bash").args(["-n", "-c", command]).output().unwrap();
    if !parsed.status.success() {
        return Err(String::from_utf8_lossy(&parsed.stderr).into_owned());
    }
    for words in simple_commands(command) {
        if let Some(word) = words.iter().find(|word| UNFILLED.contains(&word.as_str())) {
            return Err(format!("{word} is not filled in"));
        }
        let Some(at) = words.iter().position(|word| word == "provision") else { continue };
        if words[..at].iter().any(|word| !["sudo"].contains(&word.as_str())) || words.len() == at + 1 {
            continue;
        }
        Arguments::try_parse_from(&words[at..]).map_err(|error| error.to_string())?;
    }
    GOOD.lock().unwrap().insert(command.to_owned());
    Ok(())
}

/// Splits a command line into simple commands, and these into words. Redirections are left out.
fn simple_commands(line: &str) -> Vec<Vec<String>> {
    let (mut commands, mut words, mut word) = (Vec::new(), Vec::new(), None::<String>);
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\'' | '"' => {
                let word = word.get_or_insert_default();
                word.extend(letters.by_ref().take_while(|other| *other != letter));
            }
            '$' if letters.next_if_eq(&'\'').is_some() => {
                let word = word.get_or_insert_default();
                while let Some(letter) = letters.next().filter(|letter| *letter != '\'') {
                    word.push(if letter == '\\' { letters.next().unwrap_or_default() } else { letter });
                }
            }
            '\\' => match letters.next() {
                Some('\n') | None => {}
                Some(letter) => word.get_or_insert_default().push(letter),
            },
            '&' | '|' | ';' | '<' | '>' => {
                words.extend(word.take());
                if !words.is_empty() {
                    commands.push(std::mem::take(&mut words));
                }
                while letters.next_if(|letter| "&|>< ".contains(*letter)).is_some() {}
                if "<>".contains(letter) {
                    while letters.next_if(|letter| !letter.is_whitespace()).is_some() {}
                }
            }
            letter if letter.is_whitespace() => words.extend(word.take()),
            letter => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    if !words.is_empty() {
        commands.push(words);
    }
    commands
}

#[test]
fn commands_that_do_not_work_are_found() {
    for good in [
        "provision plan plan.yaml --only a,b",
        "rm 'a b' && provision plan - --as /x.yaml --out 'a b'",
        "sudo cat /x.yaml | provision plan -",
        "provision plan - < x.yaml",
        "mv -T $'a\\'b' c",
    ] {
        assert_eq!(check_command(good), Ok(()), "{good}");
    }
    for bad in ["provision rescue list --id 1", "mv 'a b", "rm a; if not, wait", "chown USER /srv", "rm \u{1b}x"] {
        assert!(check_command(bad).is_err(), "{bad}");
    }
    let text = "  hint: run `provision plan x` or `key: value`\nNext:\n  docker compose up \\\n      -d\n{\"hint\":\"`rm /a`\"}";
    assert_eq!(commands(text), ["provision plan x", "docker compose up \\\n      -d", "rm /a"]);
}
