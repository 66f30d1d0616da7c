//! A JSON text, one value at a time, whatever its size.
//!
//! Why not a parser that streams: a bad value in the middle must not end the import, so values are first cut out by their
//! brackets and quotes alone, without recursion, and then parsed each on its own (`serde_json` refuses more than 128 levels).
//! How it fails: a value that is longer than the bound is passed over; an end in the middle of a value is the end.

use super::Problem;
use std::io::{self, BufRead};

/// Reads values and the punctuation between them.
pub(super) struct Json<R> {
    input: R,
    /// Bytes read.
    pub offset: u64,
    /// The line, from 1.
    pub line: u64,
}

/// How taking a value ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is whole.
    Whole,
    /// It was longer than the bound, and was passed over; so long.
    TooLong(u64),
    /// The text ended within it.
    Cut,
    /// There is none: the next byte is punctuation.
    None,
}

impl<R: BufRead> Json<R> {
    pub fn new(input: R) -> Json<R> {
        Json { input, offset: 0, line: 1 }
    }

    /// A problem here.
    pub fn problem(&self, message: impl Into<String>) -> Problem {
        Problem::new(self.offset, Some(self.line), message)
    }

    fn consume(&mut self, len: usize) {
        self.input.consume(len);
        self.offset += len as u64;
    }

    /// What is buffered; empty at the end. Interrupted reads are repeated.
    fn buffer(&mut self) -> io::Result<&[u8]> {
        loop {
            match self.input.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(_) => break,
            }
        }
        self.input.fill_buf()
    }

    /// A copy of what is buffered at the begin, up to 64 bytes.
    pub fn start(&mut self) -> io::Result<Vec<u8>> {
        let buffer = self.buffer()?;
        Ok(buffer.get(..64).unwrap_or(buffer).to_vec())
    }

    /// The next byte that is not white space, not taken; `None` at the end.
    pub fn peek(&mut self) -> io::Result<Option<u8>> {
        loop {
            let buffer = self.buffer()?;
            if buffer.is_empty() {
                return Ok(None);
            }
            // A byte order mark counts as white space: some tools write one.
            let is_space =
                |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0xef | 0xbb | 0xbf | 0x1e);
            let spaces = buffer.iter().take_while(|byte| is_space(byte)).count();
            let lines = memchr::memchr_iter(b'\n', buffer.get(..spaces).unwrap_or_default()).count();
            let next = buffer.get(spaces).copied();
            self.line += lines as u64;
            self.consume(spaces);
            if next.is_some() {
                return Ok(next);
            }
        }
    }

    /// Takes the next byte if it is this one.
    pub fn take_byte(&mut self, byte: u8) -> io::Result<bool> {
        let is_there = self.peek()? == Some(byte);
        if is_there {
            self.consume(1);
        }
        Ok(is_there)
    }

    /// Takes a value, at most `bytes_max` long; `out` is cleared first.
    pub fn take_value(&mut self, out: &mut Vec<u8>, bytes_max: usize) -> io::Result<Taken> {
        out.clear();
        let (mut depth, mut is_string, mut is_escaped, mut bytes) = (0u64, false, false, 0u64);
        match self.peek()? {
            None | Some(b',' | b':' | b']' | b'}') => return Ok(Taken::None),
            Some(_) => {}
        }
        loop {
            let buffer = self.buffer()?;
            if buffer.is_empty() {
                // A number at the end of the text has nothing behind it.
                let is_scalar = depth == 0 && !is_string;
                return Ok(if is_scalar { whole(bytes, bytes_max) } else { Taken::Cut });
            }
            let (mut used, mut is_done) = (0, false);
            while let Some(byte) = buffer.get(used) {
                if is_string {
                    match byte {
                        _ if is_escaped => is_escaped = false,
                        b'\\' => is_escaped = true,
                        b'"' => {
                            is_string = false;
                            is_done = depth == 0;
                        }
                        _ => {
                            // Contents are long: find the end of the plain part at once.
                            let rest = buffer.get(used..).unwrap_or_default();
                            used += memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
                            continue;
                        }
                    }
                } else {
                    match byte {
                        b'"' => is_string = true,
                        b'{' | b'[' => depth += 1,
                        b'}' | b']' if depth == 0 => break,
                        b'}' | b']' => {
                            depth -= 1;
                            is_done = depth == 0;
                        }
                        b',' | b' ' | b'\t' | b'\r' | b'\n' if depth == 0 => break,
                        _ => {}
                    }
                }
                used += 1;
                if is_done {
                    break;
                }
            }
            let is_scalar_done = used < buffer.len() && depth == 0 && !is_string;
            let taken = buffer.get(..used).unwrap_or_default();
            let lines = memchr::memchr_iter(b'\n', taken).count();
            let room = bytes_max.saturating_sub(out.len());
            out.extend_from_slice(taken.get(..room).unwrap_or(taken));
            bytes += used as u64;
            self.line += lines as u64;
            self.consume(used);
            if is_done || is_scalar_done {
                return Ok(whole(bytes, bytes_max));
            }
        }
    }

    /// Takes a string, as the name of a member; `None` if there is none, or it is longer than 1 KiB.
    pub fn take_name(&mut self) -> io::Result<Option<String>> {
        if self.peek()? != Some(b'"') {
            return Ok(None);
        }
        let mut raw = Vec::new();
        Ok(match self.take_value(&mut raw, 1024)? {
            Taken::Whole => serde_json::from_slice(&raw).ok(),
            Taken::TooLong(_) => Some(String::new()),
            Taken::Cut | Taken::None => None,
        })
    }
}

