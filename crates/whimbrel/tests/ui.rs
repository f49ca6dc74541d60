//! What `#[handlers]` accepts (`ui/forms`), what it refuses, and where the error points: one file of `ui` per rule,
//! with what the compiler says beside it.
//! `TRYBUILD=overwrite cargo test -p whimbrel --test ui` writes the `.stderr` files anew; read the difference.

#![allow(missing_docs, clippy::unwrap_used)]

#[path = "ui/forms/mod.rs"]
mod forms;

#[test]
fn refusals_of_handlers_point_at_their_cause() {
    // Only files that must not compile: trybuild then checks them without building anything.
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
