//! A cluster: many servers, each with some of the 16,384 slots, and one connection to each.
//!
//! What is here runs on the caller's thread, or on the one that drives: there is no other. A call goes to the node that
//! has its keys' slot. A node that refuses it unexecuted, or is lost before it got it, gives it back ([`returned`]), and it
//! goes on from here: at once, after a pause, or when the nodes' answer to `CLUSTER SLOTS` is there ([`refresh`]). So a call
//! that meets no trouble costs a look at the [`map`], and nothing else.
//!
//! | module | is for |
//! |---|---|
//! | [`key_slot`] | the slot of a key |
//! | [`place`] | where a packet goes, and how the answers of its pieces become one |
//! | [`layout`], [`map`] | who has which slot: as a node says it, and as calls look at it |
//! | [`joint`] | a call in pieces |
//! | [`sending`] | calls on their way to a node, and on from one that did not take them |
//! | [`returned`] | calls that come back from a node |
//! | [`refresh`] | asking who has which slot |
//!
//! Locks: the mutex of the alias's driver may be held when [`Pending`]'s is taken, and that one when a node's driver's is,
//! never the other way round.

mod joint;
mod key_slot;
mod layout;
mod map;
mod place;
mod refresh;
mod returned;
mod sending;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

pub(super) use layout::Announced;
pub(crate) use layout::Layout;
use layout::Shape;
use map::{Map, Node, Reads};
use returned::Held;
pub(super) use returned::{Returned, Why};
pub(super) use sending::end;

use self::refresh::Refresh;
use super::dial::Established;
use super::driver::Driver;
use crate::config::{Address, Config, ReadFrom};
use crate::reactor::Watch;
use crate::sync::lock;

/// How long the connection to a node that left the cluster is kept.
const KEEPS_NODES: Duration = Duration::from_secs(5);

pub(crate) struct Cluster {
    config: Arc<Config>,
    /// What the alias has, and by which we are stepped when something is due.
    front: Weak<Driver>,
    watch: Arc<Watch>,
    map: ArcSwap<Map>,
    /// The node that the next call without a key is for.
    turn: AtomicUsize,
    /// It was used since it last asked who has which slot.
    is_used: AtomicBool,
    pending: Mutex<Pending>,
}

#[derive(Default)]
struct Pending {
    /// Calls that are sent again at a moment.
    delayed: Vec<(Instant, Held)>,
    /// Calls that are sent again when it is known anew who has which slot.
    awaiting: Vec<Held>,
    refresh: Refresh,
    /// Nodes that are not in the map any more, and until when they are kept.
    leaving: Vec<(Instant, Arc<Node>)>,
}

impl Cluster {
    pub(super) fn new(
        config: Arc<Config>,
        front: Weak<Driver>,
        watch: Arc<Watch>,
        layout: &Layout,
    ) -> Arc<Self> {
        let cluster = Arc::new_cyclic(|me: &Weak<Self>| Self {
            map: ArcSwap::from_pointee(Map::new(
                &layout.mapped(&config),
                None,
                config.read_from.wants_replicas(),
                |node, reads| connect_to(&config, &watch, me, node, layout.shape, reads),
            )),
            config: Arc::clone(&config),
            front,
            watch: Arc::clone(&watch),
            turn: AtomicUsize::new(0),
            is_used: AtomicBool::new(false),
            pending: Mutex::default(),
        });
        let mut pending = lock(&cluster.pending);
        pending.refresh.done(Instant::now());
        pending.refresh.ages = cluster.ages();
        if cluster.misses_zones() {
            pending.refresh.want(Instant::now());
        }
        drop(pending);
        cluster
    }

    /// Takes a connection that was made on the way here for the node that it leads to.
    pub(super) fn take_connection(&self, established: Established) {
        let Some((layout, id)) = &established.layout else { return };
        let layout = layout.mapped(&self.config);
        let announced = layout.ranges.iter().map(|range| &range.primary).find(|primary| primary.id == *id);
        let map = self.map.load();
        if let Some(at) = announced.and_then(|node| map.find(&node.host, node.port)) {
            map.nodes[at].driver.adopt(established);
        }
    }

    /// The connection that a key is on.
    pub(super) fn driver_of(&self, key: &[u8]) -> Option<Arc<Driver>> {
        let map = self.map.load();
        map.owner(map.slot(key)).map(|node| Arc::clone(&node.driver))
    }

    /// Each primary, by one of its slots.
    pub(super) fn primaries(&self) -> Vec<u16> {
        self.map.load().primaries().into_iter().map(|(slot, _)| slot).collect()
    }

    /// Something that is the same for two slots on one node, now or later.
    pub(super) fn owners(&self) -> Vec<Option<usize>> {
        self.map.load().owners()
    }

    /// Writes what the nodes' connections have collected.
    pub(super) fn flush(&self) {
        let map = self.map.load();
        for node in map.nodes.iter().chain(map.all_replicas()) {
            node.driver.flush_now();
        }
    }

    /// A caller has gone away.
    pub(super) fn abandoned(&self) {
        let map = self.map.load();
        for node in map.nodes.iter().chain(map.all_replicas()) {
            node.driver.abandoned();
        }
    }

