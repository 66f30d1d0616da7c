//! Towards the endpoints: dialling, TLS, the HTTP/1.1 and HTTP/2 clients, and the pools of each worker.

pub mod dial;
mod held;
pub mod http1;
pub mod http2;
pub mod pool;
mod share;
mod slot;
pub mod upstream;
mod wait;
mod websocket;

pub use dial::{Dial, TcpDial};
pub use pool::Pools;
pub use upstream::{Settings, Upstream};

#[cfg(test)]
mod tests;
