//! The examples are the files of `examples/examples/`; this library is empty.
