//! Protocols towards the client: detection, the HTTP/1 and HTTP/2 servers, request hygiene, the context, the proxy's
//! own answers, and opaque bytes.

pub mod date;
pub mod detect;
pub mod http1;
pub mod http2;
pub mod normalize;
pub mod propagate;
pub mod respond;
pub mod splice;

#[cfg(test)]
mod idle;
