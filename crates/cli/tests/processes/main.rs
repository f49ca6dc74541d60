//! Tests on OS processes: the built binary, started, told, interrupted and killed as users and machines do it.
#![allow(clippy::unwrap_used)]

mod command_line;
mod demo;
mod kill;
#[path = "../../../whimbrel/tests/it/machine.rs"]
mod machine;
mod moves;
mod nodes;
#[path = "../../src/os.rs"]
#[allow(dead_code, missing_docs)]
mod os;
