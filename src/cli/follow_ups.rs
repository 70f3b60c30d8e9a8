//! `provision follow-ups`

use std::path::Path;

use anstyle::Style;

use super::args::FollowUpsArguments;
use super::{Error, Exit, discover, inputs};
use crate::engine::event::OpenFollowUp;
use crate::engine::journal::{interrupted, past};
use crate::engine::lock::{Lock, Subject, Wait};
use crate::engine::open_follow_ups::OpenFollowUps;
use crate::engine::stop::Stop;
use crate::failure::Failure;
use crate::host::fs::canonical;
use crate::render::{output, to_json_line};
use crate::text::clean;
use crate::text::layout::Layout;

const BOLD: Style = Style::new().bold();

/// Lists the open follow-ups of earlier runs of a plan file, or closes those that are done.
pub async fn run(arguments: FollowUpsArguments) -> Result<Exit, Error> {
    let file = match arguments.file {
        // The follow-ups of a missing plan file, or one from standard input, are stored under its path.
        Some(file) => file,
        None => discover::default_plan_file("follow-ups")?,
    };
    let (path, folder) = (canonical(&file), inputs::state_folder());
    let mut list = load(&path)?;
    if list.is_empty() && !path.exists() && !is_recorded(&path)? {
        return Err(no_such_file(&file, &arguments.done));
    }
    if arguments.done.is_empty() && !arguments.done_all {
        output::print(&shown(&list.current(), arguments.json, "there are no open follow-ups\n"));
        return Ok(Exit::Done);
    }
    let stop = Stop::listen()?;
    let subject = Subject { path: &path, is_there: path.exists() };
    // An apply writes the same list, so the lock is required.
    let lock = Lock::take(subject, &folder, Wait::No, &stop, &mut |_| ()).await;
    let lock =
        lock.map_err(|failure| Failure { hint: Some("run it again when the apply has finished".into()), ..failure })?;
    let Some(lock) = lock else {
        return Err(Error::stopped(stop.signal().unwrap_or(2)));
    };
    list = load(&path)?;
    let ids = if arguments.done_all { list.iter().map(|open| open.id).collect() } else { arguments.done };
    let closed = list.close(&ids)?;
    if list.is_changed {
        list.store(&folder, &path)?;
    }
    drop(lock);
    output::print(&shown(&closed, arguments.json, ""));
    if !arguments.json {
        let open = list.iter().count();
        let rest = if open == 0 { "none open".to_owned() } else { format!("{open} still open") };
        output::print(&format!("{} closed, {rest}\n", closed.len()));
    }
    Ok(Exit::Done)
}

/// Returns whether the journal of this user has a run of the plan file with this path.
fn is_recorded(path: &Path) -> Result<bool, Failure> {
    let (runs, _) = past(&inputs::state_folder())?;
    let file = path.display().to_string();
    Ok(runs.iter().any(|run| run.file == file))
}

/// Returns the error about a plan file that does not exist and has no follow-ups either.
fn no_such_file(file: &Path, done: &[u32]) -> Error {
    let shown = clean(&file.display().to_string());
    let failure = Failure::new(format!("cannot find the plan file {shown}, and there are no follow-ups for it"));
    let is_number = shown.chars().all(|letter| letter.is_ascii_digit());
    failure
        .hint(if is_number && !done.is_empty() {
            let numbers: Vec<String> = done.iter().map(u32::to_string).chain([shown]).collect();
            format!("several numbers are separated by commas: --done {}", numbers.join(","))
        } else {
            "correct the path; it has to be the one that apply was run with".to_owned()
        })
        .into()
}

fn load(path: &Path) -> Result<OpenFollowUps, Failure> {
    let folder = inputs::state_folder();
    let (interrupted, wrong) = interrupted(&folder, &path.display().to_string())?;
    for message in wrong {
        output::print_error(&format!("warning: {}\n", clean(&message)));
    }
    OpenFollowUps::load(&folder, path, &interrupted)
}

fn shown(follow_ups: &[OpenFollowUp], json: bool, none: &str) -> String {
    if json {
        return follow_ups.iter().map(to_json_line).collect();
    }
    if follow_ups.is_empty() {
        return none.to_owned();
    }
    let layout = Layout { columns: output::columns() };
    let mut text = String::new();
    for open in follow_ups {
        let OpenFollowUp { id, since, steps, reasons, follow_up, .. } = open;
        let heading = format!("{}, since {}", clean(&steps.join(", ")), clean(since));
        text += &layout.paragraph(&format!("{BOLD}{id:>3}{BOLD:#}  "), 5, &heading);
        let reasons = if reasons.is_empty() { std::slice::from_ref(&follow_up.reason) } else { reasons };
        for reason in reasons {
            text += &layout.paragraph("     ", 7, &clean(reason));
        }
        text += &layout.command(7, &clean(&follow_up.command));
    }
    text
}
