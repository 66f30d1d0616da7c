//! `sidelight demo`: a small mesh on loopback, and what was observed of it.
//!
//! What: three services ([`mesh`]) with a real sidecar process beside each instance, orders of several accounts
//! through them ([`traffic`]), an endpoint that is killed, requests that are wrong; then a report ([`tell`]) that is
//! made of nothing but the sidecars' event files, their admin API, their metrics, `explain` and `/proc`. Why in the
//! program: it needs no more than the program, so it runs wherever that does.
//!
//! How it fails: what was expected and not observed is told at the end, and the run fails. Every process that was
//! started ends with it ([`stage`]), also on Ctrl-C.

mod event;
mod expect;
mod mesh;
mod message;
mod observed;
mod process;
mod service;
mod stage;
mod tell;
mod terminal;
mod traffic;

use expect::Expectations;
use mesh::Mesh;
use observed::Observed;
use service::Carried;
use stage::Stage;
use std::time::Instant;
use tell::{Cost, Failure, Sickness};
use terminal::{Cell, Style, Terminal};
use traffic::{Account, Answers, Refusal};

/// How a run should be.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Leave the mesh up at the end, until Ctrl-C.
    pub keep: bool,
}

/// Runs the demo, and tells on the standard output what was observed. Whether all was as expected.
///
/// # Errors
/// What could not be started or asked, in one line.
pub fn run(options: Options) -> Result<bool, String> {
    let started = Instant::now();
    let terminal = Terminal::new();
    let stage = Stage::set()?;
    let mut expectations = Expectations::default();
    let mesh = Mesh::start(&stage)?;
    introduce(terminal, &mesh)?;

    let played = Played::play(&mesh)?;
    played.tell(terminal, &mesh, &mut expectations)?;
    let end = End { terminal, stage: &stage, mesh: &mesh, failure: &played.failure };
    if options.keep {
        let is_met = expectations.tell(terminal);
        end.keep(is_met)
    }
    end.drain(&mut expectations)?;
    let is_met = expectations.tell(terminal);
    let verdict = if is_met { "All of it was observed" } else { "Something was NOT as expected" };
    let exchanges: usize = played.observed.expected.iter().sum();
    let (sidecars, seconds) = (mesh.nodes.len(), started.elapsed().as_secs_f64());
    terminal.line(&format!(
        "\n   {verdict}: {exchanges} exchanges through {sidecars} sidecars in {seconds:.1} s."
    ));
    terminal.note("KEEP=1 leaves the mesh up, to be looked at.");
    Ok(is_met)
}

/// What happened.
struct Played {
    clocks: Cost,
    before: Answers,
    failure: Failure,
    alone: (Account, Answers),
    after: Answers,
    sickness: Sickness,
    refusals: Vec<Refusal>,
    observed: Observed,
}

impl Played {
    /// A wave of orders, an endpoint that dies, one order alone, another wave, an endpoint that is sick for a while, and
    /// requests that are wrong.
    fn play(mesh: &Mesh) -> Result<Played, String> {
        let storefront = mesh.node("storefront")?.sidecar.address("inbound")?;
        let clocks = Cost::begin(mesh);
        let before = traffic::wave(storefront, 1);
        let failure = Failure::bring_about(mesh, &Observed::read(mesh, &[]))?;
        let checkout = &mesh.node("checkout")?.service;
        checkout.set_carried(Carried::ALONE);
        let alone = traffic::alone(storefront);
        checkout.set_carried(Carried::IN_A_CROWD);
        let after = traffic::wave(storefront, 2);
        let sickness = Sickness::bring_about(mesh, storefront)?;
        let refusals = traffic::wrong(mesh)?;
        let observed = Observed::read(mesh, &refusals);
        Ok(Played { clocks, before, failure, alone, after, sickness, refusals, observed })
    }

