//! The journal's lines.

use serde::{Deserialize, Serialize};

use crate::engine::event::{ChangeOutcome, Counts, Finished, FollowUp, Planned, RunOutcome};
use crate::resource::Action;

/// The version of the lines. Within a number no key is renamed or removed; new ones may come.
pub const FORMAT: u32 = 1;
/// No record is longer, in bytes: a longer line is something else.
const MAX_LINE: usize = 1 << 20;
/// So many damaged lines are told one by one; where there are more, the file as a whole is none of ours.
const MAX_DAMAGES: usize = 100;

/// One line. Times are RFC 3339, UTC. Free of secrets, as the events are that it is made from.
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
        /// The saved plan's id, where one was applied.
        saved: Option<String>,
        version: String,
        host: String,
        user: String,
        pid: u32,
    },
    /// What the plan said of a step.
    StepPlanned {
        at: String,
        step: String,
        kind: String,
        outcome: Planned,
        /// Summaries.
        changes: Vec<String>,
        reason: Option<String>,
    },
    /// On the disk before the change is begun.
    ChangeStarted {
        at: String,
        step: String,
        action: Action,
        target: String,
        summary: String,
    },
    /// On the disk before the next change is begun.
    ChangeFinished {
        at: String,
        step: String,
        action: Action,
        target: String,
        summary: String,
        outcome: ChangeOutcome,
    },
    /// What the changes of a step, which are made next, will leave to a person.
    FollowUpsExpected {
        at: String,
        follow_ups: Vec<FollowUp>,
    },
    /// What the changes of a step have left to a person.
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
    /// A later run came to a good end, so that this one, which was cut off, needs nobody's attention any more.
    RunSettled {
        at: String,
        by: String,
    },
}

/// A line that is no record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// Counted from 1.
    pub line: usize,
    pub why: String,
}

/// Reads a journal, whatever it holds: records in their order, and the lines that are none.
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
            damage(number, "it is longer than any record");
            continue;
        }
        match serde_json::from_slice::<Record>(line) {
            Ok(Record::RunStarted { format, .. }) if format != FORMAT => {
                damage(number, "it is of another version of the journal");
            }
            Ok(record) => records.push(record),
            Err(_) if last && !whole => damage(number, "it was cut off while it was written"),
            Err(_) if serde_json::from_slice::<serde_json::Value>(line).is_ok_and(|value| value.is_object()) => {
                damage(number, "it is no record that this version of provision knows");
            }
            Err(_) => damage(number, "it is no record"),
        }
    }
    (records, damages)
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
    fn what_is_written_is_read() {
        assert_eq!(parse(&text(&records())), (records(), vec![]));
        assert_eq!(parse(b""), (vec![], vec![]));
    }

    #[test]
    fn damaged_and_foreign_lines_are_told_and_passed_over() {
        let mut bytes = text(&records()[..1]);
        bytes.extend_from_slice(b"\x00\xff\xfe\n{\"record\":\"run_paused\",\"at\":\"x\"}\n\n[1]\n");
        bytes.extend_from_slice(&text(&records()[1..2]));
        bytes.extend_from_slice(b"{\"record\":\"change_started\",\"at\":");
        let (found, damages) = parse(&bytes);
        assert_eq!(found, records()[..2]);
        let told: Vec<_> = damages.iter().map(|damage| (damage.line, damage.why.as_str())).collect();
        assert_eq!(
            told,
            [
                (2, "it is no record"),
                (3, "it is no record that this version of provision knows"),
                (5, "it is no record"),
                (7, "it was cut off while it was written"),
            ]
        );
    }

    #[test]
    fn a_later_version_of_the_journal_is_not_guessed_at() {
        let text = String::from_utf8(text(&records()[..1])).unwrap().replace("\"format\":1", "\"format\":2");
        let (found, damages) = parse(text.as_bytes());
        assert_eq!((found.len(), damages.len()), (0, 1));
    }

    #[test]
    fn new_keys_are_no_damage() {
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

        /// Whatever stands between them, whole records are found.
        #[test]
        fn records_between_anything(litter in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 4)) {
            let mut bytes = Vec::new();
            for (index, litter) in litter.iter().enumerate() {
                bytes.extend(litter.iter().filter(|byte| !b"{\n".contains(byte)));
                bytes.push(b'\n');
                bytes.extend(records().get(index).map(|record| text(std::slice::from_ref(record))).unwrap_or_default());
            }
            prop_assert_eq!(parse(&bytes).0, records());
        }

        #[test]
        fn a_cut_costs_the_line_it_is_in(cut in 0usize..600) {
            let bytes = text(&records());
            let cut = cut.min(bytes.len());
            let (found, damages) = parse(&bytes[..cut]);
            let whole = bytes[..cut].iter().filter(|byte| **byte == b'\n').count();
            // The line's end alone may be what is missing.
            prop_assert!(found.len() == whole || (found.len() == whole + 1 && damages.is_empty()));
            prop_assert!(damages.len() <= 1);
        }
    }
}
