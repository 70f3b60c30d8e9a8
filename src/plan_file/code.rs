//! The names in the code of a template: in `{{ }}` and `{% %}`, but not in strings, comments and raw text.

use std::collections::HashSet;
use std::ops::Range;

use minijinja::Environment;

use crate::text::{MAX_CODE, with_stack_for};

/// A name that an expression looks up. Attributes, filters, tests and the names of arguments are not looked up.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Name<'a> {
    pub word: &'a str,
    pub is_called: bool,
}

/// Returns the names in the order of the template.
pub(super) fn names(template: &str) -> Vec<Name<'_>> {
    let mut names = Vec::new();
    for code in blocks(template) {
        names_in(&template[code], &mut names);
    }
    names
}

/// Returns the length of all expressions and statements of a template, in bytes.
fn length(template: &str) -> usize {
    blocks(template).into_iter().map(|code| code.len()).sum()
}

/// Returns whether the expressions of a template are too long for their parser.
fn is_too_long(template: &str) -> bool {
    template.len() > MAX_CODE && length(template) > MAX_CODE
}

/// The maximum of [`folding_work`] of all expressions together. Up to it, compiling takes some milliseconds.
const MAX_WORK: usize = 1 << 20;

/// Returns a measure of the time that minijinja needs to compile an expression. At each arithmetic or logical operator its constant
/// folding evaluates all operands below the operator once more, so it is the number of operators times the number of words, texts
/// and signs that they combine, for each argument, each element of a list and each bracket.
fn folding_work(code: &str) -> usize {
    let mut work = 0_usize;
    // What each open bracket combines, since its last separator.
    let mut open = vec![Combined::default()];
    let mut at = 0;
    while let Some(letter) = code[at..].chars().next() {
        let next = match letter {
            '\'' | '"' => end_of_string(code, at),
            _ if is_letter(letter) => code[at..].find(|next| !is_letter(next)).map_or(code.len(), |length| at + length),
            _ => at + letter.len_utf8(),
        };
        let is_operator = match &code[at..next] {
            "and" | "or" | "not" | "in" | "+" | "-" | "*" | "/" | "%" | "~" | "<" | ">" | "!" => true,
            // A single one is that of a named argument.
            "=" => code[next..].starts_with('='),
            _ => false,
        };
        if let Some(last) = open.last_mut() {
            last.operators += usize::from(is_operator);
            let part = usize::from(!letter.is_whitespace());
            (last.parts, last.all) = (last.parts + part, last.all + part);
            if matches!(letter, ',' | ':') {
                work = work.saturating_add(last.work());
                *last = Combined { all: last.all, ..Combined::default() };
            }
        }
        match letter {
            '(' | '[' | '{' => open.push(Combined::default()),
            ')' | ']' | '}' if open.len() > 1 => {
                let inner = open.pop().unwrap_or_default();
                work = work.saturating_add(inner.work());
                if let Some(outer) = open.last_mut() {
                    (outer.parts, outer.all) = (outer.parts + inner.all, outer.all + inner.all);
                }
            }
            _ => {}
        }
        at = next;
    }
    open.iter().fold(work, |work, last| work.saturating_add(last.work()))
}

/// A part of an expression whose operators depend on each other.
#[derive(Default)]
struct Combined {
    operators: usize,
    parts: usize,
    /// The parts since the bracket was opened, which an operator outside of it combines.
    all: usize,
}

impl Combined {
    fn work(&self) -> usize {
        self.operators.saturating_mul(self.parts)
    }
}

/// What is too large in a template, and where.
pub(super) struct TooLarge {
    pub problem: &'static str,
    pub help: &'static str,
    /// The position in the template.
    pub at: usize,
}

/// Returns what makes the expressions of a template take too long to compile, if they do.
pub(super) fn too_large(template: &str) -> Option<TooLarge> {
    let blocks = blocks(template);
    if is_too_long(template) {
        return Some(TooLarge {
            problem: "the expressions of the template are longer than 128 KiB",
            help: "move the text out of `{{ }}` and `{% %}`, or shorten the expressions",
            at: blocks.iter().max_by_key(|code| code.len()).map_or(0, |code| code.start),
        });
    }
    let work: Vec<(usize, usize)> = blocks
        .iter()
        // One that is not closed is not compiled.
        .filter(|code| code.end < template.len())
        .map(|code| (folding_work(&template[code.clone()]), code.start))
        .collect();
    let all = work.iter().fold(0_usize, |sum, (work, _)| sum.saturating_add(*work));
    (all > MAX_WORK).then(|| TooLarge {
        problem: "the expressions of the template have too many operators",
        help: "split the expression into variables",
        at: work.iter().max().map_or(0, |(_, start)| *start),
    })
}

