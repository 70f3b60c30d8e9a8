//! Arguments in, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    provision::cli::main(std::env::args_os()).into()
}
