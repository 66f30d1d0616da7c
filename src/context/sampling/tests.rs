use super::*;
use crate::context::ids::{self, Rng};
use proptest::prelude::*;

const SECOND_NS: u64 = 1_000_000_000;

fn config(yaml: &str) -> Config {
    serde_yaml::from_str(yaml).unwrap()
}

fn sampler(yaml: &str) -> Sampler {
    Sampler::new(&config(yaml), 1, 7)
}

/// A new trace without any field.
fn question<'a>(trace_id: [u8; 16]) -> Question<'a> {
    Question {
        trace_id,
        is_random: true,
        parent: None,
        account_id: b"",
        user_id: b"",
        flags: b"",
        request_type: RequestType::Standard,
    }
}

fn parent(is_sampled: bool, is_trusted: bool) -> Option<Parent> {
    Some(Parent { is_sampled, is_trusted })
}

fn decided(sampled: bool, by: SampledBy) -> Decision {
    Decision { sampled, by }
}

/// Of this many traces, how many are sampled.
fn count(sampler: &mut Sampler, traces: usize, ask: impl Fn([u8; 16]) -> Question<'static>) -> usize {
    let mut rng = Rng::new(11);
    (0..traces).filter(|_| sampler.decide(&ask(ids::trace_id(&mut rng)), 0).sampled).count()
}

#[test]
fn without_a_configuration_everything_is_recorded_and_callers_that_are_trusted_decide() {
    let mut sampler = sampler("{}");
    let new = question([1; 16]);
    assert_eq!(sampler.decide(&new, 0), decided(true, SampledBy::Ratio));
    for is_sampled in [true, false] {
        let asked = Question { parent: parent(is_sampled, true), ..new };
        assert_eq!(sampler.decide(&asked, 0), decided(is_sampled, SampledBy::Parent));
    }
    assert_eq!(
        Config::default().keep,
        Keep { errors: true, slower_than: Some(Duration::from_secs(1)) },
        "and errors and slow ones are kept"
    );
}

#[test]
fn whose_flag_counts() {
    use SampledBy::{None as Nobody, Parent};
    for (honour, is_sampled, is_trusted, want) in [
        ("trusted", true, true, decided(true, Parent)),
        ("trusted", false, true, decided(false, Parent)),
        ("trusted", true, false, decided(true, Parent)),
        ("trusted", false, false, decided(false, Nobody)),
        ("always", true, false, decided(true, Parent)),
        ("always", false, false, decided(false, Parent)),
        ("never", true, true, decided(false, Nobody)),
        ("never", true, false, decided(false, Nobody)),
    ] {
        let mut sampler = sampler(&format!("{{ ratio: 0, honour_parent: {honour} }}"));
        let asked = Question { parent: parent(is_sampled, is_trusted), ..question([1; 16]) };
        assert_eq!(sampler.decide(&asked, 0), want, "{honour} {is_sampled} {is_trusted}");
    }
}

#[test]
fn a_stranger_cannot_flood() {
    let mut sampler = sampler("{ ratio: 0, untrusted_traces_per_second: 5 }");
    let asked = Question { parent: parent(true, false), ..question([1; 16]) };
    let mut in_second = |second: u64| {
        (0..1000).filter(|at| sampler.decide(&asked, second * SECOND_NS + at * 1_000_000).sampled).count()
    };
    assert_eq!(in_second(10), 9, "a burst of five, and those that come back within the second");
    assert_eq!((in_second(11), in_second(12)), (5, 5));
    let mut none = Sampler::new(&config("{ ratio: 0, untrusted_traces_per_second: 0 }"), 1, 7);
    assert_eq!(none.decide(&asked, 0), decided(false, SampledBy::None));
}

#[test]
fn a_stranger_cannot_hide() {
    let mut sampler = sampler("{ force: { account_id: [a1] } }");
    let asked = Question { parent: parent(false, false), ..question([1; 16]) };
    assert_eq!(sampler.decide(&asked, 0), decided(true, SampledBy::Ratio));
    let asked = Question { account_id: b"a1", ..asked };
    assert_eq!(sampler.decide(&asked, 0), decided(true, SampledBy::ForcedAccount));
}

/// Who chooses the id could choose one that every ratio records.
#[test]
fn a_stranger_cannot_choose_an_id_that_is_recorded() {
    let chosen = Question { parent: parent(false, false), ..question([0xff; 16]) };
    let recorded =
        (0..1000).filter(|seed| Sampler::new(&config("{ ratio: 0.1 }"), 1, *seed).decide(&chosen, 0).sampled);
    assert!((50..200).contains(&recorded.count()), "it depends on the seed of the process");
    let trusted = Question { parent: None, ..chosen };
    assert!(sampler("{ ratio: 0.1 }").decide(&trusted, 0).sampled);
}

