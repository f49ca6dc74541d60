//! placeholder
use std::process::ExitCode;
use crate::cli::OverloadArgs;
use crate::output::Failure;
pub(crate) fn run(_args: &OverloadArgs) -> Result<ExitCode, Failure> {
    Err(Failure::usage("later"))
}
