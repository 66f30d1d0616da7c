//! The services behind the proxies: nginx for HTTP/1.1 and TLS, nghttpd or nginx for HTTP/2 in cleartext.
//!
//! Which of the two matters: nghttpd answers what came in one read with one write, nginx writes for each request. With
//! nghttpd a proxy can batch too, and one that does looks twice as good as with nginx.

use crate::{
    Result,
    certificates::Certificates,
    process::{Process, find_program, free_ports},
};
use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// What answers HTTP/2.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Http2Upstream {
    /// nghttp2's server.
    Nghttpd,
    /// nginx.
    Nginx,
}

impl Http2Upstream {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Nghttpd, Self::Nginx];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nghttpd => "nghttpd",
            Self::Nginx => "nginx",
        }
    }
}

/// The upstreams; they end when this is dropped.
pub struct Upstream {
    /// HTTP/1.1 in cleartext, twice: what a proxy balances between.
    pub plain: [u16; 2],
    /// HTTP/1.1 over TLS 1.3, which demands a client certificate of the authority.
    pub tls: u16,
    /// HTTP/2 with prior knowledge; none if what shall answer it is not installed.
    pub http2: Option<u16>,
    _processes: Vec<Process>,
}

impl Upstream {
    /// Starts them on `cores` with all their files under `directory`.
    ///
    /// Errors: nginx is not installed or does not start.
    pub fn start(
        directory: &Path,
        cores: &[usize],
        certificates: &Certificates,
        http2_upstream: Http2Upstream,
    ) -> Result<Self> {
        let root = directory.join("files");
        let written = |error| format!("{}: {error}", root.display());
        std::fs::create_dir_all(&root).map_err(written)?;
        std::fs::write(root.join("1k"), vec![b'k'; 1 << 10]).map_err(written)?;
        std::fs::write(root.join("1m"), vec![b'm'; 1 << 20]).map_err(written)?;
        std::fs::write(root.join("upload"), "").map_err(written)?;

        let program = find_program("nginx").ok_or("nginx, the upstream of every row, is not installed")?;
        let [first, second, tls, nginx_http2, nghttpd_http2] = free_ports()?;
        let file = directory.join("upstream.conf");
        let text = nginx_configuration(directory, &root, [first, second, tls, nginx_http2], certificates);
        std::fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()))?;
        let mut nginx = Command::new(program);
        nginx.arg("-p").arg(directory).arg("-c").arg(&file);
        let mut nginx = Process::start("nginx upstream", nginx, cores, directory.join("upstream.log"))?;
        for port in [first, second, tls, nginx_http2] {
            nginx.wait_for_port(port, Duration::from_secs(10))?;
        }
        let mut processes = vec![nginx];
        let http2 = match (http2_upstream, find_program("nghttpd")) {
            (Http2Upstream::Nginx, _) => Some(nginx_http2),
            (Http2Upstream::Nghttpd, Some(program)) => {
                processes.push(start_nghttpd(program, directory, &root, cores, nghttpd_http2)?);
                Some(nghttpd_http2)
            }
            (Http2Upstream::Nghttpd, None) => None,
        };
        Ok(Self { plain: [first, second], tls, http2, _processes: processes })
    }
}

fn start_nghttpd(
    program: PathBuf,
    directory: &Path,
    root: &Path,
    cores: &[usize],
    port: u16,
) -> Result<Process> {
    let mut command = Command::new(program);
    command.args([
        "--no-tls",
        "--workers=1",
        "--address=127.0.0.1",
        "--max-concurrent-streams=1000",
        "--htdocs",
    ]);
    command.arg(root).arg(port.to_string());
    let mut nghttpd = Process::start("nghttpd upstream", command, cores, directory.join("nghttpd.log"))?;
    nghttpd.wait_for_port(port, Duration::from_secs(10))?;
    Ok(nghttpd)
}

/// `mirror` makes nginx read the whole upload before it answers, as an application would; a plain `return` answers
/// before the body is there, and the row would measure early responses.
fn nginx_configuration(
    directory: &Path,
    root: &Path,
    [first, second, tls, http2]: [u16; 4],
    certificates: &Certificates,
) -> String {
    let (directory, root) = (directory.display(), root.display());
    let (authority, server) = (certificates.authority.display(), &certificates.server);
    let (certificate, key) = (server.certificate.display(), server.key.display());
    format!(
        "daemon off; master_process off; pid {directory}/upstream.pid; error_log stderr warn;
worker_rlimit_nofile 4096;
events {{ worker_connections 2048; }}
http {{
  access_log off; sendfile on; keepalive_requests 1000000000; keepalive_timeout 600s; client_body_buffer_size 128k;
  client_body_temp_path {directory}/upstream-body; proxy_temp_path {directory}/upstream-proxy;
  fastcgi_temp_path {directory}/upstream-fastcgi; uwsgi_temp_path {directory}/upstream-uwsgi;
  scgi_temp_path {directory}/upstream-scgi; open_file_cache max=16;
  server {{
    listen 127.0.0.1:{first} backlog=4096; listen 127.0.0.1:{second} backlog=4096; listen 127.0.0.1:{tls} ssl;
    listen 127.0.0.1:{http2} http2;
    ssl_certificate {certificate}; ssl_certificate_key {key}; ssl_protocols TLSv1.3;
    ssl_client_certificate {authority}; ssl_verify_client on;
    root {root};
    location = /upload {{ mirror /sink; mirror_request_body on; error_page 405 =200 @taken; }}
    location = /sink {{ internal; return 204; }}
    location @taken {{ return 200 \"ok\\n\"; }}
  }}
}}
"
    )
}
