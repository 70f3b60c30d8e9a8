//! Reads a mapping key by key, so that all of its problems are told at once and each at its place.

use std::ops::Range;

use super::diagnostic::Diagnostic;
use super::node::{Node, Value};
use super::template::Evaluator;

/// Evaluates a mapping and reads it. What is wrong under one of its keys does not hide what is wrong under another;
/// what is wrong with it as a whole is told at `whole`.
pub(super) fn by_key<T>(
    mapping: &Node,
    whole: &Range<usize>,
    evaluator: &Evaluator,
    read: impl Fn(&Node) -> Result<T, Diagnostic>,
) -> Result<T, Vec<Diagnostic>> {
    let Value::Mapping(pairs) = &mapping.value else {
        return evaluator.node(mapping).and_then(|node| read(&node)).map_err(|problem| vec![problem]);
    };
    let mut problems = Vec::new();
    let mut evaluated = Vec::new();
    for (key, value) in pairs {
        match evaluator.node(value) {
            Ok(value) => evaluated.push((key.clone(), value)),
            Err(problem) => problems.push(problem),
        }
    }
    loop {
        let body = Node { span: mapping.span.clone(), value: Value::Mapping(evaluated) };
        let mut problem = match read(&body) {
            Ok(value) if problems.is_empty() => return Ok(value),
            Ok(_) => return Err(problems),
            Err(problem) => problem,
        };
        let Value::Mapping(pairs) = body.value else { return Err(problems) };
        evaluated = pairs;
        let within = |(key, value): &(Node, Node)| {
            let span = key.span.start..value.span.end.max(key.span.end);
            problem.span.as_ref().is_some_and(|at| span.start <= at.start && at.end <= span.end)
        };
        let at = evaluated.iter().position(within);
        // Of the mapping as a whole only the first is told: a key that was taken away would be missed next.
        let of_all = problem.span.as_ref() == Some(&body.span);
        if of_all {
            let key = key_in(&problem.message, &evaluated);
            let place = key.and_then(|key| place_in_block(evaluator.text(), key, &problem.message));
            problem.span = Some(place.unwrap_or_else(|| key.unwrap_or(whole).clone()));
        }
        match at.filter(|_| !of_all) {
            Some(at) => {
                problems.push(problem);
                evaluated.remove(at);
            }
            None if problems.is_empty() => return Err(vec![problem]),
            None => return Err(problems),
        }
    }
}

/// The place of the key that a message of a whole step begins with: `` `from`: … ``.
fn key_in<'a>(message: &str, pairs: &'a [(Node, Node)]) -> Option<&'a Range<usize>> {
    let (word, _) = message.strip_prefix('`')?.split_once('`')?;
    pairs.iter().find(|(key, _)| key.text() == Some(word)).map(|(key, _)| &key.span)
}

/// Where a message's `line 3, column 7` is, in the block text (`|`) of the key that it is about.
fn place_in_block(text: &str, key: &Range<usize>, message: &str) -> Option<Range<usize>> {
    let (line, rest) = message.split_once("line ")?.1.split_once(", column ")?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (line, column) = (line.parse::<usize>().ok()?, rest[..digits].parse::<usize>().ok()?);
    let (header, block) = text.get(key.end..)?.split_once('\n')?;
    let header = header.split_once(" #").map_or(header, |(header, _)| header);
    let literal = header.trim().trim_start_matches(':').trim_start().strip_prefix('|')?;
    if !literal.trim().trim_start_matches(['-', '+']).is_empty()
        || block.lines().take(line).any(|one| one.contains("{{"))
    {
        return None;
    }
    let indent = block.lines().find(|line| !line.trim().is_empty()).map(|line| line.len() - line.trim_start().len())?;
    let begins = block.split_inclusive('\n').take(line.checked_sub(1)?).map(str::len).sum::<usize>();
    let shown = block.get(begins..)?.lines().next()?;
    let (at, _) = shown.get(indent..)?.char_indices().nth(column.checked_sub(1)?)?;
    let word = shown[indent + at..].find(char::is_whitespace).unwrap_or(shown.len() - indent - at);
    let start = text.len() - block.len() + begins + indent + at;
    Some(start..start + word)
}
