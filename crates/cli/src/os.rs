//! What the standard library does not offer: one clock that all processes of a machine share, and a child that
//! dies with its parent.
//!
//! The only unsafe code of the binary stands here.

/// CLOCK_MONOTONIC in microseconds: comparable between all processes of one machine, never set back.
#[allow(unsafe_code)] // `Instant` reads the same clock but hides its value, which evidence lines must carry.
pub(crate) fn monotonic_us() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec that outlives the call; the call writes nothing else.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) } != 0;
    assert!(!failed, "CLOCK_MONOTONIC is present on every supported system");
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000
}

/// Kills this process when `parent` dies, so that nothing of a demo outlives it, whatever ended it.
///
/// Returns false when the parent is gone already. Where the system has no such signal the closed standard input
/// is the only sign left.
#[allow(unsafe_code)] // prctl has no safe form in the standard library.
pub(crate) fn die_with_parent(parent: u32) -> bool {
    #[cfg(target_os = "linux")]
    {
        let signal: libc::c_ulong = libc::SIGKILL as libc::c_ulong;
        // SAFETY: PR_SET_PDEATHSIG takes a signal number and touches no memory of this process.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal) };
    }
    // The parent may have died between fork and prctl; then the process was handed to another one.
    std::os::unix::process::parent_id() == parent
}

/// Sends SIGKILL to a child of this process that has not been waited for.
#[allow(unsafe_code)] // `Child::kill` needs the child mutably while another thread may be waiting for it.
pub(crate) fn kill_9(pid: u32) -> std::io::Result<()> {
    let pid =
        libc::pid_t::try_from(pid).map_err(|_| std::io::Error::from(std::io::ErrorKind::InvalidInput))?;
    // SAFETY: kill takes two numbers. The caller holds the unwaited child, so the id is not another process's.
    if unsafe { libc::kill(pid, libc::SIGKILL) } == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Sends SIGTERM to a child of this process that has not been waited for.
#[allow(unsafe_code)] // The standard library sends no other signal than SIGKILL.
pub(crate) fn terminate(pid: u32) -> std::io::Result<()> {
    let pid =
        libc::pid_t::try_from(pid).map_err(|_| std::io::Error::from(std::io::ErrorKind::InvalidInput))?;
    // SAFETY: kill takes two numbers. The caller holds the unwaited child, so the id is not another process's.
    if unsafe { libc::kill(pid, libc::SIGTERM) } == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_never_goes_back() {
        let first = monotonic_us();
        assert!(first > 0);
        assert!(monotonic_us() >= first);
    }
}
