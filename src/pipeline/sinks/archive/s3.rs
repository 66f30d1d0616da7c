//! Files in a bucket: one PUT each, so an object is complete or not there.
//!
//! What: PUT with the content's digest, signed ([`sigv4`]); an object that has the name is replaced.
//! Nothing is listed and nothing read, so `s3:PutObject` is all that the key must be allowed.
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html>. How it fails: always so that the file is
//! put again, since an operator can mend a bucket that is not there, or a key that is refused; the key's files are read
//! again then.

use super::super::http::{Answer, HttpClient, Protocol};
use super::super::sigv4::{self, Keys, Request, Scope};
use super::super::sink::Failure;
use super::config;
use bytes::Bytes;
use std::path::Path;
use std::time::{Instant, SystemTime};

/// Longest text out of an answer that is told.
const SAID_CHARS_MAX: usize = 160;

/// A bucket.
pub(super) struct S3 {
    client: HttpClient,
    keys: Keys,
    region: String,
    bucket: String,
    /// What stands before the partition in a path, encoded; begins and ends with `/`.
    base: String,
}

impl S3 {
    /// Asks for nothing yet.
    ///
    /// # Errors
    /// What is wrong in the configuration, or there is no key.
    pub(super) fn new(config: &config::S3, base_dir: &Path) -> Result<S3, String> {
        let config::S3 { bucket, region, .. } = config;
        check_name("bucket", bucket)?;
        check_name("region", region)?;
        let keys = Keys::find(
            config.access_key_id.as_deref(),
            config.secret_access_key_file.as_deref(),
            config.session_token_file.as_deref(),
            base_dir,
            |name| std::env::var(name).ok(),
        )?;
        let is_path_style = config.path_style.unwrap_or(config.endpoint.is_some());
        let endpoint = match &config.endpoint {
            Some(endpoint) => endpoint.clone(),
            None => format!("https://s3.{region}.{}", sigv4::domain(region)),
        };
        let url = match endpoint.split_once("://") {
            Some((scheme, place)) if !is_path_style => format!("{scheme}://{bucket}.{place}"),
            _ => endpoint,
        };
        let client = HttpClient::new(&url, config.tls.as_ref(), base_dir, Protocol::Http1)?;
        let mut base = format!("{}/", client.base_path());
        if is_path_style {
            base.push_str(&format!("{bucket}/"));
        }
        let prefix = config.prefix.trim_matches('/');
        if !prefix.is_empty() {
            base.push_str(&format!("{}/", sigv4::encode(prefix)));
        }
        Ok(S3 { client, keys, region: region.clone(), bucket: bucket.clone(), base })
    }

    /// Puts an object. When this returns, it is stored.
    ///
    /// # Errors
    /// It is not, as far as is known; it may be put again.
    pub(super) fn put(&mut self, path: &str, content: Bytes, deadline: Instant) -> Result<(), Failure> {
        let target = format!("{}{}", self.base, sigv4::encode(path));
        let digest = sigv4::sha256(&content);
        let request = Request {
            method: "PUT",
            path: &target,
            query: "",
            headers: &[("content-type", "application/octet-stream"), ("x-amz-content-sha256", &digest)],
            content: &digest,
        };
        let scope = Scope { region: &self.region, service: "s3" };
        let headers = sigv4::headers(&request, scope, self.client.authority(), &self.keys, SystemTime::now());
        let headers: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let answer = self.client.request("PUT", &target, &headers, content, deadline)?;
        if (200..300).contains(&answer.status) {
            return Ok(());
        }
        // Temporary keys that ran out are a 400.
        if matches!(answer.status, 400 | 401 | 403) {
            self.keys.reload();
        }
        let reason = format!("bucket {}: {}", self.bucket, said(&answer));
        Err(Failure::Retry { reason, after: answer.retry_after() })
    }

    /// Whom it asks, and what paths begin with.
    #[cfg(test)]
    pub(super) fn place(&self) -> (&str, &str) {
        (self.client.authority(), &self.base)
    }

    /// What is due while nothing is sent.
    pub(super) fn idle(&mut self) {
        self.client.idle();
    }
}

/// What S3 says in XML: `status 404: NoSuchBucket: The specified bucket does not exist`.
fn said(answer: &Answer) -> String {
    let body = String::from_utf8_lossy(&answer.body);
    let find = |name: &str| {
        let (_, rest) = body.split_once(&format!("<{name}>"))?;
        let (text, _) = rest.split_once(&format!("</{name}>"))?;
        Some(text.chars().filter(|char| !char.is_control()).take(SAID_CHARS_MAX).collect::<String>())
    };
    match (find("Code"), find("Message")) {
        (Some(code), Some(message)) => format!("status {}: {code}: {message}", answer.status),
        (Some(code), None) => format!("status {}: {code}", answer.status),
        _ => answer.reason(),
    }
}

/// Names of buckets and regions stand in hosts and paths.
fn check_name(what: &str, name: &str) -> Result<(), String> {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if !name.is_empty() && name.len() <= 255 && name.bytes().all(is_good) && !name.starts_with('.') {
        return Ok(());
    }
    Err(format!("`{name}` is no {what}: letters, digits, `-` and `.` are expected"))
}
