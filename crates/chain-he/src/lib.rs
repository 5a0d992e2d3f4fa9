//! Placeholder heading; replaced by the crate's first slice.
