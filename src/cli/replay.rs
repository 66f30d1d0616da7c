//! `sidelight replay`.

mod judge;
mod page;
mod progress;
mod serve;
mod times;

use super::{Format, print};
use crate::exchange::Direction;
use crate::record::Recording;
use crate::replay::compare::downstream::{Noting, Places, Traces};
use crate::replay::compare::{Findings, Rules, rules};
use crate::replay::safety::Grant;
use crate::replay::schedule::Timing;
use crate::replay::seam::Hooks;
use crate::replay::session::{self, Sessions};
use crate::replay::verdict::{Run, Slo, Verdict};
use crate::replay::{self, Options, Passes, Source, Stop, Target, Wanted};
use crate::units::{parse_duration, parse_size};
use clap::{Args, ValueEnum};
use progress::Reporter;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use times::{Loop, Window};

pub(super) const EXAMPLES: &str = "\
Examples:
  sidelight replay recording/ --to http://127.0.0.1:8080
  sidelight replay recording/ --to http://127.0.0.1:8080 --speed 10 --account acme
  sidelight replay recording/ --to https://staging.example --ca ca.pem --rate poisson:200 --loop 10m
  sidelight replay recording/ --to http://127.0.0.1:8080 --until-slo 'p99<250ms,errors<1%'
  sidelight replay recording/ --primary http://10.0.0.1 --secondary http://10.0.0.2 --candidate http://10.0.0.3
  sidelight replay recording/ --to http://127.0.0.1:8080 --allow-unsafe POST,PUT --report run.html
  sidelight replay recording/ --to http://127.0.0.1:8080 --compare --downstream candidate-recording/

Requests carry x-request-type: TRACE, a fresh trace and x-sidelight-replay, which names the run and what was
recorded. Methods other than GET, HEAD, OPTIONS and TRACE are left out unless --allow-unsafe names them. A
target that the recording was made at is refused without a grant. The schedule is open and absolute: a slow
target makes latency, not a lower rate; when this program cannot keep the schedule, the run is INVALID.
Ctrl-C stops sending, waits for what is under way, and reports; the second Ctrl-C ends at once.

Exit status: 0 ok, 1 differences, a broken bound, INVALID, stopped, or the target is down, 2 usage.";

/// The arguments of `replay`.
#[derive(Args)]
pub(super) struct Replay {
    /// A recording: a directory of segments, or one segment
    recording: PathBuf,
    /// Where to: http://host:port or https://host:port
    #[arg(long, value_name = "URL", required_unless_present_any = ["candidate", "serve"], conflicts_with_all = ["primary", "secondary", "candidate"])]
    to: Option<String>,
    /// What is compared with: the version in use
    #[arg(long, value_name = "URL", requires = "candidate")]
    primary: Option<String>,
    /// The same version once more: what differs between the two is noise
    #[arg(long, value_name = "URL", requires = "primary")]
    secondary: Option<String>,
    /// What is compared: the new version
    #[arg(long, value_name = "URL", requires = "primary")]
    candidate: Option<String>,
    /// Answer the calls that the application makes to others from the recording, on this address, until Ctrl-C
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["to", "primary", "secondary", "candidate"])]
    serve: Option<SocketAddr>,
    /// With --serve: as long after the call, and in the rhythm, as recorded
    #[arg(long, requires = "serve")]
    recorded_latency: bool,
    /// The directory of keys of a recording that is sealed
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
    /// Authorities that certificates of https targets are verified against
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Host (:authority) of all requests; as recorded without it
    #[arg(long, value_name = "HOST")]
    host: Option<String>,

    #[command(flatten, next_help_heading = "What is sent")]
    wanted: What,
    #[command(flatten, next_help_heading = "When")]
    when: When,
    #[command(flatten, next_help_heading = "How")]
    how: How,
    #[command(flatten, next_help_heading = "Sessions and comparison")]
    judged: Judged,
    #[command(flatten, next_help_heading = "Result")]
    result: Outcome,
}

