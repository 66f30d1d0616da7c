use super::*;
use tokio::io::AsyncWriteExt;

#[tokio::test]
async fn a_connection_is_enough() {
    let endpoint = Endpoints::start(|mut socket| async move { hold(&mut socket).await }).await;
    assert_eq!(check(&by_tcp("", ""), &cluster(Protocol::Tcp), endpoint.address).await, Ok(()));
}

#[tokio::test]
async fn a_text_is_sent_and_another_must_come_back() {
    let redis = Endpoints::start(|mut socket| async move {
        let mut asked = [0; 6];
        let _ = socket.read_exact(&mut asked).await;
        assert_eq!(&asked, b"PING\r\n");
        for part in ["+PO", "NG\r\n"] {
            say(&mut socket, part).await;
            tokio::task::yield_now().await;
        }
        hold(&mut socket).await;
    })
    .await;
    let cluster = cluster(Protocol::Tcp);
    assert_eq!(check(&by_tcp("PING\r\n", "+PONG"), &cluster, redis.address).await, Ok(()));
    let wrong = check_within(&by_tcp("PING\r\n", "+OK"), &cluster, redis.address, SHORT).await;
    assert_eq!(wrong, Err("no answer within 150ms".into()));
}

#[tokio::test]
async fn a_server_that_says_something_else() {
    let closing = Endpoints::start(|mut socket| async move { say(&mut socket, "-LOADING\r\n").await }).await;
    let why = why(&by_tcp("", "+PONG"), &cluster(Protocol::Tcp), closing.address).await;
    assert_eq!(why, "connection closed after 10 bytes without `+PONG`");
}

#[tokio::test]
async fn a_server_that_talks_without_end() {
    let endless =
        Endpoints::start(|mut socket| async move { while socket.write_all(&[b'x'; 4096]).await.is_ok() {} })
            .await;
    let why = why(&by_tcp("", "\r\n"), &cluster(Protocol::Tcp), endless.address).await;
    assert_eq!(why, "the first 64 KiB do not contain `\\r\\n`");
}
