//! The records of the journal.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::engine::event::{ChangeOutcome, Counts, Finished, FollowUp, Planned, RunOutcome};
use crate::engine::lock::time;
use crate::resource::Action;

/// The version of the records. Within a version no key is renamed or removed, but keys may be added.
pub const FORMAT: u32 = 1;
/// Ends the name of a run's file until the run has ended.
pub const RUNNING: &str = "running";
/// Ends the name of a run's file once the run has ended.
pub const ENDED: &str = "jsonl";
/// The maximum length of a record, in bytes. A longer line is not a record.
const MAX_LINE: usize = 1 << 20;
/// The number of damaged lines that are reported. A file with more of them is not a journal.
const MAX_DAMAGES: usize = 100;

/// One line of the journal. Times are RFC 3339, UTC. Contains no secrets, because events contain none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum Record {
    /// The first line.
    RunStarted {
        at: String,
        format: u32,
        run: String,
        /// The plan file's `name`.
        plan: String,
        /// Its path, without symlinks.
        file: String,
        /// The id of the saved plan, if one was applied.
        saved: Option<String>,
        version: String,
        host: String,
        user: String,
        pid: u32,
        /// The steps for `rescue`, for a plan file that is not on the host.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rescues: Option<Box<RescueSteps>>,
    },
    /// The plan of a step.
    StepPlanned {
        at: String,
        step: String,
        kind: String,
        outcome: Planned,
        /// One summary for each change.
        changes: Vec<String>,
        reason: Option<String>,
    },
    /// Synced to disk before the change starts.
    ChangeStarted {
        at: String,
        step: String,
        action: Action,
        target: String,
        summary: String,
    },
    /// Synced to disk before the next change starts.
    ChangeFinished {
        at: String,
        step: String,
        action: Action,
        target: String,
        summary: String,
        outcome: ChangeOutcome,
        /// Whether it failed after a part of it was made.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        partial: bool,
    },
    /// The expected follow-ups of the next changes of a step.
    FollowUpsExpected {
        at: String,
        follow_ups: Vec<FollowUp>,
    },
    /// A follow-up of the changes of a step.
    FollowUp {
        at: String,
        #[serde(flatten)]
        follow_up: FollowUp,
    },
    StepFinished {
        at: String,
        step: String,
        kind: String,
        outcome: Finished,
        reason: Option<String>,
    },
    RunFinished {
        at: String,
        outcome: RunOutcome,
        counts: Counts,
        reason: Option<String>,
    },
    /// A later run converged, so this interrupted run needs no more attention.
    RunSettled {
        at: String,
        by: String,
    },
}

/// The steps that keep rescues, without their content.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RescueSteps {
    pub steps: Vec<RescueStep>,
    /// The files and directories that the steps of the plan file own, with the step ids.
    pub owned: Vec<(PathBuf, String)>,
}

/// A step that keeps rescues.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RescueStep {
    pub id: String,
    pub kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_as: Option<String>,
    /// The keys of its kind that are needed to find the rescues.
    pub keys: serde_json::Value,
}

/// A line that is not a valid record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// The line number, starting at 1.
    pub line: usize,
    pub why: String,
}

/// Parses a journal with any content. Returns the records in order, and the invalid lines.
pub fn parse(bytes: &[u8]) -> (Vec<Record>, Vec<BadLine>) {
    let (mut records, mut damages) = (Vec::new(), Vec::new());
    let mut damage = |line: usize, why: &str| {
        if damages.len() < MAX_DAMAGES {
            damages.push(BadLine { line: line + 1, why: why.to_owned() });
        }
    };
    let whole = bytes.ends_with(b"\n") || bytes.is_empty();
    let mut lines = bytes.split(|byte| *byte == b'\n').enumerate().peekable();
    while let Some((number, line)) = lines.next() {
        let last = lines.peek().is_none();
        if line.is_empty() {
            continue;
        }
        if line.len() > MAX_LINE {
            damage(number, "it is too long for a record");
            continue;
        }
        match serde_json::from_slice::<Record>(line) {
            Ok(Record::RunStarted { format, .. }) if format != FORMAT => {
                damage(number, "it belongs to another version of the journal");
            }
            Ok(record) => records.push(record),
            Err(_) if last && !whole => damage(number, "it is incomplete"),
            Err(_) if serde_json::from_slice::<serde_json::Value>(line).is_ok_and(|value| value.is_object()) => {
                damage(number, "this version of provision does not know this record");
            }
            Err(_) => damage(number, "it is not a record"),
        }
    }
    (records, damages)
}

