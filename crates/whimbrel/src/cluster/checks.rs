//! What a builder is told is checked before anything of the node is made.

use std::time::Duration;

use whimbrel_core::base::limits::KINDS_BYTES_MAX;
use whimbrel_core::directory::RestartIntensity;
use whimbrel_core::node::Config;
use whimbrel_core::view::WEIGHT_MAX;

use crate::error::JoinError;
use crate::process::KindTable;

/// Bounds of D: below it a busy machine looks dead, above it nothing is ever restarted elsewhere in time.
const DETECTION_MIN: Duration = Duration::from_millis(200);
const DETECTION_MAX: Duration = Duration::from_secs(60);
/// Restarts that may be counted, and for how long: a record remembers each of them.
const RESTARTS_MAX: u32 = 1_000;
const RESTART_WINDOW_MAX: Duration = Duration::from_secs(24 * 3600);

pub(super) fn bad(key: &'static str, rule: impl Into<String>) -> JoinError {
    JoinError::BadSetting { key, rule: rule.into() }
}

pub(super) fn check(config: &Config, kinds: &KindTable) -> Result<(), JoinError> {
    if !(1..=whimbrel_core::placement::REPLICAS_MAX).contains(&config.replicas) {
        return Err(bad("replicas", "1 to 3"));
    }
    if config.slots == 0 {
        return Err(bad("slots", "at least 1"));
    }
    if config.weight > WEIGHT_MAX {
        return Err(bad("weight", "0 to 1000"));
    }
    if !(DETECTION_MIN..=DETECTION_MAX).contains(&config.detection) {
        return Err(bad("detection", "200 ms to 60 s"));
    }
    // Each takes up to three bytes beside its name.
    if kinds.hosted().map(|kind| kind.len() + 3).sum::<usize>() > KINDS_BYTES_MAX {
        return Err(bad("kind", "the names of all kinds of a node have at most 16 KiB"));
    }
    check_restarts(&config.restart)?;
    if config.replicas == 1 {
        tracing::warn!("replicas = 1: the crash of a node loses the records of its names");
    }
    Ok(())
}

pub(crate) fn check_restarts(restart: &RestartIntensity) -> Result<(), JoinError> {
    if restart.window.is_zero() {
        return Err(bad("restart_intensity", "window is more than 0: failures are counted within it"));
    }
    if restart.back_off.is_zero() || restart.back_off > restart.back_off_max {
        return Err(bad("restart_intensity", "back_off is more than 0 and at most back_off_max"));
    }
    // Ages of restarts within the window stand in the record, in milliseconds.
    if restart.restarts_max > RESTARTS_MAX || restart.window > RESTART_WINDOW_MAX {
        return Err(bad("restart_intensity", "restarts_max is at most 1000, window at most a day"));
    }
    Ok(())
}

/// A node that finds nobody would give up before it founds.
pub(super) fn check_founding(found_alone_after: Duration, join_within: Duration) -> Result<(), JoinError> {
    if found_alone_after >= join_within {
        return Err(bad("found_alone_after", "less than join_within"));
    }
    Ok(())
}
