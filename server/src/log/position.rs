//! The position token: where a stream stands, handed out by an append and given back to `wait`.
//!
//! Opaque to clients. base64url (no padding) of: version byte 1, the stream's uuid (16 bytes), then
//! one offset per partition as an unsigned LEB128.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

const VERSION: u8 = 1;

/// A position in a stream: the next offset of each partition. Zero says nothing about a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The stream.
    pub stream: Uuid,
    /// The offset after the last record meant, per partition.
    pub offsets: Vec<i64>,
}

/// A token that this server did not write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is not a position: use the token that an append, a heartbeat or a stream's description returned"
)]
pub struct BadToken;

impl Position {
    /// True where `others` (next offsets per partition) have come as far as this position.
    pub fn is_reached_by(&self, others: impl Fn(u32) -> i64) -> bool {
        self.offsets.iter().zip(0u32..).all(|(offset, partition)| others(partition) >= *offset)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(self.stream.as_bytes());
        for offset in &self.offsets {
            let mut rest = (*offset).max(0) as u64;
            while rest >= 0x80 {
                bytes.push(rest as u8 | 0x80);
                rest >>= 7;
            }
            bytes.push(rest as u8);
        }
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for Position {
    type Err = BadToken;

    fn from_str(token: &str) -> Result<Self, BadToken> {
        let bytes = URL_SAFE_NO_PAD.decode(token.trim()).map_err(|_| BadToken)?;
        let (version, rest) = bytes.split_first().ok_or(BadToken)?;
        let (stream, mut rest) = rest.split_at_checked(16).ok_or(BadToken)?;
        if *version != VERSION {
            return Err(BadToken);
        }
        let mut offsets = Vec::new();
        while !rest.is_empty() {
            offsets.push(varint(&mut rest).ok_or(BadToken)?);
        }
        Ok(Self { stream: Uuid::from_slice(stream).map_err(|_| BadToken)?, offsets })
    }
}

fn varint(bytes: &mut &[u8]) -> Option<i64> {
    let mut value = 0u64;
    for shift in (0..63).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return i64::try_from(value).ok();
        }
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_token_reads_back(stream: u128, offsets in prop::collection::vec(0..=i64::MAX, 0..20)) {
            let position = Position { stream: Uuid::from_u128(stream), offsets };
            prop_assert_eq!(position.to_string().parse::<Position>(), Ok(position));
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,60}") {
            let _ = text.parse::<Position>();
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = URL_SAFE_NO_PAD.encode(bytes).parse::<Position>();
        }
    }

    #[test]
    fn golden() {
        let position = Position { stream: Uuid::from_u128(0x0102), offsets: vec![0, 127, 128, i64::MAX] };
        assert_eq!(position.to_string(), "AQAAAAAAAAAAAAAAAAAAAQIAf4AB__________9_");
    }

    #[test]
    fn a_position_is_reached_when_every_partition_is() {
        let position = Position { stream: Uuid::nil(), offsets: vec![3, 0] };
        assert!(position.is_reached_by(|p| if p == 0 { 3 } else { 0 }));
        assert!(!position.is_reached_by(|p| if p == 0 { 2 } else { 9 }));
    }
}
