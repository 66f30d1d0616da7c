//! Towards the endpoints: dialling, TLS, the HTTP/1.1 and HTTP/2 clients, and the pools of each worker.

pub mod dial;
pub mod http1;
pub mod http2;
pub mod pool;
pub mod upstream;
mod websocket;

pub use dial::{Dial, TcpDial};
pub use pool::Pools;
pub use upstream::{Settings, Upstream};
