//! A process that is killed with SIGKILL, again and again, at random moments.
//!
//! The child tells what it did on its standard output, each line after the fact: `open` (the first number, and the epoch),
//! `tick` (a tick returned: all up to here), `audit` (an audit event was made durable), `got` (a sink has these), `done`
//! (its position is written down). The parent reads a random number of lines, and kills. What must hold: whatever a line
//! said is there afterwards. A tick comes at least every 100 ms in the proxy, so what a SIGKILL costs is what was
//! appended since the last one.

use super::*;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

const VARIABLE: &str = "SPOOL_KILL_DIRECTORY";
/// `SPOOL_KILLS=1000` for more.
const KILLS: u64 = 60;

fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

fn kill_config(directory: &Path) -> Config {
    Config { segment_bytes_max: 16 << 10, progress_interval: Duration::from_millis(5), ..config(directory) }
}

fn payload(epoch: u64, sequence: u64) -> Vec<u8> {
    format!("{epoch} {sequence} {}", "x".repeat(sequence as usize * 7 % 400)).into_bytes()
}

fn epoch_of(sequence: u64, payload: &[u8]) -> u64 {
    let text = std::str::from_utf8(payload).unwrap();
    let epoch: u64 = text.split(' ').next().unwrap().parse().unwrap();
    assert_eq!(payload, self::payload(epoch, sequence));
    epoch
}

fn child(directory: &Path) -> ! {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let epoch = now.as_micros() as u64;
    let mut dice = epoch;
    let mut out = std::io::stdout();
    let mut say = |line: String| out.write_all(line.as_bytes()).and_then(|()| out.flush()).unwrap();
    let (spool, mut writer) = Spool::open(&kill_config(directory), "i", epoch).unwrap();
    let mut cursors = ["exact", "lazy"].map(|name| spool.cursor(name, Start::Beginning).unwrap());
    drop(spool.cursor("all", Start::Beginning).unwrap());
    say(format!("\n@open {} {epoch}\n", writer.next_sequence()));
    let mut batch = Batch::new(8 << 10, 30);
    loop {
        let mut has_audit = false;
        for _ in 0..random(&mut dice) % 20 {
            let class = Class::ALL[random(&mut dice) as usize % 3];
            has_audit |= class == Class::Audit;
            writer.append(class, &payload(epoch, writer.next_sequence()));
        }
        if has_audit && random(&mut dice).is_multiple_of(8) {
            writer.sync_audit().unwrap();
            say(format!("@audit {}\n", writer.next_sequence() - 1));
        }
        writer.tick(Instant::now());
        say(format!("@tick {}\n", writer.next_sequence() - 1));
        for cursor in &mut cursors {
            if cursor.read(&mut batch) > 0 {
                for event in batch.events() {
                    epoch_of(event.sequence, event.payload);
                }
                let (first, last) = (batch.events().next().unwrap().sequence, batch.last_sequence().unwrap());
                assert_eq!(last + 1 - first, batch.len() as u64, "nothing is missing");
                say(format!("@got {} {first} {last}\n", cursor.name()));
                cursor.commit(last, Instant::now());
                if cursor.name() == "exact" {
                    assert!(cursor.persist());
                    say(format!("@done {} {last}\n", cursor.name()));
                }
            }
        }
        spool
            .books()
            .iter()
            .for_each(|books| assert!(books.is_balanced() && books.dropped_all() == 0, "{books:?}"));
    }
}

#[derive(Default)]
struct Seen {
    /// The last number that a sink has.
    got: BTreeMap<String, u64>,
    done: BTreeMap<String, u64>,
    again: BTreeMap<String, u64>,
    /// The epoch of each number that was acknowledged.
    acknowledged: BTreeMap<u64, u64>,
}

