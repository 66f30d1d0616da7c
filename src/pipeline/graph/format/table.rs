//! A table for people.

use super::super::map::Map;
use super::plain;
use std::fmt::Write;

/// The text.
pub(super) fn text(map: &Map<'_>) -> String {
    let mut rows = vec![
        ["FROM", "TO", "PROTOCOL", "CALLS", "PER SECOND", "FAILED", "P50 MS", "P99 MS"].map(String::from),
    ];
    for link in &map.links {
        let latency = link.latency();
        let millis = |millis: Option<f64>| millis.map_or("-".into(), |millis| format!("{millis:.1}"));
        let protocols: Vec<&str> = link.protocols().into_iter().map(|protocol| protocol.as_str()).collect();
        let failed = match link.total.failures {
            0 => "0".to_owned(),
            failures => format!("{failures} ({:.2} %)", link.failure_ratio().unwrap_or(0.0) * 100.0),
        };
        rows.push([
            plain(map.name(link.from)),
            plain(map.name(link.to)),
            if protocols.is_empty() { "-".into() } else { protocols.join(",") },
            link.total.calls.to_string(),
            format!("{:.1}", link.rate),
            failed,
            millis(latency.p50),
            millis(latency.p99),
        ]);
    }
    let mut out = lines(&rows, 3);
    if map.links.is_empty() {
        out.push_str("no calls\n");
    }
    for finding in &map.findings {
        let from = finding.from.as_deref().unwrap_or("its callers");
        let _ = writeln!(
            out,
            "{}: {} → {}: {}",
            finding.kind,
            plain(from),
            plain(&finding.to),
            plain(&finding.text)
        );
    }
    out
}

/// Columns of equal width; those from `numbers` on to the right.
pub(in crate::pipeline::graph) fn lines<const N: usize>(rows: &[[String; N]], numbers: usize) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (at, (cell, width)) in row.iter().zip(widths).enumerate() {
            if at > 0 {
                line.push_str("  ");
            }
            // Writing into a String does not fail.
            let _ =
                if at >= numbers { write!(line, "{cell:>width$}") } else { write!(line, "{cell:<width$}") };
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}
