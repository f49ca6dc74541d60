//! What happens after a process ended: restart at once, after a while, never, or quarantine.

use std::time::Duration;

use super::record::RestartPolicy;
use crate::base::{ExitReason, Rng};

/// How often a process may fail before it is quarantined, and how its restarts are spaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartIntensity {
    /// Restarts within `window`; one more failure is quarantine. Default 5.
    pub restarts_max: u32,
    /// Default 60 s.
    pub window: Duration,
    /// Delay of the second restart within the window, doubled each time; default 100 ms. The first is at once.
    pub back_off: Duration,
    /// Greatest delay; default 30 s. Up to 10 % of jitter is added.
    pub back_off_max: Duration,
}

impl Default for RestartIntensity {
    fn default() -> Self {
        Self {
            restarts_max: 5,
            window: Duration::from_secs(60),
            back_off: Duration::from_millis(100),
            back_off_max: Duration::from_secs(30),
        }
    }
}

/// What becomes of a name whose process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AfterExit {
    /// The name is free.
    Remove,
    /// It starts again after this delay, zero for at once.
    Restart(Duration),
    /// It waits for `release`.
    Quarantine,
}

/// Decides by policy, reason and the restarts within the window.
pub(super) fn after_exit(
    policy: RestartPolicy,
    reason: &ExitReason,
    recent_restarts: usize,
    intensity: &RestartIntensity,
    rng: &mut Rng,
) -> AfterExit {
    if !policy.restarts_after(reason) {
        return AfterExit::Remove;
    }
    if recent_restarts >= intensity.restarts_max as usize {
        return AfterExit::Quarantine;
    }
    AfterExit::Restart(delay(recent_restarts, intensity, rng))
}

fn delay(recent_restarts: usize, intensity: &RestartIntensity, rng: &mut Rng) -> Duration {
    let Some(doublings) = recent_restarts.checked_sub(1) else { return Duration::ZERO };
    let doublings = u32::try_from(doublings).unwrap_or(u32::MAX).min(16);
    let delay = intensity.back_off.saturating_mul(1 << doublings).min(intensity.back_off_max);
    let jitter = u64::try_from(delay.as_micros() / 10).unwrap_or(u64::MAX);
    delay + Duration::from_micros(rng.below(jitter.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(policy: RestartPolicy, reason: &ExitReason, recent: usize) -> AfterExit {
        after_exit(policy, reason, recent, &RestartIntensity::default(), &mut Rng::new(1))
    }

    #[test]
    fn policy_decides_whether_an_end_is_followed_by_a_start() {
        use AfterExit::{Remove, Restart};
        let crash = ExitReason::Panic(String::from("x"));
        let at_once = Restart(Duration::ZERO);
        let table = [
            (RestartPolicy::Permanent, ExitReason::Normal, at_once),
            (RestartPolicy::Permanent, crash.clone(), at_once),
            (RestartPolicy::Transient, ExitReason::Normal, Remove),
            (RestartPolicy::Transient, ExitReason::Shutdown, Remove),
            (RestartPolicy::Transient, crash.clone(), at_once),
            (RestartPolicy::Temporary, crash, Remove),
        ];
        for (policy, reason, expected) in table {
            assert_eq!(decide(policy, &reason, 0), expected, "{policy:?} after {reason}");
        }
    }

    #[test]
    fn restarts_are_spaced_and_the_sixth_failure_is_quarantine() {
        let crash = ExitReason::Killed;
        let bounds = [(0, 0, 0), (1, 100, 110), (2, 200, 220), (3, 400, 440), (4, 800, 880)];
        for (recent, at_least, at_most) in bounds {
            let AfterExit::Restart(delay) = decide(RestartPolicy::Permanent, &crash, recent) else {
                panic!("no restart after {recent}");
            };
            assert!((at_least..=at_most).contains(&delay.as_millis()), "{recent}: {delay:?}");
        }
        assert_eq!(decide(RestartPolicy::Permanent, &crash, 5), AfterExit::Quarantine);
    }
}
