//! The stack's currency: message heads, bodies and byte streams, each one concrete type.
//!
//! A head is flat: the bytes of its fields in one buffer, and a list of spans into it, with the fields that sidelight
//! knows classified once ([`Known`]). Layers read known fields by index and edit the list; nobody builds a map, and a
//! head is never cloned. HTTP/2's `http::HeaderMap` exists only at hyper's boundary.

pub mod base64;
pub mod body;
pub mod buffer;
pub mod fields;
pub mod grpc;
pub mod head;
pub mod hex;
pub mod http2;
pub mod io;
mod known;
mod pushback;
mod replay;
pub mod timer;

pub use body::{Body, Frame, Source};
pub use buffer::{Input, Output};
pub use fields::Fields;
pub use head::{Method, RequestHead, ResponseHead, Scheme, Version};
pub use io::{Io, Socket, Stream};
pub use known::Known;
pub use pushback::Pushback;
pub use timer::Timer;
