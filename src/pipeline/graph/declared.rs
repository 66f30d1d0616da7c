//! What a service says that it depends on: `service.depends_on`, and the file that pins it for many services.
//!
//! Why: what nobody declared is found when it is called, not when it is down. How it fails: a file that cannot be read or
//! says something else is an error with its line; where it cannot be read again later, what was declared stays.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::units;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

/// The largest file with declarations that is read.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// `service.depends_on`: a list, or a mapping that says more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum DependsOn {
    /// The services, here.
    List(Vec<Entry>),
    /// The services here or in a file, and what an undeclared one means.
    Pinned(Pinned),
}

impl Default for DependsOn {
    fn default() -> Self {
        DependsOn::List(Vec::new())
    }
}

impl JsonSchema for DependsOn {
    fn schema_name() -> Cow<'static, str> {
        "DependsOn".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        units::any_of(&[Vec::<Entry>::json_schema(generator), Pinned::json_schema(generator)])
    }
}

/// `service.depends_on` as a mapping.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "PinnedDependencies")]
pub struct Pinned {
    /// The services that this one needs.
    pub services: Vec<Entry>,
    /// A file with the same for many services: a mapping from the name of a service to such a list. What `services` says
    /// comes first. Read when the configuration is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "file"))]
    pub file: Option<PathBuf>,
    /// What happens when a cluster is not declared.
    pub undeclared: Undeclared,
}

/// What happens when a cluster is not declared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Undeclared {
    /// Nothing.
    Allow,
    /// `check` warns; the first call is an event (`sidelight/dependency/1`), and calls are counted.
    #[default]
    Warn,
    /// The configuration is refused.
    Refuse,
}

/// A service that is needed: its name, or more than that.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Entry {
    /// Its name.
    Name(String),
    /// With what is known of it.
    Dependency(Dependency),
}

impl JsonSchema for Entry {
    fn schema_name() -> Cow<'static, str> {
        "DependencyEntry".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        units::any_of(&[String::json_schema(generator), Dependency::json_schema(generator)])
    }
}

impl Entry {
    fn dependency(&self) -> Dependency {
        match self {
            Entry::Name(name) => Dependency { service: name.clone(), ..Dependency::default() },
            Entry::Dependency(dependency) => dependency.clone(),
        }
    }
}

/// A service that is needed, and what is expected of the calls to it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dependency {
    /// Its `service.name`.
    pub service: String,
    /// The clusters that are it; absent: the one of its name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<String>,
    /// Whether the service can do without it.
    #[serde(default)]
    pub criticality: Criticality,
    /// Most calls a second, on average; more is drift.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1e9))]
    pub max_rps: Option<f64>,
    /// Largest share of calls that may fail (0.01: one in a hundred); more is drift.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub max_failure_ratio: Option<f64>,
    /// How long 99 of 100 calls may take; longer is drift.
    #[serde(default, with = "optional_duration", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<units::DurationText>")]
    pub timeout: Option<Duration>,
}

/// Whether a service can do without another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Criticality {
    /// It fails without it.
    #[default]
    Hard,
    /// It does less without it.
    Soft,
}

mod optional_duration {
    use crate::units;
    use serde::{Deserialize, Deserializer, Serializer, de};
    use std::time::Duration;

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Duration>, D::Error> {
        let text = Option::<String>::deserialize(d)?;
        text.map(|text| units::parse_duration(&text).map_err(de::Error::custom)).transpose()
    }

    pub(super) fn serialize<S: Serializer>(value: &Option<Duration>, s: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => s.serialize_str(&units::duration_text(*value)),
            None => s.serialize_none(),
        }
    }
}

impl Dependency {
    /// Whether the cluster is this service.
    pub fn is_reached_by(&self, cluster: &str) -> bool {
        if self.clusters.is_empty() {
            self.service == cluster
        } else {
            self.clusters.iter().any(|it| it == cluster)
        }
    }
}

/// What one service depends on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Declared {
    /// In the order in which they are written.
    pub dependencies: Vec<Dependency>,
    /// What happens when a cluster is not among them.
    pub undeclared: Undeclared,
    /// Whether anything was declared at all; else nothing is undeclared.
    pub is_declared: bool,
}

