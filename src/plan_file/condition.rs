//! Detects a `when` that was meant as a condition. Here, `when` is prose, so the step would run regardless.

/// Signs that occur only in conditions of other tools.
const SIGNS: [&str; 12] = [
    "==",
    "!=",
    ">=",
    "<=",
    "&&",
    "||",
    " is defined",
    " is not defined",
    " is changed",
    " is failed",
    " in [",
    "ansible_",
];

/// Returns whether a text reads like a condition of Ansible, Terraform or a shell. Text between backticks is a quotation and
/// does not count.
pub fn reads_like_one(text: &str) -> bool {
    let prose: String = text.split('`').step_by(2).collect();
    let prose = prose.trim();
    let words: Vec<&str> = prose.split_whitespace().collect();
    let is_name = |word: &str| {
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._[]'\"".contains(&byte))
    };
    let is_variable = |word: &str| is_name(word) && word.contains(['_', '.', '[']) && !word.ends_with('.');
    SIGNS.iter().any(|sign| prose.contains(sign))
        || prose.contains("inventory_hostname")
        || prose.contains(" in groups")
        || (prose.contains(" ? ") && prose.contains(" : "))
        || match words.as_slice() {
            // A single word cannot be prose if it is a boolean, a variable or an expression of its own.
            [word] => {
                ["true", "false"].contains(&word.to_ascii_lowercase().as_str())
                    || is_variable(word)
                    || word.starts_with("${")
                    || word.starts_with('!')
            }
            ["not", word] => is_name(word),
            [one, "and" | "or", other] => is_variable(one) || is_variable(other),
            [one, ">" | "<", _] => is_name(one),
            ["{{", .., "}}"] => !prose[2..prose.len() - 2].contains("{{"),
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_told_from_prose() {
        for condition in [
            "env == 'qa'",
            "env != \"prod\"",
            "repo is defined",
            "x is not defined",
            "env in ['qa', 'staging']",
            "result is changed",
            "ansible_os_family == 'Debian'",
            "inventory_hostname in groups['web']",
            "true",
            "False",
            "not prod",
            "!prod",
            "deploy_web",
            "var.enabled ? 1 : 0",
            "count > 3",
            "is_qa and is_new",
            "a && b",
            "${ENABLED}",
            "{{ env }}",
        ] {
            assert!(reads_like_one(condition), "{condition}");
        }
        for prose in [
            "",
            "once",
            "every deploy",
            "once for a new server, and whenever the key is rotated",
            "before the first rows are archived, then every six months",
            "when `env == 'qa'` in the settings",
            "in production only",
            "on Fridays and holidays",
            "not on Fridays",
            "after a deploy; is that too often? no: it is cheap",
            "deploys of {{ app }}",
        ] {
            assert!(!reads_like_one(prose), "{prose}");
        }
    }
}
