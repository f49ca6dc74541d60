//! Macros of Whimbrel.
