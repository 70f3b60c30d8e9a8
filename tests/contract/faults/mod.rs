//! Faults at every system call: the program is killed, or a call of it fails, at one point after another; what is then on
//! the host is whole, and the next run makes of it what an unbroken run does.
//!
//! A sample of the points is tried by default; the ignored tests (`make faults`) try all of them. The supervisor knows
//! the registers of x86-64 alone.

mod bench;
mod errors;
mod kills;

use std::any::Any;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use bench::Bench;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::sandbox::{Fault, Point};

/// How many points are tried.
#[derive(Clone, Copy)]
enum Amount {
    All,
    Sample(usize),
    /// Every other point of a sample, from its first or its second: two tests that run beside each other share it.
    Half {
        of: usize,
        second: bool,
    },
}

/// `FAULT_STRIDE=50 make faults` tries every fiftieth point, `FAULT_ONLY='worker: openat 7'` those whose names begin so.
fn only(points: &mut Vec<Point>) {
    let option = |name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
    if let Some(stride) = option("FAULT_STRIDE") {
        let stride: std::num::NonZeroUsize = stride.parse().expect("FAULT_STRIDE is a number from 1 on");
        *points = points.iter().step_by(stride.get()).cloned().collect();
    }
    if let Some(start) = option("FAULT_ONLY") {
        points.retain(|point| point.to_string().starts_with(&start));
    }
}

/// A supervisor and what it supervises take turns: between cores each turn costs several times what it does on one. It is
/// the next one for each point, so that the tests that run beside each other share them all.
fn keep_to_one_core() {
    // Asked for once, before any thread keeps to one.
    static CORES: LazyLock<usize> = LazyLock::new(|| std::thread::available_parallelism().unwrap().get());
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let cores = *CORES;
    let mut own = CpuSet::new();
    own.set(NEXT.fetch_add(1, Ordering::Relaxed) % cores).unwrap();
    // Where these cores are not to be had, it is slower.
    let _ = sched_setaffinity(Pid::from_raw(0), &own);
}

/// What a test that panicked said.
fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without words").to_owned()
}

/// Tries `fault` at points of a run on `bench`; `judge` says what is wrong, once a fault has struck.
fn try_points(
    mut bench: Bench,
    fault: Fault,
    amount: Amount,
    judge: impl Fn(&mut Bench, &Point) -> Result<bool, String>,
) {
    bench.reset();
    let counted = bench.run().counted(fault);
    assert!(counted.outcome.code == 0 && !counted.hung, "{}", counted.outcome);
    let mut points: Vec<Point> = Vec::new();
    for (process, calls) in &counted.calls {
        let mut numbers: HashMap<&str, usize> = HashMap::new();
        for call in calls {
            let number = numbers.entry(call.name).or_default();
            *number += 1;
            points.push(Point { process: process.clone(), call: call.name, number: *number, fault });
        }
    }
    let all = points.len();
    if let Amount::All = amount {
        only(&mut points);
    }
    if let Amount::Sample(size) | Amount::Half { of: size, .. } = amount {
        let size = size.min(all);
        // From the middles of equal parts, so that no process's first call stands for it.
        points = (0..size).map(|part| points[(2 * part + 1) * all / (2 * size)].clone()).collect();
    }
    if let Amount::Half { second, .. } = amount {
        points = points.into_iter().skip(usize::from(second)).step_by(2).collect();
    }
    assert!(!points.is_empty(), "there is no such point");
    let (mut struck, mut wrong, mut missed) = (0, String::new(), String::new());
    for (tried, point) in points.iter().enumerate() {
        keep_to_one_core();
        // A panic of the program's, say, is no reason to stop: all that is wrong is to be known.
        let mut judge_at = |point: &Point| {
            let judged = catch_unwind(AssertUnwindSafe(|| {
                bench.reset();
                judge(&mut bench, point)
            }));
            judged.unwrap_or_else(|panic| Err(said(panic.as_ref())))
        };
        let mut point = point.clone();
        let mut judged = judge_at(&point);
        // Threads do not make the same number of calls each time: an earlier call of the same name stands for one that
        // did not come.
        while judged == Ok(false) && point.number > 1 && !matches!(amount, Amount::All) {
            point.number -= point.number.div_ceil(4);
            judged = judge_at(&point);
        }
        match judged {
            Ok(true) => struck += 1,
            Ok(false) => missed += &format!("; {point}"),
            Err(what) => {
                struck += 1;
                let what = format!("== {point}, {fault:?}\n{what}\n");
                eprint!("{what}");
                wrong += &what;
            }
        }
        if (tried + 1) % 250 == 0 {
            eprintln!("{fault:?}: {} of {} points", tried + 1, points.len());
        }
    }
    println!("{fault:?}: struck at {struck} points of {} that were tried, of {all} that there are", points.len());
    if !missed.is_empty() {
        println!("{fault:?}: not reached{missed}");
    }
    assert!(wrong.is_empty(), "{wrong}");
    // Threads do not make the same number of calls each time, so the last numbers may not be reached.
    assert!(struck as usize >= points.len() * 9 / 10, "only {struck} of {} points were reached", points.len());
}