/// Calls `parse` on a stack with room for all expressions of a template.
pub(super) fn with_stack<T>(template: &str, parse: impl FnOnce() -> T) -> T {
    with_stack_for(length(template), parse)
}

/// Returns the variables that a template needs from outside. `None` if it cannot be parsed.
pub(super) fn undeclared(jinja: &Environment<'_>, template: &str) -> Option<HashSet<String>> {
    if too_large(template).is_some() {
        return None;
    }
    with_stack(template, || Some(jinja.template_from_str(template).ok()?.undeclared_variables(false)))
}

/// Returns where the code between `{{` and `}}`, or `{%` and `%}`, is.
fn blocks(template: &str) -> Vec<Range<usize>> {
    let mut blocks = Vec::new();
    let mut at = 0;
    while let Some(found) = template[at..].find('{') {
        let open = at + found;
        let rest = &template[open..];
        at = if rest.starts_with("{#") {
            after(template, open, "#}")
        } else if rest.starts_with("{{") || rest.starts_with("{%") {
            let start = open + 2;
            let end = end_of_code(template, start, if rest.starts_with("{{") { "}}" } else { "%}" });
            let code = start..end;
            let is_raw = rest.starts_with("{%") && statement(&template[code.clone()]) == "raw";
            blocks.push(code);
            if is_raw { end_of_raw(template, end) } else { end }
        } else {
            open + 1
        };
    }
    blocks
}

/// Returns the position after `mark`, or the end of the template.
fn after(template: &str, from: usize, mark: &str) -> usize {
    template[from..].find(mark).map_or(template.len(), |at| from + at + mark.len())
}

