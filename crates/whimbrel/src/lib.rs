//! Whimbrel.