    /// Does what is due.
    pub(super) fn step(self: &Arc<Self>, now: Instant) {
        let mut pending = lock(&self.pending);
        let due = take_if(&mut pending.delayed, |(at, _)| *at <= now);
        let late = |held: &Held| held.entry.waits_until.is_some_and(|until| until <= now);
        let over = take_if(&mut pending.awaiting, |held| late(held));
        let left = take_if(&mut pending.leaving, |(until, node)| {
            let is_over = *until <= now;
            if is_over && !node.driver.is_unused() {
                *until = now + KEEPS_NODES;
                return false;
            }
            is_over
        });
        let refreshes = pending.refresh.is_due(now, self.is_used.load(Ordering::Relaxed));
        drop(pending);
        drop(left);
        over.into_iter().for_each(Held::end);
        for (_, held) in due {
            if late(&held) {
                held.end();
            } else {
                self.send_again(held);
            }
        }
        if refreshes {
            self.begin_refresh(now);
        }
    }

    /// When there is something to do.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let pending = lock(&self.pending);
        let is_used = self.is_used.load(Ordering::Relaxed);
        let delayed = pending.delayed.iter().map(|(at, _)| *at);
        let awaiting = pending.awaiting.iter().filter_map(|held| held.entry.waits_until);
        let leaving = pending.leaving.iter().map(|(until, _)| *until);
        delayed.chain(awaiting).chain(leaving).chain(pending.refresh.next_due(is_used)).min()
    }

    /// Has a step taken when something is due, which may be earlier than was known.
    pub(super) fn come_by(&self) {
        if let Some(front) = self.front.upgrade() {
            front.come_by(self.next_due());
        }
    }

    /// A node that is not in the map yet: it has no slot.
    fn node_at(self: &Arc<Self>, host: &str, port: u16) -> Arc<Node> {
        let (host, port) = self.config.mapped(host, port);
        let mut found = None;
        self.map.rcu(|map| {
            if let Some(at) = map.find(&host, port) {
                found = Some(Arc::clone(&map.nodes[at]));
                return Arc::clone(map);
            }
            let node = found.get_or_insert_with(|| {
                let announced =
                    Announced { host: host.clone(), port, id: String::new(), names: Vec::new(), zone: None };
                connect_to(
                    &self.config,
                    &self.watch,
                    &Arc::downgrade(self),
                    &announced,
                    map.shape,
                    Reads::Own,
                )
            });
            Arc::new(map.with(Arc::clone(node)))
        });
        found.unwrap_or_else(|| unreachable!("the closure has run"))
    }

    /// Takes a layout in. Calls that waited for it go on.
    fn adopt(self: &Arc<Self>, layout: &Layout, now: Instant) {
        let me = Arc::downgrade(self);
        let before = self.map.load_full();
        let map = Map::new(
            &layout.mapped(&self.config),
            Some(&before),
            self.config.read_from.wants_replicas(),
            |node, reads| connect_to(&self.config, &self.watch, &me, node, layout.shape, reads),
        );
        let mut pending = lock(&self.pending);
        // The node that answered may not know yet of a failover that calls have told us of.
        map.keep(&before, |from, to| pending.refresh.is_unreachable(&from.driver, now) && to.driver.is_up());
        let is_here =
            |node: &Arc<Node>| map.nodes.iter().chain(map.all_replicas()).any(|here| Arc::ptr_eq(here, node));
        let gone = before.nodes.iter().chain(before.all_replicas()).filter(|node| !is_here(node));
        pending.leaving.extend(gone.map(|node| (now + KEEPS_NODES, Arc::clone(node))));
        if map.owners() != before.owners() {
            pending.refresh.forget_unreachable();
        }
        drop(pending);
        self.map.store(Arc::new(map));
        lock(&self.pending).refresh.ages = self.ages();
    }

    /// Whether what is known gets old though nothing went wrong. Of servers that the config lists there is no more to learn.
    fn ages(&self) -> bool {
        let is_listed = matches!(self.config.address, Address::Several(_));
        self.map.load().shape == Shape::Cluster || !is_listed || self.misses_zones()
    }

    /// Whether replicas of one zone are wanted, and only the replicas themselves say which that is.
    fn misses_zones(&self) -> bool {
        let map = self.map.load();
        map.shape == Shape::Replicated
            && matches!(self.config.read_from, ReadFrom::Zone(_))
            && map.misses_zones()
    }
}

/// The connection to a node, which is made when it is first needed.
fn connect_to(
    config: &Config,
    watch: &Arc<Watch>,
    cluster: &Weak<Cluster>,
    node: &Announced,
    shape: Shape,
    reads: Reads,
) -> Arc<Node> {
    let Announced { host, port, mut names, zone, .. } = node.clone();
    names.extend(config.address.hosts().map(str::to_owned));
    let says_readonly = shape == Shape::Cluster && reads == Reads::Copies;
    let address = Address::Node { host: host.clone(), port, names, says_readonly };
    let driver = Driver::of_node(Arc::new(Config { address, ..config.clone() }), Weak::clone(cluster));
    driver.attach(watch);
    Arc::new(Node { host, port, zone, driver })
}

fn take_if<T>(from: &mut Vec<T>, out: impl FnMut(&mut T) -> bool) -> Vec<T> {
    from.extract_if(.., out).collect()
}
