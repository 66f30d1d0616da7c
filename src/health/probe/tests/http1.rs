use super::*;
use tokio::io::AsyncWriteExt;

fn containing(text: &str) -> HealthCheck {
    by_http(HttpCheck { body: Some(text.into()), ..HttpCheck::default() })
}

/// What a check says of an endpoint that answers so.
async fn of(config: &HealthCheck, answer: impl AsRef<[u8]>) -> Verdict {
    let endpoint = Endpoints::saying(answer).await;
    check(config, &cluster(Protocol::Auto), endpoint.address).await
}

#[tokio::test]
async fn answers_that_are_healthy() {
    let plain = by_http(HttpCheck::default());
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.0 200 OK\r\n\r\nuntil the end",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ] {
        assert_eq!(of(&plain, answer).await, Ok(()), "{answer}");
    }
    let with_text = containing("\"up\":true");
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{\"up\":true}",
        "HTTP/1.1 200 OK\r\n\r\n{\"up\":true}",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n{\"up\r\n7\r\n\":true}\r\n0\r\n\r\n",
    ] {
        assert_eq!(of(&with_text, answer).await, Ok(()), "{answer}");
    }
}

#[tokio::test]
async fn a_status_that_is_not_expected() {
    let plain = by_http(HttpCheck::default());
    for (answer, status) in [
        ("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\ndown", "503"),
        ("HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n", "302"),
        ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", "101"),
    ] {
        assert_eq!(of(&plain, answer).await, Err(format!("status {status}, expected 200-299")));
    }
    let range = |first, last| StatusRange { first, last };
    let teapot = HttpCheck { statuses: vec![range(200, 204), range(418, 418)], ..HttpCheck::default() };
    let answer = "HTTP/1.1 418 I'm a teapot\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(of(&by_http(teapot.clone()), answer).await, Ok(()));
    let answer = "HTTP/1.1 206 Partial Content\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(of(&by_http(teapot), answer).await, Err("status 206, expected 200-204, 418".into()));
}

#[tokio::test]
async fn a_body_that_lacks_the_text() {
    let config = containing("all good");
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nnot good",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nnot good\r\n0\r\n\r\nall good",
        "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nnot goodall good",
    ] {
        let why = of(&config, answer).await.unwrap_err();
        assert_eq!(why, "the body (8 bytes) does not contain `all good`", "{answer}");
    }
    let late = format!("HTTP/1.1 200 OK\r\n\r\n{}all good", " ".repeat(CONTENT_BYTES_MAX));
    assert!(of(&config, &late).await.unwrap_err().contains("(65536 bytes)"), "only so much is looked at");
    let just = format!(
        "HTTP/1.1 200 OK\r\n\r\n{}all good{}",
        " ".repeat(CONTENT_BYTES_MAX - 8),
        " ".repeat(100_000)
    );
    assert_eq!(of(&config, &just).await, Ok(()));
}

#[tokio::test]
async fn an_answer_that_never_ends_is_cut_where_it_is_not_looked_at() {
    let endless = Endpoints::start(|mut socket| async move {
        request_of(&mut socket).await;
        say(&mut socket, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        while socket.write_all(b"3\r\nup \r\n").await.is_ok() {}
    })
    .await;
    assert_eq!(check(&containing("up"), &cluster(Protocol::Auto), endless.address).await, Ok(()));
}

#[tokio::test]
async fn garbage_is_no_answer() {
    let config = by_http(HttpCheck::default());
    for (answer, expected) in [
        (&b"SSH-2.0-OpenSSH_9.6\r\n"[..], "the answer is not HTTP/1.1: "),
        (b"\x15\x03\x01\x00\x02\x02\x0a", "the answer is not HTTP/1.1: "),
        (
            b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
            "the answer is not HTTP/1.1: a line of the head ends in a bare LF",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            "the answer is not HTTP/1.1: Content-Length together with Transfer-Encoding",
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "the answer is not HTTP/1.1: a chunk's size",
        ),
        (b"HTTP/1.1 700 What\r\n\r\n", "the answer is not HTTP/1.1: status 700"),
        (b"", "connection closed without an answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", "connection closed before the end of the answer"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
            "connection closed before the end of the answer",
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
            "connection closed before the end of the answer",
        ),
    ] {
        let why = of(&config, answer).await.unwrap_err();
        assert!(why.starts_with(expected), "{:?}: {why}", String::from_utf8_lossy(answer));
    }
}

#[tokio::test]
async fn heads_are_bounded() {
    let config = by_http(HttpCheck::default());
    let large = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(64 << 10));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(101));
    for answer in [large, many] {
        let why = of(&config, &answer).await.unwrap_err();
        assert!(why.starts_with("the head of the answer is too large"), "{why}");
    }
    let interim = "HTTP/1.1 102 Processing\r\n\r\n".repeat(9);
    assert_eq!(of(&config, &interim).await, Err("more than 8 interim answers".into()));
}

#[tokio::test]
async fn a_head_without_its_end_is_not_healthy() {
    let halting = Endpoints::start(|mut socket| async move {
        request_of(&mut socket).await;
        say(&mut socket, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no").await;
        hold(&mut socket).await;
    })
    .await;
    let config = by_http(HttpCheck::default());
    let verdict = check_within(&config, &cluster(Protocol::Auto), halting.address, SHORT).await;
    assert_eq!(verdict, Err("no end of the answer within 150ms".into()));
}

#[tokio::test]
async fn a_head_that_comes_byte_by_byte() {
    let slow = Endpoints::start(|mut socket| async move {
        socket.set_nodelay(true).unwrap();
        request_of(&mut socket).await;
        for byte in b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nup\r\n0\r\n\r\n" {
            let _ = socket.write_u8(*byte).await;
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(check(&containing("up"), &cluster(Protocol::Auto), slow.address).await, Ok(()));
}

#[tokio::test]
async fn head_requests_have_no_content_to_wait_for() {
    let endpoint = Endpoints::start(|mut socket| async move {
        let request = request_of(&mut socket).await;
        assert!(request.starts_with("HEAD /up HTTP/1.1\r\n"), "{request}");
        say(&mut socket, "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n").await;
        hold(&mut socket).await;
    })
    .await;
    let check_config = HttpCheck { method: "HEAD".into(), path: "/up".into(), ..HttpCheck::default() };
    assert_eq!(check(&by_http(check_config), &cluster(Protocol::Auto), endpoint.address).await, Ok(()));
}

#[tokio::test]
async fn the_endpoint_sees_who_asks_and_an_orderly_end() {
    let (told, mut tell) = tokio::sync::mpsc::unbounded_channel();
    let endpoint = Endpoints::start(move |mut socket| {
        let told = told.clone();
        async move {
            let request = request_of(&mut socket).await;
            say(&mut socket, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            let end = socket.read_u8().await.unwrap_err();
            told.send((request, end.kind())).unwrap();
        }
    })
    .await;
    let config = by_http(HttpCheck { host: Some("api.example".into()), ..HttpCheck::default() });
    assert_eq!(check(&config, &cluster(Protocol::Auto), endpoint.address).await, Ok(()));
    let (request, end) = tell.recv().await.unwrap();
    assert_eq!(end, io::ErrorKind::UnexpectedEof, "closed, not reset");
    for line in
        ["GET / HTTP/1.1", "host: api.example", &format!("user-agent: {USER_AGENT}"), "connection: close"]
    {
        assert!(request.lines().any(|have| have == line), "{line} in {request}");
    }
}
