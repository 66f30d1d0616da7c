//! Where the events went: the sinks of every sidecar and their books. One of them was down for a while, and one sidecar was
//! killed with events that nobody had had yet.

use super::Failure;
use crate::demo::event::{self, Event};
use crate::demo::expect::Expectations;
use crate::demo::mesh::{Mesh, Node, SINKS};
use crate::demo::observed::Observed;
use crate::demo::process::Sidecar;
use crate::demo::terminal::{Cell, Style, Terminal};
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// How long the sinks may take to have everything: a pause between two attempts, and room for a busy machine.
const DELIVERED_TIMEOUT: Duration = Duration::from_secs(10);

/// The sink that was down.
const DOWN: &str = "otlp";

/// What the admin API says of one sink.
#[derive(Clone, Debug)]
struct Book {
    sink: String,
    produced: u64,
    delivered: u64,
    dropped: u64,
    queued: u64,
    is_up: bool,
    reason: String,
}

/// The books of a sidecar, in the order of [`SINKS`].
fn books(sidecar: &Sidecar) -> Result<Vec<Book>, String> {
    let overview = sidecar.ask("/")?;
    let told = overview["events"].as_array().map(Vec::as_slice).unwrap_or_default();
    let of = |sink: &&str| {
        let book = told.iter().find(|book| book["sink"] == **sink);
        let book = book.ok_or_else(|| format!("the sidecar of {} does not tell of {sink}", sidecar.name))?;
        let number = |key: &str| book[key].as_u64().unwrap_or(0);
        Ok(Book {
            sink: (*sink).to_owned(),
            produced: number("produced"),
            delivered: number("delivered"),
            dropped: number("dropped"),
            queued: number("queued"),
            is_up: book["up"] == true,
            reason: book["last_error"]["reason"].as_str().unwrap_or_default().into(),
        })
    };
    SINKS.iter().map(of).collect()
}

impl Book {
    fn is_balanced(&self) -> bool {
        self.produced == self.delivered + self.dropped + self.queued
    }

    fn is_empty(&self) -> bool {
        self.is_balanced() && self.queued == 0
    }

    fn state(&self) -> Cell {
        match self.is_up {
            true => Cell::text("up").styled(Style::Good),
            false => Cell::text("down").styled(Style::Bad),
        }
    }

    fn numbers(&self) -> [Cell; 4] {
        [self.produced, self.delivered, self.dropped, self.queued].map(Cell::number)
    }
}

