//! Reading Avro's binary encoding, bounds first.

use super::fault::Fault;

/// Items that take no bytes are not bounded by the body, so they are counted.
const ZERO_WIDTH_ITEMS: usize = 65_536;

/// What is left of a body.
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
    zero_width: usize,
}

impl<'a> Cursor<'a> {
    #[inline]
    pub fn new(body: &'a [u8]) -> Self {
        Self { rest: body, zero_width: ZERO_WIDTH_ITEMS }
    }

    #[inline]
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    #[inline]
    pub fn byte(&mut self) -> Result<u8, Fault> {
        let (first, rest) = self.rest.split_first().ok_or(Fault::Truncated)?;
        self.rest = rest;
        Ok(*first)
    }

    /// Most numbers of real data are one byte.
    #[inline]
    fn varint(&mut self) -> Result<u64, Fault> {
        let byte = self.byte()?;
        if byte < 0x80 { Ok(u64::from(byte)) } else { self.long_varint(u64::from(byte & 0x7f)) }
    }

    #[inline]
    fn long_varint(&mut self, mut value: u64) -> Result<u64, Fault> {
        let mut shift = 7;
        for (i, byte) in self.rest.iter().enumerate() {
            value |= u64::from(byte & 0x7f) << shift;
            if *byte < 0x80 {
                // The tenth byte holds one bit.
                if shift == 63 && *byte > 1 {
                    return Err(Fault::Number);
                }
                self.rest = self.rest.get(i + 1..).unwrap_or_default();
                return Ok(value);
            }
            shift += 7;
            if shift > 63 {
                return Err(Fault::Number);
            }
        }
        Err(Fault::Truncated)
    }

    #[inline]
    pub fn long(&mut self) -> Result<i64, Fault> {
        let zigzag = self.varint()?;
        Ok((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
    }

    #[inline]
    pub fn int(&mut self) -> Result<i32, Fault> {
        i32::try_from(self.long()?).map_err(|_| Fault::Number)
    }

    #[inline]
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Fault::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(Fault::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// Length-prefixed bytes.
    #[inline]
    pub fn bytes(&mut self) -> Result<&'a [u8], Fault> {
        let len = self.long()?;
        if len < 0 {
            return Err(Fault::Length);
        }
        self.take(len as usize)
    }

    /// Length-prefixed bytes that must be UTF-8.
    #[inline]
    pub fn text(&mut self) -> Result<&'a [u8], Fault> {
        let value = self.bytes()?;
        if !value.is_ascii() && std::str::from_utf8(value).is_err() {
            return Err(Fault::Utf8);
        }
        Ok(value)
    }

    #[inline]
    pub fn boolean(&mut self) -> Result<bool, Fault> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Fault::Boolean),
        }
    }

    /// The count of the next block of an array or map; 0 ends it. A negative count is followed by
    /// the block's size in bytes, which must lie within the body.
    #[inline]
    pub fn block(&mut self, zero_width: bool) -> Result<usize, Fault> {
        let mut count = self.long()?;
        if count < 0 {
            count = count.checked_neg().ok_or(Fault::Length)?;
            let size = self.long()?;
            if size < 0 || size as usize > self.remaining() {
                return Err(Fault::Length);
            }
        }
        let count = count as usize;
        if zero_width {
            self.zero_width = self.zero_width.checked_sub(count).ok_or(Fault::Length)?;
        } else if count > self.remaining() {
            return Err(Fault::Length);
        }
        Ok(count)
    }
}

/// Appends a long, zigzag and variable length.
pub(super) fn put_long(value: i64, out: &mut Vec<u8>) {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    while zigzag >= 0x80 {
        out.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
}

/// Appends length-prefixed bytes.
pub(super) fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_long(bytes.len() as i64, out);
    out.extend_from_slice(bytes);
}
