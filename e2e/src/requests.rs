//! The two requests that most rows vary.

/// `GET target` with more field lines, each ended by CRLF.
pub fn get(target: &str, lines: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: app.example\r\n{lines}\r\n")
}

/// `POST /c` with more field lines, each ended by CRLF, and everything after the head.
pub fn post(lines: &str, rest: &str) -> String {
    format!("POST /c HTTP/1.1\r\nHost: app.example\r\n{lines}\r\n{rest}")
}

/// `POST /c` with chunked framing and everything after the head.
pub fn chunked(rest: &str) -> String {
    post("Transfer-Encoding: chunked\r\n", rest)
}
