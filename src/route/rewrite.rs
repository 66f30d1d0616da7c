//! The hook that applies what a route changes: the path and the host that the upstream sees, header fields on the way
//! in and out.
//!
//! Position: inside routing, which reads the head as it came, and outside retry: a head is rewritten once, however
//! often it is sent (a prefix replaced twice, or a field appended twice, would be another request). How it fails: a
//! pattern that makes a path climb (`^/a(.*)` → `/b$1` and the path `/a../x`) is refused, with
//! [`Kind::RequestRefused`].

use super::compile::has_dot_segment;
use crate::error::{Error, Kind, Result};
use crate::exchange::{Answer, Ctx, Exchange, Hook, PathRewrite, Response, Rewrite};
use crate::svc::RequestHead;

/// The hook.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rewriting;

impl Hook for Rewriting {
    fn before(&self, exchange: &mut Exchange) -> Result<Option<Response>> {
        let Exchange { head, ctx, .. } = exchange;
        if let Some(policy) = &*ctx.policy.borrow() {
            if let Some(rewrite) = &policy.rewrite {
                apply(rewrite, head)?;
            }
            if !policy.request_edits.is_empty() {
                policy.request_edits.apply(&mut head.fields);
            }
        }
        Ok(None)
    }

    fn after(&self, ctx: &Ctx, answer: &mut Answer) {
        if let (Ok(response), Some(policy)) = (answer, &*ctx.policy.borrow())
            && !policy.response_edits.is_empty()
        {
            policy.response_edits.apply(&mut response.head.fields);
        }
    }
}

fn apply(rewrite: &Rewrite, head: &mut RequestHead) -> Result<()> {
    if let Some(host) = &rewrite.host {
        head.set_authority(host);
    }
    let old = head.path();
    if old == b"*" {
        return Ok(()); // OPTIONS for the server as a whole
    }
    let path = match &rewrite.path {
        None => return Ok(()),
        Some(PathRewrite::Full(path)) => {
            head.set_path(path);
            return Ok(());
        }
        Some(PathRewrite::Prefix { matched_bytes, replacement }) => {
            let mut path = Vec::with_capacity(replacement.len() + old.len());
            replace_prefix(old, *matched_bytes, replacement, &mut path);
            path
        }
        Some(PathRewrite::Regex { pattern, substitution }) => {
            let new = pattern.replace_all(old, &**substitution);
            if has_dot_segment(&new) {
                return Err(Error::new(Kind::RequestRefused, "the route's rewriting makes a dot segment"));
            }
            let slash: &[u8] = if new.starts_with(b"/") { b"" } else { b"/" };
            [slash, &new].concat()
        }
    };
    head.set_path(&path);
    Ok(())
}

/// Writes `path` with its first `matched_bytes` replaced. Neither has a final slash, so what follows starts with one;
/// nothing at all is the root.
pub(super) fn replace_prefix(path: &[u8], matched_bytes: usize, replacement: &[u8], out: &mut Vec<u8>) {
    let rest = path.get(matched_bytes..).unwrap_or_default();
    out.extend_from_slice(replacement);
    out.extend_from_slice(rest);
    if replacement.is_empty() && rest.is_empty() {
        out.push(b'/');
    }
}
