//! The commands that create the file by hand.

use std::collections::BTreeMap;

use super::desired::{File, NEW_MODE};
use crate::host::secret::SecretSource;
use crate::resource::document::{Document, Piece};
use crate::text::shell_word;

/// Longer content is better copied from a file.
const MAX_LINES: usize = 40;

pub(super) fn lines(file: &File) -> Vec<String> {
    let path = shell_word(&file.path);
    let parent = file.path.parent().map(shell_word);
    let mut lines: Vec<String> = parent.map(|parent| format!("mkdir -p {parent}")).into_iter().collect();
    let install = format!("install -m {}", file.wanted_mode().unwrap_or(NEW_MODE));
    let (words, ends) = words(file.document(), &file.secrets);
    match &file.template {
        _ if words.is_empty() => lines.push(format!("{install} /dev/null {path}")),
        Some(template) if words.len() > MAX_LINES => {
            lines.push(format!("# FILE: {} with its names filled in", template.file));
            lines.push(format!("{install} FILE {path}"));
        }
        _ if words.len() > MAX_LINES => {
            lines.push("# FILE: the `content` of the plan file with its names filled in".to_owned());
            lines.push(format!("{install} FILE {path}"));
        }
        _ => {
            // printf ends the last line. Its line ending is removed if the content has none.
            let cut = if ends { "" } else { " | head -c -1" };
            lines.push("printf '%s\\n' \\".to_owned());
            let last = words.len() - 1;
            lines.extend(words.into_iter().enumerate().map(|(index, word)| {
                if index == last {
                    format!("  {word}{cut} | {install} /dev/stdin {path}")
                } else {
                    format!("  {word} \\")
                }
            }));
        }
    }
    lines.extend(file.owner.as_ref().map(|owner| format!("sudo chown {} {path}", shell_word(owner.to_string()))));
    lines.extend(file.group.as_ref().map(|group| format!("sudo chgrp {} {path}", shell_word(group.to_string()))));
    lines
}

/// Returns each line of the content as a word of the shell, and whether the last line has a line ending.
fn words(document: &Document, secrets: &BTreeMap<String, SecretSource>) -> (Vec<String>, bool) {
    let (mut words, mut word, mut ends) = (Vec::new(), String::new(), true);
    for piece in document.pieces() {
        match piece {
            Piece::Text(text) => {
                for part in text.split_inclusive('\n') {
                    let line = part.strip_suffix('\n').unwrap_or(part);
                    if !line.is_empty() {
                        word.push_str(&shell_word(line));
                    }
                    ends = part.ends_with('\n');
                    if ends {
                        let word = std::mem::take(&mut word);
                        words.push(if word.is_empty() { "''".to_owned() } else { word });
                    }
                }
            }
            Piece::Hidden(_) => {
                word.push_str("'(hidden)'");
                ends = false;
            }
            Piece::Secret(name) => {
                let source = secrets.get(name).map(SecretSource::manual).unwrap_or_default();
                word.push_str(&format!("\"$({source})\""));
                ends = false;
            }
        }
    }
    if !ends {
        words.push(word);
    }
    (words, ends)
}
