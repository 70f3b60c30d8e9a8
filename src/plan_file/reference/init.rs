//! A plan file to start from, made from the examples of the keys.

use std::fmt::Write as _;

use super::{CONNECTION, STEP};
use crate::failure::Failure;
use crate::plan_file::diagnostic::suggest;
use crate::resource::reference::{Presence, Reference};
use crate::resource::{KIND_NAMES, REFERENCES, kind_info};

const HEAD: &str = "\
# yaml-language-server: $schema=./provision.schema.json
# What has to hold on a host. `provision validate` checks this file, `provision plan` shows what differs, and
# `provision apply` makes the changes. For completion in an editor: provision schema > provision.schema.json
name: example
";

/// Returns a commented plan file with a step of each of these kinds, or with a `directory` if no kind is given.
///
/// # Errors
/// A kind is unknown.
pub fn example(kinds: &[String]) -> Result<String, Failure> {
    let mut chosen: Vec<(&str, &Reference)> = Vec::new();
    for kind in kinds {
        let Some(found) = REFERENCES.iter().find(|(name, _)| name == kind) else {
            return Err(Failure::new(format!("there is no kind `{kind}`")).hint(suggest(kind, KIND_NAMES)));
        };
        if !chosen.iter().any(|(name, _)| *name == found.0) {
            chosen.push(*found);
        }
    }
    if chosen.is_empty() {
        chosen.extend(REFERENCES.first());
    }
    // Writing to a `String` cannot fail.
    let mut text = HEAD.to_owned();
    if chosen.iter().any(|(kind, _)| kind_info(kind).is_some_and(|info| info.on_warehouse)) {
        text.push_str("\nconnections:\n  warehouse:\n");
        keys(&CONNECTION, "    ", &mut text);
    }
    text.push_str("\nsteps:\n");
    for (index, (kind, reference)) in chosen.iter().enumerate() {
        if index > 0 {
            text.push('\n');
        }
        let id = kind.replace('_', "-");
        let _ = writeln!(text, "  # {}\n  - id: {id}", reference.summary);
        for key in STEP.keys.iter().filter(|key| !key.is_required()) {
            let _ = writeln!(text, "    # {}: {}    # {}", key.name, key.example, key.doc);
        }
        let _ = writeln!(text, "    {kind}:");
        keys(reference, "      ", &mut text);
    }
    let others: Vec<&str> =
        KIND_NAMES.iter().copied().filter(|kind| !chosen.iter().any(|(name, _)| name == kind)).collect();
    if !others.is_empty() {
        let _ = writeln!(text, "\n# Other kinds (provision init KIND…, provision explain KIND): {}", others.join(", "));
    }
    Ok(text)
}

/// Writes every key with its meaning. Optional keys are comments.
fn keys(reference: &Reference, indent: &str, text: &mut String) {
    for key in reference.keys {
        let mark = if matches!(key.presence, Presence::Default(_)) { "# " } else { "" };
        let default = match key.presence {
            Presence::Required => String::new(),
            Presence::Default(default) | Presence::Usual(default) => format!(" (without it: {default})"),
        };
        let _ = writeln!(text, "{indent}# {}{default}\n{indent}{mark}{}: {}", key.doc, key.name, key.example);
    }
}
