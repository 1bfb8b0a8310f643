//! The Confluent frame: a zero byte, the writer's schema id as four big-endian bytes, the body.
//!
//! <https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/index.html#wire-format>

/// Bytes before the body.
pub const FRAME_LEN: usize = 5;

/// Why bytes are not a Confluent-framed record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Shorter than the frame itself. An empty value is not a tombstone: that is a null value.
    #[error("{0} bytes are shorter than a Confluent frame (0x00, 4 bytes of schema id, body)")]
    TooShort(usize),
    /// Not written by a Confluent serializer.
    #[error("the first byte is {0:#04x}, a Confluent frame begins with 0x00")]
    Magic(u8),
}

/// Takes the frame off: the writer's schema id and the body.
pub fn parse_frame(bytes: &[u8]) -> Result<(u32, &[u8]), FrameError> {
    match bytes {
        [0, a, b, c, d, body @ ..] => Ok((u32::from_be_bytes([*a, *b, *c, *d]), body)),
        [0, ..] | [] => Err(FrameError::TooShort(bytes.len())),
        [magic, ..] => Err(FrameError::Magic(*magic)),
    }
}

/// Appends a frame; the body follows.
pub fn frame(id: u32, out: &mut Vec<u8>) {
    out.push(0);
    out.extend_from_slice(&id.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_off_as_they_were_put_on() {
        for id in [0, 1, 0x0102_0304, u32::MAX] {
            let mut bytes = Vec::new();
            frame(id, &mut bytes);
            assert_eq!(bytes.len(), FRAME_LEN);
            assert_eq!(parse_frame(&bytes), Ok((id, &[][..])), "an empty body is a body");
            bytes.extend_from_slice(b"body");
            assert_eq!(parse_frame(&bytes), Ok((id, &b"body"[..])));
        }
    }

    #[test]
    fn what_is_no_frame_says_why() {
        for len in 0..FRAME_LEN {
            assert_eq!(parse_frame(&vec![0; len]), Err(FrameError::TooShort(len)));
        }
        for magic in [1, 0x7b, 0xff] {
            assert_eq!(parse_frame(&[magic]), Err(FrameError::Magic(magic)));
            assert_eq!(parse_frame(&[magic, 0, 0, 0, 1, 2]), Err(FrameError::Magic(magic)));
        }
    }
}