/// The bytes as they are, for what turned out not to be JSON.
impl<R: BufRead> io::Read for Json<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let buffer = self.buffer()?;
        let len = buffer.len().min(out.len());
        if let (Some(from), Some(to)) = (buffer.get(..len), out.get_mut(..len)) {
            to.copy_from_slice(from);
        }
        self.consume(len);
        Ok(len)
    }
}

fn whole(bytes: u64, bytes_max: usize) -> Taken {
    if bytes > bytes_max as u64 { Taken::TooLong(bytes) } else { Taken::Whole }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn take(text: &str, capacity: usize) -> (Taken, String, Option<u8>) {
        let mut json = Json::new(io::BufReader::with_capacity(capacity, text.as_bytes()));
        let mut out = Vec::new();
        let taken = json.take_value(&mut out, 20).unwrap();
        (taken, String::from_utf8_lossy(&out).into_owned(), json.peek().unwrap())
    }

    #[test]
    fn values_are_cut_out_whatever_the_buffer() {
        for capacity in [1, 2, 3, 100] {
            for (text, want, next) in [
                (r#" {"a":"}]\"\\"} ,"#, r#"{"a":"}]\"\\"}"#, Some(b',')),
                ("[1,[2,{}]]]", "[1,[2,{}]]", Some(b']')),
                ("-1.5e3,", "-1.5e3", Some(b',')),
                ("true", "true", None),
                (r#""a,b" : 1"#, r#""a,b""#, Some(b':')),
                ("\u{feff}\n1\n2", "1", Some(b'2')),
            ] {
                assert_eq!(take(text, capacity), (Taken::Whole, want.into(), next), "{text}");
            }
            assert_eq!(take("[1,2", capacity).0, Taken::Cut);
            assert_eq!(take("\"ab\\", capacity).0, Taken::Cut);
            assert_eq!(take("]", capacity).0, Taken::None);
            let (taken, _, next) = take("[\"this is longer than that\"] 7", capacity);
            assert_eq!((taken, next), (Taken::TooLong(28), Some(b'7')));
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_or_goes_on_for_ever(text in "[\\[\\]{}\":,\\\\a1 \n]{0,60}", capacity in 1usize..9) {
            let mut json = Json::new(io::BufReader::with_capacity(capacity, text.as_bytes()));
            let mut out = Vec::new();
            for _ in 0..=text.len() {
                if json.take_value(&mut out, 10).unwrap() == Taken::None {
                    match json.peek().unwrap() {
                        Some(byte) => prop_assert!(json.take_byte(byte).unwrap()),
                        None => break,
                    }
                }
            }
            prop_assert_eq!(json.offset, text.len() as u64);
        }
    }
}
