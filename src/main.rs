//! The `sidelight` command.

use std::process::ExitCode;

/// See Cargo.toml for why.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs before the allocator is set up: huge pages under its first arena would double what an idle proxy holds.
#[used]
#[unsafe(link_section = ".init_array.00001")]
static SMALL_PAGES: extern "C" fn() = use_small_pages;

extern "C" fn use_small_pages() {
    sidelight::app::use_small_pages();
}

fn main() -> ExitCode {
    sidelight::cli::main()
}
