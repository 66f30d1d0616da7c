//! Runs of which it is known what is noise and what is not: how often the judgement is right.

use super::super::difference::{Difference, Kind};
use super::super::*;
use crate::record::Field as HeadField;
use crate::replay::Answer;
use std::collections::BTreeMap;

/// Splitmix64: the same run for the same seed.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Of (0, 1).
    fn share(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    fn is(&mut self, rate: f64) -> bool {
        self.share() < rate
    }

    /// The exchanges in which something of this rate happens: what is between two is geometric.
    fn times(&mut self, rate: f64) -> Vec<u64> {
        if rate <= 0.0 {
            return Vec::new();
        }
        let mut gap = || (self.share().ln() / (1.0 - rate).ln()).floor() as u64 + 1;
        let first = gap();
        std::iter::successors(Some(first), |at| Some(at + gap())).take_while(|at| *at <= EXCHANGES).collect()
    }
}

/// Rates of flaky fields: what races, caches and rounding make of answers of the same version.
const FLAKY: [f64; 10] = [0.05, 0.03, 0.02, 0.01, 0.01, 0.005, 0.003, 0.002, 0.001, 0.001];
const EXCHANGES: u64 = 10_000;

fn difference(path: &str) -> Difference {
    Difference { path: path.to_owned(), kind: Kind::Value, left: "a".into(), right: "b".into() }
}

/// A run as [`Tally::three`] counts it, without the bytes: fast enough for hundreds. Each field flakes at its rate in each of
/// the three answers, never twice alike; `/total` at the rate `on`, and in the candidate's at `regression` more.
fn run(seed: u64, flaky: &[f64], regression: f64, on: f64) -> Findings {
    const PRIMARY: u8 = 1;
    const SECONDARY: u8 = 2;
    const CANDIDATE: u8 = 4;
    let mut dice = Dice(seed);
    let fields = flaky.iter().enumerate().map(|(n, rate)| (format!("/flaky/{n}"), *rate));
    let mut odd = BTreeMap::<u64, BTreeMap<String, u8>>::new();
    for (path, rate) in fields.chain([("/total".to_owned(), on)]) {
        let changed = if path == "/total" { regression } else { 0.0 };
        for (who, rate) in [(PRIMARY, rate), (SECONDARY, rate), (CANDIDATE, rate), (CANDIDATE, changed)] {
            for at in dice.times(rate) {
                *odd.entry(at).or_default().entry(path.clone()).or_default() |= who;
            }
        }
    }
    // An id differs in all of them.
    for paths in odd.values_mut() {
        paths.insert("/id".to_owned(), PRIMARY | SECONDARY | CANDIDATE);
    }
    let mut tally = Tally::new(Rules::default(), Options::default());
    tally.mode_is_three();
    let case = Case { route: "shop", account: "acme", sequence: 0 };
    let route = tally.exchanges(case, EXCHANGES, odd.len() as u64);
    for (sequence, paths) in odd {
        let differ = |either: u8| {
            let paths = paths.iter().filter(|(_, who)| **who & either != 0);
            paths.map(|(path, _)| difference(path)).collect::<Vec<_>>()
        };
        let (raw, noise, third) =
            (differ(PRIMARY | CANDIDATE), differ(PRIMARY | SECONDARY), differ(SECONDARY | CANDIDATE));
        tally.odd(&route, Case { sequence, ..case }, &raw, &noise, &third);
    }
    tally.findings()
}

fn alarms(findings: &Findings) -> Vec<&str> {
    findings.of(Judgement::Regression).map(|field| &*field.path).collect()
}

#[test]
fn a_hundred_runs_of_the_same_version_give_no_alarm() {
    for seed in 0..100 {
        let findings = run(seed, &FLAKY, 0.0, 0.0);
        assert_eq!(alarms(&findings), <[&str; 0]>::default(), "seed {seed}: {findings}");
        assert_eq!(findings.verdict, Verdict::Same);
    }
}

/// The worst noise for the judgement is so rare that the others may happen not to show it: some five in 30,000.
#[test]
fn at_the_worst_noise_false_alarms_stay_below_what_is_promised() {
    let wrong =
        (0..100).filter(|seed| !alarms(&run(1_000 + seed, &[0.000_17; 10], 0.0, 0.0)).is_empty()).count();
    assert!(wrong <= 5, "{wrong} of 100");
}

#[test]
fn a_change_in_one_of_a_thousand_answers_is_found() {
    let found = (0..100).filter(|seed| alarms(&run(2_000 + seed, &FLAKY, 0.001, 0.0)) == ["/total"]).count();
    println!("{found} of 100");
    assert!(found >= 95, "{found} of 100");
}

/// How often a change of a share of the answers is found in a field that is itself noisy, of 100 runs.
#[test]
fn power_grows_with_the_change_and_falls_with_the_noise_of_the_field_itself() {
    for (noise, change, least) in [
        (0.0, 0.002, 100),
        (0.0001, 0.003, 95),
        (0.001, 0.005, 95),
        (0.005, 0.01, 95),
        (0.009, 0.015, 95),
        (0.05, 0.03, 95),
    ] {
        let found = (0..100)
            .filter(|seed| alarms(&run(3_000 + seed, &FLAKY, change, noise)).contains(&"/total"))
            .count();
        println!("noise {noise}, change {change}: {found} of 100");
        assert!(found >= least, "noise {noise}, change {change}: {found} of 100");
    }
}

