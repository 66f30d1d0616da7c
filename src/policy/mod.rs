//! What may refuse a request once its route is known: rate limits.
//!
//! Position: behind the route's decision, and before anything is done about it, so that redirections and answers of the
//! route itself are refused like the rest. Each rule is a [`Hook`](crate::exchange::Hook) that reads the route's
//! [`Policy`](crate::exchange::Policy); a route without the rule costs a branch.

pub mod rate_limit;
