//! Several mistakes in one block are told together.

use syn::{Error, Result};

/// What was refused so far.
#[derive(Default)]
pub(crate) struct Refusals(Option<Error>);

impl Refusals {
    /// The value of `result`; its error is kept for [`Refusals::into_result`].
    pub(crate) fn note<T>(&mut self, result: Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.add(error);
                None
            }
        }
    }

    /// Keeps `error`.
    pub(crate) fn add(&mut self, error: Error) {
        match &mut self.0 {
            Some(all) => all.combine(error),
            none => *none = Some(error),
        }
    }

    /// # Errors
    /// Everything that was refused, as one error of many parts.
    pub(crate) fn into_result(self) -> Result<()> {
        self.0.map_or(Ok(()), Err)
    }
}