fn shop(dice: &mut Dice, flake: f64, total: u64) -> Answer {
    let stock = if dice.is(flake) { dice.next() % 50 } else { 50 };
    let id = dice.next();
    let at = 1_795_464_000_000 + dice.next() % 1_000_000;
    let body =
        format!(r#"{{"id":"{id:016x}","at":{at},"items":[{{"sku":"a","stock":{stock}}}],"total":{total}}}"#);
    let fields = vec![
        HeadField::new("content-type", "application/json"),
        HeadField::new("x-trace", format!("{id:x}")),
    ];
    let ended_ns = 2_000_000 + dice.next() % 1_000_000;
    Answer {
        status: 200,
        fields,
        body_bytes: body.len() as u64,
        body: body.into(),
        sent_ns: 1,
        ended_ns,
        ..Answer::default()
    }
}

#[test]
fn answers_of_three_instances_are_told_apart_by_what_only_the_candidate_does() {
    let mut dice = Dice(7);
    let (mut tally, mut same) = (
        Tally::new(Rules::default(), Options::default()),
        Tally::new(Rules::default(), Options { is_latency_judged: true, ..Options::default() }),
    );
    for sequence in 1..=4_000u64 {
        let case = Case { route: if sequence % 4 == 0 { "cart" } else { "shop" }, account: "acme", sequence };
        let total = sequence % 90;
        let (p, s, c) =
            (shop(&mut dice, 0.01, total), shop(&mut dice, 0.01, total), shop(&mut dice, 0.01, total));
        same.three(case, &Seen::answered(&p), &Seen::answered(&s), &Seen::answered(&c));
        let mut c = shop(&mut dice, 0.01, total + u64::from(sequence % 200 == 0));
        c.ended_ns += 2_000_000;
        tally.three(case, &Seen::answered(&p), &Seen::answered(&s), &Seen::answered(&c));
    }
    let findings = tally.findings();
    let got: Vec<_> =
        findings.of(Judgement::Regression).map(|field| (&*field.route, &*field.path, field.raw)).collect();
    assert_eq!(got, [("cart", "/total", 20)]);
    assert_eq!((findings.verdict, findings.exit_code()), (Verdict::Different, 1));
    assert!(findings.latency.iter().all(|latency| latency.is_slower), "{:?}", findings.latency);
    let id = findings.fields.iter().find(|field| field.path == "/id" && field.route == "shop").unwrap();
    assert_eq!((id.judgement, id.raw, id.noise, id.candidate_odd), (Judgement::Noise, 3_000, Some(3_000), 0));
    let table = findings.to_string();
    assert!(table.lines().any(|line| line.starts_with("REGRESSION     cart   /total")), "{table}");
    let json = serde_json::to_value(&findings).unwrap();
    assert_eq!(json["fields"][0]["judgement"], "regression");
    assert_eq!(json["fields"][0]["examples"].as_array().unwrap().len(), 3);
    assert_eq!((same.findings().verdict, same.findings().exit_code()), (Verdict::Same, 0));
}

#[test]
fn without_a_second_primary_generated_values_are_unknown_noise_and_words_are_regressions() {
    let mut dice = Dice(9);
    let mut tally = Tally::new(Rules::default(), Options::default());
    for sequence in 1..=200u64 {
        let case = Case { route: "", account: "", sequence };
        let (before, mut after) = (shop(&mut dice, 0.0, 5), shop(&mut dice, 0.0, 5));
        after.fields.push(HeadField::new("x-build", "blue"));
        tally.two(case, &Seen::answered(&before), &Seen::answered(&after));
        tally.calls(
            case,
            &[Call::new("GET", "a", "/x")],
            &[Call::new("GET", "a", "/x"), Call::new("GET", "a", "/y")],
        );
    }
    let findings = tally.findings();
    let of = |judgement| findings.of(judgement).map(|field| &*field.path).collect::<Vec<_>>();
    assert_eq!(of(Judgement::Regression), ["call:GET a/y", "header:x-build"]);
    assert_eq!(of(Judgement::UnknownNoise), ["/at", "/id", "header:x-trace"]);
    assert_eq!(Tally::new(Rules::default(), Options::default()).findings().exit_code(), 2);
}

#[test]
fn what_is_kept_of_a_run_is_bounded() {
    let mut tally = Tally::new(Rules::default(), Options::default());
    for sequence in 0..8_000u64 {
        let route = format!("r{sequence}");
        let body = |value: u64| {
            let body = format!(r#"{{"k{sequence}":{value},"l{sequence}":{value}}}"#);
            let fields = vec![HeadField::new("content-type", "application/json")];
            Answer {
                status: 200,
                fields,
                body_bytes: body.len() as u64,
                body: body.into(),
                ..Answer::default()
            }
        };
        let case = Case { route: &route, account: &route, sequence };
        tally.two(case, &Seen::answered(&body(1)), &Seen::answered(&body(2)));
    }
    let findings = tally.findings();
    assert!(
        findings.fields.len() <= 5_501 && findings.routes.len() == 501 && findings.accounts.len() == 1_001
    );
    assert_eq!(findings.routes.iter().map(|route| route.exchanges).sum::<u64>(), 8_000);
    assert_eq!(findings.fields.iter().map(|field| field.raw).sum::<u64>(), 16_000);
}
