//! What a WebSocket target gets.

use super::*;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;

/// A masked frame of text.
fn masked(opcode: u8, text: &[u8]) -> Bytes {
    let mut frame = vec![0x80 | opcode, 0x80 | text.len() as u8, 1, 2, 3, 4];
    frame.extend(text.iter().zip([1u8, 2, 3, 4].iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame.into()
}

fn plain(opcode: u8, text: &[u8]) -> Vec<u8> {
    [&[0x80 | opcode, text.len() as u8], text].concat()
}

/// Reads one short masked frame: opcode, mask and text.
fn read_frame(stream: &mut TcpStream) -> Option<(u8, [u8; 4], Vec<u8>)> {
    let mut head = [0; 6];
    stream.read_exact(&mut head).ok()?;
    let mask: [u8; 4] = head[2..].try_into().unwrap();
    let mut text = vec![0; usize::from(head[1] & 0x7f)];
    stream.read_exact(&mut text).ok()?;
    text.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    Some((head[0] & 0x0f, mask, text))
}

type Frames = Arc<Mutex<Vec<(u8, [u8; 4], Vec<u8>)>>>;

/// Answers each text with its own, after 50 ms; notes what was there before it answered.
fn serve(status: &'static str) -> (SocketAddr, Frames, Arc<Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (frames, head) = (Frames::default(), Arc::<Mutex<String>>::default());
    let (got, asked) = (Arc::clone(&frames), Arc::clone(&head));
    std::thread::spawn(move || {
        // The first connection is the look whether anything listens.
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut bytes = Vec::new();
            let mut byte = [0; 1];
            while !bytes.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) > 0 {
                bytes.push(byte[0]);
            }
            if bytes.is_empty() {
                continue;
            }
            *asked.lock().unwrap() = String::from_utf8(bytes).unwrap();
            stream.write_all(status.as_bytes()).unwrap();
            while let Some(frame) = read_frame(&mut stream) {
                let (opcode, text) = (frame.0, frame.2.clone());
                got.lock().unwrap().push(frame);
                if opcode == 8 {
                    stream.write_all(&plain(8, &text)).unwrap();
                    break;
                }
                std::thread::sleep(Duration::from_millis(50));
                // Nothing may come before it was answered.
                stream.set_nonblocking(true).unwrap();
                assert!(stream.peek(&mut byte).is_err(), "the next frame waits for the answer");
                stream.set_nonblocking(false).unwrap();
                stream.write_all(&plain(1, &text)).unwrap();
            }
        }
    });
    (address, frames, head)
}

fn recorded() -> Entry {
    let mut entry = entry(
        1,
        0,
        1,
        "a",
        "GET /chat HTTP/1.1\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\nsec-websocket-version: 13",
    );
    let at = |what| Event { at_ns: MS, what };
    entry.events.truncate(1);
    if let What::Request(head) = &mut entry.events[0].what {
        head.upgrade = "websocket".into();
    }
    entry.events.push(at(What::Response(ResponseHead { status: 101, fields: Vec::new() })));
    for text in [&b"one"[..], b"two", b"three"] {
        // Each frame in two pieces: they are put together.
        let frame = masked(1, text);
        entry.events.push(at(What::Data(Side::Request, frame.slice(..4))));
        entry.events.push(at(What::Data(Side::Request, frame.slice(4..))));
        entry.events.push(at(What::Data(Side::Response, plain(1, text).into())));
    }
    entry.status = 101;
    entry
}

#[test]
fn each_frame_is_masked_afresh_and_sent_after_what_came_before_it() {
    let (address, frames, head) =
        serve("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n");
    let run = replay(vec![recorded()], &options(address));
    assert_eq!((run.targets[0].answered, run.targets[0].statuses[&101]), (1, 1), "{run:#?}");
    let head = head.lock().unwrap().clone();
    assert!(
        head.starts_with("GET /chat HTTP/1.1\r\nHost: shop.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"),
        "{head}"
    );
    let frames = frames.lock().unwrap();
    let texts: Vec<(u8, &[u8])> = frames.iter().map(|(opcode, _, text)| (*opcode, &**text)).collect();
    assert_eq!(texts, [(1, &b"one"[..]), (1, b"two"), (1, b"three"), (8, &[0x03, 0xe8])]);
    assert!(frames[..3].iter().all(|(_, mask, _)| *mask != [1, 2, 3, 4] && *mask != frames[3].1));
}

#[test]
fn a_target_that_refuses_the_upgrade_has_answered() {
    let (address, frames, _) = serve("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
    let run = replay(vec![recorded()], &options(address));
    assert_eq!((run.targets[0].answered, run.targets[0].statuses[&403]), (1, 1), "{run:#?}");
    assert!(frames.lock().unwrap().is_empty());
}
