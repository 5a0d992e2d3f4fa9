//! The errors of the engine: a reason a caller can read.

/// Why the engine did not compute, in one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeError {
    /// Input the engine refuses.
    #[error("{0}")]
    Refused(String),
    /// A stored column that is not what was written: fetch it again.
    #[error("{0}")]
    Corrupt(String),
}

/// Result of every fallible call of the engine.
pub type HeResult<T> = Result<T, HeError>;

/// An error made of a reason.
pub fn refuse<T>(reason: impl Into<String>) -> HeResult<T> {
    Err(HeError::Refused(reason.into()))
}
