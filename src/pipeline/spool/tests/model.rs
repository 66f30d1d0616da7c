//! Random histories against a model that knows what was appended and what was committed.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

const CURSORS: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Debug)]
enum Step {
    Append(usize, usize),
    Skip(u64),
    Tick,
    Read(usize, usize),
    /// So many of what was read.
    Commit(usize, usize),
    Reject(usize, usize),
    Rewind(usize),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let cursor = 0..CURSORS.len();
    prop_oneof![
        10 => (0..3usize, 0..400usize).prop_map(|(class, bytes)| Step::Append(class, bytes)),
        1 => (1..5u64).prop_map(Step::Skip),
        4 => Just(Step::Tick),
        6 => (cursor.clone(), 1..9usize).prop_map(|(cursor, events)| Step::Read(cursor, events)),
        5 => (cursor.clone(), 0..20usize).prop_map(|(cursor, events)| Step::Commit(cursor, events)),
        1 => (cursor.clone(), 0..20usize).prop_map(|(cursor, at)| Step::Reject(cursor, at)),
        1 => cursor.prop_map(Step::Rewind),
        1 => Just(Step::Reopen),
    ]
}

#[derive(Default)]
struct Sink {
    /// Read, and not committed.
    in_flight: Vec<u64>,
    rejected: BTreeSet<u64>,
    delivered: BTreeSet<u64>,
    dropped: BTreeSet<u64>,
}

struct World {
    config: Config,
    /// What was appended, from number 1 on; none for what was skipped.
    log: Vec<Option<(Class, Vec<u8>)>>,
    sinks: [Sink; CURSORS.len()],
    spool: Spool,
    writer: Option<Writer>,
    cursors: Vec<Cursor>,
    /// Events may be dropped for want of room.
    is_tight: bool,
}

fn cursors(spool: &Spool) -> Vec<Cursor> {
    CURSORS.iter().map(|name| spool.cursor(name, Start::Beginning).unwrap()).collect()
}

impl World {
    fn new(config: Config, is_tight: bool) -> World {
        let (spool, writer) = open(&config);
        let cursors = cursors(&spool);
        World {
            config,
            log: Vec::new(),
            sinks: Default::default(),
            spool,
            writer: Some(writer),
            cursors,
            is_tight,
        }
    }

    fn run(&mut self, step: &Step) -> Result<(), TestCaseError> {
        let now = Instant::now();
        let Some(writer) = &mut self.writer else { return Ok(()) };
        match step {
            Step::Append(class, bytes) => {
                let class = Class::ALL[*class];
                let payload: Vec<u8> = (0..*bytes).map(|at| (at + self.log.len()) as u8).collect();
                self.log.push(Some((class, payload.clone())));
                prop_assert_eq!(writer.append(class, &payload), self.log.len() as u64);
            }
            Step::Skip(count) => {
                writer.skip(*count, Reason::QueueFull);
                self.log.extend((0..*count).map(|_| None));
            }
            Step::Tick => writer.tick(now),
            Step::Read(cursor, count) => return self.read(*cursor, *count).map(drop),
            Step::Commit(cursor, count) => {
                let sink = &mut self.sinks[*cursor];
                let count = (*count).min(sink.in_flight.len());
                let Some(last) = sink.in_flight[..count].last().copied() else { return Ok(()) };
                sink.in_flight.drain(..count).for_each(|sequence| {
                    let is_rejected = sink.rejected.contains(&sequence);
                    let to = if is_rejected { &mut sink.dropped } else { &mut sink.delivered };
                    assert!(to.insert(sequence), "committed twice");
                });
                self.cursors[*cursor].commit(last, now);
            }
            Step::Reject(cursor, at) => {
                let sink = &mut self.sinks[*cursor];
                // Only one behind an event that stays, so that it is settled by a commit and not before.
                if let Some(sequence) = sink.in_flight.get(1 + at).copied() {
                    sink.rejected.insert(sequence);
                    self.cursors[*cursor].reject(sequence);
                    sink.in_flight.truncate(1 + at);
                    // What is behind it is read again, and so is it: the model keeps to simple histories.
                    sink.rejected.clear();
                    self.cursors[*cursor].rewind();
                    sink.in_flight.clear();
                }
            }
            Step::Rewind(cursor) => {
                self.cursors[*cursor].rewind();
                self.sinks[*cursor].in_flight.clear();
            }
            Step::Reopen => self.reopen()?,
        }
        Ok(())
    }

    fn read(&mut self, cursor: usize, count: usize) -> Result<usize, TestCaseError> {
        let sink = &mut self.sinks[cursor];
        let position = self.cursors[cursor].books().position;
        let mut last = sink.in_flight.last().copied().unwrap_or(0).max(position);
        let mut batch = Batch::new(700, count);
        self.cursors[cursor].read(&mut batch);
        for event in batch.events() {
            prop_assert!(event.sequence > last, "in order, and once");
            for missing in last + 1..event.sequence {
                prop_assert!(
                    self.is_tight || self.log[missing as usize - 1].is_none(),
                    "{} is missing",
                    missing
                );
            }
            last = event.sequence;
            let (class, payload) = self.log[last as usize - 1].as_ref().unwrap();
            prop_assert_eq!((event.class, event.payload), (*class, payload.as_slice()));
            sink.in_flight.push(last);
        }
        Ok(batch.len())
    }

