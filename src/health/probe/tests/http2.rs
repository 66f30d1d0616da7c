use super::*;
use bytes::Bytes;
use h2::server::SendResponse;
use http::{Request, Response};

type Asked = Request<h2::RecvStream>;

async fn of(config: &HealthCheck, status: u16, content: &'static str) -> Verdict {
    let endpoint = Endpoints::speaking_http2(move |request: Asked, respond| async move {
        assert_eq!(request.uri().path(), "/up");
        assert_eq!(request.headers()["user-agent"], USER_AGENT);
        answer(respond, Response::builder().status(status), content.as_bytes(), None);
    })
    .await;
    check(config, &cluster(Protocol::Http2), endpoint.address).await
}

fn up() -> HttpCheck {
    HttpCheck { path: "/up".into(), ..HttpCheck::default() }
}

#[tokio::test]
async fn statuses_and_bodies_are_judged_as_over_http1() {
    assert_eq!(of(&by_http(up()), 200, "fine").await, Ok(()));
    assert_eq!(of(&by_http(up()), 503, "down").await, Err("status 503, expected 200-299".into()));
    let with_text = by_http(HttpCheck { body: Some("fine".into()), ..up() });
    assert_eq!(of(&with_text, 200, "all fine").await, Ok(()));
    assert_eq!(of(&with_text, 200, "so so").await, Err("the body (5 bytes) does not contain `fine`".into()));
}

#[tokio::test]
async fn a_long_answer_is_cut_where_it_is_not_looked_at() {
    let endpoint = Endpoints::speaking_http2(|_: Asked, mut respond: SendResponse<Bytes>| async move {
        let mut stream = respond.send_response(Response::new(()), false).unwrap();
        loop {
            stream.reserve_capacity(16 << 10);
            let Some(Ok(room)) = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await else { return };
            if stream.send_data(Bytes::from(vec![b'x'; room]), false).is_err() {
                return;
            }
        }
    })
    .await;
    assert_eq!(check(&by_http(up()), &cluster(Protocol::Http2), endpoint.address).await, Ok(()));
}

#[tokio::test]
async fn an_endpoint_that_speaks_http1_is_named() {
    let endpoint = Endpoints::saying("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
    let why = why(&by_http(up()), &cluster(Protocol::Http2), endpoint.address).await;
    assert!(why.starts_with("the answer is not HTTP/2: "), "{why}");
}

#[tokio::test]
async fn a_stream_that_is_reset() {
    let endpoint = Endpoints::speaking_http2(|_: Asked, mut respond: SendResponse<Bytes>| async move {
        respond.send_reset(h2::Reason::REFUSED_STREAM);
    })
    .await;
    let why = why(&by_http(up()), &cluster(Protocol::Http2), endpoint.address).await;
    assert_eq!(why, "the endpoint reset the request: REFUSED_STREAM");
}

#[tokio::test]
async fn a_connection_that_ends_before_the_answer() {
    let endpoint = Endpoints::start(|mut socket| async move {
        let mut connection = h2::server::handshake(&mut socket).await.unwrap();
        let _request = connection.accept().await;
        connection.abrupt_shutdown(h2::Reason::ENHANCE_YOUR_CALM);
        let _ = std::future::poll_fn(|cx| connection.poll_closed(cx)).await;
        drop(connection);
        hold(&mut socket).await; // a close with something unread would be a reset, which may overtake the reason
    })
    .await;
    let why = why(&by_http(up()), &cluster(Protocol::Http2), endpoint.address).await;
    assert_eq!(why, "the endpoint ended the connection: ENHANCE_YOUR_CALM");
    let silent = Endpoints::start(|socket| async move {
        let mut connection = h2::server::handshake(socket).await.unwrap();
        let _request = connection.accept().await;
    })
    .await;
    let started = Instant::now();
    let why =
        check_within(&by_http(up()), &cluster(Protocol::Http2), silent.address, LONG).await.unwrap_err();
    assert!(why.starts_with("connection "), "{why}");
    assert!(started.elapsed() < LONG / 2, "it does not wait for what cannot come");
}

#[tokio::test]
async fn the_connection_is_closed_when_the_check_ends() {
    let (told, mut tell) = tokio::sync::mpsc::unbounded_channel();
    let endpoint = Endpoints::start(move |socket| {
        let told = told.clone();
        async move {
            let mut connection = h2::server::handshake(socket).await.unwrap();
            while let Some(request) = connection.accept().await {
                let Ok((_, mut respond)) = request else { break };
                respond.send_response(Response::new(()), true).unwrap();
            }
            told.send(()).unwrap();
        }
    })
    .await;
    assert_eq!(check(&by_http(up()), &cluster(Protocol::Http2), endpoint.address).await, Ok(()));
    tokio::time::timeout(LONG, tell.recv()).await.expect("the end of the connection").unwrap();
}
