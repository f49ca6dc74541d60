//! Time as an argument.

use std::ops::Add;
use std::time::Duration;

/// A point on one node's monotonic clock, in microseconds since an origin of that node's choosing.
///
/// The shell reads CLOCK_BOOTTIME, which goes on while a machine sleeps; the simulator counts virtual time.
/// Points of two nodes are never compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// The origin.
    pub const ZERO: Time = Time(0);

    /// A point `micros` microseconds after the origin.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since the origin.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero when it is not after.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Time;

    fn add(self, rhs: Duration) -> Time {
        Time(self.0.saturating_add(u64::try_from(rhs.as_micros()).unwrap_or(u64::MAX)))
    }
}

/// What the clocks say at one input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Monotonic time: the only one that decides anything about safety.
    pub time: Time,
    /// Wall clock, milliseconds since 1970. It only makes incarnations and view counters rise over full
    /// restarts; a jump has no other effect.
    pub wall_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_between_two_points_is_never_negative() {
        let (early, late) = (Time::from_micros(10), Time::from_micros(25));
        assert_eq!(late.since(early), Duration::from_micros(15));
        assert_eq!(early.since(late), Duration::ZERO);
    }

    #[test]
    fn a_point_too_far_ahead_is_the_last_one() {
        let last = Time::from_micros(u64::MAX);
        assert_eq!(Time::from_micros(1) + Duration::MAX, last);
        assert_eq!(last + Duration::from_micros(1), last);
        assert_eq!((Time::ZERO + Duration::from_millis(2)).as_micros(), 2_000);
    }
}
