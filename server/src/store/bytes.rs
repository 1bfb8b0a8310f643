//! Reading stored bytes front to back; integers in values are little-endian.

use super::Error;

/// The codec version that begins every value of this release.
pub(super) const VERSION: u8 = 1;

/// What is left of a value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bytes<'a> {
    rest: &'a [u8],
    family: &'static str,
}

impl<'a> Bytes<'a> {
    /// Begins a value of `family`: checks and takes its version byte.
    pub fn open(family: &'static str, value: &'a [u8]) -> Result<Self, Error> {
        let mut bytes = Self::plain(family, value);
        match bytes.u8()? {
            VERSION => Ok(bytes),
            other => Err(Error::corrupt(family, format!("codec version {other} is unknown"))),
        }
    }

    /// Bytes without a version: a key, or a part of a value.
    pub fn plain(family: &'static str, rest: &'a [u8]) -> Self {
        Self { rest, family }
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (head, tail) = self.rest.split_first_chunk::<N>().ok_or_else(|| self.short())?;
        self.rest = tail;
        Ok(*head)
    }

    pub fn take(&mut self, n: usize) -> Result<&'a [u8], Error> {
        let (head, tail) = self.rest.split_at_checked(n).ok_or_else(|| self.short())?;
        self.rest = tail;
        Ok(head)
    }

    pub fn u8(&mut self) -> Result<u8, Error> {
        self.array().map(u8::from_le_bytes)
    }

    pub fn u16(&mut self) -> Result<u16, Error> {
        self.array().map(u16::from_le_bytes)
    }

    pub fn u32(&mut self) -> Result<u32, Error> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, Error> {
        self.array().map(u64::from_le_bytes)
    }

    pub fn i64(&mut self) -> Result<i64, Error> {
        self.array().map(i64::from_le_bytes)
    }

    /// A `u32` length, then as many bytes.
    pub fn sized(&mut self) -> Result<&'a [u8], Error> {
        let n = self.u32()? as usize;
        self.take(n)
    }

    pub fn rest(self) -> &'a [u8] {
        self.rest
    }

    pub fn is_empty(self) -> bool {
        self.rest.is_empty()
    }

    pub fn bad(self, detail: &str) -> Error {
        Error::corrupt(self.family, detail)
    }

    fn short(self) -> Error {
        self.bad("a value ends early")
    }
}

/// Writes a `u32` length and the bytes.
pub(super) fn put_sized(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// A document: version byte, then JSON.
pub(super) fn json<T: serde::Serialize>(family: &'static str, document: &T) -> Result<Vec<u8>, Error> {
    let mut out = vec![VERSION];
    serde_json::to_writer(&mut out, document).map_err(|e| Error::corrupt(family, e.to_string()))?;
    Ok(out)
}

/// Reads what [`json`] wrote.
pub(super) fn from_json<T: serde::de::DeserializeOwned>(
    family: &'static str,
    value: &[u8],
) -> Result<T, Error> {
    let document = Bytes::open(family, value)?.rest();
    serde_json::from_slice(document).map_err(|e| Error::corrupt(family, e.to_string()))
}
