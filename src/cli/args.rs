//! The command line, defined once.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use jiff::civil::Date;

/// Makes a runbook's steps true on this host: shows what differs, and does what is missing and nothing else.
#[derive(Debug, Parser)]
#[command(name = "provision", version, about, propagate_version = true)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show what differs from the plan file; nothing is changed
    Plan(PlanArguments),
    /// Show the plan, ask, and make its changes
    Apply(ApplyArguments),
    /// Judge the plan file; the host is not touched
    Validate(ValidateArguments),
    /// Tell why steps exist, what their absence looks like, and how they are done by hand
    Explain(ExplainArguments),
    /// The copies of local work that was taken out of the way
    Rescue {
        #[command(subcommand)]
        command: RescueCommand,
    },
    /// List the runs that changed something on this host, or show one
    History(HistoryArguments),
    #[command(hide = true)]
    Worker(WorkerArguments),
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
    /// Count periods as of this date [default: today, UTC]
    #[arg(long, value_name = "DATE", value_parser = date)]
    pub as_of: Option<Date>,
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
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
    /// The plan file, or `-` for standard input [default: ./provision.yaml, or else the only *.yaml under ./plans]
    pub file: Option<PathBuf>,
    #[command(flatten)]
    pub run: RunArguments,
    /// Exit with 0 where nothing is to change, 2 where something is, 1 on failure
    #[arg(long)]
    pub detailed_exitcode: bool,
    /// Save the plan to this new file (mode 0600); `provision apply SAVED` makes its changes and no others, once
    #[arg(long, value_name = "SAVED")]
    pub out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct ApplyArguments {
    /// The plan file, a saved plan, or `-` for standard input [default: ./provision.yaml, or else the only *.yaml under
    /// ./plans]
    #[arg(value_name = "FILE|SAVED")]
    pub file: Option<PathBuf>,
    #[command(flatten)]
    pub run: RunArguments,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
    /// Where another apply of the plan file is under way, wait for its end (for so many seconds at most)
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true)]
    pub wait: Option<Option<u64>>,
}

#[derive(Debug, Args)]
pub struct ValidateArguments {
    /// The plan file [default: ./provision.yaml, or else the only *.yaml under ./plans]
    pub file: Option<PathBuf>,
    #[command(flatten)]
    pub variables: Variables,
}

#[derive(Debug, Args)]
pub struct ExplainArguments {
    /// The plan file, a step's id, or both
    #[arg(value_name = "FILE] [ID", num_args = 0..=2)]
    pub words: Vec<String>,
    #[command(flatten)]
    pub variables: Variables,
}

#[derive(Debug, Subcommand)]
pub enum RescueCommand {
    /// List the rescues in the plan file's repositories
    List(RescueArguments),
    /// Show what a rescue holds
    Show(RescueArguments),
    /// Put a rescue's files back where they were
    Restore(RescueArguments),
}

#[derive(Debug, Args)]
pub struct RescueArguments {
    /// The plan file, a rescue's id, or both
    #[arg(value_name = "FILE] [ID", num_args = 0..=2)]
    pub words: Vec<String>,
    #[command(flatten)]
    pub variables: Variables,
}

#[derive(Debug, Args)]
pub struct HistoryArguments {
    /// The plan file whose runs to list, a run's id or the beginning of one, or both
    #[arg(value_name = "FILE] [RUN", num_args = 0..=2)]
    pub words: Vec<String>,
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
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

fn date(text: &str) -> Result<Date, String> {
    text.parse().map_err(|_| "write a date as YYYY-MM-DD".to_owned())
}
