//! Defines the command line in one place.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use jiff::civil::Date;

use clap_complete::engine::{ArgValueCompleter, PathCompleter};

use super::adopt_words::{self, Series, Word};
use super::color::Color;
use super::complete;
use crate::host::warehouse::TableName;

/// Brings this host to the state that a plan file describes: shows the differences, and makes only the missing changes.
#[derive(Debug, Parser)]
#[command(name = "provision", version, about, propagate_version = true)]
pub struct Arguments {
    #[command(flatten)]
    pub diagnostics: DiagnosticsArguments,
    #[command(subcommand)]
    pub command: Command,
}

/// Options for diagnosing a run.
#[derive(Debug, Args)]
#[command(next_help_heading = "Diagnostics")]
pub struct DiagnosticsArguments {
    /// Also print what is in order, and log what is done and how long it takes (-vv for more detail)
    #[arg(short, long, action = ArgAction::Count, global = true)]
    pub verbose: u8,
    /// Print only what needs attention (plan and apply)
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// When to use colours; `auto` follows the terminal, NO_COLOR and CLICOLOR_FORCE
    #[arg(long, value_name = "WHEN", value_enum, default_value = "auto", global = true)]
    pub color: Color,
    /// Log with this filter, such as `debug` or `info,git=debug` [env: PROVISION_LOG]
    #[arg(long, value_name = "FILTER", global = true)]
    pub log: Option<String>,
    /// How to write the log
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "text", global = true)]
    pub log_format: LogFormat,
    /// Append the log to this file (mode 0600) instead of standard error
    #[arg(long, value_name = "FILE", global = true)]
    pub log_file: Option<PathBuf>,
    /// Write a timeline to this file (mode 0600), in Chrome's trace format, for Perfetto
    #[arg(long, value_name = "FILE", global = true)]
    pub timeline: Option<PathBuf>,
}

/// The format of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A line of text for each record
    Text,
    /// Print one JSON object per line
    Json,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show what differs from the plan file, without changing anything
    Plan(PlanArguments),
    /// Show the plan, ask for confirmation, and make the changes
    Apply(ApplyArguments),
    /// Show what a saved plan would do, without applying it
    Show(ShowArguments),
    /// Check plan files without changing the host
    Validate(ValidateArguments),
    /// Explain why steps exist and how to do them by hand, or explain the keys of a kind: `explain directory.mode`
    Explain(ExplainArguments),
    /// List, show and restore local work that was moved out of the way
    Rescue {
        #[command(subcommand)]
        command: RescueCommand,
    },
    /// List the runs that changed this host, newest first, or show one of them
    History(HistoryArguments),
    /// List the follow-ups of earlier runs, or mark them as done
    FollowUps(FollowUpsArguments),
    /// Print the evaluated plan file as YAML, with secrets shown as their sources
    Resolve(ResolveArguments),
    /// Show the plans or applies of many hosts as one grouped report
    Report(ReportArguments),
    /// Print a plan file of what this host already has; nothing is changed
    Adopt(AdoptArguments),
    /// Print a commented plan file as a starting point
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

/// The output format of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Text for a terminal
    Human,
    /// One JSON object per line
    Json,
    /// A summary for a pull request or a CI job
    Markdown,
    /// Text, with annotations for GitHub Actions
    Github,
}

/// The output format of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CheckFormat {
    /// Text for a terminal
    Human,
    /// One JSON object per line
    Json,
    /// Annotations for GitHub Actions
    Github,
    /// A code quality report for GitLab
    Gitlab,
}

