//! Header compression (RFC 7541) for the raw HTTP/2 peer: an encoder that compresses nothing, so that a test's bytes
//! are what it wrote, and a decoder for what the proxy sends.

use std::collections::VecDeque;

/// Name and value.
pub type Pair = (String, String);

/// Appendix A.
const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// Appendix B: the code of a byte has this many bits. The code is canonical, so the lengths are the whole table.
#[rustfmt::skip]
const HUFFMAN_BITS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28,
    28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6,
    6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8,
    7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7,
    7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23,
    24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22,
    23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25,
    26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24,
    20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27,
    27, 27, 27, 26,
];

/// An integer with a prefix of `bits` bits (section 5.1); `first` holds the bits before it.
pub fn integer(first: u8, bits: u8, value: usize, into: &mut Vec<u8>) {
    let max = (1usize << bits) - 1;
    if value < max {
        into.push(first | value as u8);
        return;
    }
    into.push(first | max as u8);
    let mut rest = value - max;
    while rest >= 128 {
        into.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    into.push(rest as u8);
}

/// A string without Huffman coding (section 5.2).
pub fn string(bytes: &[u8], into: &mut Vec<u8>) {
    integer(0, 7, bytes.len(), into);
    into.extend_from_slice(bytes);
}

/// A literal field that enters no table (section 6.2.2).
pub fn literal(name: &[u8], value: &[u8], into: &mut Vec<u8>) {
    into.push(0);
    string(name, into);
    string(value, into);
}

/// A literal field that enters the dynamic table (section 6.2.1).
pub fn indexed_literal(name: &[u8], value: &[u8], into: &mut Vec<u8>) {
    into.push(0x40);
    string(name, into);
    string(value, into);
}

/// A block of literal fields.
pub fn block<N: AsRef<[u8]>, V: AsRef<[u8]>>(fields: &[(N, V)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        literal(name.as_ref(), value.as_ref(), &mut block);
    }
    block
}

/// The decoder's state for one direction of a connection.
#[derive(Debug)]
pub struct Decoder {
    entries: VecDeque<Pair>,
    bytes: usize,
    bytes_max: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Decoder { entries: VecDeque::new(), bytes: 0, bytes_max: 4096 }
    }
}

impl Decoder {
    /// Decodes a whole block; `None` when it is malformed.
    pub fn decode(&mut self, block: &[u8]) -> Option<Vec<Pair>> {
        let mut rest = block;
        let mut fields = Vec::new();
        while let Some(&first) = rest.first() {
            if first & 0x80 != 0 {
                let index = take_integer(&mut rest, 7)?;
                fields.push(self.entry(index)?);
            } else if first & 0x40 != 0 {
                let field = self.take_literal(&mut rest, 6)?;
                self.insert(field.clone());
                fields.push(field);
            } else if first & 0x20 != 0 {
                self.bytes_max = take_integer(&mut rest, 5)?;
                self.evict();
            } else {
                fields.push(self.take_literal(&mut rest, 4)?);
            }
        }
        Some(fields)
    }

    fn entry(&self, index: usize) -> Option<Pair> {
        let index = index.checked_sub(1)?;
        match STATIC.get(index) {
            Some((name, value)) => Some(((*name).to_owned(), (*value).to_owned())),
            None => self.entries.get(index - STATIC.len()).cloned(),
        }
    }

    fn take_literal(&self, rest: &mut &[u8], bits: u8) -> Option<Pair> {
        let index = take_integer(rest, bits)?;
        let name = if index == 0 { take_string(rest)? } else { self.entry(index)?.0 };
        Some((name, take_string(rest)?))
    }

    fn insert(&mut self, field: Pair) {
        self.bytes += field.0.len() + field.1.len() + 32;
        self.entries.push_front(field);
        self.evict();
    }

    fn evict(&mut self) {
        while self.bytes > self.bytes_max {
            let Some((name, value)) = self.entries.pop_back() else { return };
            self.bytes -= name.len() + value.len() + 32;
        }
    }
}

fn take_integer(rest: &mut &[u8], bits: u8) -> Option<usize> {
    let (first, mut tail) = rest.split_first()?;
    let max = (1usize << bits) - 1;
    let mut value = usize::from(*first) & max;
    if value == max {
        for shift in (0..28).step_by(7) {
            let (byte, next) = tail.split_first()?;
            tail = next;
            value += usize::from(byte & 127) << shift;
            if byte & 128 == 0 {
                break;
            }
        }
    }
    *rest = tail;
    Some(value)
}

fn take_string(rest: &mut &[u8]) -> Option<String> {
    let is_huffman = rest.first()? & 0x80 != 0;
    let length = take_integer(rest, 7)?;
    let (bytes, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    let bytes = if is_huffman { decode_huffman(bytes)? } else { bytes.to_vec() };
    Some(crate::message::latin1(&bytes))
}

/// Decodes bit by bit: slow, short, and plain to see that it is right.
fn decode_huffman(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut symbols: Vec<u8> = (0..=255).collect();
    symbols.sort_by_key(|&symbol| (HUFFMAN_BITS[usize::from(symbol)], symbol));
    let mut decoded = Vec::new();
    // Of the codes with `length` bits, the first is `first`, and belongs to `symbols[position]`.
    let (mut code, mut length, mut first, mut position) = (0u32, 0u8, 0u32, 0usize);
    for bit in bytes.iter().flat_map(|byte| (0..8).rev().map(move |shift| byte >> shift & 1)) {
        code = code << 1 | u32::from(bit);
        length += 1;
        first <<= 1;
        let same_length = |&&symbol: &&u8| HUFFMAN_BITS[usize::from(symbol)] == length;
        let count = symbols[position..].iter().take_while(same_length).count();
        let offset = code.checked_sub(first).map(|offset| offset as usize);
        if let Some(offset) = offset.filter(|&offset| offset < count) {
            decoded.push(symbols[position + offset]);
            (code, length, first, position) = (0, 0, 0, 0);
            continue;
        }
        first += count as u32;
        position += count;
        if length > 30 {
            return None;
        }
    }
    // What is left is padding: up to seven ones (section 5.2).
    (length < 8 && code == (1 << length) - 1).then_some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_rfc_7541_c_4_are_decoded() {
        let mut decoder = Decoder::default();
        let first = b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff";
        let second = b"\x82\x86\x84\xbe\x58\x86\xa8\xeb\x10\x64\x9c\xbf";
        let of = |fields: &[Pair], index: usize| fields[index].clone();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(of(&decoder.decode(first).unwrap(), 3), pair(":authority", "www.example.com"));
        let fields = decoder.decode(second).unwrap();
        assert_eq!(of(&fields, 3), pair(":authority", "www.example.com"));
        assert_eq!(of(&fields, 4), pair("cache-control", "no-cache"));
    }

    #[test]
    fn what_the_encoder_writes_the_decoder_reads() {
        let long = "x".repeat(5000);
        let written = block(&[("a", "b"), ("name", long.as_str())]);
        let read = Decoder::default().decode(&written).unwrap();
        assert_eq!(read, [("a".to_owned(), "b".to_owned()), ("name".to_owned(), long)]);
    }
}
