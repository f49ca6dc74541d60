//! What a process gives to its life on another node.
//!
//! Who moves when is decided elsewhere; here stands what moves, and what users can say about it. A process whose state
//! is serde moves without a line of code.

use std::any::Any;

use serde::Serialize;
use serde::de::DeserializeOwned;
use whimbrel_core::base::ExitReason;

use super::Process;
use super::guard;
use crate::codec;
use crate::message::MessageList;

/// How a process goes to another node.
#[derive(Debug)]
pub enum Handoff {
    /// As its registration says: with its whole state for `kind`, anew for `restart_kind`, not at all for `local_kind`.
    Auto,
    /// With this state, which [`Process::resume`] gets there.
    Resume(State),
    /// It begins anew there, with `init` and the arguments of its record. Its unread messages, its timers and its monitors go along.
    Restart,
    /// It does not go: it runs on here, until the members change again.
    Stay,
}

/// Reads the state of a kind that is registered with serde: a `P`, with its type erased.
pub(crate) type ReadState = fn(&[u8]) -> Result<Box<dyn Any + Send>, String>;

/// The state of a process on its way to another node.
#[derive(Debug)]
pub struct State {
    version: u32,
    codec: u8,
    bytes: Result<Vec<u8>, String>,
    read: Option<ReadState>,
}

impl State {
    /// A value that stands for the state. One that can not be encoded makes the process stay where it is.
    pub fn of<T: Serialize>(value: &T) -> Self {
        Self { version: 0, codec: codec::NAMED, bytes: codec::encode(value), read: None }
    }

    /// Bytes of a form of your own.
    pub fn of_bytes(bytes: Vec<u8>) -> Self {
        Self { version: 0, codec: codec::OPAQUE, bytes: Ok(bytes), read: None }
    }

    /// The `STATE_VERSION` of the program that wrote it.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.as_deref().unwrap_or_default()
    }

    /// The value that [`State::of`] was given, or the process itself if it moved as [`Handoff::Auto`] says.
    ///
    /// # Errors
    /// They are not the bytes of such a value.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, ExitReason> {
        match self.codec {
            codec::NAMED => codec::decode(self.as_bytes()).map_err(unreadable),
            codec => Err(unreadable(format!("codec {codec} holds no values"))),
        }
    }

    /// The process, if it moved with its whole state and that is of the version of this program: what
    /// [`Process::resume`] does unless you write your own.
    ///
    /// # Errors
    /// It is of another version, or of a process that wrote its state itself.
    pub fn into_process<P: Process>(self) -> Result<P, ExitReason> {
        if self.version != P::STATE_VERSION {
            let (found, known) = (self.version, P::STATE_VERSION);
            return Err(unreadable(format!("version {found}, and {known} is known here")));
        }
        let read = self.read.filter(|_| self.codec == codec::NAMED);
        let read = read.ok_or_else(|| unreadable("nothing reads it: write `resume`"))?;
        let process = read(self.as_bytes()).map_err(unreadable)?;
        process.downcast().map(|process| *process).map_err(|_| unreadable("another type"))
    }

    /// As it arrived.
    pub(crate) fn arrived(version: u32, codec: u8, bytes: &[u8], read: Option<ReadState>) -> Self {
        Self { version, codec, bytes: Ok(bytes.to_vec()), read }
    }

    /// How it is encoded, and its bytes.
    pub(crate) fn into_parts(self) -> Result<(u8, Vec<u8>), String> {
        self.bytes.map(|bytes| (self.codec, bytes))
    }
}

fn unreadable(detail: impl std::fmt::Display) -> ExitReason {
    ExitReason::Error(format!("state: {detail}")).capped()
}

/// What all instances of a kind can do: the messages that they speak, and how they move.
pub(crate) struct Skills<P: Process> {
    pub(crate) messages: MessageList<P>,
    pub(crate) form: StateForm<P>,
}

/// What a process leaves behind when it goes.
pub(super) enum Left {
    /// It does not go.
    Stays,
    /// It goes without a state.
    Restarts,
    /// How the state is encoded, and its bytes; or why there are none.
    State(Result<(u8, Vec<u8>), String>),
}

impl Left {
    /// Encodes: user code.
    pub(super) fn of<P: Process>(process: &P, handoff: Handoff, form: StateForm<P>) -> Self {
        match (handoff, form) {
            (Handoff::Stay, _) | (_, StateForm::Stays) => Self::Stays,
            (Handoff::Restart, _) | (Handoff::Auto, StateForm::Restarts) => Self::Restarts,
            (Handoff::Resume(state), _) => Self::State(state.into_parts()),
            (Handoff::Auto, StateForm::Moves { encode, .. }) => {
                let encoded = guard::run(|| encode(process));
                let encoded = encoded.unwrap_or_else(|panic| Err(panic.to_string()));
                Self::State(encoded.map(|bytes| (codec::NAMED, bytes)))
            }
        }
    }
}

/// What becomes of the state on a move, unless the process says otherwise.
pub(crate) enum StateForm<P> {
    /// It goes along.
    Moves { encode: fn(&P) -> Result<Vec<u8>, String>, read: ReadState },
    /// The process begins anew.
    Restarts,
    /// The process stays where it is.
    Stays,
}

impl<P> Clone for StateForm<P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P> Copy for StateForm<P> {}

impl<P: Process + Serialize + DeserializeOwned> StateForm<P> {
    /// Of a kind that is serde.
    pub(crate) fn serde() -> Self {
        Self::Moves {
            encode: codec::encode::<P>,
            read: |bytes| codec::decode::<P>(bytes).map(|process| Box::new(process) as Box<dyn Any + Send>),
        }
    }
}
