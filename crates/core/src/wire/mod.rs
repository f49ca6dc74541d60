//! What travels between nodes, and how it is encoded.
//!
//! Bodies are CBOR with numbered fields: a newer node may add fields, an older one skips them. Every decoder is
//! bounded by the frame limit, which is checked before anything is allocated.

pub mod control;
pub mod frame;
pub mod hello;
pub mod image;
pub mod message;
mod names;
pub mod publish;

pub use control::{Body, Control, Turn};
pub use image::Image;
pub use names::Names;

#[cfg(test)]
mod tests;
