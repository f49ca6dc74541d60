mod history;
mod plan;
mod world;
fn main() {
    let mut args = std::env::args().skip(1);
    let profile: plan::Profile = args.next().unwrap().parse().unwrap();
    let seed: u64 = args.next().unwrap().parse().unwrap();
    let plan = plan::Plan::draw(profile, seed, whimbrel_core::base::Mutants::default());
    eprintln!("{plan:?}");
    let mut w = world::World::new(plan, args.next().is_some());
    let t = std::time::Instant::now();
    w.run();
    eprintln!("{:?} {:?} conv {:?} odd {:?}", t.elapsed(), w.stats, w.history.converged, w.history.oddities);
}