impl DependsOn {
    /// What `service` declares. The file is read; relative paths are taken from `base`.
    ///
    /// # Errors
    /// The file cannot be read, or is none.
    pub fn declared(&self, service: &str, base: &Path) -> Result<Declared, String> {
        let (entries, file, undeclared) = match self {
            DependsOn::List(entries) => (entries, None, Undeclared::Warn),
            DependsOn::Pinned(pinned) => (&pinned.services, pinned.file.as_ref(), pinned.undeclared),
        };
        let mut dependencies: Vec<_> = entries.iter().map(Entry::dependency).collect();
        let mut is_declared = !dependencies.is_empty();
        if let Some(file) = file {
            is_declared = true;
            let mut pinned = Manifest::load(&base.join(file))?;
            dependencies.extend(pinned.services.remove(service).unwrap_or_default());
        }
        // A mapping that says nothing but "refuse" refuses everything.
        is_declared |= undeclared == Undeclared::Refuse;
        Ok(Declared { dependencies, undeclared, is_declared })
    }

    /// The file, to be resolved.
    pub fn file_mut(&mut self) -> Option<&mut PathBuf> {
        match self {
            DependsOn::List(_) => None,
            DependsOn::Pinned(pinned) => pinned.file.as_mut(),
        }
    }
}

impl Declared {
    /// What the cluster is, if it is declared.
    pub fn of_cluster(&self, cluster: &str) -> Option<&Dependency> {
        self.dependencies.iter().find(|dependency| dependency.is_reached_by(cluster))
    }

    /// Whether a cluster should have been declared, and is not.
    pub fn is_undeclared(&self, cluster: &str) -> bool {
        self.is_declared && self.undeclared != Undeclared::Allow && self.of_cluster(cluster).is_none()
    }
}

/// A file that pins what services depend on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Manifest {
    /// By the name of the service.
    pub services: BTreeMap<String, Vec<Dependency>>,
}

impl Manifest {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, is too large, or is no mapping from services to lists; the text names it.
    pub fn load(path: &Path) -> Result<Manifest, String> {
        use std::io::Read;
        let name = path.display();
        let mut text = String::new();
        let file = std::fs::File::open(path).map_err(|error| format!("cannot open {name}: {error}"))?;
        file.take(FILE_BYTES_MAX + 1)
            .read_to_string(&mut text)
            .map_err(|error| format!("cannot read {name}: {error}"))?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(format!("{name} is larger than {} MiB", FILE_BYTES_MAX >> 20));
        }
        Manifest::parse(&text).map_err(|problem| format!("{name}: {problem}"))
    }

    /// Reads a text: a mapping from the name of a service to a list of what it depends on.
    ///
    /// # Errors
    /// It is none; the text says where.
    pub fn parse(text: &str) -> Result<Manifest, String> {
        if text.trim().is_empty() {
            return Ok(Manifest::default());
        }
        let read: BTreeMap<String, Vec<Entry>> = serde_yaml::from_str(text).map_err(|error| {
            let why = error.to_string();
            let why = why.lines().next().unwrap_or_default();
            let why = why.strip_prefix("error: ").unwrap_or(why);
            format!("{why}; what is wanted: a mapping from services to lists")
        })?;
        let dependencies = |entries: Vec<Entry>| entries.iter().map(Entry::dependency).collect();
        let services = read.into_iter().map(|(service, entries)| (service, dependencies(entries)));
        Ok(Manifest { services: services.collect() })
    }

    /// The file that says this.
    pub fn text(&self) -> String {
        serde_yaml::to_string(&self.services)
            .unwrap_or_else(|error| format!("# cannot be written: {error}\n"))
    }

    /// Every name that is in it.
    pub fn names(&self) -> BTreeSet<&str> {
        let needed = self.services.values().flatten().map(|dependency| dependency.service.as_str());
        self.services.keys().map(String::as_str).chain(needed).collect()
    }
}

/// A declared dependency, and what came of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// The service.
    pub service: String,
    /// Whether the service can do without it; absent: it was called and not declared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub criticality: Option<Criticality>,
    /// `used`, `unused`, `undeclared`.
    pub state: Cow<'static, str>,
    /// Calls to it.
    pub calls: u64,
}
