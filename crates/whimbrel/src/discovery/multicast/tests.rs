#![allow(clippy::unwrap_used)]

use std::net::UdpSocket as Raw;
use std::process;

use super::*;
use crate::discovery::machine::has_multicast;

/// Longer than anything here may take; reaching it is a failure.
const PATIENCE: Duration = Duration::from_secs(30);

/// A port of this run's own: other runs on this machine do not disturb it.
pub(in crate::discovery) fn port() -> u16 {
    20_000 + (process::id() % 10_000) as u16
}

fn here(cluster: &str, address: &str, secret: Option<&str>) -> Here {
    Here::new(cluster, address, secret.map(|secret| Secret::new(secret).unwrap()))
}

/// Searches on loopback, whatever the node's address.
fn local() -> Multicast {
    Multicast::default().port(port()).interface(Ipv4Addr::LOCALHOST)
}

async fn find(multicast: &Multicast, here: &Here, count: usize) -> Vec<String> {
    let search = async {
        loop {
            let found = multicast.discover(here).await.unwrap();
            if found.len() >= count {
                return found.iter().map(ToString::to_string).collect();
            }
        }
    };
    tokio::time::timeout(PATIENCE, search).await.unwrap()
}

#[tokio::test]
async fn nodes_of_one_cluster_and_secret_find_each_other_and_no_others() {
    if !has_multicast("nodes_of_one_cluster_and_secret_find_each_other_and_no_others", Ipv4Addr::LOCALHOST) {
        return;
    }
    let key = Some("0123456789abcdef");
    let nodes = [here("find", "a:1", key), here("find", "b:1", key), here("find", "c:1", key)];
    let strangers = [
        here("find-other", "x:1", key),
        here("find", "y:1", Some("another secret..")),
        here("find", "z:1", None),
    ];
    let [a, b, c, x, y, z] = std::array::from_fn(|_| local());
    let others = async {
        tokio::join!(find(&x, &strangers[0], 1), find(&y, &strangers[1], 1), find(&z, &strangers[2], 1))
    };
    let found =
        async { tokio::join!(find(&a, &nodes[0], 2), find(&b, &nodes[1], 2), find(&c, &nodes[2], 2)) };
    tokio::select! {
        biased;
        found = found => assert_eq!(
            found,
            (vec!["b:1".into(), "c:1".into()], vec!["a:1".into(), "c:1".into()], vec!["a:1".into(), "b:1".into()])
        ),
        found = others => panic!("strangers found {found:?}"),
    }
    assert!(a.count(PacketFate::Own) > 0 && a.count(PacketFate::Accepted) > 1);
}

#[tokio::test]
async fn a_newcomer_is_heard_by_those_who_are_there_and_hears_them() {
    if !has_multicast("a_newcomer_is_heard_by_those_who_are_there_and_hears_them", Ipv4Addr::LOCALHOST) {
        return;
    }
    let (first, second) = (local(), local());
    let (a, b) = (here("newcomer", "a:1", None), here("newcomer", "b:1", None));
    assert_eq!(find(&first, &a, 0).await, [""; 0]);
    let (at_first, at_second) = tokio::join!(find(&first, &a, 1), find(&second, &b, 1));
    assert_eq!((at_first, at_second), (vec!["b:1".to_owned()], vec!["a:1".to_owned()]));
}

#[tokio::test]
async fn who_does_not_listen_for_connections_finds_and_is_not_found() {
    if !has_multicast("who_does_not_listen_for_connections_finds_and_is_not_found", Ipv4Addr::LOCALHOST) {
        return;
    }
    let (listener, silent, third) = (local(), local(), local());
    let (a, nobody, c) = (here("silent", "a:1", None), here("silent", "", None), here("silent", "c:1", None));
    let (at_listener, at_silent) = tokio::join!(find(&listener, &a, 0), find(&silent, &nobody, 1));
    assert_eq!((at_listener, at_silent), (Vec::new(), vec!["a:1".to_owned()]));
    let (at_listener, at_third) = tokio::join!(find(&listener, &a, 1), find(&third, &c, 1));
    assert_eq!((at_listener, at_third), (vec!["c:1".to_owned()], vec!["a:1".to_owned()]));
}

