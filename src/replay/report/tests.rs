//! The page as a browser reads it: elements nest, nothing of a recording becomes markup, figures are those that were given.

use super::*;
use crate::record::Field as HeadField;
use crate::replay::Answer;
use crate::replay::compare::{Case, Options, Rules, Seen, Tally};
use proptest::prelude::*;

/// A log-normal curve, so that the plot is that of a service.
fn curve(name: &str, median_ns: f64, spread: f64, tail: f64) -> Curve {
    let quantiles = (0..=60).map(|n| 1.0 - 10f64.powf(-f64::from(n) / 12.0)).chain([1.0]);
    let value = |q: f64| {
        let nines = plot::nine(q.min(0.999_995));
        (median_ns * (spread * (nines - 0.3)).exp() * (1.0 + tail * (nines - 2.5).max(0.0))) as u64
    };
    Curve { name: name.into(), points: quantiles.map(|q| (q, value(q))).collect() }
}

fn findings() -> Findings {
    let mut tally = Tally::new(Rules::default(), Options::default());
    for n in 1..=12_000u64 {
        let answer = |who: u64, total: u64| {
            let stock = if (n * 31 + who * 7).is_multiple_of(97) { 3 } else { 50 };
            let body = format!(
                r#"{{"id":"{:012x}","items":[{{"sku":"a<b>","price":{total}}}],"stock":{stock}}}"#,
                n * 7919 + who
            );
            let fields = vec![HeadField::new("content-type", "application/json")];
            Answer {
                status: 200,
                fields,
                body_bytes: body.len() as u64,
                body: body.into(),
                sent_ns: 1,
                ended_ns: 1_000_000 + (n % 900) * 1_000 * (1 + who / 3),
                ..Answer::default()
            }
        };
        let case =
            Case { route: if n % 3 == 0 { "checkout" } else { "catalog" }, account: "acme", sequence: n };
        let price = 1_299 + n % 7;
        let changed = price + u64::from(n % 300 == 0) * 100;
        let (p, s, c) = (answer(1, price), answer(2, price), answer(3, changed));
        tally.three(case, &Seen::answered(&p), &Seen::answered(&s), &Seen::answered(&c));
    }
    tally.findings()
}

fn page() -> Page {
    let wave = |n: usize, most: f64| (most * (0.55 + 0.45 * (n as f64 / 19.0).sin())) as u64;
    let group = |name: &str, sent, p50| Group {
        name: name.into(),
        sent,
        errors: sent / 900,
        different: Some(sent / 80),
        p50_ns: p50,
        p99_ns: p50 * 7,
    };
    Page {
        tone: Tone::Bad,
        verdict: "1 regression in 12,000 exchanges".into(),
        reasons: vec!["checkout: /items/*/price differs in 40 of 4,000 answers, and never between primary and secondary".into()],
        facts: [
            ("recording", "recordings/2026-11-23 · 2 h of shop, 4 instances"), ("target", "http://candidate.shop.svc:8080"), ("run", "r-20261123-2041"),
            ("schedule", "original timing × 10, open loop"), ("dispatch hash", "9f31c2a40be77d15"), ("began", "2026-11-23 20:41:07 UTC, took 10 min"),
        ].map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        totals: [("in the recording", 12_640), ("answered", 11_986), ("without an answer", 14), ("excluded", 640)].map(|(name, n)| (name.to_owned(), n)).to_vec(),
        latency: vec![
            curve("from intended send", 2.4e6, 0.62, 1.4), curve("from actual send", 2.3e6, 0.5, 0.1), curve("secondary", 2.25e6, 0.47, 0.1), curve("recorded", 1.9e6, 0.5, 0.2),
        ],
        rate: Rate {
            step_s: 2.0,
            planned: (0..300).map(|n| wave(n, 80.0)).collect(),
            sent: (0..300).map(|n| wave(n, 80.0).saturating_sub(u64::from(n > 190 && n < 215) * 12)).collect(),
            answered: (0..300).map(|n| wave(n, 79.0).saturating_sub(u64::from(n > 190 && n < 215) * 14)).collect(),
        },
        lag: Some(curve("send lag", 38e3, 0.35, 0.5)),
        findings: Some(findings()),
        routes: vec![group("catalog", 8_000, 1_900_000), group("checkout", 3_986, 4_100_000)],
        accounts: vec![group("acme", 7_204, 2_200_000), group("globex", 4_782, 2_450_000)],
        not_sent: [("answer was truncated in the recording", 412), ("method is unsafe and not granted (DELETE)", 228)].map(|(why, n)| (why.to_owned(), n)).to_vec(),
        footer: "sidelight 0.1.0".into(),
    }
}

