//! Programs of the machine that tests drive: a missing one is a failure that says what to install.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Runs a program to its end.
///
/// # Panics
/// When it is not installed; says which Debian package has it.
pub fn run<A: AsRef<OsStr>>(program: &str, arguments: &[A]) -> Output {
    let mut command = Command::new(program);
    command.args(arguments);
    command.output().unwrap_or_else(|error| {
        panic!("{program}: {error}; install it: apt-get install {}", package(program))
    })
}

/// Runs a program that must succeed; gives its standard output.
///
/// # Panics
/// When it is not installed or fails.
pub fn output<A: AsRef<OsStr>>(program: &str, arguments: &[A]) -> String {
    let done = run(program, arguments);
    let (out, errors) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{program} ended with {}: {errors}\n{out}", done.status);
    out.into_owned()
}

/// Where cargo puts everything, found from where this test runs: `<target>/<profile>/deps/<test>`.
///
/// # Panics
/// When it runs from elsewhere.
pub fn target() -> PathBuf {
    let test = std::env::current_exe().expect("own path");
    test.ancestors().nth(3).map(Path::to_owned).expect("a test runs from target/<profile>/deps")
}

fn package(program: &str) -> &str {
    match program {
        "h2load" | "nghttp" | "nghttpd" => "nghttp2",
        "node" | "npm" => "nodejs npm",
        "python3" => "python3 python3-venv",
        other => other,
    }
}
