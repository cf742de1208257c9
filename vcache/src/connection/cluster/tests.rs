//! What a cluster keeps of the nodes that it had.

use super::*;
use crate::connection::command::Packet;

fn announced(port: u16, zone: Option<&str>) -> Announced {
    Announced {
        host: "127.0.0.1".to_owned(),
        port,
        id: port.to_string(),
        names: Vec::new(),
        zone: zone.map(str::to_owned),
    }
}

fn cluster(url: &str, read_from: ReadFrom, layout: &Layout) -> (Arc<Driver>, Arc<Cluster>) {
    let config = Arc::new(Config { read_from, ..Config::from_url(url).unwrap() });
    let front = Driver::new(Arc::clone(&config));
    let watch = Arc::new(Watch::new().unwrap());
    let cluster = Cluster::new(config, Arc::downgrade(&front), watch, layout);
    (front, cluster)
}

#[test]
fn nodes_that_leave_are_let_go_of_after_a_while() {
    let replicated = |port| Layout::of_primary(announced(port, None), vec![announced(port + 1, None)]);
    let (_front, cluster) = cluster("redis://a,b", ReadFrom::PreferReplica, &replicated(1));
    let mut nodes: Vec<Weak<Driver>> = Vec::new();
    let mut now = Instant::now();
    for port in (3..2_000).step_by(2) {
        {
            let map = cluster.map.load();
            nodes.extend(map.nodes.iter().chain(map.all_replicas()).map(|node| Arc::downgrade(&node.driver)));
        }
        cluster.adopt(&replicated(port), now);
        assert_eq!(lock(&cluster.pending).leaving.len(), 2);
        now += KEEPS_NODES;
        cluster.step(now);
        assert_eq!(lock(&cluster.pending).leaving.len(), 0);
    }
    assert_eq!(nodes.len(), 1_998);
    assert_eq!(nodes.iter().filter(|node| node.strong_count() > 0).count(), 0);
}

#[test]
fn a_primary_that_is_no_clusters_takes_all_keys() {
    let layout = Layout::of_primary(announced(1, None), vec![announced(2, None)]);
    let (_front, cluster) = cluster("redis://a,b", ReadFrom::PreferReplica, &layout);
    let mut packet = Packet::command("MSET", 4);
    packet.arg(b"a").arg(b"1").arg(b"b").arg(b"2");
    assert!(matches!(cluster.map.load().place(&packet), Ok(place::Place::Whole(place::To::Slot(0)))));
    assert_eq!(cluster.primaries(), [0]);
    assert!(packet.place().is_err(), "in a cluster they are in two slots");
}

#[test]
fn zones_are_learned_and_kept() {
    let layout = |zone| Layout::of_primary(announced(1, None), vec![announced(2, zone)]);
    let (_front, cluster) = cluster("redis://a,b", ReadFrom::Zone("near".to_owned()), &layout(None));
    assert!(cluster.misses_zones());
    assert!(cluster.next_due().is_some(), "they are asked for");
    let driver = Arc::clone(&cluster.map.load().replicas(0)[0].driver);
    for told in [Some("near"), None] {
        cluster.adopt(&layout(told), Instant::now());
        let map = cluster.map.load();
        assert_eq!(map.zones(), [("127.0.0.1".to_owned(), 2, "near".to_owned())]);
        assert!(Arc::ptr_eq(&map.replicas(0)[0].driver, &driver), "the connection stays");
    }
    assert!(!cluster.ages(), "there is no more to learn");
}
