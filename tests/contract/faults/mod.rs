//! Faults at every system call. The program is killed, or one of its calls fails, at one point after another. The host
//! is consistent afterwards, and the next run completes the work.
//!
//! A sample of the points is tried by default. The ignored tests (`make faults`) try all of them. They leave out only what
//! another point has shown:
//!
//! - The program is killed only at calls that others can notice, because at any other call it leaves the same as at the next
//!   one of these (`Call::is_noticeable`).
//! - A host is compared, and a rerun is done, once for each state (`states`), and at every twentieth point with that state.
//! - An interrupted call (EINTR) that the program repeats at once, from the same place with the same registers, has made no
//!   difference. The run goes on, and the next call is interrupted, until one is not repeated. All of them are done then.
//!
//! The supervisor supports only x86-64.

mod bench;
mod errors;
mod kills;
mod states;

use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bench::Bench;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use states::States;

use crate::sandbox::{Fault, Point};

/// How often a point that was not reached is tried again, if all points are tried.
const MORE_TRIES: usize = 4;

/// How many points are tried.
#[derive(Clone, Copy)]
enum Amount {
    All,
    Sample(usize),
    /// Every other point of a sample, starting with the first or the second, so that two parallel tests share it.
    Half {
        of: usize,
        second: bool,
    },
}

/// `FAULT_PART=7/50 make faults` tries every fiftieth point, starting with the seventh: the fifty parts are all points.
/// `FAULT_ONLY='worker: openat 7'` tries those whose names start with the text.
fn only(points: &mut Vec<Point>) {
    let option = |name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
    if let Some(text) = option("FAULT_PART") {
        let numbers = text.split_once('/').and_then(|(part, of)| Some((part.parse().ok()?, of.parse().ok()?)));
        let Some((part, of)) = numbers.filter(|(part, of): &(usize, usize)| (1..=*of).contains(part)) else {
            panic!("FAULT_PART is a part and the number of parts, such as 7/50, and not {text}");
        };
        *points = points.iter().skip(part - 1).step_by(of).cloned().collect();
    }
    if let Some(start) = option("FAULT_ONLY") {
        points.retain(|point| point.to_string().starts_with(&start));
    }
}

/// Pins a supervisor and its processes to one core, because switching between cores is several times slower. Each point
/// uses the next core, so that parallel tests use all of them.
fn keep_to_one_core() {
    // Read once, before any thread is pinned.
    static CORES: LazyLock<usize> = LazyLock::new(|| std::thread::available_parallelism().unwrap().get());
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let cores = *CORES;
    let mut own = CpuSet::new();
    own.set(NEXT.fetch_add(1, Ordering::Relaxed) % cores).unwrap();
    // If the core is not available, the test is only slower.
    let _ = sched_setaffinity(Pid::from_raw(0), &own);
}

/// Returns the message of a panic.
fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without words").to_owned()
}

/// Tries `fault` at points of a run on `bench`. `judge` returns what is wrong after a fault has struck.
fn try_points(
    mut bench: Bench,
    fault: Fault,
    amount: Amount,
    check: impl Fn(&mut Bench, &Point) -> Result<bool, String>,
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
        bench.states = Some(States::default());
    }
    if let Amount::Sample(size) | Amount::Half { of: size, .. } = amount {
        let size = size.min(all);
        // Points are taken from the middles of equal parts, so that not only the first call of each process is tested.
        points = (0..size).map(|part| points[(2 * part + 1) * all / (2 * size)].clone()).collect();
    }
    if let Amount::Half { second, .. } = amount {
        points = points.into_iter().skip(usize::from(second)).step_by(2).collect();
    }
    assert!(!points.is_empty(), "there is no such point");
    let begun = Instant::now();
    let (mut struck, mut wrong, mut missed) = (0, String::new(), String::new());
    let mut repeated: HashSet<(String, &str, usize)> = HashSet::new();
    let mut shared = 0;
    for (tried, point) in points.iter().enumerate() {
        if repeated.contains(&(point.process.clone(), point.call, point.number)) {
            struck += 1;
            shared += 1;
            continue;
        }
        keep_to_one_core();
        // A failure does not end the loop, because all failures should be reported.
        let mut check_at = |point: &Point| {
            let checked = catch_unwind(AssertUnwindSafe(|| {
                bench.reset();
                check(&mut bench, point)
            }));
            let done = std::mem::take(&mut bench.repeated).into_iter();
            repeated.extend(done.map(|number| (point.process.clone(), point.call, number)));
            checked.unwrap_or_else(|panic| Err(panic_text(panic.as_ref())))
        };
        let mut point = point.clone();
        let mut checked = check_at(&point);
        // The number of calls of a thread varies. If a call does not occur, an earlier call of the same name is used, or if those
        // are tried anyway, the same one again.
        let mut more = MORE_TRIES;
        while checked == Ok(false) && more > 0 && point.number > 1 {
            match amount {
                Amount::All => more -= 1,
                _ => point.number -= point.number.div_ceil(4),
            }
            checked = check_at(&point);
        }
        match checked {
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
    if !missed.is_empty() {
        println!("{fault:?}: not reached{missed}");
    }
    let (reruns, comparisons) = bench.states.as_ref().map_or((0, 0), |states| (states.reruns, states.comparisons));
    // scripts/faults adds these up.
    println!(
        "points: {all} in total, {} tried, {} not reached, {reruns} reruns and {comparisons} comparisons left out, \
         {shared} in the run of another: {fault:?}, {:.0} s",
        points.len(),
        points.len() - struck,
        begun.elapsed().as_secs_f64()
    );
    assert!(wrong.is_empty(), "{wrong}");
    // The number of calls varies with the threads, so the last numbers may not be reached.
    assert!(struck >= points.len() * 9 / 10, "only {struck} of {} points were reached", points.len());
}
