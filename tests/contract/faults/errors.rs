//! A call fails: there is no panic, nothing is half written, the message says where, and a rerun converges.

use nix::errno::Errno;

use super::bench::{Bench, LIMIT};
use super::states::{Checked, Seen};
use super::{Amount, try_points};
use crate::sandbox::{Fault, Outcome, Point};

fn check(bench: &mut Bench, point: &Point) -> Result<bool, String> {
    let watched = bench.run().struck(point);
    let outcome = watched.outcome;
    bench.repeated.clone_from(&watched.repeated);
    let seen = bench.look();
    let complete = |bench: &mut Bench, seen: &Seen| {
        bench.unless_known(Checked::Complete, seen, |bench| {
            let difference = bench.difference(seen);
            if difference.is_empty() { Ok(()) } else { Err(difference) }
        })
    };
    let Some(at) = watched.struck else {
        let wrong = if outcome.code == 0 { complete(bench, &seen) } else { Err(outcome.to_string()) };
        return wrong.map(|()| !watched.repeated.is_empty()).map_err(|wrong| format!("not struck, and yet:\n{wrong}"));
    };
    if watched.hung {
        return Err(format!("failed at {at}: it hangs\n{outcome}"));
    }
    let torn = bench.torn(&seen);
    if !torn.is_empty() {
        return Err(format!("failed at {at}:\n{torn}{outcome}"));
    }
    let code = outcome.code;
    let end = |difference| format!("failed at {at}, exit code {code}, in the end:\n{difference}{outcome}");
    match code {
        // The program worked around the failure, so the work has to be complete.
        0 => complete(bench, &seen).map_err(end)?,
        1 => {
            names_the_place(&outcome).map_err(|message| format!("failed at {at}: {message}\n{outcome}"))?;
            bench.unless_known(Checked::Rerun, &seen, |bench| {
                let again = bench.run().within(LIMIT).run();
                if again.code != 0 {
                    return Err(format!("failed at {at}, the rerun:\n{again}\n after {outcome}"));
                }
                let seen = bench.look();
                complete(bench, &seen).map_err(end)
            })?;
        }
        _ => return Err(format!("failed at {at}: exit code {code}\n{outcome}")),
    }
    Ok(true)
}

/// Asserts that each failure says where it happened: by a path, or by what could not be started or reached.
fn names_the_place(outcome: &Outcome) -> Result<(), String> {
    let mut reasons: Vec<String> = Vec::new();
    for line in outcome.stdout.lines() {
        let event: serde_json::Value = serde_json::from_str(line).map_err(|error| format!("{error}: {line}"))?;
        // A step that waits for another one reports that instead.
        let is_own = |reason: &&str| !reason.starts_with("it waits for ");
        if event["outcome"] == "failed" || event["outcome"] == "blocked" {
            reasons.extend(event["reason"].as_str().filter(is_own).map(str::to_owned));
        }
    }
    reasons.extend(outcome.stderr.lines().filter_map(|line| line.strip_prefix("error: ")).map(str::to_owned));
    if reasons.is_empty() {
        return Err("no message".to_owned());
    }
    for reason in reasons {
        // Nothing was killed, so a worker that ended has panicked.
        if ["a bug in provision", "ended unexpectedly"].iter().any(|word| reason.contains(word)) {
            return Err(format!("a panic is never an answer: {reason}"));
        }
        let places = ["the runtime", "signals", "worker", "warehouse", "the user ", "the group ", "cannot act as"];
        if !names_a_path(&reason) && !places.iter().any(|place| reason.contains(place)) {
            return Err(format!("the message names no place: {reason}"));
        }
    }
    Ok(())
}

/// Returns whether the text contains a slash that starts a path, unlike the one in "input/output error".
fn names_a_path(reason: &str) -> bool {
    let begins = |(at, _): (usize, &str)| !reason[..at].ends_with(char::is_alphanumeric);
    reason.match_indices('/').any(begins)
}

#[test]
fn interrupted_calls_share_a_run_only_if_the_program_repeats_them_at_once() {
    let mut bench = Bench::fresh();
    let mut struck = |call, number| {
        bench.reset();
        let fault = Fault::Error(Errno::EINTR);
        bench.run().struck(&Point { process: "launcher".to_owned(), call, number, fault })
    };
    // The libraries repeat some calls, and the program all of its own.
    let opened = (1..20).map(|number| (number, struck("openat", number).repeated));
    let (number, repeated) = opened.into_iter().find(|(_, repeated)| !repeated.is_empty()).expect("one is repeated");
    assert!(repeated[0] == number && repeated.is_sorted_by(|before, next| before < next), "{number}: {repeated:?}");
    // A descriptor is closed even if the call is interrupted, so nothing repeats it.
    let closed = struck("close", 2);
    assert!(closed.struck.is_some_and(|at| at.starts_with("close")) && closed.repeated.is_empty());
}

/// The number of points that are tried for each error by default.
const SAMPLE: Amount = Amount::Sample(4);

/// Each error has its own tests, so that they run in parallel: at a sample of calls, and at every call.
macro_rules! errors {
    ($($errno:ident: $some_first:ident $some_conflicts:ident $every_first:ident $every_conflicts:ident;)+) => {
        $(
            #[test]
            fn $some_first() {
                try_points(Bench::fresh(), Fault::Error(Errno::$errno), SAMPLE, check);
            }

            #[test]
            fn $some_conflicts() {
                try_points(Bench::conflicting(), Fault::Error(Errno::$errno), SAMPLE, check);
            }

            #[test]
            #[ignore = "every call instead of a sample"]
            fn $every_first() {
                try_points(Bench::fresh(), Fault::Error(Errno::$errno), Amount::All, check);
            }

            #[test]
            #[ignore = "every call instead of a sample"]
            fn $every_conflicts() {
                try_points(Bench::conflicting(), Fault::Error(Errno::$errno), Amount::All, check);
            }
        )+
    };
}

errors! {
    ENOSPC: no_space_at_some_calls_of_a_first_run no_space_at_some_calls_among_conflicts
        no_space_at_every_call_of_a_first_run no_space_at_every_call_among_conflicts;
    EIO: io_error_at_some_calls_of_a_first_run io_error_at_some_calls_among_conflicts
        io_error_at_every_call_of_a_first_run io_error_at_every_call_among_conflicts;
    EACCES: no_access_at_some_calls_of_a_first_run no_access_at_some_calls_among_conflicts
        no_access_at_every_call_of_a_first_run no_access_at_every_call_among_conflicts;
    EROFS: read_only_at_some_calls_of_a_first_run read_only_at_some_calls_among_conflicts
        read_only_at_every_call_of_a_first_run read_only_at_every_call_among_conflicts;
    EMFILE: no_descriptor_at_some_calls_of_a_first_run no_descriptor_at_some_calls_among_conflicts
        no_descriptor_at_every_call_of_a_first_run no_descriptor_at_every_call_among_conflicts;
    EINTR: interrupted_at_some_calls_of_a_first_run interrupted_at_some_calls_among_conflicts
        interrupted_at_every_call_of_a_first_run interrupted_at_every_call_among_conflicts;
}
