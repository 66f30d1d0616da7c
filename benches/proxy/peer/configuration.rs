//! What each proxy is told.
//!
//! haproxy: `nbthread 1`, `http-reuse always`, `forwardfor`, no log, which is what sidelight's bars are multiples of.

use super::Bench;
use crate::work::Plane;
use serde_json::{Value, json};

/// Seconds that a proxy keeps an idle connection: longer than any row, so that no row measures reconnects.
const IDLE_SECONDS: u32 = 600;

/// sidelight: inbound listener, one route to a cluster, events to a file, metrics served; the variant with what the row is
/// about.
pub fn sidelight(bench: &Bench<'_>, plane: Plane, port: u16, admin: u16, is_variant: bool) -> String {
    let certificates = bench.certificates;
    let pair = |pair: &crate::certificates::Pair| json!({ "certificate": pair.certificate.display().to_string(), "key": pair.key.display().to_string() });
    let mut inbound = json!({
        "address": format!("127.0.0.1:{port}"),
        "routes": [{ "name": "all", "match": { "path": { "prefix": "/" } }, "cluster": "upstream" }],
    });
    let mut cluster = json!({ "endpoints": endpoints(bench, plane) });
    let mut sinks = json!({ "file": { "path": bench.events_file().display().to_string() } });
    let mut recording = json!({});
    match plane {
        Plane::Http1 | Plane::Balance => {}
        Plane::DeadSink if is_variant => {
            sinks["otlp"] = json!({ "endpoint": format!("http://127.0.0.1:{}", bench.silent_port) });
        }
        Plane::Recording if is_variant => {
            let directory = bench.recording_directory().display().to_string();
            recording = json!({ "directory": directory, "disk_bytes_max": "4GiB" });
        }
        Plane::DeadSink | Plane::Recording => {}
        Plane::Otlp => {
            let port = bench.receiver.map_or(0, |receiver| receiver.port);
            sinks["otlp"] = json!({ "endpoint": format!("http://127.0.0.1:{port}") });
        }
        Plane::Http2 => cluster["protocol"] = json!("http2"),
        Plane::Tls => {
            inbound["tls"] = pair(&certificates.server);
            cluster["tls"] = pair(&certificates.client);
            cluster["tls"]["ca"] = json!(certificates.authority.display().to_string());
            cluster["tls"]["server_name"] = json!("localhost");
        }
    }
    let configuration = json!({
        "service": { "name": "bench", "app": format!("127.0.0.1:{}", bench.upstream.plain[0]) },
        "workers": 1,
        "inbound": inbound,
        "outbound": { "address": "127.0.0.1:0" },
        "clusters": { "upstream": cluster },
        "pipeline": { "sinks": sinks, "sampling": { "ratio": 1.0 } },
        "recording": recording,
        "admin": { "address": format!("127.0.0.1:{admin}") },
        "telemetry": { "address": "127.0.0.1:0" },
    });
    format!("{configuration:#}\n") // JSON is YAML
}

fn endpoints(bench: &Bench<'_>, plane: Plane) -> Vec<String> {
    let ports = match plane {
        Plane::Http1 | Plane::Otlp | Plane::DeadSink | Plane::Recording => bench.upstream.plain.to_vec(),
        Plane::Http2 => bench.upstream.http2.into_iter().collect(),
        Plane::Tls => vec![bench.upstream.tls],
        Plane::Balance => bench.endpoints.ports.clone(),
    };
    ports.iter().map(|port| format!("127.0.0.1:{port}")).collect()
}

/// haproxy.
pub fn haproxy(bench: &Bench<'_>, plane: Plane, port: u16) -> String {
    let (server, client) = (&bench.certificates.server, &bench.certificates.client);
    let authority = bench.certificates.authority.display();
    let (bind, options) = match plane {
        Plane::Http1 | Plane::Otlp | Plane::DeadSink | Plane::Recording | Plane::Balance => {
            (String::new(), String::new())
        }
        Plane::Http2 => ("proto h2".into(), "proto h2".into()),
        Plane::Tls => (
            format!("ssl crt {} ssl-min-ver TLSv1.3", server.joined.display()),
            format!(
                "ssl crt {} ca-file {authority} verify required sni str(localhost) ssl-min-ver TLSv1.3",
                client.joined.display()
            ),
        ),
    };
    let servers: String = endpoints(bench, plane)
        .iter()
        .enumerate()
        .map(|(index, endpoint)| format!("  server s{index} {endpoint} {options}\n"))
        .collect();
    let algorithm = if plane == Plane::Balance { "leastconn" } else { "roundrobin" };
    let connections_max = bench.files_max / 2 + 2_000;
    format!(
        "global
  nbthread 1
  maxconn {connections_max}
  no strict-limits
defaults
  mode http
  option forwardfor
  http-reuse always
  timeout connect 1s
  timeout client {IDLE_SECONDS}s
  timeout server {IDLE_SECONDS}s
  timeout http-keep-alive {IDLE_SECONDS}s
frontend in
  bind 127.0.0.1:{port} backlog 4096 {bind}
  default_backend upstream
backend upstream
  balance {algorithm}
{servers}"
    )
}

