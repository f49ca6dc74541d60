//! What a node tells of the moves that it takes part in, step by step: from the last message handled here to the first
//! that may be handled there.
//!
//! Each step is told where and when it happens, in the task of the process itself: what the hook does there takes its
//! time. The two ends of a move are told on two nodes; the attempt says which belong together.

use std::sync::Arc;

use whimbrel_core::base::{Name, Token};

use crate::process::guard;

/// How far the move of a process of this node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoveStage {
    /// It has ended with the message in hand and comes to rest: it handles nothing more on this node.
    Rests,
    /// It was brought here, and its owner has said that it runs: it handles messages from now on.
    Runs,
    /// The move was called off: it goes on where it was.
    GoesOn,
}

/// A step of a move that this node takes part in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoveStep {
    name: Name,
    attempt: Token,
    stage: MoveStage,
}

impl MoveStep {
    /// The process's name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Which attempt to move it: the same at both nodes, and the token of its life at the target.
    pub fn attempt(&self) -> Token {
        self.attempt
    }

    /// How far it is.
    pub fn stage(&self) -> MoveStage {
        self.stage
    }
}

/// What is called for each step.
pub(crate) type StepHook = Arc<dyn Fn(&MoveStep) + Send + Sync>;

/// Who is told of steps.
pub(super) struct Steps(pub(super) Option<StepHook>);

impl Steps {
    /// Runs the user's hook: call it outside of locks.
    pub(super) fn tell(&self, name: &Name, attempt: Token, stage: MoveStage) {
        let Some(hook) = &self.0 else { return };
        let step = MoveStep { name: name.clone(), attempt, stage };
        if let Err(panic) = guard::run(|| hook(&step)) {
            tracing::warn!(%panic, "the hook for steps of moves panicked");
        }
    }
}
