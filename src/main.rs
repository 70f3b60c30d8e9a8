//! Arguments in, exit code out.

use std::process::ExitCode;

#[expect(clippy::disallowed_methods, reason = "the start of the program")]
fn main() -> ExitCode {
    provision::cli::main(std::env::args_os()).into()
}
