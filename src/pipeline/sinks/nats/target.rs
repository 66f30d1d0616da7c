//! Which servers, and who we are to them.

use super::Config;
use crate::identity::{Alpn, ClientTls};
use crate::pipeline::Service;
use crate::pipeline::sinks::secret_file;
use async_nats::{ConnectOptions, ServerAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long one server may take to let us in, before the next is asked.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Who we are; never printed.
enum Auth {
    None,
    Password(String, String),
    Token(String),
    Seed(String),
    Creds(String),
}

/// Servers, and what they are told.
pub(super) struct Target {
    /// Where they are.
    pub(super) servers: Vec<ServerAddr>,
    /// The same for people.
    pub(super) text: String,
    auth: Auth,
    tls: Option<ClientTls>,
    name: String,
}

impl Target {
    /// Reads the files that the configuration names.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    pub(super) fn new(config: &Config, about: &Service, base_dir: &Path) -> Result<Target, String> {
        if config.servers.is_empty() {
            return Err("servers: at least one must be named".into());
        }
        let scheme = if config.tls.is_some() { "tls" } else { "nats" };
        let servers = config.servers.iter().map(|server| {
            let url = format!("{scheme}://{server}");
            url.parse::<ServerAddr>().map_err(|error| format!("servers: `{server}`: {error}"))
        });
        let tls = match &config.tls {
            Some(tls) if tls.server_name.is_some() => {
                return Err("tls.server_name: name the servers as their certificates do instead".into());
            }
            Some(tls) => Some(ClientTls::load(tls, base_dir).map_err(|error| error.to_string())?),
            None => None,
        };
        let names: Vec<String> = config.servers.iter().map(ToString::to_string).collect();
        let target = Target {
            servers: servers.collect::<Result<_, _>>()?,
            text: names.join(", "),
            auth: auth(config, base_dir)?,
            tls,
            name: format!("sidelight {}", about.name),
        };
        target.options()?;
        Ok(target)
    }

    /// Options for one connection.
    ///
    /// # Errors
    /// The credentials are malformed.
    pub(super) fn options(&self) -> Result<ConnectOptions, String> {
        let options = ConnectOptions::new().name(&self.name).connection_timeout(CONNECT_TIMEOUT);
        let options = match &self.tls {
            None => options,
            Some(tls) => options.require_tls(true).tls_client_config((*tls.config(Alpn::None)).clone()),
        };
        Ok(match &self.auth {
            Auth::None => options,
            Auth::Password(user, password) => options.user_and_password(user.clone(), password.clone()),
            Auth::Token(token) => options.token(token.clone()),
            Auth::Seed(seed) => options.nkey(seed.clone()),
            // The library's error may quote the file, so it is not told.
            // It wants a line end behind the last END line, which reading a secret takes away.
            Auth::Creds(creds) => options.credentials(&format!("{creds}\n")).map_err(|_| {
                "creds_file: needs a JWT and a seed between their BEGIN and END lines".to_owned()
            })?,
        })
    }
}

fn auth(config: &Config, base_dir: &Path) -> Result<Auth, String> {
    let read = |option: &str, path: &PathBuf| secret_file::read(option, base_dir, path);
    match (
        &config.user,
        &config.password_file,
        &config.token_file,
        &config.nkey_seed_file,
        &config.creds_file,
    ) {
        (None, None, None, None, None) => Ok(Auth::None),
        (Some(user), Some(path), None, None, None) => {
            Ok(Auth::Password(user.clone(), read("password_file", path)?))
        }
        (None, None, Some(path), None, None) => read("token_file", path).map(Auth::Token),
        (None, None, None, Some(path), None) => read("nkey_seed_file", path).map(Auth::Seed),
        (None, None, None, None, Some(path)) => read("creds_file", path).map(Auth::Creds),
        _ => {
            Err("one of `user` with `password_file`, `token_file`, `nkey_seed_file` and `creds_file`".into())
        }
    }
}
