//! `context.fields.NAME`, as a user writes it.

use crate::context::fields::ID_BYTES_MAX;
use crate::context::words::are_words;
use crate::svc::fields::is_token_byte;
use crate::units::{self, AUTO};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `context.fields.NAME`: a further field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "ExtraField")]
pub struct Config {
    /// The header that carries it; `auto`: `x-` and the name with `-` for `_`; `none`: no header.
    pub header: String,
    /// The key in baggage that carries it; `auto`: the name with `.` for `_`; `none`: not in baggage.
    pub baggage: String,
    /// The longest value (at most 1 KiB); longer ones are dropped and counted. As long as ids may be.
    #[serde(with = "units::size")]
    #[schemars(with = "units::SizeText")]
    pub length_max: usize,
    /// Which characters a value may have; others are dropped and counted.
    pub alphabet: Alphabet,
    /// Whose values are believed.
    pub believe: Believe,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            header: AUTO.to_owned(),
            baggage: AUTO.to_owned(),
            length_max: ID_BYTES_MAX,
            alphabet: Alphabet::default(),
            believe: Believe::default(),
        }
    }
}

/// Which characters a value may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Alphabet {
    /// Visible ASCII without comma, semicolon, quotes and backslash, as in ids: needs no escaping anywhere.
    #[default]
    Word,
    /// A token of HTTP: letters, digits and `` !#$%&'*+-.^_`|~ `` (RFC 9110 §5.6.2).
    Token,
    /// `0-9 a-f A-F`.
    Hex,
    /// `0-9`.
    Digits,
    /// A UUID as RFC 9562 writes it: 8-4-4-4-12 hex digits, in any case.
    Uuid,
    /// Visible ASCII.
    Visible,
}

impl Alphabet {
    /// Whether `value`, which is not empty, is written in it.
    pub fn holds(self, value: &[u8]) -> bool {
        match self {
            Alphabet::Word => are_words(value),
            Alphabet::Token => value.iter().copied().all(is_token_byte),
            Alphabet::Hex => value.iter().all(u8::is_ascii_hexdigit),
            Alphabet::Digits => value.iter().all(u8::is_ascii_digit),
            Alphabet::Uuid => is_uuid(value),
            Alphabet::Visible => value.iter().all(u8::is_ascii_graphic),
        }
    }

    /// Whether a [pseudonym](crate::context::pseudonym) is written in it.
    pub const fn holds_pseudonyms(self) -> bool {
        matches!(self, Alphabet::Word | Alphabet::Token | Alphabet::Visible)
    }
}

fn is_uuid(value: &[u8]) -> bool {
    value.len() == 36
        && value.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// Whose values are believed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Believe {
    /// Peers that are trusted, as for the built-in fields; from others it is dropped and counted.
    #[default]
    Trusted,
    /// Everybody: for what is no claim, such as a language or a client's version. Never route or authorize by it.
    All,
}
