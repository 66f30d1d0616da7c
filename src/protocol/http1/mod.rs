//! The HTTP/1 server: one task for a connection, which reads requests, calls the stack, and writes the answers.
//!
//! Why our own and not hyper's: a flat codec costs half (no header map, no dispatcher), relays interim responses both
//! ways, tells a half-closed client from one that left, answers before it closes, and lets the request stay in the
//! buffer that it was read into. hyper serves HTTP/2.
//!
//! How it fails: what cannot be parsed is answered once and the connection is closed, because where the next request
//! would start is not known; after such an answer the socket is read until the client has seen it (lingering close).

mod content;
mod finish;
mod server;
mod settings;
mod wait;
mod write;

pub use server::serve;
pub use settings::Settings;
