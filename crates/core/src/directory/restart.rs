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

impl RestartIntensity {
    /// How long a restart waits that follows so many others within the window.
    pub fn delay(&self, recent_restarts: usize, rng: &mut Rng) -> Duration {
        let Some(doublings) = recent_restarts.checked_sub(1) else { return Duration::ZERO };
        let doublings = u32::try_from(doublings).unwrap_or(u32::MAX).min(16);
        let delay = self.back_off.saturating_mul(1 << doublings).min(self.back_off_max);
        let jitter = u64::try_from(delay.as_micros() / 10).unwrap_or(u64::MAX);
        delay + Duration::from_micros(rng.below(jitter.max(1)))
    }
}

/// Whose doing an end was. Only the host knows: a process may give any reason for its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EndedBy {
    /// Its own: it failed, or returned.
    Itself,
    /// It was told to end, or its host has nothing left of it.
    Others,
}

/// What becomes of a name whose process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AfterExit {
    /// The name is free.
    Remove,
    /// It takes over the mailbox of the last life after this delay, zero for at once. This counts.
    InPlace(Duration),
    /// It starts at once with nothing of the last life, wherever its place is. This does not count: what others do to
    /// a process brings it no nearer to quarantine.
    Anew,
    /// It waits for `release`.
    Quarantine,
}

/// Decides by policy, reason and the counted restarts within the window.
pub(super) fn after_exit(
    policy: RestartPolicy,
    reason: &ExitReason,
    by: EndedBy,
    recent_restarts: usize,
    intensity: &RestartIntensity,
    rng: &mut Rng,
) -> AfterExit {
    if !policy.restarts_after(reason) {
        return AfterExit::Remove;
    }
    match by {
        EndedBy::Others => AfterExit::Anew,
        EndedBy::Itself if recent_restarts >= intensity.restarts_max as usize => AfterExit::Quarantine,
        EndedBy::Itself => AfterExit::InPlace(intensity.delay(recent_restarts, rng)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(policy: RestartPolicy, reason: &ExitReason, by: EndedBy, recent: usize) -> AfterExit {
        after_exit(policy, reason, by, recent, &RestartIntensity::default(), &mut Rng::new(1))
    }

    #[test]
    fn policy_decides_whether_an_end_is_followed_by_a_start() {
        use AfterExit::{InPlace, Remove};
        let crash = ExitReason::Panic(String::from("x"));
        let at_once = InPlace(Duration::ZERO);
        let table = [
            (RestartPolicy::Permanent, ExitReason::Normal, at_once),
            (RestartPolicy::Permanent, crash.clone(), at_once),
            (RestartPolicy::Transient, ExitReason::Normal, Remove),
            (RestartPolicy::Transient, ExitReason::Shutdown, Remove),
            (RestartPolicy::Transient, crash.clone(), at_once),
            (RestartPolicy::Temporary, crash, Remove),
        ];
        for (policy, reason, expected) in table {
            assert_eq!(decide(policy, &reason, EndedBy::Itself, 0), expected, "{policy:?} after {reason}");
        }
    }

    #[test]
    fn an_end_that_others_made_is_never_quarantine_and_one_of_its_own_counts_whatever_reason_it_gives() {
        use AfterExit::{Anew, InPlace, Quarantine, Remove};
        let at_once = InPlace(Duration::ZERO);
        for reason in [ExitReason::Killed, ExitReason::NodeLost, ExitReason::ConflictLost] {
            for policy in [RestartPolicy::Permanent, RestartPolicy::Transient] {
                assert_eq!(decide(policy, &reason, EndedBy::Others, 5), Anew, "{policy:?} after {reason}");
                assert_eq!(decide(policy, &reason, EndedBy::Itself, 0), at_once, "{policy:?} after {reason}");
                assert_eq!(
                    decide(policy, &reason, EndedBy::Itself, 5),
                    Quarantine,
                    "{policy:?} after {reason}"
                );
            }
            assert_eq!(decide(RestartPolicy::Temporary, &reason, EndedBy::Others, 0), Remove);
        }
        assert_eq!(decide(RestartPolicy::Permanent, &ExitReason::Shutdown, EndedBy::Others, 5), Anew);
        assert_eq!(decide(RestartPolicy::Transient, &ExitReason::Shutdown, EndedBy::Others, 5), Remove);
    }

    #[test]
    fn restarts_are_spaced_and_the_sixth_failure_is_quarantine() {
        let crash = ExitReason::Panic(String::from("x"));
        let decide = |recent| decide(RestartPolicy::Permanent, &crash, EndedBy::Itself, recent);
        let bounds = [(0, 0, 0), (1, 100, 110), (2, 200, 220), (3, 400, 440), (4, 800, 880)];
        for (recent, at_least, at_most) in bounds {
            let AfterExit::InPlace(delay) = decide(recent) else {
                panic!("no restart after {recent}");
            };
            assert!((at_least..=at_most).contains(&delay.as_millis()), "{recent}: {delay:?}");
        }
        assert_eq!(decide(5), AfterExit::Quarantine);
    }
}
