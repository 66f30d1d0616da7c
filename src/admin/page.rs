//! The overview as a page: no scripts, nothing loaded from elsewhere, light and dark as the reader's system has it.
//!
//! Every text that is shown passes through [`Escaped`]: names come from the configuration and from discovery.

use super::answer::PATHS;
use super::{Snapshot, State, view};
use crate::cluster::{BreakerReport, Cluster, Endpoint, clock_ns};
use crate::pipeline::encode::rfc3339;
use std::fmt::{self, Display, Formatter, Write};
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

/// How many causes are shown.
const CAUSES_MAX: usize = 20;
/// How many endpoints of a cluster are shown; `/clusters` has all.
const ENDPOINTS_MAX: usize = 100;

/// How many breakers are shown; `/breakers` has all.
const BREAKERS_MAX: usize = 50;

/// A text that is shown, not interpreted.
struct Escaped<T>(T);

impl<T: Display> Display for Escaped<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for char in self.0.to_string().chars() {
            match char {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

/// The page, as of `now`.
pub(super) fn render(state: &State, now: SystemTime) -> String {
    let snapshot = state.control.snapshot();
    let mut out = String::with_capacity(16 * 1024);
    // Writing into a String does not fail.
    let _ = write_page(&mut out, state, &snapshot, now);
    out
}

fn write_page(out: &mut String, state: &State, snapshot: &Snapshot, now: SystemTime) -> fmt::Result {
    let service = Escaped(&state.service.name);
    write!(
        out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{service} · sidelight</title><style>{}</style></head><body>\n",
        include_str!("page.css"),
    )?;
    header(out, state, snapshot, now)?;
    tiles(out, state)?;
    for cluster in &snapshot.clusters {
        cluster_table(out, cluster)?;
    }
    breakers_table(out, snapshot)?;
    causes(out, state, now)?;
    events(out, state)?;
    out.push_str("<h2>Paths</h2><nav><ul>\n");
    for (path, method, _, what) in PATHS {
        match method {
            "GET" => write!(out, "<li><a href=\"{path}\"><code>{path}</code></a>")?,
            _ => write!(out, "<li><code>{method} {path}</code>")?,
        }
        writeln!(out, " <span class=\"faint\">{}</span></li>", Escaped(what))?;
    }
    out.push_str("</ul></nav>\n</body></html>\n");
    Ok(())
}

fn header(out: &mut String, state: &State, snapshot: &Snapshot, now: SystemTime) -> fmt::Result {
    let pending = state.readiness.pending();
    write!(out, "<header><h1>{}</h1>", Escaped(&state.service.name))?;
    if pending.is_empty() {
        out.push_str("<span class=\"chip good\">ready</span>");
    } else {
        write!(out, "<span class=\"chip bad\">not ready: {}</span>", Escaped(pending.join(", ")))?;
    }
    let details = [&state.service.version, &state.service.environment, &state.service.zone];
    for detail in details.into_iter().filter(|detail| !detail.is_empty()) {
        write!(out, "<span class=\"faint\">{}</span>", Escaped(detail))?;
    }
    writeln!(
        out,
        "<span class=\"faint\">sidelight {} · configuration <span class=\"mono\">{}</span> since {} · seen {}</span></header>",
        env!("CARGO_PKG_VERSION"),
        Escaped(&snapshot.revision),
        rfc3339(snapshot.loaded_at),
        rfc3339(now),
    )?;
    if let Some(refused) = &snapshot.refused {
        writeln!(
            out,
            "<p class=\"notice\"><b class=\"bad\">The last reload was refused</b> at {}; the configuration above stays.\
             <br><code>{}</code></p>",
            rfc3339(refused.at),
            Escaped(&refused.reason),
        )?;
    }
    Ok(())
}

fn tiles(out: &mut String, state: &State) -> fmt::Result {
    let failed: u64 = state.metrics.causes().iter().map(|row| row.count).sum();
    let tiles = [
        ("exchanges under way", state.metrics.active()),
        ("exchanges ended", state.metrics.ended()),
        ("of them with a cause", failed),
    ];
    out.push_str("<div class=\"tiles\">");
    for (what, value) in tiles {
        write!(out, "<div class=\"tile\"><b>{value}</b><span class=\"faint\">{what}</span></div>")?;
    }
    out.push_str("</div>\n");
    Ok(())
}

fn cluster_table(out: &mut String, cluster: &Cluster) -> fmt::Result {
    let set = cluster.endpoints();
    write!(
        out,
        "<h2>{} <small>cluster · endpoints: {}</small></h2>",
        Escaped(&cluster.name),
        set.endpoints.len(),
    )?;
    if let Some(why) = &set.stale {
        write!(out, "<p class=\"notice\"><b class=\"bad\">stale</b>: {}</p>", Escaped(why))?;
    }
    out.push_str(
        "<div class=\"scroll\"><table><tr><th>endpoint</th><th>health</th><th>zone</th><th class=\"n\">in flight</th>\
         <th class=\"n\">latency</th><th class=\"n\">requests</th><th class=\"n\">failures</th>\
         <th class=\"n\">connections</th></tr>\n",
    );
    for endpoint in set.endpoints.iter().take(ENDPOINTS_MAX) {
        endpoint_row(out, cluster, endpoint)?;
    }
    if set.endpoints.len() > ENDPOINTS_MAX {
        let more = set.endpoints.len() - ENDPOINTS_MAX;
        write!(out, "<tr><td colspan=\"8\">and <a href=\"/clusters\">{more} more</a></td></tr>")?;
    }
    out.push_str("</table></div>\n");
    Ok(())
}

fn endpoint_row(out: &mut String, cluster: &Cluster, endpoint: &Endpoint) -> fmt::Result {
    let stats = &endpoint.stats;
    let address = endpoint.address.to_string();
    write!(out, "<tr><td class=\"mono\">{}", Escaped(&address))?;
    if *endpoint.name != *address {
        write!(out, " <span class=\"faint\">{}</span>", Escaped(&endpoint.name))?;
    }
    let failures = stats.failures.load(Ordering::Relaxed);
    writeln!(
        out,
        "</td><td class=\"{}\">{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
         <td class=\"n{}\">{failures}</td><td class=\"n\">{}</td></tr>",
        if endpoint.health.is_usable() { "good" } else { "bad" },
        view::state(endpoint),
        Escaped(endpoint.zone.as_deref().unwrap_or("–")),
        endpoint.load.in_flight.load(Ordering::Relaxed),
        match view::latency(endpoint, cluster.settings.balance.policy) {
            Some(latency) => format!("{:.1} ms", latency.as_secs_f64() * 1000.0),
            None => "–".into(),
        },
        stats.requests.load(Ordering::Relaxed),
        if failures > 0 { " bad" } else { "" },
        stats.connections.load(Ordering::Relaxed),
    )
}

/// The limits that are in use, or were: the others are in `/breakers`.
fn breakers_table(out: &mut String, snapshot: &Snapshot) -> fmt::Result {
    let now_ns = clock_ns(tokio::time::Instant::now());
    let clusters = snapshot.clusters.iter().flat_map(|cluster| cluster.breakers.report(now_ns));
    let routes = snapshot.limits.breakers();
    let routes = routes.iter().flat_map(|placed| placed.limit.report(now_ns));
    let is_told =
        |report: &BreakerReport| report.current > 0 || report.refused > 0 || report.state != "closed";
    let reports: Vec<BreakerReport> = clusters.chain(routes).filter(is_told).collect();
    if reports.is_empty() {
        return Ok(());
    }
    out.push_str(
        "<h2>Circuit breakers <small>in use; <a href=\"/breakers\">all of them</a></small></h2>\
         <div class=\"scroll\"><table><tr><th>of</th><th>breaker</th><th>state</th><th class=\"n\">now</th>\
         <th class=\"n\">limit</th><th class=\"n\">refused</th></tr>\n",
    );
    for report in reports.iter().take(BREAKERS_MAX) {
        writeln!(
            out,
            "<tr><td>{} {}</td><td class=\"mono\">{}</td><td class=\"{}\">{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td><td class=\"n{}\">{}</td></tr>",
            report.scope,
            Escaped(&report.name),
            report.breaker,
            if report.state == "closed" { "good" } else { "bad" },
            report.state,
            report.current,
            report.limit.map_or("–".into(), |limit| limit.to_string()),
            if report.refused > 0 { " bad" } else { "" },
            report.refused,
        )?;
    }
    out.push_str("</table></div>\n");
    Ok(())
}

fn causes(out: &mut String, state: &State, now: SystemTime) -> fmt::Result {
    let causes = state.metrics.causes();
    out.push_str("<h2>Causes <small>what went wrong, the latest first</small></h2>");
    if causes.is_empty() {
        out.push_str("<p class=\"faint\">Nothing has gone wrong.</p>\n");
        return Ok(());
    }
    out.push_str(
        "<div class=\"scroll\"><table><tr><th>cause</th><th>direction</th><th class=\"n\">count</th>\
         <th class=\"n\">last</th><th>what it means</th></tr>\n",
    );
    for row in causes.iter().take(CAUSES_MAX) {
        writeln!(
            out,
            "<tr><td class=\"mono\">{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td>{}</td></tr>",
            row.cause.cause(),
            row.direction.as_str(),
            row.count,
            ago(now.duration_since(row.last).unwrap_or_default()),
            Escaped(row.cause.answer().title),
        )?;
    }
    out.push_str("</table></div>\n");
    Ok(())
}

fn events(out: &mut String, state: &State) -> fmt::Result {
    out.push_str(
        "<h2>Events</h2><div class=\"scroll\"><table><tr><th>sink</th><th class=\"n\">produced</th>\
         <th class=\"n\">delivered</th><th class=\"n\">dropped</th><th class=\"n\">queued</th></tr>\n",
    );
    for account in state.metrics.accounts().read() {
        let dropped = account.dropped_all();
        writeln!(
            out,
            "<tr><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n{}\">{dropped}</td>\
             <td class=\"n\">{}</td></tr>",
            account.sink,
            account.produced,
            account.delivered,
            if dropped > 0 { " bad" } else { "" },
            account.queued,
        )?;
    }
    out.push_str("</table></div>\n");
    Ok(())
}

fn ago(since: Duration) -> String {
    match since.as_secs() {
        seconds @ 0..60 => format!("{seconds} s ago"),
        seconds @ 60..3600 => format!("{} min ago", seconds / 60),
        seconds @ 3600..86_400 => format!("{} h ago", seconds / 3600),
        seconds => format!("{} d ago", seconds / 86_400),
    }
}
