//! What was recorded at an instance, sent again to the next version of it.

use super::super::expect::Expectations;
use super::super::mesh::{Mesh, RECORDED, STANDARD_WORK};
use super::super::service::{CANDIDATE_SAYS, Role, Service};
use super::super::terminal::{Cell, Style, Terminal};
use serde_json::Value;
use std::process::Command;
use std::time::{Duration, Instant};

/// How long what was recorded last may take to the file.
const FLUSHED: Duration = Duration::from_secs(5);

/// Replays the recording ten times as fast, as tracer bullets, and tells what the candidate answers otherwise.
pub(in super::super) fn replay(
    terminal: Terminal,
    mesh: &Mesh,
    expectations: &mut Expectations,
) -> Result<(), String> {
    let (name, directory) = RECORDED;
    let node = mesh.node(name)?;
    let directory = node.sidecar.config.with_file_name(directory);
    let books = settled(mesh, name)?;
    terminal.heading(&format!("What was recorded at {name}, sent again to the next version of payments"));
    let number = |key: &str| books[key].as_u64().unwrap_or(0);
    terminal.line(&format!(
        "   seen {} = recorded {} + sampled out {} + filtered {} + dropped {}",
        number("seen"),
        number("recorded"),
        number("sampled_out"),
        number("filtered"),
        books["dropped"].as_object().map_or(0, |dropped| dropped.values().filter_map(Value::as_u64).sum()),
    ));
    // Its name is that of the instance, so that only what it says otherwise is otherwise.
    let candidate = Service::start(name, Role::Candidate(STANDARD_WORK))
        .map_err(|error| format!("the candidate: {error}"))?;
    let program = std::env::current_exe().map_err(|error| format!("the own program: {error}"))?;
    let shown = "sidelight replay standard-2.recording --to http://CANDIDATE --speed 10 --allow-unsafe POST --compare";
    terminal.note(shown);
    let target = format!("http://{}", candidate.address);
    let ended = Command::new(program)
        .arg("replay")
        .arg(&directory)
        .args(["--to", &target, "--speed", "10", "--allow-unsafe", "POST", "--compare", "--format", "json"])
        .output()
        .map_err(|error| format!("sidelight replay: {error}"))?;
    let run: Value = serde_json::from_slice(&ended.stdout)
        .map_err(|error| format!("sidelight replay: {error}: {}", String::from_utf8_lossy(&ended.stderr)))?;
    let of = &run["targets"][0];
    let (sent, answered) = (of["sent"].as_u64().unwrap_or(0), of["answered"].as_u64().unwrap_or(0));
    terminal.line(&format!(
        "   {sent} sent, {answered} answered in {:.1} s; {} of them say that they are tracer bullets",
        run["seconds"].as_f64().unwrap_or(0.0),
        candidate.tracers()
    ));
    let fields = run["comparison"]["fields"].as_array().map(Vec::as_slice).unwrap_or_default();
    let rows = fields.iter().map(|field| {
        let example = &field["examples"][0];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        vec![
            Cell::text(text(&field["judgement"])).styled(Style::Bad),
            Cell::text(text(&field["path"])).styled(Style::Name),
            Cell::number(field["raw"].as_u64().unwrap_or(0)),
            Cell::number(field["of"].as_u64().unwrap_or(0)),
            Cell::text(text(&example["before"])),
            Cell::text(text(&example["after"])),
        ]
    });
    terminal.table(&["judged", "field", "differ", "of", "recorded", "candidate"], &rows.collect::<Vec<_>>());
    let recorded = number("recorded");
    expectations.expect(
        recorded > 0 && number("seen") == recorded && node.service.served() == recorded,
        format!("all {} requests that {name} served are in its recording", node.service.served()),
    );
    expectations.expect(
        answered > 0 && sent == answered && candidate.served() == sent && candidate.tracers() == sent,
        format!("{sent} of them were sent again ten times as fast, all as tracer bullets, and answered"),
    );
    let is_the_one = fields.len() == 1
        && fields[0]["path"] == "/state"
        && fields[0]["examples"][0]["after"].as_str().is_some_and(|after| after.contains(CANDIDATE_SAYS));
    expectations.expect(
        is_the_one && ended.status.code() == Some(1),
        "the one field that the candidate says otherwise was found, and nothing else; exit status 1",
    );
    Ok(())
}

/// The recorder's books, once nothing is under way.
fn settled(mesh: &Mesh, name: &str) -> Result<Value, String> {
    let since = Instant::now();
    loop {
        let shown = mesh.ask(name, "/recording")?;
        let books = &shown["books"];
        if books["pending"] == 0 || since.elapsed() > FLUSHED {
            // What is counted as recorded is in the file after the flush interval.
            std::thread::sleep(Duration::from_millis(100));
            return Ok(books.clone());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
