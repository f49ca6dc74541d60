//! placeholder
use crate::cli::OverloadArgs;
use crate::output::Failure;
use std::process::ExitCode;
pub(crate) fn run(_args: &OverloadArgs) -> Result<ExitCode, Failure> {
    Err(Failure::usage("later"))
}
