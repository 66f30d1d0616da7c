//! `recording.redact`: what never reaches the disk.
//!
//! The default is the safe one: everything below is on without a word in the configuration. `add` makes a list longer,
//! `keep` takes entries off it. Sources of the defaults: OpenTelemetry's rule for `url.query`
//! (<https://opentelemetry.io/docs/specs/semconv/registry/attributes/url/>), the fields of RFC 6749 (OAuth 2.0), RFC 6265
//! (cookies), PCI DSS 3.3 (card number and security code), and the headers that AWS, Azure, Google, Cloudflare, GitLab,
//! Shopify, Vault, Envoy and oauth2-proxy document for credentials.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::path::PathBuf;

/// The most entries of one list.
pub const ENTRIES_MAX: usize = 256;

/// `recording.redact`: what is replaced before anything is written. Each value becomes a text of the same length that is the
/// same for the same value and key, so that sessions can still be followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Redact")]
pub struct Config {
    /// Header fields whose values are replaced; cookies one by one, with their names and attributes kept.
    pub headers: Names,
    /// Parameters of the query whose values are replaced.
    pub query: Names,
    /// Members of JSON documents, fields of forms and parts of `multipart/form-data` whose values are replaced at any depth.
    /// Case, `_` and `-` make no difference: `cardNumber` is `card_number`. They are parameters of the query too.
    pub fields: Names,
    /// JSON pointers (RFC 6901) whose values are replaced; `*` is any member or element, `**` any depth.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub json: Vec<String>,
    /// What is looked for everywhere: in header fields, addresses and content.
    pub detect: Vec<Detector>,
    /// File with the key of the replacements: 32 bytes, or 64 hexadecimal digits. Absent: a key of this process, so
    /// replacements of two runs have nothing in common.
    #[schemars(with = "Option<String>", extend("format" = "file"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            headers: Names::default(),
            query: Names::default(),
            fields: Names::default(),
            json: Vec::new(),
            detect: vec![Detector::Card, Detector::Email, Detector::Jwt, Detector::Credentials],
            key_file: None,
        }
    }
}

impl Config {
    /// The key of the replacements, from its file; without one a key that nobody else has.
    ///
    /// # Errors
    /// The path, what is wrong, and how to make a key.
    pub fn key(&self) -> Result<[u8; 32], String> {
        let mut key = [0; 32];
        let Some(path) = &self.key_file else {
            return match aws_lc_rs::rand::fill(&mut key) {
                Ok(()) => Ok(key),
                Err(_) => Err("recording.redact: the system gives no random numbers".to_owned()),
            };
        };
        let wrong = |what: &str| format!("recording.redact.key_file: {}: {what}", path.display());
        let mut bytes = Vec::with_capacity(128);
        let file = std::fs::File::open(path).map_err(|error| wrong(&error.to_string()))?;
        file.take(128).read_to_end(&mut bytes).map_err(|error| wrong(&error.to_string()))?;
        if let Ok(key) = bytes.as_slice().try_into() {
            return Ok(key);
        }
        let text = bytes.trim_ascii();
        let digits = text.chunks_exact(2).map(|pair| match pair {
            [a, b] => Some((char::from(*a).to_digit(16)? * 16 + char::from(*b).to_digit(16)?) as u8),
            _ => None,
        });
        match digits
            .collect::<Option<Vec<u8>>>()
            .and_then(|key| key.try_into().ok())
            .filter(|_| text.len() == 64)
        {
            Some(key) => Ok(key),
            None => Err(wrong("is no key; make one with: head -c 32 /dev/urandom > FILE")),
        }
    }
}

/// What to change about a list of names. Case makes no difference.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "RedactNames")]
pub struct Names {
    /// To be replaced too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<String>,
    /// Not to be replaced, though the default says so; `*`: none of the defaults.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keep: Vec<String>,
}

