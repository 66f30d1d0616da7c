//! The clusters of a configuration, and what feeds them: discovery and health checks.
//!
//! In two steps, because a configuration is applied whole or not at all. [`plan`] makes what can fail (certificates) and
//! touches nothing that runs; [`start`] cannot fail. A cluster whose own settings did not change stays the same object, so
//! its endpoints keep their load, health and connections, also when its list of endpoints is another one.

use super::compile::{APP_CLUSTER, Refused, Surroundings};
use crate::cluster::{self, Cluster};
use crate::config::Config;
use crate::context::extra::Extra;
use crate::context::third_party::ThirdParty;
use crate::identity::ClientTls;
use crate::{discovery, health};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// A cluster and what feeds it.
#[derive(Clone)]
pub struct Fed {
    config: cluster::Config,
    /// The cluster.
    pub cluster: Arc<Cluster>,
    /// Its source; stops when the last holder drops it.
    pub source: Arc<discovery::Running>,
    /// Its active checks, if it has any; they stop when the last holder drops them.
    pub checks: Option<Arc<health::Running>>,
}

/// A cluster that nothing feeds yet.
pub struct Planned {
    config: cluster::Config,
    pub(super) cluster: Arc<Cluster>,
    /// What it was until now, if it is the same cluster.
    old: Option<Fed>,
}

/// Makes the clusters of `config`, or finds them among those of `old`.
///
/// # Errors
/// A certificate cannot be had.
pub(super) fn plan(
    config: &Config,
    old: Option<&BTreeMap<String, Fed>>,
    around: &Surroundings,
) -> Result<BTreeMap<String, Planned>, Refused> {
    let zone = config.service.zone.as_str();
    let mut clusters = BTreeMap::new();
    // What is wrong with these is told by the rules of the context.
    let extra = Extra::compile(&config.context.fields).unwrap_or_default();
    let mut add = |name: &str, cluster: &cluster::Config| {
        let old = old.and_then(|old| old.get(name));
        let mut settings = cluster::Settings::of(cluster, zone);
        settings.third_party = ThirdParty::compile(&cluster.context, &extra);
        clusters.insert(name.to_owned(), planned(name, cluster, settings, old, around)?);
        Ok(())
    };
    for (name, cluster) in &config.clusters {
        add(name, cluster)?;
    }
    if let Some(app) = &config.service.app {
        let own = cluster::Config {
            endpoints: vec![app.clone().into()],
            protocol: config.service.app_protocol,
            // One endpoint: there is nothing to choose, and the app's own limits are the listener's matter.
            outlier_detection: cluster::config::OutlierDetection { enabled: false, ..Default::default() },
            circuit_breaker: cluster::config::CircuitBreaker::NONE,
            ..cluster::Config::default()
        };
        add(APP_CLUSTER, &own)?;
    }
    Ok(clusters)
}

fn planned(
    name: &str,
    config: &cluster::Config,
    mut settings: cluster::Settings,
    old: Option<&Fed>,
    around: &Surroundings,
) -> Result<Planned, Refused> {
    if let Some(old) = old {
        settings.seed = old.cluster.settings.seed;
        if settings == old.cluster.settings && config.tls == old.config.tls {
            let cluster = Arc::clone(&old.cluster);
            return Ok(Planned { config: config.clone(), cluster, old: Some(old.clone()) });
        }
    }
    settings.seed = name.bytes().fold(around.seed, |seed, byte| seed.rotate_left(8) ^ u64::from(byte));
    let tls = match &config.tls {
        None => None,
        Some(tls) => {
            let loaded = ClientTls::load(tls, Path::new("."));
            Some(Arc::new(loaded.map_err(|error| Refused(format!("clusters.{name}.tls: {error}")))?))
        }
    };
    let cluster = Arc::new(Cluster::new(name, settings, tls, around.journal.clone()));
    Ok(Planned { config: config.clone(), cluster, old: None })
}

/// Lets the clusters be fed. `with_checks`: whether endpoints are asked how they are, which is traffic.
pub(super) fn start(
    planned: BTreeMap<String, Planned>,
    around: &Surroundings,
    with_checks: bool,
) -> BTreeMap<String, Fed> {
    planned.into_iter().map(|(name, planned)| (name, planned.start(around, with_checks))).collect()
}

impl Planned {
    fn start(self, around: &Surroundings, with_checks: bool) -> Fed {
        let Planned { config, cluster, old } = self;
        let source = match &old {
            Some(old) if is_same_source(&old.config, &config) => Arc::clone(&old.source),
            old => {
                if let Some(old) = old {
                    // Or it could publish once more, over what the new one says.
                    old.source.stop();
                }
                let source = discovery::start(&config, Arc::clone(&cluster), Path::new("."), &around.runtime);
                Arc::new(source)
            }
        };
        let checks = match old {
            Some(old) if old.config.health == config.health => old.checks,
            _ => config.health.as_ref().filter(|_| with_checks).map(|health| {
                Arc::new(health::start(Arc::clone(&cluster), health, &around.runtime, cluster.random()))
            }),
        };
        Fed { config, cluster, source, checks }
    }
}

fn is_same_source(old: &cluster::Config, new: &cluster::Config) -> bool {
    old.endpoints == new.endpoints && old.discovery == new.discovery
}
