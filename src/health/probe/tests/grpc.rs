use super::*;
use http::{HeaderMap, Request, Response};

type Asked = Request<h2::RecvStream>;

const SERVING: &[u8] = b"\0\0\0\0\x02\x08\x01";
const NOT_SERVING: &[u8] = b"\0\0\0\0\x02\x08\x02";

fn head() -> http::response::Builder {
    Response::builder().header("content-type", "application/grpc+proto")
}

fn status(code: &str) -> Option<HeaderMap> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", code.parse().unwrap());
    Some(trailers)
}

/// What a check says of a server that answers so.
async fn of(
    head: fn() -> http::response::Builder,
    content: &'static [u8],
    trailers: Option<HeaderMap>,
) -> Verdict {
    let endpoint = Endpoints::speaking_http2(move |_: Asked, respond| {
        let trailers = trailers.clone();
        async move { answer(respond, head(), content, trailers) }
    })
    .await;
    check(&by_grpc("payments"), &cluster(Protocol::Auto), endpoint.address).await
}

#[tokio::test]
async fn the_call_is_that_of_the_protocol() {
    let endpoint = Endpoints::speaking_http2(|mut request: Asked, respond| async move {
        assert_eq!(
            (request.method().as_str(), request.uri().path()),
            ("POST", "/grpc.health.v1.Health/Check")
        );
        for (name, value) in [
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("grpc-timeout", "20000m"),
            ("user-agent", USER_AGENT),
        ] {
            assert_eq!(request.headers()[name], value, "{name}");
        }
        let mut content = Vec::new();
        while let Some(Ok(data)) = request.body_mut().data().await {
            content.extend_from_slice(&data);
        }
        assert_eq!(content, b"\0\0\0\0\x0a\x0a\x08payments");
        answer(respond, head(), SERVING, status("0"));
    })
    .await;
    assert_eq!(check(&by_grpc("payments"), &cluster(Protocol::Auto), endpoint.address).await, Ok(()));
}

#[tokio::test]
async fn services_that_do_not_serve() {
    assert_eq!(of(head, SERVING, status("0")).await, Ok(()));
    for (content, why) in [
        (NOT_SERVING, "the service is NOT_SERVING"),
        (b"\0\0\0\0\0", "the service is UNKNOWN"),
        (b"\0\0\0\0\x02\x08\x03", "the service is SERVICE_UNKNOWN"),
        (b"\0\0\0\0\x02\x08\x09", "the service's status is 9"),
    ] {
        assert_eq!(of(head, content, status("0")).await, Err(why.into()));
    }
}

#[tokio::test]
async fn calls_that_fail() {
    let unimplemented =
        || head().header("grpc-status", "12").header("grpc-message", "unknown service\tgrpc.health");
    let why = of(unimplemented, b"", None).await.unwrap_err();
    assert!(
        why.starts_with("grpc-status 12 (UNIMPLEMENTED: the server has no grpc.health.v1.Health): unknown"),
        "{why}"
    );
    let why = of(head, b"", status("5")).await.unwrap_err();
    assert_eq!(why, "grpc-status 5 (NOT_FOUND: the server does not know this service)");
    assert_eq!(of(head, SERVING, status("77")).await, Err("grpc-status 77".into()));
    let why = of(head, SERVING, status("0x0")).await.unwrap_err();
    assert_eq!(why, "the answer is not gRPC: grpc-status is not a number");
}

#[tokio::test]
async fn answers_that_are_not_grpc() {
    for (head, content, trailers, why) in [
        (
            (|| Response::builder().status(503)) as fn() -> http::response::Builder,
            &b"down"[..],
            None,
            "HTTP status 503, expected 200 with a gRPC status",
        ),
        (
            || Response::builder().header("content-type", "text/html"),
            b"<html>",
            None,
            "the answer is not gRPC: no `content-type: application/grpc`",
        ),
        (head, SERVING, None, "the answer is not gRPC: no grpc-status"),
        (head, b"", status("0"), "the answer is not a HealthCheckResponse"),
        (head, b"\0\0\0\0\x09\x08\x01", status("0"), "the answer is not a HealthCheckResponse"),
        (head, b"\x01\0\0\0\x02\x08\x01", status("0"), "the answer is compressed, which was not asked for"),
    ] {
        assert_eq!(of(head, content, trailers).await, Err(why.into()));
    }
    let http1 = Endpoints::saying("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
    let why = why(&by_grpc(""), &cluster(Protocol::Auto), http1.address).await;
    assert!(why.starts_with("the answer is not HTTP/2: "), "{why}");
}
