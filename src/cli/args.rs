//! The command line, defined once.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use jiff::civil::Date;

/// Makes a runbook's steps true on this host: shows what differs, and does what is missing and nothing else.
#[derive(Debug, Parser)]
#[command(name = "provision", version, about, propagate_version = true)]
pub struct Arguments {
    #[command(flatten)]
    pub diagnostics: DiagnosticsArguments,
    #[command(subcommand)]
    pub command: Command,
}

/// What a run records of its own work, for whoever has to find out what it does.
#[derive(Debug, Args)]
#[command(next_help_heading = "Diagnostics")]
pub struct DiagnosticsArguments {
    /// Say more, and log what is done and how long it takes (-vv: all of it)
    #[arg(short, long, action = ArgAction::Count, global = true)]
    pub verbose: u8,
    /// Say only what is not in order
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Log by this filter, such as `debug` or `info,git=debug` [env: PROVISION_LOG]
    #[arg(long, value_name = "FILTER", global = true)]
    pub log: Option<String>,
    /// How to write the log
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "text", global = true)]
    pub log_format: LogFormat,
    /// Append the log to this file (mode 0600) instead of standard error
    #[arg(long, value_name = "FILE", global = true)]
    pub log_file: Option<PathBuf>,
    /// Write a timeline to this file (mode 0600), in Chrome's trace format: Perfetto opens it
    #[arg(long, value_name = "FILE", global = true)]
    pub timeline: Option<PathBuf>,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A line of text for each record
    Text,
    /// One JSON object a line
    Json,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show what differs from the plan file; nothing is changed
    Plan(PlanArguments),
    /// Show the plan, ask, and make its changes
    Apply(ApplyArguments),
    /// Show what a saved plan would do, without applying it
    Show(ShowArguments),
    /// Check plan files without touching the host
    Validate(ValidateArguments),
    /// Explain steps (why they exist, how they are done by hand), or the keys of a kind: `explain directory.mode`
    Explain(ExplainArguments),
    /// List, show and restore local work that was moved out of the way
    Rescue {
        #[command(subcommand)]
        command: RescueCommand,
    },
    /// List the runs that changed something on this host, the newest first, or show one
    History(HistoryArguments),
    /// List what earlier runs left to a person, or report it as done
    FollowUps(FollowUpsArguments),
    /// Print the evaluated plan file as YAML, with secrets shown as their sources
    Resolve(ResolveArguments),
    /// Show the plans or applies of many hosts as one grouped report
    Report(ReportArguments),
    /// Print a commented plan file to start from
    Init(InitArguments),
    /// Print the JSON Schema of plan files, for editors
    Schema,
    /// Print the completion script of a shell
    Completions(CompletionsArguments),
    /// Print the manual page, or write the pages of all commands to a directory
    Man(ManArguments),
    #[command(hide = true)]
    Worker(WorkerArguments),
}

/// How a run is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Text for a terminal
    Human,
    /// One JSON object a line
    Json,
    /// A summary for a pull request or a CI job
    Markdown,
}

/// How the result of a check is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CheckFormat {
    /// Text for a terminal
    Human,
    /// One JSON object a line
    Json,
}

#[derive(Debug, Args)]
pub struct FormatArguments {
    /// How to write the result
    #[arg(long, value_enum, default_value = "human", conflicts_with = "json")]
    format: Format,
    /// The same as `--format json`
    #[arg(long)]
    json: bool,
}

impl FormatArguments {
    pub fn format(&self) -> Format {
        if self.json { Format::Json } else { self.format }
    }
}

#[derive(Debug, Args)]
pub struct CheckFormatArguments {
    /// How to write the result
    #[arg(long, value_enum, default_value = "human", conflicts_with = "json")]
    format: CheckFormat,
    /// The same as `--format json`
    #[arg(long)]
    json: bool,
}

impl CheckFormatArguments {
    pub fn format(&self) -> CheckFormat {
        if self.json { CheckFormat::Json } else { self.format }
    }
}

