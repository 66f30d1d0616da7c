//! The key that requests are signed with.
//!
//! What: an access key with its secret in a file, or what is in the environment, as every tool of AWS reads it. Roles of
//! instances and of pods are not asked for: mount their credentials, or let the environment have them. How it fails: what is
//! missing is named, and the secret never is.

use super::super::secret::Secret;
use std::fmt;
use std::path::Path;

/// An access key.
pub(crate) struct Keys {
    access_key_id: String,
    secret_access_key: Value,
    session_token: Option<Value>,
}

enum Value {
    File(Secret),
    Given(String),
}

impl Value {
    fn get(&self) -> &str {
        match self {
            Value::File(secret) => secret.get(),
            Value::Given(text) => text,
        }
    }

    fn reload(&mut self) -> bool {
        match self {
            Value::File(secret) => secret.reload(),
            Value::Given(_) => false,
        }
    }
}

impl Keys {
    /// Those of the configuration; without any, those of the environment.
    ///
    /// # Errors
    /// There are none, one half of them is missing, or a file cannot be read.
    pub(crate) fn find(
        access_key_id: Option<&str>,
        secret_access_key_file: Option<&Path>,
        session_token_file: Option<&Path>,
        base_dir: &Path,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Keys, String> {
        let keys = match (access_key_id, secret_access_key_file) {
            (Some(id), Some(file)) => Keys {
                access_key_id: id.to_owned(),
                secret_access_key: Value::File(Secret::read(file, base_dir)?),
                session_token: match session_token_file {
                    Some(file) => Some(Value::File(Secret::read(file, base_dir)?)),
                    None => None,
                },
            },
            (None, None) => {
                let get = |name: &str| environment(name).filter(|value| !value.is_empty());
                match (get("AWS_ACCESS_KEY_ID"), get("AWS_SECRET_ACCESS_KEY")) {
                    (Some(id), Some(secret)) => Keys {
                        access_key_id: id,
                        secret_access_key: Value::Given(secret),
                        session_token: get("AWS_SESSION_TOKEN").map(Value::Given),
                    },
                    _ => {
                        return Err(
                            "no key for AWS: write `access_key_id` and `secret_access_key_file`, or set \
                                    AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment"
                                .to_owned(),
                        );
                    }
                }
            }
            _ => {
                return Err("`access_key_id` and `secret_access_key_file` go together: write both".to_owned());
            }
        };
        // They stand in headers.
        let values = [Some(keys.access_key_id.as_str()), keys.session_token()];
        if values.into_iter().flatten().any(|value| !value.bytes().all(|byte| byte.is_ascii_graphic())) {
            return Err("the key for AWS has characters that no key has".to_owned());
        }
        Ok(keys)
    }

    /// Its name, which is no secret.
    pub(crate) fn access_key_id(&self) -> &str {
        &self.access_key_id
    }

    /// The secret.
    pub(crate) fn secret_access_key(&self) -> &str {
        self.secret_access_key.get()
    }

    /// What temporary keys come with.
    pub(crate) fn session_token(&self) -> Option<&str> {
        self.session_token.as_ref().map(Value::get)
    }

    /// Reads the files again: for when the other side refused the key. Returns whether anything is new.
    pub(crate) fn reload(&mut self) -> bool {
        let is_new = self.secret_access_key.reload();
        self.session_token.as_mut().is_some_and(Value::reload) || is_new
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}