impl Seen {
    /// What one life said.
    fn life(&mut self, lines: &[String]) {
        let (mut first, mut epoch, mut has_got) = (0, 0, BTreeMap::<String, u64>::new());
        for line in lines {
            let words: Vec<&str> = line.split(' ').collect();
            let number = |at: usize| words[at].parse::<u64>().unwrap();
            match words[0] {
                "@open" => {
                    (first, epoch) = (number(1), number(2));
                    let last = self.acknowledged.keys().next_back().copied().unwrap_or(0);
                    assert!(first > last, "{last} was acknowledged, and {first} is the next");
                }
                "@tick" | "@audit" => (first..=number(1)).for_each(|sequence| {
                    self.acknowledged.insert(sequence, epoch);
                }),
                "@got" => {
                    let (name, from, to) = (words[1].to_owned(), number(2), number(3));
                    let had = self.got.get(&name).copied().unwrap_or(0);
                    match has_got.insert(name.clone(), to) {
                        Some(before) => assert_eq!(from, before + 1, "nothing twice in one life"),
                        None => {
                            let done = self.done.get(&name).copied().unwrap_or(0);
                            assert!(from > done, "{name} wrote down {done}, and gets {from}");
                            assert!(from <= had + 1, "{name} had {had}, and the next is {from}");
                            *self.again.entry(name.clone()).or_default() += had + 1 - from;
                        }
                    }
                    self.got.insert(name, to.max(had));
                }
                "@done" => drop(self.done.insert(words[1].to_owned(), number(2))),
                _ => {}
            }
        }
    }
}

#[test]
fn a_process_that_is_killed_loses_nothing_that_it_acknowledged() {
    if let Some(directory) = std::env::var_os(VARIABLE) {
        child(Path::new(&directory));
    }
    let kills = std::env::var("SPOOL_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(KILLS);
    let directory = tempfile::tempdir().unwrap();
    let test = "pipeline::spool::tests::kill::a_process_that_is_killed_loses_nothing_that_it_acknowledged";
    let (mut seen, mut dice) = (Seen::default(), u64::from(std::process::id()));
    for _ in 0..kills {
        let mut command = again(test, VARIABLE, directory.path());
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let mut reader = BufReader::new(process.stdout.take().unwrap());
        // Until it has opened the spool, and some lines more.
        let mut left = None;
        let mut lines = Vec::new();
        while left != Some(0) {
            let mut line = String::new();
            assert!(reader.read_line(&mut line).unwrap() > 0, "the child ended by itself");
            if line.starts_with("@open") {
                left = Some(1 + random(&mut dice) % 120);
            }
            left = left.map(|left| left - 1);
            lines.push(line);
        }
        process.kill().unwrap();
        let mut line = String::new();
        while reader.read_line(&mut line).unwrap() > 0 {
            lines.push(std::mem::take(&mut line));
        }
        assert_eq!(process.wait().unwrap().signal(), Some(libc::SIGKILL), "it lived until it was killed");
        // What it was about to say when it was killed, it did not say.
        lines.retain(|line| line.starts_with('@') && line.ends_with('\n'));
        let lines: Vec<String> = lines.iter().map(|line| line.trim_end().to_owned()).collect();
        seen.life(&lines);
    }

    let (spool, _writer) = open(&kill_config(directory.path()));
    let last = spool.status().assigned;
    assert!(seen.acknowledged.len() as u64 > kills, "it did something: {last}");
    let mut all = spool.cursor("all", Start::End).unwrap();
    let events = drain(&mut all);
    assert_eq!(events.iter().map(|event| event.0).collect::<Vec<_>>(), upto(1, last), "each once, in order");
    for (sequence, _, payload) in &events {
        let epoch = epoch_of(*sequence, payload);
        assert!(seen.acknowledged.get(sequence).is_none_or(|acknowledged| *acknowledged == epoch));
    }
    assert_eq!(all.books().delivered, last);
    for name in ["exact", "lazy"] {
        let mut cursor = spool.cursor(name, Start::End).unwrap();
        let had = seen.got[name];
        let rest = drain(&mut cursor);
        let first = rest.first().map_or(last + 1, |event| event.0);
        assert!(first <= had + 1 && first > seen.done.get(name).copied().unwrap_or(0), "{name}: {first}");
        let books = cursor.books();
        assert_eq!((books.delivered, books.dropped_all(), books.queued), (last, 0, 0), "{name}");
    }
    println!("{kills} kills, {last} events, delivered again: {:?}", seen.again);
}