/// What a run is about.
#[derive(Debug, Args)]
pub struct RunArguments {
    /// Run only these steps
    #[arg(long, value_name = "ID,…", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Run all steps but these
    #[arg(long, value_name = "ID,…", value_delimiter = ',')]
    pub skip: Vec<String>,
    #[command(flatten)]
    pub variables: Variables,
    /// The date by which periods are counted [default: today, UTC]
    #[arg(long, value_name = "DATE", value_parser = date)]
    pub as_of: Option<Date>,
    #[command(flatten)]
    pub format: FormatArguments,
    /// Write metrics to this file, for node_exporter's textfile collector
    #[arg(long, value_name = "FILE")]
    pub metrics: Option<PathBuf>,
    /// The absolute path that names a plan file from standard input, for its lock and its history
    #[arg(long = "as", value_name = "PATH")]
    pub name: Option<PathBuf>,
    /// Read one JSON object from standard input: {"plan_file": TEXT, "as": PATH, "vars": {…}, "env": {…}}
    #[arg(long, conflicts_with_all = ["file", "name", "vars"])]
    pub request: bool,
}

#[derive(Debug, Args)]
pub struct Variables {
    /// Set a variable that the plan file declares
    #[arg(long = "var", value_name = "K=V", value_parser = variable)]
    pub vars: Vec<(String, String)>,
}

#[derive(Debug, Args)]
pub struct PlanArguments {
    /// The plan file, or `-` for standard input [default: ./provision.yaml, or else the only plan file under ./plans]
    pub file: Option<PathBuf>,
    #[command(flatten)]
    pub run: RunArguments,
    /// Exit with 0 if there is nothing to change, 2 if there are changes, 1 on failure
    #[arg(long)]
    pub detailed_exitcode: bool,
    /// Save the plan to this new file (mode 0600); `provision apply SAVED` makes its changes and no others, once
    #[arg(long, value_name = "SAVED")]
    pub out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct ApplyArguments {
    /// The plan file, a saved plan, or `-` for standard input [default: ./provision.yaml, or else the only plan file under
    /// ./plans]
    #[arg(value_name = "FILE|SAVED")]
    pub file: Option<PathBuf>,
    #[command(flatten)]
    pub run: RunArguments,
    /// Skip the confirmation prompt
    #[arg(long, short)]
    pub yes: bool,
    /// If another apply of the plan file is under way, wait for its end (for so many seconds at most)
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true)]
    pub wait: Option<Option<u64>>,
}

#[derive(Debug, Args)]
pub struct ShowArguments {
    /// The file that `provision plan --out` wrote
    #[arg(value_name = "SAVED")]
    pub saved: PathBuf,
    #[command(flatten)]
    pub format: FormatArguments,
}

#[derive(Debug, Args)]
pub struct ValidateArguments {
    /// The plan files, or `-` for standard input [default: ./provision.yaml, or else the only plan file under ./plans]
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    pub variables: Variables,
    #[command(flatten)]
    pub format: CheckFormatArguments,
}

#[derive(Debug, Args)]
pub struct ExplainArguments {
    /// The plan file [default: ./provision.yaml, or else the only plan file under ./plans]
    pub file: Option<String>,
    /// The step to explain [default: all of them], or a kind, or a key of a kind such as `key_file.verify`
    pub id: Option<String>,
    #[command(flatten)]
    pub variables: Variables,
}

#[derive(Debug, Subcommand)]
pub enum RescueCommand {
    /// List the rescues in the plan file's repositories, the newest first
    List(RescueArguments),
    /// Show what a rescue holds
    Show(RescueArguments),
    /// Put a rescue's files back where they were
    Restore(RescueArguments),
}

#[derive(Debug, Args)]
pub struct RescueArguments {
    /// The plan file [default: ./provision.yaml, or else the only plan file under ./plans]
    pub file: Option<String>,
    /// The rescue, or for `list` a step
    pub id: Option<String>,
    #[command(flatten)]
    pub variables: Variables,
}