#[tokio::test]
async fn packets_of_strangers_are_dropped_and_counted() {
    if !has_multicast("packets_of_strangers_are_dropped_and_counted", Ipv4Addr::LOCALHOST) {
        return;
    }
    let (multicast, me) = (local(), here("strangers", "a:1", Some("0123456789abcdef")));
    // The first answer: from here on the socket is open.
    find(&multicast, &me, 0).await;
    let seal = Seal::new("strangers", Some(b"0123456789abcdef"));
    let now = clock::now();
    let packet =
        |sent_ms, address: &str| Packet { sender: [1; 16], sent_ms, address: Address::from(address) };
    let genuine = seal.write(&packet(now.wall_ms, "b:1"));
    let mut forged = genuine.clone();
    *forged.last_mut().unwrap() ^= 1;
    let mut other_version = genuine.clone();
    other_version[4] = 2;
    let cases = [
        (PacketFate::Malformed, b"heartbeat::node".to_vec()),
        (PacketFate::TooLong, vec![0; 60_000]),
        (PacketFate::OtherVersion, other_version),
        (PacketFate::OtherCluster, Seal::new("strangers", None).write(&packet(now.wall_ms, "x:1"))),
        (PacketFate::Forged, forged),
        (PacketFate::Old, seal.write(&packet(now.wall_ms - 3_600_000, "x:1"))),
        (PacketFate::Accepted, genuine.clone()),
        (PacketFate::Replayed, genuine),
    ];
    let stranger = Raw::bind("127.0.0.1:0").unwrap();
    let option = socket2::SockRef::from(&stranger);
    option.set_multicast_if_v4(&Ipv4Addr::LOCALHOST).unwrap();
    // The last one is news, so the answer comes when all have been looked at.
    let last = seal.write(&Packet { sender: [2; 16], ..packet(now.wall_ms, "c:1") });
    for bytes in cases.iter().map(|(_, bytes)| bytes).chain([&last]) {
        stranger.send_to(bytes, (GROUP, port())).unwrap();
    }
    assert_eq!(find(&multicast, &me, 2).await, ["b:1", "c:1"]);
    for (fate, _) in cases {
        // Other tests of this run share the port.
        let expected = match fate {
            PacketFate::OtherCluster => 1..u64::MAX,
            PacketFate::Accepted => 2..3,
            _ => 1..2,
        };
        assert!(expected.contains(&multicast.count(fate)), "{fate:?}: {}", multicast.count(fate));
    }
}

#[tokio::test]
async fn a_node_that_does_not_hear_itself_says_so() {
    if !has_multicast("a_node_that_does_not_hear_itself_says_so", Ipv4Addr::LOCALHOST) {
        return;
    }
    let multicast = local();
    let me = here("deaf", "a:1", None);
    assert_eq!(find(&multicast, &me, 0).await, [""; 0]);
    let first = {
        let mut search = multicast.search.lock().await;
        let search = search.as_mut().unwrap();
        // As if nothing had come back, and it is time to tell again.
        (search.unheard, search.rhythm) = (UNHEARD_MAX, Rhythm::new(clock::time()));
        search.heard.own_sender(clock::now()).unwrap()
    };
    let error = multicast.discover(&me).await.unwrap_err().to_string();
    assert!(error.contains("do not come back"), "{error}");
    // The next question opens the sockets anew; to others it is the same sender.
    assert_eq!(find(&multicast, &me, 0).await, [""; 0]);
    let mut search = multicast.search.lock().await;
    assert_eq!(search.as_mut().unwrap().heard.own_sender(clock::now()).unwrap(), first);
}

#[test]
fn before_an_own_packet_came_back_there_is_no_answer() {
    let mut search = Search::new(&here("shop", "a:1", None)).unwrap();
    let (early, late) = (Time::from_micros(1), Time::from_micros(2));
    search.unheard = 1;
    assert_eq!(search.answer(late, early), None);
    search.unheard = 0;
    assert_eq!(search.answer(early, late), None, "others may still tell where they are");
    assert_eq!(search.answer(late, early), Some(Vec::new()));
    search.unheard = 1;
    assert_eq!(search.answer(early, late), None);
    assert_eq!(search.answer(late, early), Some(Vec::new()), "one lost packet is no news");
}

#[tokio::test]
async fn an_interface_that_is_not_there_is_an_error_that_names_it() {
    let key = Some("0123456789abcdef");
    // An address for documentation: no machine has it.
    let multicast = Multicast::default().port(port()).interface(Ipv4Addr::new(203, 0, 113, 7));
    let error = multicast.discover(&here("gone", "a:1", key)).await.unwrap_err().to_string();
    assert!(error.contains("203.0.113.7"), "{error}");
}

#[test]
fn without_a_secret_or_on_loopback_packets_stay_on_the_machine() {
    let multicast = Multicast::default().ttl(9);
    let local = Some(Ipv4Addr::LOCALHOST);
    let key = Some("0123456789abcdef");
    for (address, secret, interface, ttl) in [
        ("10.0.0.7:4100", None, local, 0),
        ("10.0.0.7:4100", key, None, 9),
        ("127.0.0.1:4100", key, local, 0),
        ("localhost:4100", key, local, 0),
        ("[::1]:4100", key, local, 0),
        ("", key, None, 9),
    ] {
        let place = multicast.place(&here("shop", address, secret));
        assert_eq!((place.interface, place.ttl), (interface, ttl), "{address}");
    }
}

#[test]
fn settings_that_can_not_work_are_refused() {
    let (open, keyed) = (here("shop", "a:1", None), here("shop", "a:1", Some("0123456789abcdef")));
    let lan = Ipv4Addr::new(10, 0, 0, 7);
    let refused =
        |multicast: &Multicast, here: &Here| multicast.check(here).map_err(|error| error.to_string());
    assert!(refused(&Multicast::default().interface(lan), &open).unwrap_err().contains("needs a secret"));
    assert!(refused(&Multicast::default().interface(lan), &keyed).is_ok());
    assert!(refused(&Multicast::default().group(lan), &keyed).unwrap_err().contains("no multicast address"));
    assert!(refused(&Multicast::default().port(0), &keyed).unwrap_err().contains("port 0"));
    assert!(refused(&Multicast::default().interface(GROUP), &keyed).unwrap_err().contains("interface"));
    assert!(refused(&Multicast::default(), &open).is_ok());
}
