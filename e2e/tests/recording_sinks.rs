//! Recordings that go to a sink too: what it kept becomes the same files again, and nobody else is given any of it.

#[path = "recording_stores/restored.rs"]
mod restored;

use e2e::{Setup, Sidelight, StrictBackend, wait_for};
use restored::{Place, ask, assert_restored, entries, import, record, segments, sidelight, text};
use serde_json::Value;

const PIECE: &str = "sidelight/recording_frame/1";

/// Two files of events: `kept` at a path, and that of the kit, called `other`.
fn setup(app: &StrictBackend, place: &Place) -> Setup {
    let files = format!(
        "- {{ name: other, path: EVENTS }}\n- {{ name: kept, path: {:?} }}",
        place.path("kept.ndjson")
    );
    Setup::app(app.address()).sink("file", &files)
}

fn lines(place: &Place) -> Vec<String> {
    let kept = std::fs::read_to_string(place.path("kept.ndjson")).expect("the sink's file");
    kept.lines().map(str::to_owned).collect()
}

fn schema(line: &str) -> Value {
    let event: Value = serde_json::from_str(line).expect("JSON lines");
    event["schema"].clone()
}

#[test]
fn what_a_file_kept_is_the_recording_byte_for_byte() {
    let (app, place) = (StrictBackend::start(), Place::new());
    record(&setup(&app, &place).section("recording", &place.lines("kept")), 150);
    assert_restored(&place, &[place.path("kept.ndjson")], 150);
    // In another order, twice, in two files of which one is packed, with what is no event of ours in between.
    let mut shuffled = lines(&place);
    shuffled.reverse();
    let half = shuffled.len() / 2;
    let one = place.write("one.ndjson", &[&shuffled[..half], &shuffled[half / 2..]].concat());
    let rest = [&shuffled[half..], &["{\"a\":1}".to_owned()]].concat().join("\n");
    let two = place.path("two.ndjson.zst");
    std::fs::write(&two, zstd::encode_all(rest.as_bytes(), 1).expect("zstd")).expect("a file");
    std::fs::remove_dir_all(place.path("restored")).expect("the directory of before");
    assert_restored(&place, &[two, one], 150);
}

#[test]
fn no_other_sink_has_any_of_it_and_the_books_of_both_agree() {
    let (app, place) = (StrictBackend::start(), Place::new());
    let proxy = Sidelight::start(&setup(&app, &place).section("recording", &place.lines("kept")));
    ask(&proxy, 0..50);
    let has_all = |sink: &str| {
        let [produced, delivered, dropped, queued] = proxy.books(sink)?;
        assert_eq!(produced, delivered + dropped + queued, "{sink}");
        (queued == 0 && dropped == 0 && produced > 50).then_some(())
    };
    wait_for("both sinks to have everything", || has_all("other").and_then(|()| has_all("kept")));
    let passed_over = |sink: &str| {
        proxy.metric(&format!("sidelight_pipeline_passed_over_total{{sink=\"{sink}\"}}")).expect("a metric")
    };
    let counts = wait_for("pieces", || Some(passed_over("other")).filter(|count| *count > 0.0));
    assert_eq!(passed_over("kept"), 0.0);
    assert!(proxy.events().all(PIECE).is_empty(), "the other sink was given pieces");
    let events = proxy.events().everything().len();
    assert_eq!(proxy.stop().len(), 50);
    let kept = lines(&place);
    let pieces = kept.iter().filter(|line| schema(line) == PIECE).count();
    assert!(pieces as f64 >= counts && kept.len() - pieces >= events, "{pieces} of {}", kept.len());
}

#[test]
fn a_reload_names_a_sink_and_takes_its_name_back() {
    let (app, place) = (StrictBackend::start(), Place::new());
    let base = setup(&app, &place);
    let directory = format!("directory: {:?}", place.path("recording"));
    let proxy = Sidelight::start(&base.clone().section("recording", &directory));
    let apply = |lines: &str, revisions: usize| {
        proxy.rewrite(&base.clone().section("recording", lines));
        wait_for("the configuration", || {
            let applied = proxy.events().all("sidelight/config/1");
            (applied.len() >= revisions).then_some(())
        });
    };
    let recorded = |count: u64| {
        wait_for("the recorder", || {
            let shown: Value = serde_json::from_str(&proxy.admin("/recording").text()).ok()?;
            (shown["books"]["recorded"] == count).then_some(())
        });
    };
    ask(&proxy, 0..10);
    recorded(10);
    apply(&place.lines("kept"), 1);
    ask(&proxy, 10..30);
    recorded(30);
    // What was begun while it was named is all there when the next segment begins.
    wait_for("the sink to have what was recorded", || {
        let [_, _, _, queued] = proxy.books("kept")?;
        let (is_well, _) = import(&[place.path("kept.ndjson")], &place.path("restored"));
        let found = if is_well { entries(&place.path("restored")).len() } else { 0 };
        let _ = std::fs::remove_dir_all(place.path("restored"));
        (queued == 0 && found == 20).then_some(())
    });
    apply(&directory, 2);
    ask(&proxy, 30..40);
    recorded(40);
    proxy.stop();
    let (_, told) = import(&[place.path("kept.ndjson")], &place.path("restored"));
    let ids: Vec<Value> =
        entries(&place.path("restored")).iter().map(|entry| entry["request_id"].clone()).collect();
    assert_eq!(ids, (10..30).map(|number| format!("r{number}")).collect::<Vec<_>>(), "{told}");
    assert_eq!(entries(&place.path("recording")).len(), 40);
}

#[test]
fn a_process_that_is_killed_has_shipped_what_the_spool_had() {
    let (app, place) = (StrictBackend::start(), Place::new());
    let setup = setup(&app, &place)
        .section("recording", &place.lines("kept"))
        .section("pipeline", &format!("spool: {{ directory: {:?} }}", place.path("spool")));
    let mut proxy = Sidelight::start(&setup);
    ask(&proxy, 0..40);
    wait_for("40 in the file", || (entries(&place.path("recording")).len() == 40).then_some(()));
    wait_for("the sink to have it", || {
        let kept: Vec<Value> =
            lines(&place).iter().filter(|line| line.ends_with('}')).map(|line| schema(line)).collect();
        let [produced, delivered, ..] = proxy.books("kept")?;
        (kept.contains(&PIECE.into()) && produced == delivered).then_some(())
    });
    proxy.kill();
    proxy.start_again();
    ask(&proxy, 40..60);
    wait_for("the rest in the file", || (entries(&place.path("recording")).len() == 60).then_some(()));
    proxy.stop();
    let (_, told) = import(&[place.path("kept.ndjson")], &place.path("restored"));
    let (written, made) = (segments(&place.path("recording")), segments(&place.path("restored")));
    assert_eq!(written.len(), made.len(), "{told}");
    for ((name, written), (_, made)) in written.iter().zip(&made) {
        assert!(written.starts_with(made), "{name}: {} bytes of {}; {told}", made.len(), written.len());
    }
    let found = entries(&place.path("restored"));
    assert_eq!(found, entries(&place.path("recording")));
    assert_eq!(found.len(), 60);
    let verified = sidelight(&["recording", "verify", text(&place.path("restored"))]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
}
