//! When a node tells where it is, and how many packets it looks at.

use std::time::Duration;

use whimbrel_core::base::Time;

/// Longest pause between two own packets.
const TELL_EVERY_MAX: Duration = Duration::from_secs(5);
/// Shortest pause: newcomers who come together are told together.
const TELL_PAUSE_MIN: Duration = Duration::from_millis(200);
/// Packets looked at in one second.
const PACKETS_PER_SECOND_MAX: u32 = 1_000;
const SECOND: Duration = Duration::from_secs(1);

/// When to tell next.
#[derive(Debug)]
pub(super) struct Rhythm {
    next: Time,
    not_before: Time,
}

impl Rhythm {
    /// The first time at once.
    pub(super) const fn new(now: Time) -> Self {
        Self { next: now, not_before: now }
    }

    pub(super) const fn next(&self) -> Time {
        self.next
    }

    pub(super) fn is_due(&self, now: Time) -> bool {
        now >= self.next
    }

    /// It was told. The next time is spread by `random`, so that nodes do not all speak at once.
    pub(super) fn told(&mut self, now: Time, random: u32) {
        let spread = TELL_EVERY_MAX / 2;
        let micros = spread.as_micros() as u64 * u64::from(random) / u64::from(u32::MAX);
        self.next = now + spread + Duration::from_micros(micros);
        self.not_before = now + TELL_PAUSE_MIN;
    }

    /// Somebody new is there and shall not wait for the next regular time.
    pub(super) fn hurry(&mut self, now: Time) {
        self.next = self.next.min(self.not_before.max(now));
    }
}

/// How many packets are looked at: what comes above is left to the system, which drops it.
#[derive(Debug, Default)]
pub(super) struct Allowance {
    began: Time,
    taken: u32,
}

impl Allowance {
    /// When the next packet may be looked at; none: now.
    pub(super) fn free_at(&self, now: Time) -> Option<Time> {
        let end = self.began + SECOND;
        (self.taken >= PACKETS_PER_SECOND_MAX && now < end).then_some(end)
    }

    /// One is looked at.
    pub(super) fn take(&mut self, now: Time) {
        if now >= self.began + SECOND {
            (self.began, self.taken) = (now, 0);
        }
        self.taken = self.taken.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Time {
        Time::from_micros(ms * 1_000)
    }

    #[test]
    fn it_is_told_at_once_and_then_every_few_seconds() {
        let mut rhythm = Rhythm::new(ms(7));
        assert!(rhythm.is_due(ms(7)));
        rhythm.told(ms(7), 0);
        assert_eq!(rhythm.next(), ms(2_507));
        rhythm.told(ms(7), u32::MAX);
        assert_eq!(rhythm.next(), ms(5_007));
        assert!(!rhythm.is_due(ms(5_006)));
    }

    #[test]
    fn newcomers_are_told_soon_but_together() {
        let mut rhythm = Rhythm::new(ms(0));
        rhythm.told(ms(0), 0);
        rhythm.hurry(ms(10));
        rhythm.hurry(ms(20));
        assert_eq!(rhythm.next(), ms(200));
        rhythm.told(ms(200), 0);
        rhythm.hurry(ms(1_000));
        assert_eq!(rhythm.next(), ms(1_000));
        rhythm.told(ms(1_000), 0);
        rhythm.hurry(ms(9_000));
        assert_eq!(rhythm.next(), ms(3_500), "what is due sooner stays");
    }

    #[test]
    fn in_one_second_so_many_packets_are_looked_at() {
        let mut allowance = Allowance::default();
        for _ in 0..PACKETS_PER_SECOND_MAX {
            assert_eq!(allowance.free_at(ms(5_000)), None);
            allowance.take(ms(5_000));
        }
        assert_eq!(allowance.free_at(ms(5_999)), Some(ms(6_000)));
        assert_eq!(allowance.free_at(ms(6_000)), None);
        allowance.take(ms(6_000));
        assert_eq!(allowance.free_at(ms(6_000)), None);
    }
}
