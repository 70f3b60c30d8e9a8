//! `provision man`

use std::io::Write;
use std::path::Path;

use clap::{Command, CommandFactory};

use super::args::{Arguments, ManArguments, visible};
use super::{Error, Exit};
use crate::engine::run::reason;
use crate::failure::Failure;
use crate::render::output;

/// The section about exit codes, in roff.
const EXIT_STATUS: &str = "\
.SH EXIT STATUS
.TP
0
Done. A plan with changes is a success too.
.TP
1
Something failed, was blocked or has drifted, or the command line was wrong.
.TP
2
Only for plan with \\-\\-detailed\\-exitcode: there are changes.
.TP
129, 130, 143
Stopped by SIGHUP, SIGINT or SIGTERM.
";

/// Prints the program's manual page, or writes one for each command.
pub fn run(arguments: ManArguments) -> Result<Exit, Error> {
    let mut command = visible(Arguments::command());
    command.build();
    match arguments.out {
        None => output::print_raw(page(&command)?.1.as_bytes()),
        Some(folder) => write(&command, &folder)?,
    }
    Ok(Exit::Done)
}

/// Writes the pages of a command and its subcommands.
#[expect(clippy::disallowed_methods, reason = "the user names the directory")]
fn write(command: &Command, folder: &Path) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(format!("cannot write the manual pages to {}: {}", folder.display(), reason(&error)))
            .hint("choose a directory that you can write to")
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    let (name, text) = page(command)?;
    std::fs::write(folder.join(name), text).map_err(failed)?;
    // The page of `help` would repeat the others.
    command.get_subcommands().filter(|below| below.get_name() != "help").try_for_each(|below| write(below, folder))
}

/// Returns the file name and the text of a page. The text is ASCII: other characters are written as roff escapes.
fn page(command: &Command) -> Result<(String, String), Failure> {
    let mut page = Vec::new();
    let man = clap_mangen::Man::new(command.clone().disable_help_subcommand(true));
    let written = man.render(&mut page).and_then(|()| page.write_all(EXIT_STATUS.as_bytes()));
    written.map_err(|error| Failure::new(format!("cannot write the manual page: {error}")))?;
    let mut text = String::with_capacity(page.len());
    for c in String::from_utf8_lossy(&page).chars() {
        if c.is_ascii() {
            text.push(c);
        } else {
            text.push_str(&format!("\\[u{:04X}]", u32::from(c)));
        }
    }
    Ok((man.get_filename(), text))
}