#[derive(Debug, Args)]
pub struct FormatArguments {
    /// The output format
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
    /// The output format
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

/// The options that plan and apply share.
#[derive(Debug, Args)]
pub struct RunArguments {
    /// Run only these steps
    #[arg(long, value_name = "ID,…", value_delimiter = ',', value_parser = step_id, add = ArgValueCompleter::new(complete::steps))]
    pub only: Vec<String>,
    /// Run all steps except these
    #[arg(long, value_name = "ID,…", value_delimiter = ',', value_parser = step_id, add = ArgValueCompleter::new(complete::steps))]
    pub skip: Vec<String>,
    #[command(flatten)]
    pub variables: Variables,
    /// The date that determines the current period, as YYYY-MM-DD [default: today, UTC]
    #[arg(long, value_name = "DATE", value_parser = date)]
    pub as_of: Option<Date>,
    #[command(flatten)]
    pub format: FormatArguments,
    /// Write metrics to this file, for node_exporter's textfile collector
    #[arg(long, value_name = "FILE")]
    pub metrics: Option<PathBuf>,
    /// The absolute path that identifies a plan file from standard input, for its lock and its history
    #[arg(long = "as", value_name = "PATH")]
    pub name: Option<PathBuf>,
    /// Read one JSON object from standard input: {"plan_file": TEXT, "as": PATH, "vars": {…}, "env": {…},
    /// "files": {…}}
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
    #[arg(add = ArgValueCompleter::new(complete::plan_files))]
    pub file: Option<PathBuf>,
    #[command(flatten)]
    pub run: RunArguments,
    /// Exit with 0 if there is nothing to change, 2 if there are changes, 1 on failure
    #[arg(long)]
    pub detailed_exitcode: bool,
    /// Save the plan to this new file (mode 0600). `provision apply SAVED` applies exactly these changes, once
    #[arg(long, value_name = "SAVED")]
    pub out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct ApplyArguments {
    /// The plan file, a saved plan, or `-` for standard input [default: ./provision.yaml, or else the only plan file under
    /// ./plans]
    #[arg(value_name = "FILE|SAVED", add = ArgValueCompleter::new(PathCompleter::file()))]
    pub file: Option<PathBuf>,
    #[command(flatten)]
    pub run: RunArguments,
    /// Skip the confirmation prompt
    #[arg(long, short)]
    pub yes: bool,
    /// If another apply of the plan file is running, wait until it ends, or for at most SECONDS
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, value_parser = seconds)]
    pub wait: Option<Option<u64>>,
}

#[derive(Debug, Args)]
pub struct ShowArguments {
    /// The file written by `provision plan --out`
    #[arg(value_name = "SAVED")]
    pub saved: PathBuf,
    #[command(flatten)]
    pub format: FormatArguments,
}

#[derive(Debug, Args)]
pub struct ValidateArguments {
    /// The plan files, or `-` for standard input [default: ./provision.yaml, or else the only plan file under ./plans]
    #[arg(value_name = "FILE", add = ArgValueCompleter::new(complete::plan_files))]
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    pub variables: Variables,
    #[command(flatten)]
    pub format: CheckFormatArguments,
}

#[derive(Debug, Args)]
pub struct ExplainArguments {
    /// The plan file [default: ./provision.yaml, or else the only plan file under ./plans]
    #[arg(add = ArgValueCompleter::new(complete::subjects))]
    pub file: Option<String>,
    /// The step to explain [default: all], or a kind, or a key of a kind such as `key_file.verify`
    #[arg(add = ArgValueCompleter::new(complete::subjects))]
    pub id: Option<String>,
    #[command(flatten)]
    pub variables: Variables,
}

#[derive(Debug, Subcommand)]
pub enum RescueCommand {
    /// List the rescues of checkouts and files of the plan file's steps, newest first
    #[command(mut_arg("id", |arg| arg.help("The step whose rescues to list [default: all steps]")))]
    List(RescueArguments),
    /// Show the content of a rescue
    Show(RescueArguments),
    /// Restore the files of a rescue to their original paths
    Restore(RestoreArguments),
}

