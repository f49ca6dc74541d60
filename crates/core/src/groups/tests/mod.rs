//! Indexes of several nodes at once, and one by itself.

#![allow(clippy::unwrap_used)]

mod world;

use world::World;

#[test]
fn whatever_is_lost_and_whoever_dies_a_complete_reading_has_every_answered_join_and_no_answered_leave() {
    let (mut complete, mut told_known) = (0, 0);
    for seed in 0..600 {
        let mut world = World::new(seed);
        if let Err(why) = world.run(600) {
            panic!("seed {seed}: {why}");
        }
        complete += world.complete;
        told_known += world.told_known;
    }
    assert!(complete > 15_000, "{complete} readings were complete");
    assert!(told_known > 1_500, "{told_known} of them found what was known");
}
