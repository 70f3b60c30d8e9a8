//! A call that fails: no panic, nothing half written, a message that says where, and a rerun that converges.

use nix::errno::Errno;

use super::bench::Bench;
use super::{Amount, try_points};
use crate::sandbox::{Fault, Outcome, Point};

const ERRORS: [Errno; 6] = [Errno::ENOSPC, Errno::EIO, Errno::EACCES, Errno::EROFS, Errno::EMFILE, Errno::EINTR];

fn judge(bench: &mut Bench, point: &Point) -> Result<bool, String> {
    let watched = bench.run().struck(point);
    let Some(at) = watched.struck else { return Ok(false) };
    let outcome = watched.outcome;
    if watched.hung {
        return Err(format!("failed at {at}: it hangs\n{outcome}"));
    }
    let torn = bench.torn();
    if !torn.is_empty() {
        return Err(format!("failed at {at}:\n{torn}{outcome}"));
    }
    match outcome.code {
        // It found another way, so the work has to be done.
        0 => {}
        1 => {
            names_the_place(&outcome).map_err(|message| format!("failed at {at}: {message}\n{outcome}"))?;
            let again = bench.run().run();
            if again.code != 0 {
                return Err(format!("failed at {at}, the rerun:\n{again}\n after {outcome}"));
            }
        }
        _ => return Err(format!("failed at {at}: exit code {}\n{outcome}", outcome.code)),
    }
    let difference = bench.difference();
    if !difference.is_empty() {
        return Err(format!("failed at {at}, exit code {}, in the end:\n{difference}{outcome}", outcome.code));
    }
    Ok(true)
}

/// Requires that each failure says where: by a path, or by what was to be started or reached.
fn names_the_place(outcome: &Outcome) -> Result<(), String> {
    let mut reasons: Vec<String> = Vec::new();
    for line in outcome.stdout.lines() {
        let event: serde_json::Value = serde_json::from_str(line).map_err(|error| format!("{error}: {line}"))?;
        if event["outcome"] == "failed" && event["reason"].is_string() {
            reasons.extend(event["reason"].as_str().map(str::to_owned));
        }
    }
    reasons.extend(outcome.stderr.lines().filter_map(|line| line.strip_prefix("error: ")).map(str::to_owned));
    if reasons.is_empty() {
        return Err("no message".to_owned());
    }
    let places = ["/", "worker", "warehouse", "runtime", "signals"];
    match reasons.iter().find(|reason| !places.iter().any(|place| reason.contains(place))) {
        Some(reason) => Err(format!("the message names no place: {reason}")),
        None => Ok(()),
    }
}

fn errors(bench: impl Fn() -> Bench, amount: Amount) {
    for errno in ERRORS {
        try_points(bench(), Fault::Error(errno), amount, judge);
    }
}

#[test]
fn some_calls_of_a_first_run() {
    errors(Bench::fresh, Amount::Sample(6));
}

#[test]
fn some_calls_among_conflicts() {
    errors(Bench::conflicting, Amount::Sample(6));
}

#[test]
#[ignore = "an hour: every call instead of a sample"]
fn every_call_of_a_first_run() {
    errors(Bench::fresh, Amount::All);
}

#[test]
#[ignore = "an hour: every call instead of a sample"]
fn every_call_among_conflicts() {
    errors(Bench::conflicting, Amount::All);
}
