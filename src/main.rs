//! The `sidelight` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    sidelight::cli::main()
}