    fn reopen(&mut self) -> Result<(), TestCaseError> {
        if self.config.directory.is_none() {
            return Ok(());
        }
        self.cursors.clear();
        self.writer = None;
        let before = self.spool.books();
        // The handle goes too: it holds the lock.
        self.spool = open(&Config::default()).0;
        let (spool, writer) = open(&self.config);
        let mut after = spool.books();
        after.sort_by(|one, other| one.cursor.cmp(&other.cursor));
        prop_assert_eq!(before, after);
        self.cursors = cursors(&spool);
        (self.spool, self.writer) = (spool, Some(writer));
        self.sinks.iter_mut().for_each(|sink| sink.in_flight.clear());
        Ok(())
    }

    fn check(&self) -> Result<(), TestCaseError> {
        for (books, sink) in self.spool.books().iter().zip(&self.sinks) {
            prop_assert!(books.is_balanced(), "{:?}", books);
            prop_assert_eq!(books.produced, self.log.len() as u64);
            prop_assert!(books.delivered <= sink.delivered.len() as u64);
            prop_assert!(self.is_tight || books.delivered == sink.delivered.len() as u64, "{:?}", books);
        }
        Ok(())
    }

    fn end(mut self) -> Result<(), TestCaseError> {
        if let Some(writer) = &mut self.writer {
            writer.tick(Instant::now());
        }
        for cursor in 0..CURSORS.len() {
            self.run(&Step::Rewind(cursor))?;
            while self.read(cursor, 50)? > 0 {
                self.run(&Step::Commit(cursor, 50))?;
                self.check()?;
            }
            let books = self.cursors[cursor].books();
            prop_assert_eq!(books.queued, 0);
            let skipped = self.log.iter().filter(|event| event.is_none()).count() as u64;
            let allowed =
                [Reason::QueueFull, Reason::DiskBudget, Reason::Memory].map(|reason| dropped(&books, reason));
            prop_assert_eq!(allowed.iter().sum::<u64>(), books.dropped_all(), "{:?}", books);
            prop_assert!(allowed[0] <= skipped);
            prop_assert!(
                self.is_tight || (allowed[0] == skipped && allowed[1] + allowed[2] == 0),
                "{:?}",
                books
            );
        }
        Ok(())
    }
}

fn play(config: Config, is_tight: bool, steps: &[Step]) -> Result<(), TestCaseError> {
    let mut world = World::new(config, is_tight);
    for step in steps {
        world.run(step)?;
        world.check()?;
    }
    world.end()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn with_room_everybody_gets_everything(steps in proptest::collection::vec(step(), 1..250)) {
        let directory = tempfile::tempdir().unwrap();
        play(config(directory.path()), false, &steps)?;
    }

    #[test]
    fn on_a_small_disk_nothing_is_wrong_and_all_is_counted(steps in proptest::collection::vec(step(), 1..250)) {
        let directory = tempfile::tempdir().unwrap();
        let config = Config { disk_bytes_max: 0, segment_bytes_max: 0, ..config(directory.path()) };
        play(config, true, &steps)?;
    }

    #[test]
    fn in_little_memory_nothing_is_wrong_and_all_is_counted(steps in proptest::collection::vec(step(), 1..250)) {
        play(Config { memory_bytes_max: 0, ..Config::default() }, true, &steps)?;
    }

    /// Files that are cut, flipped and overwritten at random: nothing that is read differs from what was appended, and the
    /// books balance.
    #[test]
    fn damage_never_becomes_an_event(
        sizes in proptest::collection::vec(0usize..300, 1..60),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>(), 0u8..3), 1..5),
    ) {
        let (directory, config, spool, mut writer) = fresh();
        CURSORS.iter().for_each(|name| drop(spool.cursor(name, Start::Beginning).unwrap()));
        for (at, bytes) in sizes.iter().enumerate() {
            writer.append(Class::Event, &vec![at as u8; *bytes]);
            if bytes % 3 == 0 {
                writer.tick(Instant::now());
            }
        }
        drop((writer, spool));
        for (file, at, byte, how) in damage {
            let files = files(directory.path());
            let path = file.get(&files);
            let mut bytes = std::fs::read(path).unwrap();
            if bytes.is_empty() {
                continue;
            }
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] ^= byte | 1,
                1 => bytes.truncate(at),
                _ => bytes.iter_mut().skip(at).take(100).for_each(|slot| *slot = byte),
            }
            std::fs::write(path, bytes).unwrap();
        }
        let (spool, mut writer) = open(&config);
        writer.tick(Instant::now());
        let mut contents = Vec::new();
        for name in CURSORS {
            let mut cursor = spool.cursor(name, Start::Beginning).unwrap();
            let got = drain(&mut cursor);
            for (sequence, class, payload) in &got {
                let at = *sequence as usize - 1;
                prop_assert_eq!((*class, payload), (Class::Event, &vec![at as u8; sizes[at]]));
            }
            prop_assert!(got.is_sorted_by(|one, next| one.0 < next.0));
            let books = cursor.books();
            prop_assert!(books.is_balanced() && books.queued == 0, "{:?}", books);
            prop_assert_eq!(books.delivered, got.len() as u64);
            contents.push(got);
        }
        prop_assert!(contents.iter().all(|got| got == &contents[0]));
    }
}
