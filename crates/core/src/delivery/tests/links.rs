//! Two ends of a link over a connection that breaks.

use std::collections::VecDeque;

use crate::base::{Mutants, Rng};
use crate::delivery::link::{Lane, Link, LinkLimits, Receipt};

enum Wire {
    Frame(u64, u64),
    Ack(u64),
}

/// One run: what one end pushes must come out at the other, once and in order per lane.
fn run(seed: u64, mutants: Mutants) -> Result<(), String> {
    let mut rng = Rng::new(seed);
    let limits = LinkLimits { lane_frames: 40, unacknowledged: 130 };
    let mut ends = [Link::new(mutants).with_limits(limits), Link::new(mutants).with_limits(limits)];
    let mut wires = [VecDeque::new(), VecDeque::new()];
    let (mut pushed, mut next) = ([0u64; 2], [[0u64; 3]; 2]);
    let lanes = |n: u64| Lane::ALL[(n % 3) as usize];
    for step in 0..6000 {
        let end = rng.below(2) as usize;
        match rng.below(40) {
            0 if ends[0].is_connected() => {
                ends.iter_mut().for_each(Link::on_disconnected);
                wires.iter_mut().for_each(VecDeque::clear);
            }
            0..3 if !ends[0].is_connected() => {
                let received = [ends[0].received(), ends[1].received()];
                for (end, link) in ends.iter_mut().enumerate() {
                    link.on_connected(received[1 - end]).map_err(|e| format!("step {step}: {e}"))?;
                }
            }
            3..12 if step < 5000 => {
                if ends[end].push(lanes(pushed[end]), pushed[end]).is_ok() {
                    pushed[end] += 1;
                }
            }
            12..24 => {
                if let Some((seq, frame)) = ends[end].next() {
                    wires[end].push_back(Wire::Frame(seq, *frame));
                }
            }
            _ => {
                let peer = 1 - end;
                match wires[peer].pop_front() {
                    Some(Wire::Frame(seq, frame)) if deliver(&mut ends[end], seq) => {
                        let expected = &mut next[end][(frame % 3) as usize];
                        if *expected != frame / 3 {
                            return Err(format!("step {step}: frame {frame} instead of {expected}"));
                        }
                        *expected += 1;
                    }
                    Some(Wire::Frame(..)) => {}
                    Some(Wire::Ack(seq)) => {
                        ends[end].on_ack(seq);
                    }
                    None => {}
                }
                let ack = if rng.below(20) == 0 { ends[end].ack_now() } else { ends[end].ack_due() };
                wires[end].extend(ack.map(Wire::Ack));
            }
        }
    }
    Ok(())
}

fn deliver(link: &mut Link<u64>, seq: u64) -> bool {
    match link.on_frame(seq) {
        Receipt::Fresh => true,
        Receipt::Duplicate => false,
        Receipt::Gap => panic!("a connection lost a frame"),
    }
}

#[test]
fn a_link_loses_doubles_and_reorders_nothing_over_broken_connections() {
    for seed in 0..200 {
        run(seed, Mutants::default()).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}

#[cfg(feature = "mutants")]
#[test]
fn a_link_that_forgets_frames_is_found() {
    use crate::base::Mutant;
    let planted = Mutants::planted(Mutant::FrameDroppedOnReconnect);
    assert!((0..5).any(|seed| run(seed, planted).is_err()));
}
