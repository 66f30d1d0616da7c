//! An upstream that is a process of its own, so that a test can kill or stop it: `upstream NAME ADDRESS [garbage]`.
//!
//! It answers every HTTP/1.1 request without content with 200 and its name, after the milliseconds that the path names
//! (`/sleep/20`), and keeps connections. With `garbage` it answers bytes that are not HTTP. It prints `listening` once it
//! accepts.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().expect("a name");
    let address = arguments.next().expect("an address");
    let is_garbage = arguments.next().as_deref() == Some("garbage");
    let listener = TcpListener::bind(&address).expect("an address that is free");
    println!("listening");
    for stream in listener.incoming().flatten() {
        let name = name.clone();
        std::thread::spawn(move || serve(stream, &name, is_garbage));
    }
}

/// Serves a connection until the other side, or this process, ends.
fn serve(stream: TcpStream, name: &str, is_garbage: bool) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        while line != "\r\n" {
            line.clear();
            reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        }
        if let Some(milliseconds) = path.strip_prefix("/sleep/").and_then(|text| text.parse().ok()) {
            std::thread::sleep(Duration::from_millis(milliseconds));
        }
        let answer = match is_garbage {
            true => "\u{1}\u{2}\u{3} nothing of HTTP\r\n\r\n".to_owned(),
            false => format!("HTTP/1.1 200 OK\r\nx-upstream: {name}\r\ncontent-length: 2\r\n\r\nok"),
        };
        reader.get_mut().write_all(answer.as_bytes()).ok()?;
    }
}
