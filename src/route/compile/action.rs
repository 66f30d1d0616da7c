//! What a route does, compiled.

use super::{Compiler, lower, without_slash};
use crate::cluster::Cluster;
use crate::route::action::{Configured, Redirect, RedirectPath, Respond, Split};
use crate::route::predicate::ContextField;
use crate::route::{config, field};
use crate::svc::{Fields, Known, Scheme};
use std::sync::Arc;

impl Compiler<'_> {
    /// What the route does; `app` is where an inbound route without an action goes.
    pub(in crate::route) fn action(&mut self, app: Option<&Arc<Cluster>>) -> Option<Configured> {
        let route = self.route;
        let written = [
            route.cluster.is_some(),
            !route.split.is_empty(),
            route.redirect.is_some(),
            route.respond.is_some(),
        ];
        if written.into_iter().filter(|is_written| *is_written).count() > 1 {
            self.problem("it has more than one of `cluster`, `split`, `redirect` and `respond`");
        }
        if route.sticky.is_some() && route.split.is_empty() {
            self.problem("`sticky` is for `split`");
        }
        if let Some(name) = &route.cluster {
            self.cluster(name).map(Configured::Cluster)
        } else if !route.split.is_empty() {
            self.split().map(Configured::Split)
        } else if let Some(redirect) = &route.redirect {
            Some(Configured::Redirect(self.redirect(redirect)))
        } else if let Some(respond) = &route.respond {
            Some(Configured::Respond(self.respond(respond)))
        } else {
            if app.is_none() {
                self.problem("it needs one of `cluster`, `split`, `redirect` and `respond`");
            }
            app.map(|app| Configured::Cluster(Arc::clone(app)))
        }
    }

    fn cluster(&mut self, name: &str) -> Option<Arc<Cluster>> {
        let cluster = (self.clusters)(name);
        if cluster.is_none() {
            self.problem(format!("there is no cluster `{name}`"));
        }
        cluster
    }

    fn split(&mut self) -> Option<Split> {
        let mut arms = Vec::new();
        let mut total = 0u64;
        for part in &self.route.split {
            let cluster = self.cluster(&part.cluster);
            total += u64::from(part.weight);
            if let Some(cluster) = cluster.filter(|_| part.weight > 0) {
                arms.push((total, cluster));
            }
        }
        if total == 0 {
            self.problem("all weights of `split` are 0");
        }
        let sticky = self.route.sticky.map(|sticky| match sticky {
            config::Sticky::AccountId => ContextField::AccountId,
            config::Sticky::UserId => ContextField::UserId,
            config::Sticky::License => ContextField::License,
        });
        let first = arms.first().map(|(_, cluster)| Arc::clone(cluster))?;
        Some(Split { first, arms, sticky })
    }

    fn redirect(&mut self, redirect: &config::Redirect) -> Redirect {
        if !matches!(redirect.status, 301 | 302 | 303 | 307 | 308) {
            self.problem(format!(
                "`redirect.status: {}` is none of 301, 302, 303, 307 and 308",
                redirect.status
            ));
        }
        let path = match (&redirect.path, &redirect.prefix) {
            (None, None) => RedirectPath::Same,
            (Some(path), prefix) => {
                if prefix.is_some() {
                    self.problem("`redirect` has both `path` and `prefix`");
                }
                self.check_path("redirect.path", path);
                RedirectPath::Full(path.as_bytes().into())
            }
            (None, Some(prefix)) => {
                self.check_path("redirect.prefix", prefix);
                let matched_bytes = self.matched_bytes("redirect.prefix");
                RedirectPath::Prefix { matched_bytes, replacement: without_slash(prefix) }
            }
        };
        Redirect {
            status: redirect.status,
            scheme: redirect.scheme.map(|scheme| match scheme {
                config::RedirectScheme::Http => Scheme::Http,
                config::RedirectScheme::Https => Scheme::Https,
            }),
            host: redirect.host.as_deref().map(|host| self.authority("redirect.host", host)),
            path,
        }
    }

    fn respond(&mut self, respond: &config::Respond) -> Respond {
        if !(200..=599).contains(&respond.status) {
            self.problem(format!("`respond.status: {}` is not from 200 to 599", respond.status));
        }
        if matches!(respond.status, 204 | 304) && !respond.body.is_empty() {
            self.problem(format!("`respond.body`: a {} has no content", respond.status));
        }
        let mut fields = Fields::new();
        for (name, value) in &respond.headers {
            if let Some(why) = field::objection(name).or_else(|| field::value_objection(value)) {
                self.problem(format!("`respond.headers`: `{name}` {why}"));
            }
            fields.push(&lower(name), value.as_bytes());
        }
        if !respond.body.is_empty() && !fields.has(Known::ContentType) {
            fields.append(Known::ContentType, b"text/plain; charset=utf-8");
        }
        Respond { status: respond.status, fields, body: respond.body.clone().into() }
    }
}