#[derive(Debug, Args)]
pub struct RestoreArguments {
    #[command(flatten)]
    pub rescue: RescueArguments,
    /// Write the files to this new directory instead; nothing else is changed
    #[arg(long, value_name = "DIR")]
    pub to: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct RescueArguments {
    /// The plan file [default: ./provision.yaml, or else the only plan file under ./plans]
    pub file: Option<String>,
    /// The rescue, by its id as `provision rescue list` prints it
    pub id: Option<String>,
    #[command(flatten)]
    pub variables: Variables,
}

#[derive(Debug, Args)]
pub struct HistoryArguments {
    /// The plan file whose runs to list [default: all plan files]
    pub file: Option<String>,
    /// The run to show, by its id or the start of its id
    pub run: Option<String>,
    /// List at most N runs
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
    /// Print one JSON object per line
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct FollowUpsArguments {
    /// The plan file [default: ./provision.yaml, or else the only plan file under ./plans]
    pub file: Option<PathBuf>,
    /// Close the follow-ups with these numbers
    #[arg(long, value_name = "ID,…", value_delimiter = ',', value_parser = follow_up_id)]
    pub done: Vec<u32>,
    /// Close all open follow-ups of the plan file
    #[arg(long, conflicts_with = "done")]
    pub done_all: bool,
    /// Print one JSON object per line
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
    /// JSON lines of `plan` or `apply` (`--format json`), or `-` for standard input
    #[arg(value_name = "FILE.jsonl", required = true)]
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    pub format: FormatArguments,
}

#[derive(Debug, Args)]
pub struct AdoptArguments {
    /// Directories, checkouts and private keys
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// A variable in a compose file
    #[arg(long = "variable", value_name = "FILE:NAME", num_args = 1.., value_parser = adopt_words::variable)]
    pub variables: Vec<Word<(PathBuf, String)>>,
    /// A table, by its qualified name
    #[arg(long = "table", value_name = "T", num_args = 1.., value_parser = adopt_words::table)]
    pub tables: Vec<Word<TableName>>,
    /// A series of tables, one for each period; add =PARENT if the parent table cannot be found
    #[arg(long, value_name = "S_{period}[=PARENT]", num_args = 1.., value_parser = adopt_words::series)]
    pub series: Vec<Word<Series>>,
    /// The environment variable that holds the URL of the warehouse
    #[arg(long, value_name = "NAME", default_value = "DATABASE_URL", value_parser = adopt_words::environment_name)]
    pub url_env: String,
    /// The environment variable that holds its password, where the URL does not
    #[arg(long, value_name = "NAME", value_parser = adopt_words::environment_name)]
    pub password_env: Option<String>,
}

#[derive(Debug, Args)]
pub struct InitArguments {
    /// The kinds to include a step of [default: directory]
    #[arg(value_name = "KIND")]
    pub kinds: Vec<String>,
}

/// How to install the completions of each shell.
const INSTALL_COMPLETIONS: &str = "\
Install them for your user, then start a new shell:
  bash
    provision completions --dynamic bash | install -D -m 644 /dev/stdin \\
      ~/.local/share/bash-completion/completions/provision
  zsh
    echo 'source <(provision completions --dynamic zsh)' >> ~/.zshrc
  fish
    provision completions --dynamic fish | install -D -m 644 /dev/stdin \\
      ~/.config/fish/completions/provision.fish
  elvish
    echo 'eval (provision completions --dynamic elvish | slurp)' \\
      >> ~/.config/elvish/rc.elv
  powershell
    provision completions --dynamic powershell >> $PROFILE";

#[derive(Debug, Args)]
#[command(after_help = INSTALL_COMPLETIONS)]
pub struct CompletionsArguments {
    /// The shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
    /// Complete plan files and steps, too: the script asks this program for them
    #[arg(long)]
    pub dynamic: bool,
}

#[derive(Debug, Args)]
pub struct ManArguments {
    /// Write the page of each command to this directory; it is created if it does not exist
    #[arg(long, value_name = "DIRECTORY")]
    pub out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct WorkerArguments {
    #[arg(long)]
    pub user: Option<String>,
}

/// People write a blank after a comma.
fn step_id(text: &str) -> Result<String, String> {
    let id = text.trim();
    if id.is_empty() {
        return Err("an id is empty: separate ids by one comma".to_owned());
    }
    Ok(id.to_owned())
}

fn seconds(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "expected a number of seconds without a unit, such as 30".to_owned())
}

fn follow_up_id(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| "expected the number of a follow-up, as `provision follow-ups` lists it".to_owned())
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

/// Parses a date. The error tells a date that does not exist from text that is not a date.
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

const DATE_FORM: &str = "expected a date like 2027-01-31";
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

/// Returns the command line without hidden commands, for completions and manual pages.
pub fn visible(command: clap::Command) -> clap::Command {
    let subcommands: Vec<clap::Command> =
        command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()).cloned().collect();
    let about = command.get_about().cloned().unwrap_or_default();
    clap::Command::new("provision")
        .version(env!("CARGO_PKG_VERSION"))
        .about(about)
        .args(command.get_arguments().cloned())
        .propagate_version(true)
        .subcommand_required(true)
        .subcommands(subcommands)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonexistent_dates_and_malformed_dates_have_different_errors() {
        assert_eq!(date("2028-02-29").unwrap(), jiff::civil::date(2028, 2, 29));
        for (text, message) in [
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
            assert_eq!(date(text), Err(message.to_owned()), "{text}");
        }
    }
}