#[test]
fn what_is_forced_is_recorded_by_the_first_reason() {
    let yaml = "{ ratio: 0, force: { account_id: [a1], user_id: [u1], flags: [slow-path] } }";
    let base = question([1; 16]);
    let trace = RequestType::Trace;
    for (asked, want) in [
        (Question { account_id: b"a1", user_id: b"u1", ..base }, SampledBy::ForcedAccount),
        (Question { account_id: b"a2", user_id: b"u1", ..base }, SampledBy::ForcedUser),
        (Question { flags: b"beta, slow-path", request_type: trace, ..base }, SampledBy::ForcedFlag),
        (Question { request_type: trace, ..base }, SampledBy::ForcedTrace),
    ] {
        assert_eq!(sampler(yaml).decide(&asked, 0), decided(true, want));
    }
    for asked in
        [Question { account_id: b"A1", flags: b"slow", ..base }, Question { user_id: b"a1", ..base }, base]
    {
        assert_eq!(sampler(yaml).decide(&asked, 0), decided(false, SampledBy::None));
    }
    let off = "{ ratio: 0, force: { trace: false } }";
    let asked = Question { request_type: trace, ..base };
    assert_eq!(sampler(off).decide(&asked, 0), decided(false, SampledBy::None));
}

/// OpenTelemetry: recorded if the right-most 56 bits are at least (1 − ratio) · 2⁵⁶.
#[test]
fn the_ratio_is_asked_of_the_right_most_seven_bytes() {
    let at = |number: u64| {
        let mut id = [0xab; 16];
        id[9..].copy_from_slice(&number.to_be_bytes()[1..]);
        id
    };
    for (ratio, least) in [(0.5, NUMBERS / 2), (0.25, NUMBERS / 4 * 3), (1.0, 0)] {
        let mut sampler = sampler(&format!("{{ ratio: {ratio} }}"));
        assert_eq!(sampler.decide(&question(at(least)), 0), decided(true, SampledBy::Ratio), "{ratio}");
        if let Some(below) = least.checked_sub(1) {
            assert_eq!(sampler.decide(&question(at(below)), 0), decided(false, SampledBy::Ratio), "{ratio}");
        }
    }
    for (ratio, want) in
        [(0.0, NUMBERS), (-1.0, NUMBERS), (f64::NAN, NUMBERS), (1.0, 0), (7.0, 0), (1e-17, NUMBERS - 1)]
    {
        assert_eq!(threshold(ratio), want, "{ratio}");
    }
}

#[test]
fn the_part_that_is_recorded_is_the_ratio() {
    let not_random = |id| Question { is_random: false, ..question(id) };
    // Ids that count, as of an SDK that has no randomness at all.
    let mut counter = (0..20_000_u128).map(|number| not_random(number.to_be_bytes()));
    for ratio in [0.5, 0.1, 0.01] {
        let traces = 20_000.0_f64;
        let deviation = (traces * ratio * (1.0 - ratio)).sqrt();
        let bounds = (traces * ratio - 5.0 * deviation)..(traces * ratio + 5.0 * deviation);
        let mut sampler = sampler(&format!("{{ ratio: {ratio} }}"));
        for recorded in [
            count(&mut sampler, 20_000, question),
            count(&mut sampler, 20_000, not_random),
            count(&mut sampler, 20_000, |id| Question { parent: parent(false, false), ..question(id) }),
            counter.clone().filter(|asked| sampler.decide(asked, 0).sampled).count(),
        ] {
            assert!(bounds.contains(&(recorded as f64)), "{recorded} of 20,000 for {ratio}");
        }
    }
    assert!(counter.all(|asked| !sampler("{ ratio: 0 }").decide(&asked, 0).sampled));
}

/// Another value here would cut traces in two while a new version is rolled out.
#[test]
fn the_hash_never_changes() {
    assert_eq!(hash(0, 0, 0), 0x6393_d51c_06c6_18dc);
    assert_eq!(hash(0x4bf9_2f35_77b3_4da6, 0xa3ce_929d_0e0e_4736, 0), 0x8b2a_5066_2693_7f1c);
}

#[test]
fn new_traces_are_limited_by_rate_and_workers_share_it() {
    let yaml = "{ traces_per_second: 100 }";
    let per_second = |workers: usize| {
        let mut sampler = Sampler::new(&config(yaml), workers, 7);
        let mut by_second = [0; 3];
        for at in 0..3000_u64 {
            let decision = sampler.decide(&question([1; 16]), at * 1_000_000);
            by_second[(at / 1000) as usize] += usize::from(decision.sampled);
            assert_eq!(decision.by, if decision.sampled { SampledBy::Ratio } else { SampledBy::RateLimit });
        }
        by_second
    };
    assert_eq!(per_second(1), [199, 100, 100], "a burst of one second first");
    assert_eq!(per_second(4), [49, 25, 25]);
    // Fewer than one for each worker: each gets its turn.
    let mut rare = Sampler::new(&config("{ traces_per_second: 1 }"), 4, 7);
    let taken = (0..12_u64).filter(|second| rare.decide(&question([1; 16]), second * SECOND_NS).sampled);
    assert_eq!(taken.collect::<Vec<_>>(), [0, 4, 8]);
}

