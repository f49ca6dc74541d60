//! The `whimbrel` binary.
mod children;
mod cli;
mod control;
mod demo;
mod node_config;
mod os;
mod output;
mod temp;
mod verify;
fn main() {}
mod bench { mod floor; }