/// Reads the page's elements; says where they do not nest.
fn check_nesting(html: &str) {
    let mut open = Vec::new();
    let mut rest = html;
    while let Some((_, after)) = rest.split_once('<') {
        let (tag, next) = after.split_once('>').expect("an element ends");
        rest = next;
        if tag.starts_with('!') {
            continue;
        }
        let name: String =
            tag.trim_start_matches('/').chars().take_while(char::is_ascii_alphanumeric).collect();
        assert!(!name.is_empty(), "`<{tag}>` is no element");
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "at `<{tag}>`");
        } else if !tag.ends_with('/') && !["meta", "br"].contains(&&*name) {
            open.push(name);
        }
    }
    assert_eq!(open, Vec::<String>::new());
}

#[test]
fn a_page_says_what_it_was_given_and_needs_nothing_else() {
    let html = page().html();
    check_nesting(&html);
    for wanted in [
        "<h1>1 regression in 12,000 exchanges</h1>",
        "<b>12,640</b> in the recording",
        "<i>=</i><span><b>11,986</b> answered",
        "<span class=\"mark bad\">regression</span></td><td>checkout</td><td><code>/items/*/price</code>",
        "#300 <code><del>1305</del> → <ins>1405</ins>",
        ">from intended send</text>",
        ">99.9 %</text>",
        "<h2>Send lag</h2>",
        "<h2>Slower</h2>",
        "method is unsafe and not granted (DELETE)",
    ] {
        assert!(html.contains(wanted), "{wanted}");
    }
    for unwanted in
        ["<script", "http://www", "https://", "url(", "@import", "src=", "NaN", "inf ", "not accounted for"]
    {
        assert!(!html.contains(unwanted), "{unwanted}");
    }
    assert!(html.len() < 300 << 10, "{} bytes", html.len());
}

#[test]
fn what_a_target_answered_never_becomes_markup() {
    let hostile = "</code><script>alert(1)</script><img src=x onerror='a'>\"&\u{202e}";
    let mut page = page();
    page.verdict = hostile.into();
    page.reasons = vec![hostile.into()];
    page.facts = vec![(hostile.into(), hostile.into())];
    page.not_sent = vec![(hostile.into(), 1)];
    page.footer = hostile.into();
    page.latency[0].name = hostile.into();
    page.routes[0].name = hostile.into();
    page.totals[0].0 = hostile.into();
    let findings = page.findings.as_mut().unwrap();
    findings.fields[0].path = hostile.into();
    findings.fields[0].route = hostile.into();
    findings.fields[0].examples[0].after = hostile.into();
    let html = page.html();
    check_nesting(&html);
    assert!(!html.contains("<script") && !html.contains("<img") && !html.contains('\u{202e}'));
    assert!(html.matches("&lt;script&gt;").count() >= 11);
}

#[test]
fn totals_that_do_not_add_up_are_told() {
    let totals = vec![("all".to_owned(), 10), ("sent".to_owned(), 7)];
    assert!(Page { totals, ..Page::default() }.html().contains(">3 are not accounted for<"));
}

proptest! {
    #[test]
    fn any_numbers_can_be_drawn(points: Vec<(f64, u64)>, step_s: f64, counts: Vec<u64>, name in ".{0,80}") {
        let curve = Curve { name, points };
        let rate = Rate { step_s, planned: counts.clone(), sent: counts, answered: vec![1] };
        let html = Page { latency: vec![curve.clone(); 6], lag: Some(curve), rate, ..Page::default() }.html();
        check_nesting(&html);
        prop_assert!(!html.contains("NaN"));
    }
}
