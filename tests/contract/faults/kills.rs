//! The program is killed at a call and run again: it converges, keeps all work of people, and leaves no litter.

use super::bench::{Bench, LIMIT};
use super::states::Checked;
use super::{Amount, try_points};
use crate::sandbox::{Fault, Point};

fn check(bench: &mut Bench, point: &Point) -> Result<bool, String> {
    let watched = bench.run().struck(point);
    let at = watched.struck.clone().unwrap_or_default();
    if watched.hung {
        return Err(format!("killed at {at}: what is left hangs\n{}", watched.outcome));
    }
    let seen = bench.look();
    let torn = bench.torn(&seen);
    if !torn.is_empty() {
        return Err(format!("killed at {at}:\n{torn}"));
    }
    bench.unless_known(Checked::Rerun, &seen, |bench| {
        let again = bench.run().within(LIMIT).run();
        if again.code != 0 {
            return Err(format!("killed at {at}, the rerun:\n{again}"));
        }
        let end = bench.look();
        let difference = bench.difference(&end);
        if !difference.is_empty() {
            return Err(format!("killed at {at}, after the rerun:\n{difference}"));
        }
        Ok(())
    })?;
    Ok(watched.struck.is_some())
}

#[test]
fn one_process_at_some_calls_of_a_first_run() {
    try_points(Bench::fresh(), Fault::Kill, Amount::Half { of: 20, second: false }, check);
}

#[test]
fn one_process_at_other_calls_of_a_first_run() {
    try_points(Bench::fresh(), Fault::Kill, Amount::Half { of: 20, second: true }, check);
}

#[test]
fn one_process_at_some_calls_among_conflicts() {
    try_points(Bench::conflicting(), Fault::Kill, Amount::Half { of: 20, second: false }, check);
}

#[test]
fn one_process_at_other_calls_among_conflicts() {
    try_points(Bench::conflicting(), Fault::Kill, Amount::Half { of: 20, second: true }, check);
}

#[test]
fn all_processes_at_some_calls_of_a_first_run() {
    try_points(Bench::fresh(), Fault::KillAll, Amount::Sample(10), check);
}

#[test]
fn all_processes_at_some_calls_among_conflicts() {
    try_points(Bench::conflicting(), Fault::KillAll, Amount::Sample(10), check);
}

#[test]
#[ignore = "every call instead of a sample"]
fn one_process_at_every_call_of_a_first_run() {
    try_points(Bench::fresh(), Fault::Kill, Amount::All, check);
}

#[test]
#[ignore = "every call instead of a sample"]
fn one_process_at_every_call_among_conflicts() {
    try_points(Bench::conflicting(), Fault::Kill, Amount::All, check);
}

#[test]
#[ignore = "every call instead of a sample"]
fn all_processes_at_every_call_of_a_first_run() {
    try_points(Bench::fresh(), Fault::KillAll, Amount::All, check);
}

#[test]
#[ignore = "every call instead of a sample"]
fn all_processes_at_every_call_among_conflicts() {
    try_points(Bench::conflicting(), Fault::KillAll, Amount::All, check);
}
