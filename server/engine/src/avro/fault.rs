//! What can be wrong with a body. Small and `Copy`: the hot path carries it in a register.

/// What is wrong with a body, without the place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("the body ends in the middle of a value")]
    Truncated,
    #[error("{0} bytes are left after the last field")]
    Trailing(usize),
    #[error("a number has more digits than its type allows")]
    Number,
    #[error("a boolean is neither 0 nor 1")]
    Boolean,
    #[error("a length or count is negative or beyond the body")]
    Length,
    #[error("text is not valid UTF-8")]
    Utf8,
    #[error("a union has no such branch")]
    Branch,
    #[error("this branch of the writer's union does not fit the column's type")]
    BranchType,
    #[error("null, where the stream's schema has no null")]
    Null,
    #[error("an enum has no such symbol")]
    Symbol,
    #[error("the writer's symbol is unknown to the stream's schema, which has no default symbol")]
    UnknownSymbol,
    #[error("a decimal has more digits than its precision")]
    Decimal,
    #[error("a time is beyond what 64 bits of microseconds hold")]
    Time,
    #[error("values are nested too deep")]
    TooDeep,
    #[error("the body is larger than 16 MiB, or unfolds to more than a batch")]
    TooLarge,
    #[error("the batch is full: finish it and push the body again")]
    Full,
    #[error("the resolution was compiled for other columns")]
    Mismatch,
}

impl Fault {
    /// A stable word for metrics and quarantine.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::Trailing(_) => "trailing_bytes",
            Self::Number => "bad_number",
            Self::Boolean => "bad_boolean",
            Self::Length => "bad_length",
            Self::Utf8 => "bad_utf8",
            Self::Branch | Self::BranchType => "bad_union_branch",
            Self::Null => "unexpected_null",
            Self::Symbol | Self::UnknownSymbol => "unknown_symbol",
            Self::Decimal => "decimal_too_wide",
            Self::Time => "time_out_of_range",
            Self::TooDeep => "too_deep",
            Self::TooLarge => "too_large",
            Self::Full => "batch_full",
            Self::Mismatch => "resolution_mismatch",
        }
    }
}
