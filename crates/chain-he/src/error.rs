//! The one error of the engine: a reason a caller can read.

/// Input the engine refuses, with a one-line reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct HeError(pub String);

/// Result of every fallible call of the engine.
pub type HeResult<T> = Result<T, HeError>;

/// An error made of a reason.
pub fn refuse<T>(reason: impl Into<String>) -> HeResult<T> {
    Err(HeError(reason.into()))
}