    fn tell(&self, terminal: Terminal, mesh: &Mesh, expectations: &mut Expectations) -> Result<(), String> {
        let Played { clocks, before, failure, alone: (account, alone), after, sickness, refusals, observed } =
            self;
        let waves = [before, alone, after, &sickness.during, &sickness.after];
        let sent = waves.iter().map(|wave| wave.sent).sum();
        tell::routing(terminal, mesh, observed, &waves, expectations)?;
        tell::explain(terminal, mesh, expectations)?;
        tell::failure(terminal, mesh, observed, failure, [before, alone, after], expectations)?;
        tell::trace(terminal, mesh, observed, failure, account, expectations)?;
        tell::ejection(terminal, mesh, observed, sickness, expectations)?;
        tell::graph(terminal, mesh, observed, failure, sent, expectations);
        tell::refusals(terminal, mesh, observed, refusals, sent, expectations);
        tell::files(terminal, mesh, observed, expectations);
        tell::metrics(terminal, mesh, failure, sent, expectations)?;
        tell::cost(terminal, mesh, observed, clocks);
        Ok(())
    }
}

/// Says what was started.
fn introduce(terminal: Terminal, mesh: &Mesh) -> Result<(), String> {
    terminal.heading("A small mesh on loopback");
    terminal.line(
        "   storefront → checkout → payments (two instances for `gold`, two for `standard`); beside each",
    );
    terminal.line(
        "   instance a sidecar, a process of its own. A service calls 127.0.0.1, its sidecar's outbound",
    );
    terminal.line("   listener, with nothing but the other's name as Host.\n");
    let mut rows = Vec::new();
    for node in &mesh.nodes {
        rows.push(vec![
            Cell::text(node.name).styled(Style::Name),
            Cell::text(node.service_name),
            Cell::text(node.service.address.to_string()),
            Cell::text(node.sidecar.address("inbound")?.to_string()),
            Cell::text(node.sidecar.address("outbound")?.to_string()),
            Cell::number(node.sidecar.pid),
        ]);
    }
    terminal.table(&["instance", "service", "app", "inbound", "outbound", "sidecar's pid"], &rows);
    Ok(())
}

/// The end of a run.
struct End<'a> {
    terminal: Terminal,
    stage: &'a Stage,
    mesh: &'a Mesh,
    failure: &'a Failure,
}

impl End<'_> {
    /// Asks every sidecar to drain; each should end with success, and cut nothing.
    fn drain(&self, expectations: &mut Expectations) -> Result<(), String> {
        self.mesh.nodes.iter().for_each(|node| node.service.hang_up());
        let living: Vec<_> = self.mesh.nodes.iter().filter(|node| node.name != self.failure.name).collect();
        living.iter().for_each(|node| node.sidecar.terminate());
        let mut is_clean = true;
        for node in &living {
            let (status, drained) = node.sidecar.await_end()?;
            is_clean &= status.success() && drained["cut"] == 0;
        }
        expectations.expect(
            is_clean,
            format!("on SIGTERM the {} sidecars drained, cut nothing and ended with 0", living.len()),
        );
        Ok(())
    }

    /// Prints where to look, and stays until a signal ends the process.
    fn keep(&self, is_met: bool) -> ! {
        self.terminal.heading("The mesh stays up until Ctrl-C");
        let address = |name: &str, listener: &str| {
            let address = self.mesh.node(name).and_then(|node| node.sidecar.address(listener));
            address.map_or_else(|_| "–".into(), |address| address.to_string())
        };
        self.terminal.line(&format!(
            "   curl -d '{{\"order\":\"mine\",\"amount\":1}}' -H 'x-account-id: me' \\\n        -H 'x-license: gold' http://{}/buy",
            address("storefront", "inbound")
        ));
        for node in self.mesh.nodes.iter().filter(|node| node.name != self.failure.name) {
            self.terminal.line(&format!(
                "   {:<11} admin http://{}/   metrics http://{}/metrics",
                node.name,
                address(node.name, "admin"),
                address(node.name, "telemetry")
            ));
        }
        self.terminal.line(&format!("   events and configurations: {}/", self.stage.directory.display()));
        self.stage.end_on_signal(u8::from(!is_met));
        loop {
            std::thread::park();
        }
    }
}
