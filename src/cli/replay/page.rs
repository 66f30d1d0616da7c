//! A run as a page.

use crate::replay::compare::Findings;
use crate::replay::report::{Curve, Group, Page, Rate, Tone};
use crate::replay::verdict::{Run, TargetRun, Verdict};
use crate::replay::{Summary, compare};
use std::time::{Duration, UNIX_EPOCH};

/// The page of a run.
pub(super) fn page(run: &Run, findings: Option<&Findings>) -> Page {
    let target = run.targets.last();
    let none = TargetRun::default();
    let of = target.unwrap_or(&none);
    let excluded: u64 = run.excluded.values().sum();
    let not_sent: u64 = of.not_sent.values().sum();
    let reasons = run.excluded.iter().map(|(reason, count)| (format!("left out: {reason}"), *count));
    let not_handed = of.not_sent.iter().map(|(reason, count)| (format!("not sent: {reason}"), *count));
    Page {
        tone: match run.verdict {
            Verdict::Ok => Tone::Good,
            Verdict::Different | Verdict::SloBroken | Verdict::TargetDown => Tone::Bad,
            Verdict::Stopped | Verdict::Invalid => Tone::Warn,
        },
        verdict: verdict(run, findings, of),
        reasons: run.reasons.iter().chain(&run.problems).cloned().collect(),
        facts: facts(run),
        totals: vec![
            ("planned".into(), run.planned),
            ("sent".into(), of.sent),
            ("left out".into(), excluded),
            ("not sent".into(), not_sent),
        ],
        latency: [
            ("from the intended send time", &of.latency_intended),
            ("from the actual send time", &of.latency_actual),
            ("as recorded", &of.latency_recorded),
        ]
        .into_iter()
        .filter(|(_, summary)| summary.count > 0)
        .map(|(name, summary)| curve(name, summary))
        .collect(),
        rate: rate(of),
        lag: (of.send_lag.count > 0).then(|| curve("send lag", &of.send_lag)),
        findings: findings.cloned(),
        routes: groups(&of.by_route, findings.map(|findings| &findings.routes[..])),
        accounts: groups(&of.by_account, findings.map(|findings| &findings.accounts[..])),
        not_sent: reasons.chain(not_handed).collect(),
        footer: concat!("sidelight ", env!("CARGO_PKG_VERSION")).into(),
    }
}

fn verdict(run: &Run, findings: Option<&Findings>, of: &TargetRun) -> String {
    let sent = of.sent;
    match (run.verdict, findings) {
        (Verdict::Ok, Some(_)) => format!("No regression in {sent} exchanges"),
        (Verdict::Ok, None) => format!("{sent} exchanges sent, {} failed", of.failed),
        (Verdict::Different, _) => format!("Answers differ in {sent} exchanges"),
        (Verdict::SloBroken, _) => "A bound is broken".into(),
        (Verdict::TargetDown, _) => "The target is down".into(),
        (Verdict::Stopped, _) => format!("Stopped after {sent} exchanges"),
        (Verdict::Invalid, _) => "INVALID: the schedule was not kept".into(),
    }
}

fn facts(run: &Run) -> Vec<(String, String)> {
    let since = UNIX_EPOCH + Duration::from_secs_f64(run.started_s.clamp(0.0, 1e11));
    let began = crate::units::moment::text(
        since
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)),
    );
    let mut facts = vec![
        ("recording".to_owned(), run.recording.clone()),
        ("run".to_owned(), run.run.clone()),
        ("began".to_owned(), began),
        ("took".to_owned(), format!("{:.1} s", run.seconds)),
        ("timing".to_owned(), run.timing.clone()),
        ("accounts".to_owned(), run.accounts.to_string()),
        ("connections".to_owned(), run.connections.to_string()),
        ("seed".to_owned(), run.seed.to_string()),
        ("dispatch hash".to_owned(), run.dispatch_hash.clone()),
    ];
    if run.clones > 1 {
        facts.push(("clones of each account".into(), run.clones.to_string()));
    }
    facts.extend(run.targets.iter().map(|target| (target.name.clone(), target.url.clone())));
    if let Some(capacity) = &run.capacity {
        facts.push((
            "capacity".into(),
            format!(
                "{}{:.0} a second, bound by {}",
                if capacity.is_at_least { "at least " } else { "" },
                capacity.rate,
                capacity.bound_by
            ),
        ));
    }
    facts
}

fn curve(name: &str, summary: &Summary) -> Curve {
    let points = summary.percentiles.iter().map(|(percentile, us)| (percentile / 100.0, us * 1000));
    Curve { name: name.into(), points: points.collect() }
}

fn rate(of: &TargetRun) -> Rate {
    let seconds = of.seconds.last().map_or(0, |last| last.second as usize + 1).min(86_400);
    let (mut sent, mut answered) = (vec![0; seconds], vec![0; seconds]);
    for second in &of.seconds {
        let at = second.second as usize;
        if let (Some(sent), Some(answered)) = (sent.get_mut(at), answered.get_mut(at)) {
            (*sent, *answered) = (second.sent, second.ended);
        }
    }
    Rate { step_s: 1.0, planned: Vec::new(), sent, answered }
}

fn groups(rows: &[crate::replay::verdict::Row], compared: Option<&[compare::Group]>) -> Vec<Group> {
    let at = |summary: &Summary, wanted: f64| {
        let found = summary.percentiles.iter().find(|(percentile, _)| *percentile >= wanted);
        found.map_or(0, |(_, us)| us * 1000)
    };
    rows.iter()
        .map(|row| Group {
            name: row.name.clone(),
            sent: row.count,
            errors: row.errors,
            different: compared
                .and_then(|groups| groups.iter().find(|group| group.name == row.name))
                .map(|group| group.different),
            p50_ns: at(&row.latency_intended, 50.0),
            p99_ns: at(&row.latency_intended, 99.0),
        })
        .collect()
}
