//! The `sidelight` command.

use std::process::ExitCode;

/// See Cargo.toml for why.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    sidelight::app::use_small_pages();
    sidelight::cli::main()
}
