//! Tokio without a library: a task with its channel, entered into a locked map; multiplexed TCP between processes.

use crate::floor::{self, Floor};
use crate::library::{Library, Listening};
use crate::local::{Names, Task};

#[derive(Default)]
pub(crate) struct Tokio {
    names: Names,
}

impl Library for Tokio {
    const PACKAGES: &'static [&'static str] = &["tokio"];

    type Here = Task;
    type There = Floor;

    async fn start(&self, name: String) -> Result<Task, String> {
        Ok(self.names.start(name))
    }

    async fn listen(&self) -> Result<Listening, String> {
        floor::listen().await.map(Listening::At).map_err(|error| error.to_string())
    }

    async fn connect(&self, port: u16) -> Result<Floor, String> {
        Floor::connect(port).await.map_err(|error| error.to_string())
    }
}
