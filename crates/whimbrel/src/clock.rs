//! The node's clocks.
//!
//! `std::time::Instant` stands still while a machine sleeps; a lease or a deadline must not. So this reads
//! CLOCK_BOOTTIME where there is one.

use std::time::{SystemTime, UNIX_EPOCH};

use whimbrel_core::base::{Now, Time};

/// Time since boot, sleep included.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
pub(crate) fn time() -> Time {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live, writable timespec; the call keeps no reference to it.
    let status = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut now) };
    debug_assert_eq!(status, 0, "CLOCK_BOOTTIME exists since Linux 2.6.39");
    Time::from_micros((now.tv_sec as u64).saturating_mul(1_000_000) + (now.tv_nsec as u64) / 1_000)
}

/// Time since the first call; other systems have no clock that counts sleep and is as cheap.
#[cfg(not(target_os = "linux"))]
pub(crate) fn time() -> Time {
    use std::sync::OnceLock;
    use std::time::Instant;
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    let micros = ORIGIN.get_or_init(Instant::now).elapsed().as_micros();
    Time::from_micros(u64::try_from(micros).unwrap_or(u64::MAX) + 1)
}

/// Both clocks, as the core wants them.
pub(crate) fn now() -> Now {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now { time: time(), wall_ms: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX) }
}