/// nginx. Request bodies are streamed, as the others do; its default is to write them to disk first.
pub fn nginx(bench: &Bench<'_>, plane: Plane, port: u16) -> String {
    let directory = bench.directory.display();
    let (server, client) = (&bench.certificates.server, &bench.certificates.client);
    let authority = bench.certificates.authority.display();
    let (listen, scheme, tls) = match plane {
        Plane::Http1
        | Plane::Otlp
        | Plane::DeadSink
        | Plane::Recording
        | Plane::Http2
        | Plane::Balance => ("", "http", String::new()),
        Plane::Tls => (
            "ssl",
            "https",
            format!(
                "ssl_certificate {}; ssl_certificate_key {}; ssl_protocols TLSv1.3; proxy_ssl_protocols TLSv1.3;
    proxy_ssl_certificate {}; proxy_ssl_certificate_key {}; proxy_ssl_trusted_certificate {authority};
    proxy_ssl_verify on; proxy_ssl_name localhost; proxy_ssl_server_name on;",
                server.certificate.display(),
                server.key.display(),
                client.certificate.display(),
                client.key.display(),
            ),
        ),
    };
    let servers: String =
        endpoints(bench, plane).iter().map(|endpoint| format!("server {endpoint}; ")).collect();
    let files_max = bench.files_max;
    let algorithm = if plane == Plane::Balance { "least_conn;" } else { "" };
    format!(
        "daemon off; master_process off; pid {directory}/nginx.pid; error_log stderr warn;
worker_rlimit_nofile {files_max};
events {{ worker_connections {files_max}; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout {IDLE_SECONDS}s;
  client_body_temp_path {directory}/nginx-body; proxy_temp_path {directory}/nginx-proxy;
  fastcgi_temp_path {directory}/nginx-fastcgi; uwsgi_temp_path {directory}/nginx-uwsgi;
  scgi_temp_path {directory}/nginx-scgi; proxy_max_temp_file_size 0; proxy_request_buffering off;
  upstream upstream {{ {algorithm} {servers}keepalive 64; keepalive_requests 1000000000; keepalive_timeout {IDLE_SECONDS}s; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096 {listen};
    {tls}
    location / {{
      proxy_pass {scheme}://upstream; proxy_http_version 1.1; proxy_set_header Connection \"\";
      proxy_set_header Host $host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }}
  }}
}}
"
    )
}

/// Envoy: no access log, one worker by its command line.
pub fn envoy(bench: &Bench<'_>, plane: Plane, port: u16) -> String {
    let certificates = bench.certificates;
    let file = |path: &std::path::Path| json!({ "filename": path.display().to_string() });
    let pair = |pair: &crate::certificates::Pair| json!([{ "certificate_chain": file(&pair.certificate), "private_key": file(&pair.key) }]);
    let version =
        json!({ "tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3" });
    let mut chain = json!({ "filters": [envoy_http_filter(plane)] });
    let mut cluster = envoy_cluster(&endpoints(bench, plane));
    if plane == Plane::Balance {
        cluster["lb_policy"] = json!("LEAST_REQUEST");
    }
    match plane {
        Plane::Http1 | Plane::Otlp | Plane::DeadSink | Plane::Recording | Plane::Balance => {}
        Plane::Http2 => {
            let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
            cluster["typed_extension_protocol_options"] = json!({ options: {
                "@type": format!("type.googleapis.com/{options}"),
                "explicit_http_config": { "http2_protocol_options": {} } } });
        }
        Plane::Tls => {
            let tls = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3";
            chain["transport_socket"] = json!({ "name": "tls", "typed_config": {
                "@type": format!("{tls}.DownstreamTlsContext"),
                "common_tls_context": { "tls_params": &version, "tls_certificates": pair(&certificates.server) } } });
            cluster["transport_socket"] = json!({ "name": "tls", "typed_config": {
                "@type": format!("{tls}.UpstreamTlsContext"), "sni": "localhost",
                "common_tls_context": { "tls_params": &version, "tls_certificates": pair(&certificates.client),
                    "validation_context": { "trusted_ca": file(&certificates.authority) } } } });
        }
    }
    let configuration = json!({ "static_resources": {
        "listeners": [{ "name": "in", "address": envoy_address("127.0.0.1", port), "filter_chains": [chain] }],
        "clusters": [cluster] } });
    format!("{configuration:#}\n")
}

fn envoy_address(host: &str, port: u16) -> Value {
    json!({ "socket_address": { "address": host, "port_value": port } })
}

fn envoy_http_filter(plane: Plane) -> Value {
    let filters = "type.googleapis.com/envoy.extensions.filters";
    json!({ "name": "http", "typed_config": {
        "@type": format!("{filters}.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "in",
        "codec_type": if plane == Plane::Http2 { "HTTP2" } else { "HTTP1" },
        "use_remote_address": true,
        "route_config": { "virtual_hosts": [{ "name": "all", "domains": ["*"],
            "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "upstream" } }] }] },
        "http_filters": [{ "name": "router", "typed_config": { "@type": format!("{filters}.http.router.v3.Router") } }],
    } })
}

fn envoy_cluster(endpoints: &[String]) -> Value {
    let endpoints: Vec<Value> = endpoints
        .iter()
        .filter_map(|endpoint| endpoint.rsplit_once(':'))
        .map(|(host, port)| json!({ "endpoint": { "address": envoy_address(host, port.parse().unwrap_or(0)) } }))
        .collect();
    json!({ "name": "upstream", "type": "STATIC", "connect_timeout": "1s",
        "load_assignment": { "cluster_name": "upstream", "endpoints": [{ "lb_endpoints": endpoints }] } })
}