/// Which side's requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Side {
    /// What came to the application.
    Inbound,
    /// What the application asked of others.
    Outbound,
}

#[derive(Args)]
struct What {
    /// Requests to the application, or from it
    #[arg(long, value_enum, default_value_t = Side::Inbound)]
    side: Side,
    /// Only of this account
    #[arg(long, value_name = "ACCOUNT")]
    account: Option<String>,
    /// Only of this user
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Only of this route
    #[arg(long, value_name = "ROUTE")]
    route: Option<String>,
    /// Only a part of the time, from the recording's start: 10s..70s, 5m.., ..1h
    #[arg(long, value_name = "FROM..UNTIL", value_parser = Window::parse)]
    window: Option<Window>,
    /// Methods that are sent though they may change something: POST,PUT or *
    #[arg(long, value_name = "METHODS", value_delimiter = ',')]
    allow_unsafe: Vec<String>,
    /// Send requests whose content was not recorded as a whole
    #[arg(long)]
    allow_truncated: bool,
    /// Permission to send to a recorded authority: authority=HOST,until=2026-12-01T00:00:00Z
    #[arg(long, value_name = "GRANT", value_parser = Grant::parse)]
    grant: Vec<Grant>,
}

#[derive(Args)]
#[group(multiple = true)]
struct When {
    /// So many times as fast as recorded: 0.01 to 1000
    #[arg(long, value_name = "FACTOR", value_parser = Timing::parse_speed, conflicts_with_all = ["rate", "ramp", "step", "closed", "until_slo"])]
    speed: Option<f64>,
    /// Exchanges a second: 200 (evenly) or poisson:200; with --until-slo the first rate
    #[arg(long, value_name = "RATE", value_parser = Timing::parse_rate, conflicts_with_all = ["ramp", "step", "closed"])]
    rate: Option<Timing>,
    /// A rate that rises or falls: '100..1000 over 60s'
    #[arg(long, value_name = "RAMP", value_parser = Timing::parse_ramp, conflicts_with_all = ["step", "closed", "until_slo"])]
    ramp: Option<Timing>,
    /// A rate in steps: '100..1000 by 100 every 30s'
    #[arg(long, value_name = "STEPS", value_parser = Timing::parse_steps, conflicts_with_all = ["closed", "until_slo"])]
    step: Option<Timing>,
    /// A closed loop of so many connections: the target sets the rate, and latency hides what waited
    #[arg(long, value_name = "CONNECTIONS", value_parser = clap::value_parser!(u32).range(1..=100_000), conflicts_with = "until_slo")]
    closed: Option<u32>,
    /// Raise the rate until a bound breaks, and tell the capacity: 'p99<250ms,errors<1%'
    #[arg(long, value_name = "BOUNDS", value_parser = Slo::parse, conflicts_with_all = ["slo", "repeat"])]
    until_slo: Option<Slo>,
    /// How long each rate of --until-slo is tried
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "10s")]
    step_time: Duration,
    /// Send the recording so many times, or over and over for so long: 3 or 10m
    #[arg(long = "loop", value_name = "COUNT|DURATION", value_parser = Loop::parse)]
    repeat: Option<Loop>,
    /// Each account so many times at once, under names and connections of its own
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=10_000), default_value_t = 1)]
    amplify: u32,
    /// What random times are drawn from; the same seed gives the same dispatch hash
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    seed: u64,
}

#[derive(Args)]
struct How {
    /// How long an exchange may take
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "30s")]
    timeout: Duration,
    /// How long what is under way may take at the end
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "30s")]
    drain: Duration,
    /// How much of an answer's content is kept to be compared
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "1MiB")]
    keep_body: u64,
    /// Pieces of content, gRPC messages and WebSocket frames keep their recorded times
    #[arg(long)]
    piece_timing: bool,
    /// Keep x-request-type as it was recorded, instead of TRACE
    #[arg(long)]
    as_recorded: bool,
    /// Threads that send
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=256), default_value_t = 1)]
    drivers: u16,
    /// Beyond this p99 of the send lag the run is INVALID
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "1ms")]
    lag_max: Duration,
    /// Memory of what is under way; beyond it the run is INVALID
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "512MiB")]
    in_flight_max: u64,
}