/// Returns the time, as records have it.
pub fn now() -> String {
    time(jiff::Timestamp::now())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn records() -> Vec<Record> {
        vec![
            Record::RunStarted {
                at: "2026-03-01T12:00:00Z".into(),
                format: FORMAT,
                run: "20260301T120000Z-0123abcd".into(),
                plan: "small".into(),
                file: "/home/ubuntu/provision.yaml".into(),
                saved: None,
                version: "0.1.0".into(),
                host: "throwaway".into(),
                user: "ubuntu".into(),
                pid: 7,
                rescues: None,
            },
            Record::ChangeStarted {
                at: "2026-03-01T12:00:01Z".into(),
                step: "data".into(),
                action: Action::Create,
                target: "/data\nwith a line".into(),
                summary: "create /data".into(),
            },
            Record::RunFinished {
                at: "2026-03-01T12:00:02Z".into(),
                outcome: RunOutcome::Ok,
                counts: Counts { changed: 1, ..Counts::default() },
                reason: None,
            },
        ]
    }

    fn text(records: &[Record]) -> Vec<u8> {
        records.iter().flat_map(|record| [serde_json::to_vec(record).unwrap(), b"\n".to_vec()].concat()).collect()
    }

    #[test]
    fn written_records_parse_back() {
        assert_eq!(parse(&text(&records())), (records(), vec![]));
        assert_eq!(parse(b""), (vec![], vec![]));
    }

    #[test]
    fn damaged_and_unknown_lines_are_reported_and_ignored() {
        let mut bytes = text(&records()[..1]);
        bytes.extend_from_slice(b"\x00\xff\xfe\n{\"record\":\"run_paused\",\"at\":\"x\"}\n\n[1]\n");
        bytes.extend_from_slice(&text(&records()[1..2]));
        bytes.extend_from_slice(b"{\"record\":\"change_started\",\"at\":");
        let (found, damages) = parse(&bytes);
        assert_eq!(found, records()[..2]);
        let reported: Vec<_> = damages.iter().map(|damage| (damage.line, damage.why.as_str())).collect();
        assert_eq!(
            reported,
            [
                (2, "it is not a record"),
                (3, "this version of provision does not know this record"),
                (5, "it is not a record"),
                (7, "it is incomplete"),
            ]
        );
    }

    #[test]
    fn records_of_a_later_version_are_rejected() {
        let text = String::from_utf8(text(&records()[..1])).unwrap().replace("\"format\":1", "\"format\":2");
        let (found, damages) = parse(text.as_bytes());
        assert_eq!((found.len(), damages.len()), (0, 1));
    }

    #[test]
    fn unknown_keys_are_accepted() {
        let text = String::from_utf8(text(&records()[..1])).unwrap().replace("\"format\":1", "\"format\":1,\"new\":[]");
        assert_eq!(parse(text.as_bytes()), (records()[..1].to_vec(), vec![]));
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let (found, damages) = parse(&bytes);
            prop_assert!(found.is_empty());
            prop_assert!(damages.len() <= MAX_DAMAGES);
        }

        /// Complete records are found whatever lies between them.
        #[test]
        fn records_are_found_between_garbage(litter in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 4)) {
            let mut bytes = Vec::new();
            for (index, litter) in litter.iter().enumerate() {
                bytes.extend(litter.iter().filter(|byte| !b"{\n".contains(byte)));
                bytes.push(b'\n');
                bytes.extend(records().get(index).map(|record| text(std::slice::from_ref(record))).unwrap_or_default());
            }
            prop_assert_eq!(parse(&bytes).0, records());
        }

        #[test]
        fn truncation_loses_only_the_last_line(cut in 0usize..600) {
            let bytes = text(&records());
            let cut = cut.min(bytes.len());
            let (found, damages) = parse(&bytes[..cut]);
            let whole = bytes[..cut].iter().filter(|byte| **byte == b'\n').count();
            // A truncation may remove only the line ending.
            prop_assert!(found.len() == whole || (found.len() == whole + 1 && damages.is_empty()));
            prop_assert!(damages.len() <= 1);
        }
    }
}
