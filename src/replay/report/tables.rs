//! Tables of a report.

use super::words::{count, digits, escaped, percent, time};
use super::{Group, ROWS_MAX};
use crate::replay::compare::{Field, Findings, Judgement, Mode};
use std::fmt::Write;

/// What differs, and what is slower.
pub(super) fn differences(findings: &Findings, out: &mut String) {
    let how = match findings.mode {
        Mode::ThreeWay => {
            "The candidate against two instances of the version in use: what those two differ in as often is noise."
        }
        Mode::TwoWay => {
            "The candidate against one other answer; noise is unknown, so values that look generated are set apart. A secondary measures it."
        }
    };
    let _ = writeln!(
        out,
        "<h2>Differences</h2><p class=\"faint\">{how} {} of {} exchanges differ at all; an excess above {} counts, at {} confidence for all {} paths judged together.</p>",
        count(findings.different),
        count(findings.exchanges),
        percent(findings.floor),
        percent(findings.confidence),
        count(findings.paths_judged),
    );
    if let Some(downstream) = &findings.downstream {
        let _ = write!(out, "<p>{}</p>", escaped(&downstream.to_string()));
    }
    if findings.fields.is_empty() {
        out.push_str("<p>None.</p>\n");
        return;
    }
    out.push_str(
        "<div class=\"scroll\"><table><thead><tr><th></th><th>route</th><th>path</th><th>how</th><th class=\"n\">differ</th>\
         <th class=\"n\">noise</th><th class=\"n\">of</th><th class=\"n\">excess</th><th class=\"n\">at least</th></tr></thead><tbody>",
    );
    for field in findings.fields.iter().take(ROWS_MAX) {
        difference(field, out);
    }
    out.push_str("</tbody></table></div>\n");
    if findings.fields.len() > ROWS_MAX {
        let _ = writeln!(
            out,
            "<p class=\"faint\">{} more are in the JSON document.</p>",
            count((findings.fields.len() - ROWS_MAX) as u64)
        );
    }
    let slower: Vec<_> = findings.latency.iter().filter(|latency| latency.is_slower).collect();
    if !slower.is_empty() {
        out.push_str("<h2>Slower</h2><p class=\"faint\">Quantiles that are higher beyond their bounds and the tolerance.</p><div class=\"scroll\"><table><thead><tr><th>route</th><th class=\"n\">quantile</th><th class=\"n\">before</th><th class=\"n\">candidate</th><th class=\"n\">at least</th></tr></thead><tbody>");
        for latency in slower.into_iter().take(ROWS_MAX) {
            let _ = write!(
                out,
                "<tr><td>{}</td><td class=\"n\">p{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
                escaped(&latency.route),
                digits(latency.quantile * 100.0),
                time(latency.primary.ns as f64),
                time(latency.candidate.ns as f64),
                time(latency.candidate.low_ns.unwrap_or_default() as f64),
            );
        }
        out.push_str("</tbody></table></div>\n");
    }
}

fn difference(field: &Field, out: &mut String) {
    let class = match field.judgement {
        Judgement::Regression => "bad",
        Judgement::Undecided => "warn",
        Judgement::UnknownNoise | Judgement::Noise => "faint",
    };
    let examples: Vec<_> = match field.judgement {
        Judgement::Noise => Vec::new(),
        _ => field.examples.iter().filter(|example| example.is_candidate).collect(),
    };
    let noise = field.noise.map_or_else(|| "?".to_owned(), count);
    let _ = write!(
        out,
        "<tr{}><td><span class=\"mark {class}\">{}</span></td><td>{}</td><td><code>{}</code></td><td>{}</td><td class=\"n\">{}</td>\
         <td class=\"n\">{noise}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
        if examples.is_empty() { "" } else { " class=\"has\"" },
        field.judgement.as_str().to_ascii_lowercase(),
        escaped(&field.route),
        escaped(&field.path),
        field.kind.as_str(),
        count(field.raw),
        count(field.of),
        percent(field.excess),
        percent(field.excess_low.max(0.0)),
    );
    if !examples.is_empty() {
        out.push_str("<tr class=\"example\"><td></td><td colspan=\"8\">");
        for (index, example) in examples.iter().enumerate() {
            let value = |text: &str| if text.is_empty() { "nothing".to_owned() } else { escaped(text) };
            let _ = write!(
                out,
                "{}#{} <code><del>{}</del> → <ins>{}</ins></code>",
                if index > 0 { "<br>" } else { "" },
                example.sequence,
                value(&example.before),
                value(&example.after),
            );
        }
        out.push_str("</td></tr>");
    }
}

/// Routes or accounts.
pub(super) fn groups(title: &str, what: &str, groups: &[Group], out: &mut String) {
    if groups.is_empty() {
        return;
    }
    let has_compared = groups.iter().any(|group| group.different.is_some());
    let _ = write!(
        out,
        "<h2>{title}</h2><div class=\"scroll\"><table><thead><tr><th>{what}</th><th class=\"n\">sent</th><th class=\"n\">no answer</th>"
    );
    if has_compared {
        out.push_str("<th class=\"n\">differ</th>");
    }
    out.push_str("<th class=\"n\">p50</th><th class=\"n\">p99</th></tr></thead><tbody>");
    for group in groups.iter().take(ROWS_MAX) {
        let _ = write!(
            out,
            "<tr><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>",
            escaped(&group.name),
            count(group.sent),
            count(group.errors),
        );
        if has_compared {
            let _ = write!(out, "<td class=\"n\">{}</td>", group.different.map_or_else(String::new, count));
        }
        let _ = write!(
            out,
            "<td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            time(group.p50_ns as f64),
            time(group.p99_ns as f64)
        );
    }
    out.push_str("</tbody></table></div>\n");
    if groups.len() > ROWS_MAX {
        let _ = writeln!(
            out,
            "<p class=\"faint\">{} more are in the JSON document.</p>",
            count((groups.len() - ROWS_MAX) as u64)
        );
    }
}
