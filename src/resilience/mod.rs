//! What keeps an exchange from waiting for ever, and from failing when it need not.

pub mod retry;
pub mod timeout;