/// The books while nobody listened at the collector's address.
#[derive(Debug)]
pub(in crate::demo) struct Outage {
    books: Vec<(&'static str, Book)>,
}

impl Outage {
    /// Reads the books of those that live, and then opens the collector.
    pub(in crate::demo) fn end(mesh: &Mesh, failure: &Failure) -> Result<Outage, String> {
        let mut down = Vec::new();
        for node in mesh.nodes.iter().filter(|node| node.name != failure.name) {
            let book = books(&node.sidecar)?.into_iter().find(|book| book.sink == DOWN);
            down.extend(book.map(|book| (node.name, book)));
        }
        mesh.collector.open().map_err(|error| format!("the collector: {error}"))?;
        Ok(Outage { books: down })
    }
}

/// The books when everybody had everything.
#[derive(Debug)]
pub(in crate::demo) struct Delivery {
    /// The sidecar that was killed, started again.
    pub(in crate::demo) revived: Sidecar,
    waited: Duration,
    /// By sidecar: the books, and what is in its event file.
    all: Vec<(&'static str, Vec<Book>, Lines)>,
}

/// What is in an event file.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lines {
    all: u64,
    /// Those with an id that no line before has.
    pub(super) different: u64,
    /// Of those: exchanges and attempts of a trace that is recorded, which the collector gets as spans.
    spans: u64,
}

impl Lines {
    pub(super) fn of(events: &[Event]) -> Lines {
        let mut lines = Lines { all: events.len() as u64, ..Lines::default() };
        let mut seen = HashSet::new();
        for event in events {
            if seen.insert(event.id()) {
                lines.different += 1;
                lines.spans += u64::from(event.is_recorded_span());
            }
        }
        lines
    }
}

impl Delivery {
    /// Starts the sidecar that was killed again, and waits until the sinks of all have everything but the archive, whose
    /// files are not complete yet.
    pub(in crate::demo) fn bring_about(mesh: &Mesh, failure: &Failure) -> Result<Delivery, String> {
        let began = Instant::now();
        let revived = mesh.node(failure.name)?.sidecar.again()?;
        loop {
            let mut all = Vec::new();
            let mut is_whole = true;
            for node in &mesh.nodes {
                let books = books(sidecar(node, failure, &revived))?;
                is_whole &= books.iter().filter(|book| book.sink != "archive").all(Book::is_empty);
                all.push((node.name, books, Lines::default()));
            }
            let is_over = began.elapsed() >= DELIVERED_TIMEOUT;
            if is_whole || is_over {
                // Read after the books: what came meanwhile is in the file and not in them, and asks for another look.
                for ((_, _, lines), node) in all.iter_mut().zip(&mesh.nodes) {
                    *lines = Lines::of(&event::all(&node.sidecar.events));
                }
                if is_over || all.iter().all(|(_, books, lines)| lines.is_of(books)) {
                    return Ok(Delivery { revived, waited: began.elapsed(), all });
                }
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn sidecar<'a>(node: &'a Node, failure: &Failure, revived: &'a Sidecar) -> &'a Sidecar {
    if node.name == failure.name { revived } else { &node.sidecar }
}

impl Lines {
    /// Whether the file has what its sink says that it delivered.
    fn is_of(&self, books: &[Book]) -> bool {
        books.iter().any(|book| book.sink == "file" && book.delivered == self.different)
    }
}

/// Prints the books, and says what they should be.
pub(in crate::demo) fn sinks(
    terminal: Terminal,
    mesh: &Mesh,
    observed: &Observed,
    failure: &Failure,
    (outage, delivery): (&Outage, &Delivery),
    expectations: &mut Expectations,
) {
    terminal.heading("A sink was down, and a sidecar was killed: where did the events go?");
    terminal.line(
        "   Each sidecar writes an event once, into its spool on disk; each sink reads it there at its own",
    );
    terminal.line(&format!(
        "   pace. At first nobody listened at {}, where the OpenTelemetry collector should be.",
        mesh.collector.address
    ));
    terminal.line("   After the second wave of orders the admin API of each sidecar said:\n");
    let rows = outage.books.iter().map(|(name, book)| {
        let head = [Cell::text(*name).styled(Style::Name), Cell::text(&book.sink)];
        let reason = Cell::text(short(&book.reason));
        head.into_iter().chain(book.numbers()).chain([book.state(), reason]).collect()
    });
    let head = ["sidecar", "sink", "produced", "delivered", "dropped", "queued", "state", "because"];
    terminal.table(&head, &rows.collect::<Vec<Vec<Cell>>>());
    terminal.line(&format!(
        "\n   Then a collector was started there. After the last request the sidecar of {} was started again,",
        terminal.paint(Style::Bad, failure.name)
    ));
    terminal.line(&format!(
        "   which had been killed with {} exchanges that only its file had got. {:.1} s later:\n",
        observed.of(failure.name).len(),
        delivery.waited.as_secs_f64()
    ));
    let mut rows = Vec::new();
    for (name, books, _) in &delivery.all {
        for (index, book) in books.iter().enumerate() {
            let head =
                [Cell::text(if index == 0 { name } else { "" }).styled(Style::Name), Cell::text(&book.sink)];
            rows.push(head.into_iter().chain(book.numbers()).chain([book.state()]).collect());
        }
    }
    terminal.table(head.get(..7).unwrap_or_default(), &rows);
    let sum = |count: fn(&Lines) -> u64| delivery.all.iter().map(|(_, _, lines)| count(lines)).sum::<u64>();
    let (spans, twice) = (sum(|lines| lines.spans), sum(|lines| lines.all - lines.different));
    let received = mesh.collector.received();
    terminal.note(&format!(
        "The collector counted {} spans and {} log records, in {} messages.",
        received.spans, received.logs, received.exports
    ));
    terminal.note("The archive delivers whole files: after 5 minutes or 64 MiB, or when its sidecar ends.");
    if twice > 0 {
        terminal.note(&format!(
            "{twice} lines came twice into the file of {}, with the same id: its last progress was not on disk.",
            failure.name
        ));
    }
    expect(mesh, outage, delivery, spans, expectations);
}

/// What is wrong, without where, which is known already, and without the system's number of it.
fn short(reason: &str) -> &str {
    let last = reason.rsplit(": ").next().unwrap_or(reason);
    last.split(" (").next().unwrap_or(last)
}

fn expect(mesh: &Mesh, outage: &Outage, delivery: &Delivery, spans: u64, expectations: &mut Expectations) {
    let waited: u64 = outage.books.iter().map(|(_, book)| book.queued).sum();
    expectations.expect(
        outage
            .books
            .iter()
            .all(|(_, book)| book.queued > 0 && book.delivered == 0 && !book.is_up && book.is_balanced()),
        format!("while the collector was down {waited} events waited for it, and no order did"),
    );
    let all = || delivery.all.iter().flat_map(|(_, books, _)| books);
    expectations.expect(
        all().all(Book::is_balanced),
        format!(
            "produced = delivered + dropped + queued, for all {} sinks of {} sidecars",
            all().count(),
            delivery.all.len()
        ),
    );
    let dropped: u64 = all().map(|book| book.dropped).sum();
    expectations
        .expect(dropped == 0, format!("{dropped} events were dropped, also of the sidecar that was killed"));
    expectations.expect(
        delivery.all.iter().all(|(_, books, lines)| lines.is_of(books)),
        "each event file has as many lines as its sink says that it delivered",
    );
    let otlp = || all().filter(|book| book.sink == DOWN);
    let (delivered, received) = (otlp().map(|book| book.delivered).sum::<u64>(), mesh.collector.received());
    expectations.expect(
        otlp().all(|book| book.is_up && book.is_empty()) && received.ids.len() as u64 == spans,
        format!("the collector has all of it: {delivered} events, {spans} of them spans, each once"),
    );
    expectations.expect(
        received.spans == spans && received.spans + received.logs == delivered,
        "it counted as many as the sinks say that they delivered, and none twice",
    );
}