#[derive(Args)]
struct Judged {
    /// Compare with the recorded answers; with --primary and --candidate it is always compared
    #[arg(long)]
    compare: bool,
    /// Compare what the application asks of others as well: a directory that the sidecar beside the candidate records its
    /// outbound side into, while this runs; may be given more than once
    #[arg(long, value_name = "DIR", conflicts_with = "serve")]
    downstream: Vec<PathBuf>,
    /// Paths that are not compared: /items/*/id, header:etag, status; may be given more than once
    #[arg(long, value_name = "PATH")]
    ignore: Vec<String>,
    /// Arrays whose order does not matter
    #[arg(long = "set", value_name = "PATH")]
    sets: Vec<String>,
    /// Numbers that may differ a little: /price=0.01 or /price=1%
    #[arg(long, value_name = "PATH=AMOUNT")]
    tolerance: Vec<String>,
    /// All rules of the comparison, YAML: ignore, tolerances, sets, matches, presence, compared_headers
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
    /// Send values as they were recorded, though the target gave others
    #[arg(long)]
    no_sessions: bool,
    /// Paths in JSON answers whose values are learned, however they look
    #[arg(long, value_name = "PATH")]
    learn: Vec<String>,
    /// Sign JSON Web Tokens again, with times of today: HS256:SECRET, HS256:@FILE, or RS256:@KEY.pem
    /// (also PS256, ES256, EdDSA …)
    #[arg(long, value_name = "KEY", value_parser = session::Key::parse)]
    jwt_key: Vec<session::Key>,
}

#[derive(Args)]
struct Outcome {
    /// Bounds that the run must hold: 'p99<250ms,errors<1%'
    #[arg(long, value_name = "BOUNDS", value_parser = Slo::parse)]
    slo: Option<Slo>,
    /// How the result is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Write the result into a file as well: one HTML page, or JSON where its name ends in .json
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

impl Replay {
    pub(super) fn execute(self) -> ExitCode {
        let usage = |problem: String| {
            eprintln!("error: {problem}");
            ExitCode::from(2)
        };
        let opened = match &self.keys {
            Some(keys) => Recording::open_with_keys(&self.recording, keys),
            None => Recording::open(&self.recording),
        };
        let recording = match opened {
            Ok(recording) => recording,
            Err(problem) => {
                eprintln!("error: {problem}");
                return ExitCode::FAILURE;
            }
        };
        if let Some(address) = self.serve {
            return self.stub(&recording, address);
        }
        let problems: Vec<String> = recording.problems().iter().map(ToString::to_string).collect();
        let source: Arc<dyn Source> = Arc::new(recording);
        let found = judge::Found::default();
        let hooks = match self.hooks(&found, &source) {
            Ok(hooks) => hooks,
            Err(problem) => return usage(problem),
        };
        let options = match self.options() {
            Ok(options) => options,
            Err(problem) => return usage(problem),
        };
        let stop = Stop::default();
        watch_interrupts(stop.clone());
        let mut reporter = Reporter::new();
        let run = replay::run(&source, &options, hooks, &stop, &mut |progress| reporter.tell(progress));
        reporter.end();
        let mut run = match run {
            Ok(run) => run,
            Err(problem) => return usage(problem),
        };
        run.problems.extend(problems);
        let found = found.lock().unwrap_or_else(PoisonError::into_inner).take();
        // What was asked for and could not be done must not look as if it had passed.
        let undone = found.as_ref().and_then(|found| found.downstream.as_ref()?.problem.clone());
        if let Some(undone) = undone {
            run.worsen(Verdict::Invalid, undone);
        }
        if let Some(path) = &self.result.report
            && let Err(error) = write_report(&run, found.as_ref(), path)
        {
            eprintln!("error: {}: {error}", path.display());
            return ExitCode::FAILURE;
        }
        let printed = match self.result.format {
            Format::Text => {
                let compared = found.as_ref().map_or_else(String::new, |found| format!("\n{found}"));
                print(&format!("{}{compared}", run.text()))
            }
            Format::Json => match serde_json::to_string_pretty(&run) {
                Ok(text) => print(&text),
                Err(error) => {
                    eprintln!("error: the result is not written: {error}");
                    ExitCode::FAILURE
                }
            },
        };
        if run.verdict.is_success() { printed } else { ExitCode::FAILURE }
    }

