//! W3C Trace Context level 2 (<https://www.w3.org/TR/trace-context-2/>) and W3C Baggage (<https://www.w3.org/TR/baggage/>)
//! rule by rule, through the real process: what the client sends, what the app receives, what the event tells.
//!
//! A test has the name of the one in W3C's own suite (<https://github.com/w3c/trace-context>, `test/test.py`) where that
//! suite has one. Every rule is tried over HTTP/1.1 and over HTTP/2, except for those about what HTTP/2 cannot express.

#[path = "trace_context/baggage.rs"]
mod baggage;
#[path = "trace_context/hostile.rs"]
mod hostile;
#[path = "trace_context/spans.rs"]
mod spans;
#[path = "trace_context/traceparent.rs"]
mod traceparent;
#[path = "trace_context/tracestate.rs"]
mod tracestate;
#[path = "trace_context/world.rs"]
mod world;

/// The caller's trace, its span, and the header of both.
const TRACE: &str = "12345678901234567890123456789012";
const PARENT: &str = "1234567890123456";
const SAMPLED: &str = "00-12345678901234567890123456789012-1234567890123456-01";
