//! `sidelight demo`: a small mesh on loopback, and what was observed of it.
//!
//! What: three services ([`mesh`]) with a real sidecar process beside each instance, orders of several accounts
//! through them ([`traffic`]), an endpoint that is killed, requests that are wrong, a [`collector`] that is down at first;
//! then a report ([`tell`]) that is made of nothing but the sidecars' event files and archive, what the collector got,
//! their admin API, their metrics, `explain`, `graph` and `/proc`. Why in the program: it needs no more than the program,
//! so it runs wherever that does.
//!
//! How it fails: what was expected and not observed is told at the end, and the run fails. Every process that was
//! started ends with it ([`stage`]), also on Ctrl-C.

mod collector;
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
use process::Sidecar;
use service::Carried;
use stage::Stage;
use std::time::Instant;
use tell::{Cost, Delivery, Failure, Outage, Sickness};
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
    let end =
        End { terminal, stage: &stage, mesh: &mesh, failure: &played.failure, delivery: &played.delivery };
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
    outage: Outage,
    sickness: Sickness,
    refusals: Vec<Refusal>,
    observed: Observed,
    delivery: Delivery,
}

impl Played {
    /// A wave of orders, an endpoint that dies, one order alone, another wave, the end of the collector's outage, an
    /// endpoint that is sick for a while, requests that are wrong, and the sidecar that died again.
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
        let outage = Outage::end(mesh, &failure)?;
        let sickness = Sickness::bring_about(mesh, storefront)?;
        let refusals = traffic::wrong(mesh)?;
        let observed = Observed::read(mesh, &refusals);
        let delivery = Delivery::bring_about(mesh, &failure)?;
        Ok(Played { clocks, before, failure, alone, after, outage, sickness, refusals, observed, delivery })
    }

    fn tell(&self, terminal: Terminal, mesh: &Mesh, expectations: &mut Expectations) -> Result<(), String> {
        let Played { clocks, before, failure, alone: (account, alone), after, .. } = self;
        let Played { outage, sickness, refusals, observed, delivery, .. } = self;
        let waves = [before, alone, after, &sickness.during, &sickness.after];
        let sent = waves.iter().map(|wave| wave.sent).sum();
        tell::routing(terminal, mesh, observed, &waves, expectations)?;
        tell::explain(terminal, mesh, expectations)?;
        tell::failure(terminal, mesh, observed, failure, [before, alone, after], expectations)?;
        tell::trace(terminal, mesh, observed, failure, account, expectations)?;
        tell::ejection(terminal, mesh, observed, sickness, expectations)?;
        tell::graph(terminal, mesh, observed, failure, sent, expectations);
        tell::map(terminal, mesh, failure, [sent, refusals.len() as u64], expectations)?;
        tell::refusals(terminal, mesh, observed, refusals, sent, expectations);
        tell::files(terminal, mesh, observed, expectations);
        tell::metrics(terminal, mesh, failure, sent, expectations)?;
        tell::sinks(terminal, mesh, observed, failure, (outage, delivery), expectations);
        tell::replay(terminal, mesh, expectations)?;
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
    terminal.line(
        "   listener, with nothing but the other's name as Host. What a sidecar sees it tells three sinks:",
    );
    terminal.line("   a file, an archive, and OpenTelemetry's collector, which nobody has started yet.\n");
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
    delivery: &'a Delivery,
}

impl End<'_> {
    /// The sidecars that run: of the one that was killed, the second process.
    fn living(&self) -> Vec<&Sidecar> {
        let nodes = self.mesh.nodes.iter();
        let running = nodes.map(|node| match node.name == self.failure.name {
            true => &self.delivery.revived,
            false => &node.sidecar,
        });
        running.collect()
    }

    /// Asks every sidecar to drain; each should end with success, and cut nothing.
    fn drain(&self, expectations: &mut Expectations) -> Result<(), String> {
        self.mesh.nodes.iter().for_each(|node| node.service.hang_up());
        let living = self.living();
        living.iter().for_each(|sidecar| sidecar.terminate());
        let mut is_clean = true;
        for sidecar in &living {
            let (status, drained) = sidecar.await_end()?;
            is_clean &= status.success() && drained["cut"] == 0;
        }
        tell::archive(self.terminal, self.mesh, &self.stage.directory, expectations)?;
        expectations.expect(
            is_clean,
            format!("on SIGTERM the {} sidecars drained, cut nothing and ended with 0", living.len()),
        );
        Ok(())
    }

    /// Prints where to look, and stays until a signal ends the process.
    fn keep(&self, is_met: bool) -> ! {
        self.terminal.heading("The mesh stays up until Ctrl-C");
        let address = |sidecar: &Sidecar, listener: &str| {
            sidecar.address(listener).map_or_else(|_| "–".into(), |address| address.to_string())
        };
        let storefront = self.mesh.node("storefront").map(|node| address(&node.sidecar, "inbound"));
        self.terminal.line(&format!(
            "   curl -d '{{\"order\":\"mine\",\"amount\":1}}' -H 'x-account-id: me' \\\n        -H 'x-license: gold' http://{}/buy",
            storefront.unwrap_or_default()
        ));
        for sidecar in self.living() {
            self.terminal.line(&format!(
                "   {:<11} admin http://{}/   metrics http://{}/metrics",
                sidecar.name,
                address(sidecar, "admin"),
                address(sidecar, "telemetry")
            ));
        }
        self.terminal.line(&format!("   events and configurations: {}/", self.stage.directory.display()));
        self.stage.end_on_signal(u8::from(!is_met));
        loop {
            std::thread::park();
        }
    }
}
