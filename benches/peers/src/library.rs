//! What is asked of every library, and how it is measured with that.

use std::fmt::Display;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::meter::{self, Target};

/// The packages that were built, with their versions.
const LOCK: &str = include_str!("../Cargo.lock");
/// The name of the process that answers.
const ECHO: &str = "echo";

/// Where the other side of a library is to be found.
pub(crate) enum Listening {
    /// At this port of this machine.
    At(u16),
    /// The library can not, as it is built here: what it lacks.
    Lacks(&'static str),
}

/// A library that is measured.
pub(crate) trait Library: Default + Send + Sync + 'static {
    /// Packages it consists of.
    const PACKAGES: &'static [&'static str];

    /// A process here.
    type Here: Target<Error: Display>;
    /// A process on the other side.
    type There: Target<Error: Display>;

    /// Starts a process and enters it under its name, as the library has it.
    fn start(&self, name: String) -> impl Future<Output = Result<Self::Here, String>> + Send;

    /// Lets another process call one here.
    fn listen(&self) -> impl Future<Output = Result<Listening, String>> + Send;

    /// The process on the other side.
    fn connect(&self, port: u16) -> impl Future<Output = Result<Self::There, String>> + Send;
}

/// A library, and what was set up with it so far.
pub(crate) struct Measured<L: Library> {
    library: Arc<L>,
    here: Option<L::Here>,
    there: Option<L::There>,
}

impl<L: Library> Default for Measured<L> {
    fn default() -> Self {
        Self { library: Arc::default(), here: None, there: None }
    }
}

impl<L: Library> Measured<L> {
    async fn here(&mut self) -> Result<&L::Here, String> {
        let here = match self.here.take() {
            Some(here) => here,
            None => self.library.start(ECHO.to_owned()).await?,
        };
        Ok(self.here.insert(here))
    }

    fn there(&self) -> Result<&L::There, String> {
        self.there.as_ref().ok_or_else(|| "not connected".to_owned())
    }

    pub(crate) async fn call_here(&mut self, calls: u64) -> Result<f64, String> {
        meter::call_ns(self.here().await?, calls).await.map_err(text)
    }

    pub(crate) async fn call_here_many(&mut self, tasks: u32, millis: u64) -> Result<f64, String> {
        meter::calls_per_s(self.here().await?, tasks, Duration::from_millis(millis)).await.map_err(text)
    }

    pub(crate) async fn cast_here(&mut self, casts: u64) -> Result<f64, String> {
        meter::casts_per_s(self.here().await?, casts).await.map_err(text)
    }

    pub(crate) async fn starts_here(&self, prefix: &str, tasks: u32, count: u64) -> Result<f64, String> {
        let library = Arc::clone(&self.library);
        let start = move |name| {
            let library = Arc::clone(&library);
            async move { library.start(name).await.map(drop) }
        };
        meter::starts_per_s(prefix, tasks, count, start).await
    }

    /// Bytes of an idle process.
    pub(crate) async fn idle(&self, count: u64) -> Result<Option<f64>, String> {
        let start = |name| async { self.library.start(name).await.map(Idle) };
        meter::idle_bytes(count, start).await
    }

    pub(crate) async fn listen(&self) -> Result<Listening, String> {
        self.library.listen().await
    }

    pub(crate) async fn connect(&mut self, port: u16) -> Result<(), String> {
        self.there = Some(self.library.connect(port).await?);
        Ok(())
    }

    pub(crate) async fn call_there(&self, calls: u64) -> Result<f64, String> {
        meter::call_p50_us(self.there()?, calls).await.map_err(text)
    }

    pub(crate) async fn call_there_many(&self, tasks: u32, millis: u64) -> Result<f64, String> {
        meter::calls_per_s(self.there()?, tasks, Duration::from_millis(millis)).await.map_err(text)
    }

    pub(crate) async fn cast_there(&self, bursts: u64) -> Result<f64, String> {
        meter::bursts_per_s(self.there()?, bursts).await.map_err(text)
    }
}

/// A process whose errors are told as those of its start are.
#[derive(Clone)]
struct Idle<T>(T);

impl<T: Target<Error: Display>> Target for Idle<T> {
    type Error = String;

    async fn call(&self, sent: String) -> Result<(), String> {
        self.0.call(sent).await.map_err(text)
    }

    async fn cast(&self, sent: String) -> Result<(), String> {
        self.0.cast(sent).await.map_err(text)
    }
}

// By value, so that it can be named where an error is mapped.
#[allow(clippy::needless_pass_by_value)]
fn text(error: impl Display) -> String {
    error.to_string()
}

/// Packages and their versions, as they were built.
pub(crate) fn versions(packages: &[&str]) -> String {
    let with_version = |package: &&str| format!("{package} {}", version_of(LOCK, package).unwrap_or("?"));
    packages.iter().map(with_version).collect::<Vec<_>>().join(", ")
}

fn version_of<'l>(lock: &'l str, package: &str) -> Option<&'l str> {
    let name = format!("name = \"{package}\"");
    let mut after = lock.lines().skip_while(|line| *line != name);
    after.nth(1)?.strip_prefix("version = \"")?.strip_suffix('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_from_the_lock_file() {
        let lock = "[[package]]\nname = \"ab\"\nversion = \"1.0.0\"\n\n[[package]]\nname = \"a\"\nversion = \"2.1.0\"\n";
        assert_eq!(version_of(lock, "a"), Some("2.1.0"));
        assert_eq!(version_of(lock, "c"), None);
    }
}