/// Returns the position of the mark that ends an expression or a statement. A mark in a string or in brackets does not end it.
fn end_of_code(template: &str, start: usize, mark: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = start;
    while let Some(letter) = template[at..].chars().next() {
        if depth == 0 && template[at..].starts_with(mark) {
            return at;
        }
        match letter {
            '\'' | '"' => {
                at = end_of_string(template, at);
                continue;
            }
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += letter.len_utf8();
    }
    template.len()
}

/// Returns the position after the string that begins at `start`.
fn end_of_string(text: &str, start: usize) -> usize {
    let mut letters = text[start..].char_indices();
    let quote = letters.next().map(|(_, quote)| quote);
    while let Some((at, letter)) = letters.next() {
        if letter == '\\' {
            letters.next();
        } else if Some(letter) == quote {
            return start + at + 1;
        }
    }
    text.len()
}

/// Returns the first word of a statement.
fn statement(code: &str) -> &str {
    let code = code.trim_start_matches(['-', '+']).trim_start();
    code.split(|letter: char| !is_letter(letter)).next().unwrap_or_default()
}

/// Returns the position of the statement `endraw`, whose code has no names.
fn end_of_raw(template: &str, from: usize) -> usize {
    let mut ends = template[from..].match_indices("{%").map(|(at, _)| from + at);
    ends.find(|at| statement(&template[at + 2..]) == "endraw").unwrap_or(template.len())
}

fn is_letter(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
}

fn names_in<'a>(code: &'a str, names: &mut Vec<Name<'a>>) {
    let mut at = 0;
    // The text before a word decides what the word is.
    let (mut before, mut previous) = (None, "");
    while let Some(letter) = code[at..].chars().next() {
        if letter == '\'' || letter == '"' {
            at = end_of_string(code, at);
            (before, previous) = (Some(letter), "");
        } else if is_letter(letter) {
            let end = code[at..].find(|next| !is_letter(next)).map_or(code.len(), |length| at + length);
            let word = &code[at..end];
            let next = code[end..].trim_start();
            let is_argument = next.starts_with('=') && !next.starts_with("==");
            let is_test = previous == "is" || previous == "is not";
            if !letter.is_ascii_digit() && !matches!(before, Some('.' | '|')) && !is_argument && !is_test {
                names.push(Name { word, is_called: next.starts_with('(') });
            }
            previous = if previous == "is" && word == "not" { "is not" } else { word };
            before = Some(letter);
            at = end;
        } else {
            if !letter.is_whitespace() {
                (before, previous) = (Some(letter), "");
            }
            at += letter.len_utf8();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Inputs, PlanFile};
    use super::*;

    /// Returns the messages about a directory's path and about the content of a file with this template.
    fn problems(template: &str) -> [Vec<String>; 2] {
        let quoted = serde_json::to_string(template).unwrap();
        let step =
            |body: &str| format!("name: x\nvars: {{ port: 8080, dir: /srv }}\nsteps:\n  - {{ id: a, {body} }}\n");
        let plans = [
            step(&format!("title: t, directory: {{ path: /srv/a, owner: {quoted} }}")),
            step(&format!("file: {{ path: /srv/a, content: {quoted} }}")),
        ];
        plans.map(|text| {
            let checked = PlanFile::parse("x.yaml", &text).and_then(|plan| plan.validate(&Inputs::default()));
            checked.err().map(|found| found.list.into_iter().map(|one| one.message).collect()).unwrap_or_default()
        })
    }

    #[test]
    fn an_undeclared_name_is_reported_wherever_it_is() {
        for (template, name) in [
            // The end of a function's name, and a part of it.
            ("{{ var | default('x') }}{{ env_var('Y', 'z') }}", "var"),
            ("{{ r | default('x') }}{{ env_var('Y', 'z') }}", "r"),
            ("{{ env | default('x') }}{{ env_var('Y', 'z') }}", "env"),
            ("{{ env_var('Y', 'z') }}{{ env_va | default('x') }}", "env_va"),
            ("{{ ange | default('x') }}{{ range(2) | first }}", "ange"),
            // Text, strings and comments that look like a call.
            ("prt (the port)\n{{ prt | default('x') }}", "prt"),
            ("{{ prt | default('x') }}\nprt(1)", "prt"),
            ("{{ 'prt(' }}{{ prt | default('x') }}", "prt"),
            ("{# prt() #}{{ prt | default('x') }}", "prt"),
            ("{% raw %}{{ prt() }}{% endraw %}{{ prt | default('x') }}", "prt"),
            ("{{ dir.prt() if false }}{{ prt | default('x') }}", "prt"),
            // Arguments, and calls within calls.
            ("{{ env_var('Y', prt | default('x')) }}", "prt"),
            ("{{ env_var(prt | default('x'), 'z') }}", "prt"),
            ("{{ env_var('Y', env_var('Z', prt | default('x'))) }}", "prt"),
            ("{{ dict(a=prt | default('x')).a }}", "prt"),
            ("{{ dict(prt=1).prt }}{{ prt | default('x') }}", "prt"),
            ("{{ {'a': {'b': prt | default('x')}}['a']['b'] }}", "prt"),
            ("{{ ['}}', prt | default('x')] | last }}", "prt"),
            // Filters, tests and branches.
            ("{{ 'a' | replace(prt | default('x'), 'b') }}", "prt"),
            ("{{ 'a' if prt is defined else 'b' }}", "prt"),
            ("{{ 'a' if prt is not defined else 'b' }}", "prt"),
            ("{{ 'a' if true else prt }}", "prt"),
            ("{% if false %}{{ prt }}{% endif %}x", "prt"),
            ("{%- if prt is defined -%}a{%- endif -%}x", "prt"),
            ("{% for a in prt | default([]) %}{{ a }}{% endfor %}x", "prt"),
            ("{% set x = prt | default('y') %}{{ x }}", "prt"),
            ("{% for a in [1] %}{{ a }}{% endfor %}{{ a | default('x') }}", "a"),
            ("{{ loop.index | default('x') }}", "loop"),
            ("{{ self | default('x') }}", "self"),
        ] {
            let expected = format!("variable `{name}` is not declared");
            for found in problems(template) {
                assert_eq!(found, [expected.as_str()], "{template}");
            }
        }
    }

    #[test]
    fn an_unknown_function_is_reported_wherever_it_is() {
        for template in [
            "{{ prt(1) }}",
            "{{ prt (1) | default('x') }}",
            "{% if false %}{{ prt() }}{% endif %}x",
            "{{ 'a' if true else prt() }}",
            // Jinja's own function writes out everything that it knows.
            "{{ debug() }}",
            "{{ debug() | upper }}",
        ] {
            let name = if template.contains("debug") { "debug" } else { "prt" };
            for found in problems(template) {
                assert_eq!(found, [format!("unknown function `{name}`")], "{template}");
            }
        }
    }

    #[test]
    fn a_function_that_is_not_called_is_reported_wherever_it_is() {
        for (template, name) in [
            ("{{ env_var }}", "env_var"),
            ("u{{ env_var }}", "env_var"),
            ("u{{ range }}", "range"),
            ("u{{ dict ~ 'x' }}", "dict"),
            ("u{{ namespace | string }}", "namespace"),
            ("u{{ [range] }}", "range"),
            ("{{ 'a' if true else env_var }}", "env_var"),
            ("{% if false %}{{ env_var }}{% endif %}x", "env_var"),
            ("{% set name = env_var %}{{ name('Y', 'z') }}", "env_var"),
            ("{{ env_var('Y', env_var) }}", "env_var"),
        ] {
            let expected = format!("`{name}` is a function, and the template does not call it");
            for found in problems(template) {
                assert_eq!(found, [expected.as_str()], "{template}");
            }
        }
        let [elsewhere, content] = problems("u{{ secret }}");
        assert_eq!(elsewhere, ["a secret cannot be used here"]);
        assert_eq!(content, ["`secret` is a function, and the template does not call it"]);
    }

    #[test]
    fn an_object_of_jinja_is_not_written_out() {
        for template in
            ["{% for a in [1] %}{{ loop }}{% endfor %}", "u{% for a in [1] %}{{ loop if true else 'x' }}{% endfor %}"]
        {
            for found in problems(template) {
                let expected = ["the template shows an object of Jinja, not a value"];
                assert_eq!(found, expected, "{template}");
            }
        }
    }

    #[test]
    fn a_part_that_does_not_exist_is_reported() {
        for template in ["u{{ dir.name }}", "u{{ dir.name ~ 'x' }}", "u{{ dir.name | upper }}", "u{{ {'a': 1}['b'] }}"]
        {
            for found in problems(template) {
                assert_eq!(found, ["the template uses an attribute that does not exist"], "{template}");
            }
        }
    }

    #[test]
    fn lists_and_mappings_are_written_out() {
        let [_, content] = problems("u{{ [1, 'a'] }}{{ {'a': 1} }}{{ range(2) }}{{ dict(a=1) }}{{ namespace(a=1) }}");
        assert_eq!(content, Vec::<String>::new());
    }

    #[test]
    fn declared_names_and_what_looks_like_a_name_are_accepted() {
        for template in [
            "u{{ port }}",
            "{{ 'a' if port == 8080 else 'b' }}",
            "{{ 'prt(' }}",
            "{{ \"it's prt\" }}",
            "{{ 'a\\'prt' }}",
            "{# prt #}x",
            "prt (x) {{ 'a' }}",
            "{% raw %}{{ prt }}{% endraw %}",
            "{%- raw -%}{{ prt }}{%- endraw -%}x",
            "{{ dict(prt=1).prt }}",
            "{{ {'prt': 1}.prt }}",
            "{{ 'a' | replace('prt', 'b') | upper | lower }}",
            "{{ 'a' if port is defined and port is not none else 'b' }}",
            "{% for a in range(2) %}{{ loop.index }}{{ a }}{% endfor %}",
            "{% set prt = 1 %}u{{ prt }}",
            "{% for key, value in {'a': 1} | items %}{{ key }}{{ value }}{% endfor %}",
            "{% with prt = 'a' %}{{ prt }}{% endwith %}",
            "{{ env_var('Y', 'z') }}{{ namespace(a=1).a }}",
            "u{{ port }}{% if true %}{{ port }}{% endif %}",
            "{% set range = 1 %}u{{ range }}",
            "{% for dict in [1] %}u{{ dict }}{% endfor %}",
        ] {
            for found in problems(template) {
                assert_eq!(found, Vec::<String>::new(), "{template}");
            }
        }
    }

    proptest::proptest! {
        /// Places are within the text, for every text.
        #[test]
        fn any_text_has_names(text in "(\\{\\{|\\}\\}|\\{%|%\\}|raw|endraw|'|\"|\\\\|#\\}|\\{#|a|\\(|\\PC| ){0,24}") {
            for name in names(&text) {
                assert!(text.contains(name.word) && !name.word.is_empty());
            }
        }
    }
}
