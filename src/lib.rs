//! sidelight

pub mod admin;
pub mod app;
pub mod balance;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod connect;
pub mod context;
pub mod control;
pub mod discovery;
pub mod drain;
pub mod error;
pub mod exchange;
pub mod http1;
pub mod identity;
pub mod limits;
pub mod listener;
pub mod pipeline;
pub mod protocol;
pub mod resilience;
pub mod route;
pub mod stack;
pub mod svc;
pub mod units;
