//! kameo: an actor with a mailbox as large as ours, registered under its name.

use kameo::prelude::*;

use crate::library::{Library, Listening};
use crate::local::QUEUE_MESSAGES;
use crate::meter::Target;

#[derive(Default)]
pub(crate) struct Kameo;

#[derive(Actor, Default)]
struct Echo {
    seen: u64,
}

struct Text(String);
struct Count(String);

impl Message<Text> for Echo {
    type Reply = String;

    async fn handle(&mut self, Text(text): Text, _: &mut Context<Self, String>) -> String {
        text
    }
}

impl Message<Count> for Echo {
    type Reply = ();

    async fn handle(&mut self, Count(text): Count, _: &mut Context<Self, ()>) {
        self.seen += u64::from(!text.is_empty());
    }
}

#[derive(Clone)]
pub(crate) struct Process(ActorRef<Echo>);

impl Target for Process {
    type Error = String;

    async fn call(&self, text: String) -> Result<(), String> {
        self.0.ask(Text(text)).await.map(drop).map_err(|error| error.to_string())
    }

    async fn cast(&self, text: String) -> Result<(), String> {
        self.0.tell(Count(text)).await.map_err(|error| error.to_string())
    }
}

impl Library for Kameo {
    const PACKAGES: &'static [&'static str] = &["kameo"];

    type Here = Process;
    type There = Process;

    async fn start(&self, name: String) -> Result<Process, String> {
        let echo = Echo::spawn_with_mailbox(Echo::default(), mailbox::bounded(QUEUE_MESSAGES));
        echo.register(name).map_err(|error| error.to_string())?;
        Ok(Process(echo))
    }

    async fn listen(&self) -> Result<Listening, String> {
        Ok(Listening::Lacks("its remote part needs libp2p, which is not built here"))
    }

    async fn connect(&self, _port: u16) -> Result<Process, String> {
        Err("nobody listens".to_owned())
    }
}