    /// What learns and compares.
    fn hooks(&self, found: &judge::Found, source: &Arc<dyn Source>) -> Result<Hooks, String> {
        let rules = self.rules()?;
        let downstream = self.downstream(source)?;
        let is_compared = self.judged.compare || self.candidate.is_some() || downstream.is_some();
        let traces = downstream.as_ref().map(|(_, traces)| Arc::clone(traces));
        // The last of the targets, see `options`.
        let others = [&self.primary, &self.secondary];
        let candidate = others.into_iter().flatten().count() as u32;
        let config = session::Config {
            learn: self.judged.learn.clone(),
            jwt_keys: self.judged.jwt_key.clone(),
            ..session::Config::default()
        };
        // Idempotency keys of two runs must not be the same.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let run = format!("{}-{}", now.as_nanos(), std::process::id());
        let has_sessions = !self.judged.no_sessions;
        let is_wanted = has_sessions || traces.is_some();
        let make = move || -> Box<dyn replay::seam::Session> {
            let sessions = has_sessions.then(|| Sessions::new(config.clone(), &run));
            Box::new(judge::Learning::new(sessions, traces.as_ref().map(Noting::new), candidate))
        };
        let comparing = is_compared.then(|| judge::Comparing::new(rules, found, downstream));
        Ok(Hooks {
            session: if is_wanted { Some(Arc::new(make)) } else { None },
            collector: comparing.map(|comparing| Box::new(comparing) as Box<dyn replay::seam::Collector>),
        })
    }

    /// Where downstream calls are compared, if they are.
    fn downstream(&self, source: &Arc<dyn Source>) -> Result<Option<(Places, Arc<Traces>)>, String> {
        if self.judged.downstream.is_empty() {
            return Ok(None);
        }
        if self.wanted.side == Side::Outbound {
            return Err(
                "--downstream compares the calls of what came in: it does not go with --side outbound".into(),
            );
        }
        if let Some(missing) = self.judged.downstream.iter().find(|path| !path.is_dir()) {
            return Err(format!(
                "--downstream {}: is no directory; start the sidecar beside the candidate first, with a recording of its outbound side",
                missing.display()
            ));
        }
        let places = Places {
            recording: Arc::clone(source),
            direction: Direction::Inbound,
            observed: self.judged.downstream.clone(),
            since: SystemTime::now(),
        };
        Ok(Some((places, Arc::default())))
    }

    fn rules(&self) -> Result<Rules, String> {
        let mut config = match &self.judged.rules {
            None => rules::Config::default(),
            Some(path) => {
                let shown = path.display();
                let text = std::fs::read_to_string(path).map_err(|error| format!("{shown}: {error}"))?;
                serde_yaml::from_str(&text).map_err(|error| format!("{shown}: {error}"))?
            }
        };
        config.ignore.extend(self.judged.ignore.iter().cloned());
        config.sets.extend(self.judged.sets.iter().cloned());
        for tolerance in &self.judged.tolerance {
            let (path, amount) = tolerance
                .split_once('=')
                .ok_or_else(|| format!("--tolerance {tolerance}: write PATH=AMOUNT, as in /price=0.01"))?;
            config.tolerances.insert(path.into(), amount.into());
        }
        Rules::new(&config)
    }