impl Names {
    /// The names that are in force.
    pub(super) fn of(&self, defaults: &[&'static str]) -> Vec<String> {
        let is_kept =
            |name: &str| self.keep.iter().any(|keep| keep == "*" || keep.eq_ignore_ascii_case(name));
        let defaults = defaults.iter().filter(|name| !is_kept(name)).map(|name| (*name).to_owned());
        defaults.chain(self.add.iter().map(|name| name.to_ascii_lowercase())).collect()
    }
}

/// Something that is known by its shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "RedactDetector")]
pub enum Detector {
    /// Payment card numbers: 13 to 19 digits of a known range with a right check digit, in groups or not.
    Card,
    /// Addresses of e-mail. `@` and dots stay.
    Email,
    /// JSON Web Tokens and encrypted ones.
    Jwt,
    /// Keys of AWS, GitHub, GitLab, Slack, Stripe, Google, npm and others, bearer tokens in texts, passwords in addresses,
    /// private keys in PEM.
    Credentials,
}

/// Header fields by default.
pub(super) const HEADERS: &[&str] = &[
    "authorization",
    "proxy-authorization",
    "authentication-info",
    "cookie",
    "set-cookie",
    "x-api-key",
    "api-key",
    "apikey",
    "x-apikey",
    "x-auth-token",
    "x-auth-key",
    "x-access-token",
    "x-refresh-token",
    "x-id-token",
    "x-session-token",
    "x-session-id",
    "x-user-token",
    "x-token",
    "x-secret",
    "x-client-secret",
    "x-csrf-token",
    "x-csrftoken",
    "x-xsrf-token",
    "csrf-token",
    "x-amz-security-token",
    "x-amzn-oidc-data",
    "x-amzn-oidc-accesstoken",
    "x-aws-ec2-metadata-token",
    "x-forwarded-client-cert",
    "x-ssl-client-cert",
    "ssl-client-cert",
    "client-cert",
    "client-cert-chain",
    "x-forwarded-access-token",
    "x-forwarded-authorization",
    "x-auth-request-access-token",
    "x-original-authorization",
    "x-goog-api-key",
    "x-goog-iap-jwt-assertion",
    "x-serverless-authorization",
    "cf-access-jwt-assertion",
    "cf-access-client-secret",
    "x-functions-key",
    "ocp-apim-subscription-key",
    "x-ms-token-aad-access-token",
    "x-ms-token-aad-id-token",
    "x-ms-client-principal",
    "x-vault-token",
    "private-token",
    "job-token",
    "x-gitlab-token",
    "x-shopify-access-token",
    "x-hub-signature",
    "x-hub-signature-256",
    "stripe-signature",
    "x-slack-signature",
    "dpop",
];

/// Parameters of the query by default, beside [`FIELDS`].
pub(super) const QUERY: &[&str] = &[
    "x-amz-signature",
    "x-amz-credential",
    "x-amz-security-token",
    "awsaccesskeyid",
    "signature",
    "sig",
    "x-goog-signature",
    "x-goog-credential",
    "code",
    "auth",
    "jwt",
    "sid",
    "session",
    "key-pair-id",
    "samlrequest",
    "samlresponse",
];

/// Members and form fields by default.
pub(super) const FIELDS: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "pwd",
    "old_password",
    "new_password",
    "current_password",
    "password_confirmation",
    "confirm_password",
    "secret",
    "client_secret",
    "secret_key",
    "shared_secret",
    "token",
    "access_token",
    "refresh_token",
    "id_token",
    "auth_token",
    "session_token",
    "csrf_token",
    "xsrf_token",
    "authenticity_token",
    "csrfmiddlewaretoken",
    "api_token",
    "id_token_hint",
    "client_assertion",
    "assertion",
    "code_verifier",
    "device_code",
    "session_id",
    "sessionid",
    "api_key",
    "apikey",
    "access_key",
    "secret_access_key",
    "private_key",
    "authorization",
    "credential",
    "credentials",
    "otp",
    "totp",
    "mfa_code",
    "card_number",
    "cardnumber",
    "card_no",
    "credit_card",
    "creditcard",
    "credit_card_number",
    "cc_number",
    "ccnumber",
    "pan",
    "cvv",
    "cvv2",
    "cvc",
    "cvc2",
    "csc",
    "card_cvv",
    "card_cvc",
    "security_code",
    "iban",
    "account_number",
    "routing_number",
    "ssn",
    "social_security_number",
    "tax_id",
];
