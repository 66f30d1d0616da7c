//! Composition: the one place that orders layers, and what a worker does with a connection.

mod http;
mod mirror;
mod opaque;
mod settings;
#[cfg(test)]
mod simulation;
mod site;
#[cfg(test)]
mod tests;
mod worker;

pub use http::{HttpStack, http_stack};
pub use mirror::Mirrors;
pub use settings::Settings;
pub use site::{Role, Site, Traffic};
pub use worker::{Applied, Handle, Listening, Seed, start};
