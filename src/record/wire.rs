//! The bytes of an entry: Protocol Buffers' wire format, so that any language can read a recording.
//!
//! Why by hand and not generated: a worker writes events while bytes pass, without a message in between, and the recorder
//! walks them without an allocation. The schema is in `docs/recording-format.md`. Source of the encoding:
//! <https://protobuf.dev/programming-guides/encoding/>. How it fails: [`Fields`] ends at the first byte that cannot be
//! right and says so; fields that are not known are passed over.

/// A field of a message, borrowed from its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// A varint.
    Number(u64),
    /// Eight bytes, little endian.
    Fixed(u64),
    /// A text, bytes or a message.
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    /// The number; 0 for bytes.
    pub fn number(self) -> u64 {
        match self {
            Value::Number(number) | Value::Fixed(number) => number,
            Value::Bytes(_) => 0,
        }
    }

    /// The bytes; none for a number.
    pub fn bytes(self) -> &'a [u8] {
        match self {
            Value::Bytes(bytes) => bytes,
            Value::Number(_) | Value::Fixed(_) => &[],
        }
    }
}

/// The bytes are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// The fields of a message, in their order.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Of these bytes.
    pub fn new(message: &'a [u8]) -> Fields<'a> {
        Fields { rest: message }
    }

    /// What was not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn step(&mut self) -> Option<(u32, Value<'a>)> {
        let (tag, rest) = varint(self.rest)?;
        let number = u32::try_from(tag >> 3).ok().filter(|number| *number > 0)?;
        let (value, rest) = match tag & 7 {
            0 => {
                let (value, rest) = varint(rest)?;
                (Value::Number(value), rest)
            }
            1 => {
                let (value, rest) = rest.split_first_chunk::<8>()?;
                (Value::Fixed(u64::from_le_bytes(*value)), rest)
            }
            2 => {
                let (len, rest) = varint(rest)?;
                let (value, rest) = rest.split_at_checked(usize::try_from(len).ok()?)?;
                (Value::Bytes(value), rest)
            }
            5 => {
                let (value, rest) = rest.split_first_chunk::<4>()?;
                (Value::Fixed(u64::from(u32::from_le_bytes(*value))), rest)
            }
            _ => return None,
        };
        self.rest = rest;
        Some((number, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        match self.step() {
            Some(field) => Some(Ok(field)),
            None => {
                self.rest = &[];
                Some(Err(Malformed))
            }
        }
    }
}

/// A varint at the beginning of `bytes`, and what follows it.
pub fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f).checked_shl(7 * index as u32)?;
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(index + 1..)?));
        }
    }
    None
}

/// Appends a varint.
#[inline]
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a number; 0 is not written, as absent means 0.
#[inline]
pub fn put_number(out: &mut Vec<u8>, field: u32, value: u64) {
    if value != 0 {
        put_varint(out, u64::from(field << 3));
        put_varint(out, value);
    }
}

/// Appends eight bytes.
#[inline]
pub fn put_fixed(out: &mut Vec<u8>, field: u32, value: u64) {
    put_varint(out, u64::from(field << 3 | 1));
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends bytes; empty ones are not written.
#[inline]
pub fn put_bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    if !bytes.is_empty() {
        put_varint(out, u64::from(field << 3 | 2));
        put_varint(out, bytes.len() as u64);
        out.extend_from_slice(bytes);
    }
}

/// Bytes that a message's length is given before it is known: four of them hold 256 MiB, far above any bound here.
const LENGTH_BYTES: usize = 4;

/// Begins a message of unknown length; see [`end`].
#[inline]
pub fn begin(out: &mut Vec<u8>, field: u32) -> usize {
    put_varint(out, u64::from(field << 3 | 2));
    out.extend_from_slice(&[0x80, 0x80, 0x80, 0]);
    out.len()
}

/// Writes the length of the message that [`begin`] began, as a varint that is longer than it has to be.
#[inline]
pub fn end(out: &mut [u8], start: usize) {
    let len = out.len().saturating_sub(start);
    if let Some(slot) = start.checked_sub(LENGTH_BYTES).and_then(|at| out.get_mut(at..start)) {
        for (index, byte) in slot.iter_mut().enumerate() {
            let more = if index + 1 < LENGTH_BYTES { 0x80 } else { 0 };
            *byte = (len >> (7 * index)) as u8 & 0x7f | more;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_message_is_read_as_it_was_written() {
        let mut out = Vec::new();
        put_number(&mut out, 1, 300);
        put_number(&mut out, 2, 0);
        put_bytes(&mut out, 3, b"");
        put_fixed(&mut out, 4, u64::MAX);
        let start = begin(&mut out, 500);
        put_bytes(&mut out, 1, &[7; 200]);
        end(&mut out, start);
        put_number(&mut out, 6, u64::MAX);
        let fields: Vec<_> = Fields::new(&out).map(Result::unwrap).collect();
        let [(1, Value::Number(300)), (4, Value::Fixed(u64::MAX)), (500, Value::Bytes(inner)), last] =
            fields[..]
        else {
            panic!("{fields:?}")
        };
        assert_eq!(last, (6, Value::Number(u64::MAX)));
        assert_eq!(Fields::new(inner).next(), Some(Ok((1, Value::Bytes(&[7; 200])))));
    }

    #[test]
    fn what_is_cut_off_is_malformed() {
        let mut out = Vec::new();
        put_bytes(&mut out, 1, b"abc");
        for len in 1..out.len() {
            assert_eq!(Fields::new(&out[..len]).next(), Some(Err(Malformed)), "{len} bytes");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic_or_go_on_for_ever(bytes: Vec<u8>) {
            prop_assert!(Fields::new(&bytes).count() <= bytes.len());
        }
    }
}