#[test]
fn what_is_forced_or_follows_the_caller_is_not_limited() {
    let mut sampler = sampler("{ traces_per_second: 1, force: { account_id: [a1] } }");
    for _ in 0..10 {
        assert!(sampler.decide(&Question { account_id: b"a1", ..question([1; 16]) }, 0).sampled);
        assert!(sampler.decide(&Question { parent: parent(true, true), ..question([1; 16]) }, 0).sampled);
    }
    assert!(sampler.decide(&question([1; 16]), 0).sampled, "and takes nothing from the others");
    assert_eq!(sampler.decide(&question([1; 16]), 0).by, SampledBy::RateLimit);
}

#[test]
fn a_clock_that_steps_back_neither_blocks_nor_floods() {
    let mut sampler = sampler("{ traces_per_second: 10 }");
    let mut take = |now_ns| (0..100).filter(|_| sampler.decide(&question([1; 16]), now_ns).sampled).count();
    assert_eq!(take(1_000 * SECOND_NS), 10);
    assert_eq!(take(500 * SECOND_NS), 10, "one burst, and not five hundred seconds of silence");
    assert_eq!(take(500 * SECOND_NS + SECOND_NS / 2), 5);
    assert_eq!(take(u64::MAX), 0, "584 years");
}

#[test]
fn errors_and_slow_exchanges_are_kept() {
    let fine =
        Ended { status: 200, grpc_status: None, is_failed: false, duration: Duration::from_millis(1000) };
    let grpc = |status| Ended { grpc_status: Some(status), ..fine };
    let slow = Ended { duration: Duration::from_millis(1001), ..fine };
    let keep = Keep::default();
    for (ended, want) in [
        (fine, None),
        (slow, Some(KeptBy::Slow)),
        (Ended { status: 404, ..fine }, None),
        (Ended { status: 499, ..fine }, None),
        (Ended { status: 500, ..slow }, Some(KeptBy::Error)),
        (Ended { status: 0, is_failed: true, ..fine }, Some(KeptBy::Error)),
        (Ended { is_failed: true, ..fine }, Some(KeptBy::Error)),
        (grpc(0), None),
        (grpc(5), None),
        (grpc(14), Some(KeptBy::Error)),
    ] {
        assert_eq!(keep.keeps(&ended), want, "{ended:?}");
    }
    let blamed: Vec<_> = (0..=16).filter(|status| keep.keeps(&grpc(*status)).is_some()).collect();
    assert_eq!(blamed, [2, 4, 12, 13, 14, 15]);
    let off: Keep = serde_yaml::from_str("{ errors: false, slower_than: none }").unwrap();
    assert_eq!(off.keeps(&Ended { status: 500, ..slow }), None);
}

#[test]
fn what_a_user_writes_is_read_and_written_the_same() {
    let config = config(
        "{ ratio: 0.25, traces_per_second: 10, honour_parent: never, untrusted_traces_per_second: 0,
           force: { account_id: [a1], flags: [beta] }, keep: { slower_than: 250ms } }",
    );
    assert_eq!((config.ratio, config.traces_per_second, config.force.trace), (0.25, Some(10), true));
    assert_eq!(config, serde_yaml::from_str(&serde_yaml::to_string(&config).unwrap()).unwrap());
    for wrong in
        ["{ rate: 1 }", "{ honour_parent: sometimes }", "{ traces_per_second: 0 }", "{ force: [a1] }"]
    {
        assert!(serde_yaml::from_str::<Config>(wrong).is_err(), "{wrong}");
    }
}

proptest! {
    #[test]
    fn two_sidecars_decide_the_same_and_a_higher_ratio_records_more(
        id in any::<[u8; 16]>(), is_random: bool, ratio in 0.0..=1.0_f64, more in 0.0..=1.0_f64, seeds: (u64, u64),
        workers in 1..9_usize,
    ) {
        let asked = Question { is_random, ..question(id) };
        let decide = |ratio: f64, workers, seed| {
            Sampler::new(&Config { ratio, ..Config::default() }, workers, seed).decide(&asked, 0).sampled
        };
        let here = decide(ratio, workers, seeds.0);
        prop_assert_eq!(here, decide(ratio, 1, seeds.1));
        prop_assert!(!here || decide(ratio.max(more), 1, seeds.1), "what is recorded at a ratio is at every higher one");
    }

    #[test]
    fn any_question_at_any_time_is_decided_without_a_panic(
        flags in prop::collection::vec(any::<u8>(), 0..20), times in prop::collection::vec(any::<u64>(), 1..20),
        rate in prop::option::of(any::<usize>()), untrusted: u32, workers: usize, is_sampled: bool,
    ) {
        let config = Config {
            traces_per_second: rate, untrusted_traces_per_second: untrusted, ..config("{ force: { flags: [a] } }")
        };
        let mut sampler = Sampler::new(&config, workers, 1);
        for now_ns in times {
            let asked = Question { flags: &flags, parent: parent(is_sampled, false), ..question([9; 16]) };
            let _ = sampler.decide(&asked, now_ns);
        }
    }
}