#[derive(Debug, Args)]
pub struct HistoryArguments {
    /// The plan file whose runs to list [default: all of them]
    pub file: Option<String>,
    /// The run to show, by its id or the beginning of it
    pub run: Option<String>,
    /// List only so many runs
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct FollowUpsArguments {
    /// The plan file [default: ./provision.yaml, or else the only plan file under ./plans]
    pub file: Option<PathBuf>,
    /// Close the follow-ups with these numbers
    #[arg(long, value_name = "ID,…", value_delimiter = ',')]
    pub done: Vec<u32>,
    /// Close all open follow-ups of the plan file
    #[arg(long, conflicts_with = "done")]
    pub done_all: bool,
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ResolveArguments {
    /// The plan file, or `-` for standard input [default: ./provision.yaml, or else the only plan file under ./plans]
    pub file: Option<PathBuf>,
    #[command(flatten)]
    pub variables: Variables,
}

#[derive(Debug, Args)]
pub struct ReportArguments {
    /// Files with what `plan` or `apply` wrote with `--format json`, or `-` for standard input
    #[arg(value_name = "FILE.jsonl", required = true)]
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    pub format: FormatArguments,
}

#[derive(Debug, Args)]
pub struct InitArguments {
    /// The kinds of which to write a step [default: directory]
    #[arg(value_name = "KIND")]
    pub kinds: Vec<String>,
}

#[derive(Debug, Args)]
pub struct CompletionsArguments {
    /// The shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub struct ManArguments {
    /// Write the page of each command to this directory; it is made if it is missing
    #[arg(long, value_name = "DIRECTORY")]
    pub out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct WorkerArguments {
    #[arg(long)]
    pub user: Option<String>,
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as NAME=VALUE".to_owned()),
    }
}

/// Reads a date, and tells one that does not exist from what is not written as one.
fn date(text: &str) -> Result<Date, String> {
    let parts: Vec<&str> = text.split('-').collect();
    let digits = |part: &str, count| part.len() == count && part.bytes().all(|byte| byte.is_ascii_digit());
    let [year, month, day] = parts.as_slice() else { return Err(DATE_FORM.to_owned()) };
    if !(digits(year, 4) && digits(month, 2) && digits(day, 2)) {
        return Err(DATE_FORM.to_owned());
    }
    let number = |part: &str| part.parse::<i8>().unwrap_or_default();
    let (month, day) = (number(month), number(day));
    let Some(name) = usize::try_from(month - 1).ok().and_then(|at| MONTHS.get(at)) else {
        return Err(format!("there is no month {month:02}"));
    };
    text.parse().map_err(|_| {
        let in_year = if (month, day) == (2, 29) { format!(" in {year}") } else { String::new() };
        format!("there is no {day} {name}{in_year}")
    })
}

const DATE_FORM: &str = "write a date as YYYY-MM-DD";
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_that_does_not_exist_is_told_from_one_that_is_not_a_date() {
        assert_eq!(date("2028-02-29").unwrap(), jiff::civil::date(2028, 2, 29));
        for (text, said) in [
            ("2027-02-30", "there is no 30 February"),
            ("2027-02-29", "there is no 29 February in 2027"),
            ("2027-04-31", "there is no 31 April"),
            ("2027-13-01", "there is no month 13"),
            ("2027-00-10", "there is no month 00"),
            ("2027-01-00", "there is no 0 January"),
            ("2027-01-99", "there is no 99 January"),
            ("2027-1-1", DATE_FORM),
            ("01-02-2027", DATE_FORM),
            ("2027-02-01T00:00", DATE_FORM),
            ("yesterday", DATE_FORM),
            ("2027-²2-01", DATE_FORM),
            ("", DATE_FORM),
        ] {
            assert_eq!(date(text), Err(said.to_owned()), "{text}");
        }
    }
}
