//! What an update of a checkout, or a clone, brings, as lines of text.

use jiff::Timestamp;

use crate::engine::event::{DeployedCommit, DeployedFile, Deployment, Lines};
use crate::text::plural;

/// Older commits have a date instead of an age, in seconds.
const MAX_AGE: i64 = 60 * 86_400;

/// Returns one line for each of the first commits and files, and how many more there are.
pub fn lines(deployment: &Deployment, most: usize, now: Timestamp) -> Vec<String> {
    let Deployment { commits, commit_count, files, file_count } = deployment;
    let mut lines: Vec<String> = commits.iter().take(most).map(|commit| commit_line(commit, now)).collect();
    let Some(commit_count) = commit_count else {
        // Everything in a clone is new.
        lines.push(plural(file_count.unwrap_or(files.len()), "file"));
        return lines;
    };
    if let more @ 1.. = commit_count.saturating_sub(lines.len()) {
        lines.push(format!("and {}", plural(more, "more commit")));
    }
    lines.extend(files.iter().take(most).map(file_line));
    if let more @ 1.. = files.len().saturating_sub(most) {
        lines.push(format!("and {}", plural(more, "more file")));
    }
    lines
}

fn commit_line(commit: &DeployedCommit, now: Timestamp) -> String {
    let DeployedCommit { id, subject, author, time } = commit;
    format!("{} {subject} ({author}, {})", id.get(..8).unwrap_or(id), age(*time, now))
}

fn file_line(file: &DeployedFile) -> String {
    let DeployedFile { path, change, lines, modes } = file;
    let mode = modes.as_ref().map(|modes| format!("mode {}, was {}", modes.after, modes.before));
    match (change.as_str(), lines) {
        ("modified", lines) => {
            let content = match lines {
                // Only the mode differs.
                Some(Lines { added: 0, removed: 0 }) if mode.is_some() => None,
                Some(Lines { added, removed }) => Some(format!("+{added} -{removed}")),
                None => Some(change.clone()),
            };
            let parts: Vec<String> = content.into_iter().chain(mode).collect();
            format!("{path} ({})", parts.join(", "))
        }
        ("added", Some(lines)) => format!("{path} (new, +{})", lines.added),
        ("deleted", Some(lines)) => format!("{path} (deleted, -{})", lines.removed),
        (change, _) => format!("{path} ({change})"),
    }
}

/// Returns such as `2 h ago`. Clocks differ, so a commit can be from the future.
fn age(time: i64, now: Timestamp) -> String {
    match now.as_second() - time {
        ..60 => "just now".to_owned(),
        seconds @ 60..3600 => format!("{} min ago", seconds / 60),
        seconds @ 3600..86_400 => format!("{} h ago", seconds / 3600),
        seconds @ 86_400..=MAX_AGE => {
            format!("{} ago", plural(usize::try_from(seconds / 86_400).unwrap_or_default(), "day"))
        }
        _ => Timestamp::from_second(time)
            .map_or_else(|_| "at an unknown time".to_owned(), |time| time.strftime("%Y-%m-%d").to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_have_an_age_and_files_their_lines() {
        let commit =
            |time| DeployedCommit { id: "27c74289aaaa".into(), subject: "Raise it".into(), author: "up".into(), time };
        let file = |change: &str, lines: Option<(usize, usize)>| DeployedFile {
            path: "dags/a.py".into(),
            change: change.into(),
            lines: lines.map(|(added, removed)| Lines { added, removed }),
            modes: None,
        };
        let with_mode = |lines| DeployedFile {
            modes: serde_json::from_value(serde_json::json!({ "before": "0644", "after": "0755" })).unwrap(),
            ..file("modified", lines)
        };
        let now = Timestamp::from_second(100 * 86_400).unwrap();
        let times = [5, 120, 7200, 86_400, 200_000, 90 * 86_400].map(|ago| commit(now.as_second() - ago));
        let mut files = vec![file("modified", Some((1, 2))), file("added", Some((3, 0))), file("deleted", None)];
        files.extend([Some((0, 0)), Some((1, 2)), None].map(with_mode));
        let deployment = Deployment { commits: times.into(), commit_count: Some(8), files, file_count: None };
        let shown = lines(&deployment, 6, now);
        let expected = [
            "27c74289 Raise it (up, just now)",
            "27c74289 Raise it (up, 2 min ago)",
            "27c74289 Raise it (up, 2 h ago)",
            "27c74289 Raise it (up, 1 day ago)",
            "27c74289 Raise it (up, 2 days ago)",
            "27c74289 Raise it (up, 1970-01-11)",
            "and 2 more commits",
            "dags/a.py (+1 -2)",
            "dags/a.py (new, +3)",
            "dags/a.py (deleted)",
            "dags/a.py (mode 0755, was 0644)",
            "dags/a.py (+1 -2, mode 0755, was 0644)",
            "dags/a.py (modified, mode 0755, was 0644)",
        ];
        assert_eq!(shown, expected);
        let clone =
            Deployment { commit_count: None, commits: vec![deployment.commits[0].clone()], ..deployment.clone() };
        assert_eq!(lines(&clone, 1, now), [expected[0], "6 files"]);
        assert_eq!(lines(&deployment, 1, now), [expected[0], "and 7 more commits", expected[7], "and 5 more files"]);
    }
}