    fn options(&self) -> Result<Options, String> {
        let mut targets = Vec::new();
        for (name, url) in [
            ("target", &self.to),
            ("primary", &self.primary),
            ("secondary", &self.secondary),
            ("candidate", &self.candidate),
        ] {
            if let Some(url) = url {
                targets.push(Target::open(name, url, self.ca.as_ref())?);
            }
        }
        if let Some(host) = &self.host
            && (host.is_empty() || !host.bytes().all(|byte| byte.is_ascii_graphic()))
        {
            return Err(format!("--host {host:?} is no host"));
        }
        let window = self.wanted.window.unwrap_or_default();
        Ok(Options {
            recording: self.recording.display().to_string(),
            wanted: Wanted {
                direction: match self.wanted.side {
                    Side::Inbound => Direction::Inbound,
                    Side::Outbound => Direction::Outbound,
                },
                account_id: self.wanted.account.clone(),
                user_id: self.wanted.user.clone(),
                route: self.wanted.route.clone(),
                from_ns: window.from_ns,
                until_ns: window.until_ns,
                unsafe_methods: self
                    .wanted
                    .allow_unsafe
                    .iter()
                    .map(|name| name.trim().to_ascii_uppercase())
                    .collect(),
                allow_truncated: self.wanted.allow_truncated,
            },
            targets,
            grants: self.wanted.grant.clone(),
            timing: self.timing()?,
            seed: self.when.seed,
            passes: match self.when.repeat {
                None => Passes::Count(1),
                Some(Loop::Count(count)) => Passes::Count(count),
                Some(Loop::For(time)) => Passes::For(time),
            },
            clones: self.when.amplify,
            timeout: self.how.timeout.max(Duration::from_millis(1)),
            drain: self.how.drain,
            keep_body_bytes: usize::try_from(self.how.keep_body).unwrap_or(usize::MAX),
            piece_timing: self.how.piece_timing,
            as_recorded: self.how.as_recorded,
            host: self.host.clone(),
            drivers: usize::from(self.how.drivers),
            lag_p99_max: self.how.lag_max,
            in_flight_bytes_max: self.how.in_flight_max,
            slo: self.when.until_slo.clone().or_else(|| self.result.slo.clone()),
            step: self.when.step_time,
            ..Options::default()
        })
    }

    fn timing(&self) -> Result<Timing, String> {
        let When { speed, rate, ramp, step, closed, until_slo, .. } = &self.when;
        if until_slo.is_some() {
            return match rate {
                None => Ok(Timing::Led { from: 100.0 }),
                Some(Timing::Fixed { rate }) => Ok(Timing::Led { from: *rate }),
                Some(_) => Err("--until-slo starts at an even rate: --rate 100".into()),
            };
        }
        let speed = speed.map(|speed| Timing::Recorded { speed });
        let closed = closed.map(|connections| Timing::Closed { connections });
        let named =
            speed.or(closed).or_else(|| rate.clone()).or_else(|| ramp.clone()).or_else(|| step.clone());
        Ok(named.unwrap_or(Timing::Recorded { speed: 1.0 }))
    }
}

/// Ends the run at the first interrupt, and the process at the second.
fn watch_interrupts(stop: Stop) {
    let watch = move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async {
            loop {
                if tokio::signal::ctrl_c().await.is_err() {
                    return;
                }
                if stop.is_stopped() {
                    eprintln!("ended; what was under way is not counted");
                    std::process::exit(1);
                }
                eprintln!("stopping: what is under way is finished; Ctrl-C again ends at once");
                stop.stop();
            }
        });
    };
    // Without it an interrupt ends the process as usual.
    let _ = std::thread::Builder::new().name("replay-signals".into()).spawn(watch);
}

fn write_report(run: &Run, found: Option<&Findings>, path: &Path) -> std::io::Result<()> {
    let is_json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    let text = if is_json { serde_json::to_string_pretty(run)? } else { page::page(run, found).html() };
    std::fs::write(path, text)
}
