//! What a run knows of one name, for whoever looks into a seed: `replay --tale NAME`.

use crate::checker::{ms, name_of};
use crate::history::{History, NEVER};

/// Tells it on standard error: what was disturbed, then a line for each life, monitor and event of a stream.
pub(crate) fn tell(history: &History, name: &str) {
    let Some(name) = history.names.iter().position(|known| known.as_str() == name) else {
        return eprintln!("no process of this run is called {name}");
    };
    for kill in &history.kills {
        eprintln!("n{} dies at {}", kill.host + 1, ms(kill.at));
    }
    for (host, at) in &history.line_changes {
        eprintln!("n{} changes its line at {}", host + 1, ms(*at));
    }
    for disturbed in &history.disturbances {
        let (from, until) = (ms(disturbed.from), ms(disturbed.until));
        match disturbed.frozen {
            Some(host) => eprintln!("n{} stands still from {from} to {until}", host + 1),
            None => eprintln!("a cut from {from} to {until}"),
        }
    }
    for (at, life) in history.lives.iter().enumerate().filter(|(_, life)| life.name as usize == name) {
        let from = life.moved_from.map(|from| format!(" from {from}")).unwrap_or_default();
        let again = &life.retokens;
        let ran = [life.running, life.sealed, life.ended.map(|(at, _)| at)].map(|at| ms(at.unwrap_or(NEVER)));
        let [running, sealed, ended] = ran;
        let (end, reason) = (life.ended.map(|(_, end)| end), &life.reason);
        eprintln!(
            "life {at}{from} on n{}: {:?} {again:?} gate {:?} launched {} rests {:?} running {running} sealed {sealed} \
             ended {ended} {end:?} {reason:?}",
            life.host + 1,
            life.token,
            life.gate,
            ms(life.launched),
            life.rests,
        );
    }
    for (at, monitor) in history.monitors.iter().enumerate().filter(|(_, m)| m.name as usize == name) {
        let set = monitor.set.as_ref().map(|(at, result)| format!("{} {result:?}", ms(*at)));
        let told = monitor.told.iter();
        let told: Vec<_> = told
            .map(|told| format!("{:?} {} on n{} at {}", told.token, told.reason, told.host + 1, ms(told.at)))
            .collect();
        let by = monitor.by.map_or("nobody", |by| history.name(history.lives[by as usize].name));
        eprintln!(
            "monitor {at} on n{} by {by} ({:?}) of {:?} {:?} asked {} set {set:?} withdrawn {:?} told {told:?}",
            monitor.host + 1,
            monitor.by,
            monitor.of,
            monitor.until,
            ms(monitor.asked),
            monitor.withdrawn.map(ms),
        );
    }
    let text = &history.names[name];
    for (at, stream) in history.streams.iter().enumerate() {
        for (told, event) in stream.events.iter().filter(|(_, event)| name_of(event) == Some(text)) {
            eprintln!("stream {at} on n{} at {}: {event:?}", stream.host + 1, ms(*told));
        }
    }
    eprintln!("healed {} ended {}", ms(history.healed), ms(history.ended));
}
