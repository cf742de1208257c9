//! Which node has which slot: what every call looks at, and what is replaced when the cluster changes.
//!
//! A map is shared by all threads. A slot that moved is changed in it at once; everything else makes a new map, which
//! keeps the connections to the nodes that stay.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use super::key_slot::{self, SLOTS};
use super::layout::{Announced, Layout, Shape};
use super::place::{Place, To};
use crate::connection::command::Packet;
use crate::connection::driver::Driver;
use crate::error::Result;

/// No node has the slot.
const NOBODY: u16 = u16::MAX;

/// What a connection to a node is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reads {
    /// The slots that are the node's own.
    Own,
    /// Those that it has copies of.
    Copies,
}

/// A node, and the connection to it.
pub(super) struct Node {
    pub(super) host: String,
    pub(super) port: u16,
    /// Where it stands, if it says so.
    pub(super) zone: Option<String>,
    pub(super) driver: Arc<Driver>,
}

impl Node {
    pub(super) fn is_at(&self, host: &str, port: u16) -> bool {
        self.port == port && self.host == host
    }

    /// The same node, now that it is known where it stands.
    fn told(me: &Arc<Self>, zone: Option<&String>) -> Arc<Self> {
        match zone {
            Some(zone) if me.zone.as_ref() != Some(zone) => Arc::new(Self {
                host: me.host.clone(),
                port: me.port,
                zone: Some(zone.clone()),
                driver: Arc::clone(&me.driver),
            }),
            _ => Arc::clone(me),
        }
    }
}

pub(super) struct Map {
    pub(super) shape: Shape,
    owners: Box<[AtomicU16]>,
    pub(super) nodes: Vec<Arc<Node>>,
    /// Of each node, those that may be read in its place.
    replicas: Vec<Vec<Arc<Node>>>,
}

impl Map {
    /// A map of this layout. Nodes that are in `before` stay what they are; `make` makes the others, primaries and, if
    /// they are wanted, replicas.
    pub(super) fn new(
        layout: &Layout,
        before: Option<&Self>,
        with_replicas: bool,
        mut make: impl FnMut(&Announced, Reads) -> Arc<Node>,
    ) -> Self {
        let mut map = Self {
            shape: layout.shape,
            owners: (0..SLOTS).map(|_| AtomicU16::new(NOBODY)).collect(),
            nodes: Vec::new(),
            replicas: Vec::new(),
        };
        for range in &layout.ranges {
            let Announced { host, port, .. } = &range.primary;
            let at = map.find(host, *port).unwrap_or_else(|| {
                let known = before.and_then(|before| before.find(host, *port).map(|at| &before.nodes[at]));
                map.nodes.push(known.cloned().unwrap_or_else(|| make(&range.primary, Reads::Own)));
                let replicas = range.replicas.iter().filter(|_| with_replicas).map(|replica| {
                    match before.and_then(|before| before.find_replica(&replica.host, replica.port)) {
                        Some(known) => Node::told(known, replica.zone.as_ref()),
                        None => make(replica, Reads::Copies),
                    }
                });
                map.replicas.push(replicas.collect());
                map.nodes.len() - 1
            });
            for slot in range.first..=range.last {
                map.set(slot, at);
            }
        }
        map
    }

    fn find_replica(&self, host: &str, port: u16) -> Option<&Arc<Node>> {
        self.all_replicas().find(|replica| replica.is_at(host, port))
    }

    /// Those of all nodes.
    pub(super) fn all_replicas(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.replicas.iter().flatten()
    }

    /// Those that have copies of a slot.
    pub(super) fn replicas(&self, slot: u16) -> &[Arc<Node>] {
        let owner = self.owners[usize::from(slot)].load(Ordering::Relaxed);
        self.replicas.get(usize::from(owner)).map_or(&[], Vec::as_slice)
    }

    /// Leaves slots with the node that they had `before`, in place of the one that they have here, where `wanted` says so of
    /// the two.
    pub(super) fn keep(&self, before: &Self, wanted: impl Fn(&Node, &Node) -> bool) {
        for slot in 0..SLOTS {
            if let (Some(here), Some(there)) = (self.owner(slot), before.owner(slot))
                && !Arc::ptr_eq(here, there)
                && wanted(here, there)
                && let Some(at) = self.find(&there.host, there.port)
            {
                self.set(slot, at);
            }
        }
    }

    /// The same map with one more node, which has no slot.
    pub(super) fn with(&self, node: Arc<Node>) -> Self {
        let owners = self.owners.iter().map(|owner| AtomicU16::new(owner.load(Ordering::Relaxed))).collect();
        let nodes = self.nodes.iter().cloned().chain([node]).collect();
        let replicas = self.replicas.iter().cloned().chain([Vec::new()]).collect();
        Self { shape: self.shape, owners, nodes, replicas }
    }

    pub(super) fn find(&self, host: &str, port: u16) -> Option<usize> {
        self.nodes.iter().position(|node| node.is_at(host, port))
    }

    /// Has a node of the map have a slot.
    pub(super) fn set(&self, slot: u16, at: usize) {
        // There are less nodes than slots.
        self.owners[usize::from(slot)].store(u16::try_from(at).unwrap_or(NOBODY), Ordering::Relaxed);
    }

    /// Where a packet goes.
    ///
    /// # Errors
    /// As [`Packet::place`]. A primary that is no cluster's takes all.
    pub(super) fn place(&self, packet: &Packet) -> Result<Place> {
        match self.shape {
            Shape::Cluster => packet.place(),
            Shape::Replicated => Ok(Place::Whole(To::Slot(0))),
        }
    }

    /// The slot of a key, or one of the same node.
    pub(super) fn slot(&self, key: &[u8]) -> u16 {
        match self.shape {
            Shape::Cluster => key_slot::slot(key),
            Shape::Replicated => 0,
        }
    }

    /// Whether replicas are there whose zone is not known.
    pub(super) fn misses_zones(&self) -> bool {
        self.all_replicas().any(|replica| replica.zone.is_none())
    }

    /// The zones that are known, of replicas.
    pub(super) fn zones(&self) -> Vec<(String, u16, String)> {
        let of = |node: &Arc<Node>| Some((node.host.clone(), node.port, node.zone.clone()?));
        self.all_replicas().filter_map(of).collect()
    }

    /// The node that has a slot.
    pub(super) fn owner(&self, slot: u16) -> Option<&Arc<Node>> {
        let owner = self.owners[usize::from(slot)].load(Ordering::Relaxed);
        self.nodes.get(usize::from(owner))
    }

    /// Each primary, by the first of its slots.
    pub(super) fn primaries(&self) -> Vec<(u16, &Arc<Node>)> {
        let mut first = vec![None; self.nodes.len()];
        for slot in (0..SLOTS).rev() {
            if let Some(first) =
                first.get_mut(usize::from(self.owners[usize::from(slot)].load(Ordering::Relaxed)))
            {
                *first = Some(slot);
            }
        }
        let mut primaries: Vec<_> = first
            .iter()
            .zip(&self.nodes)
            .filter_map(|(first, node)| first.map(|slot| (slot, node)))
            .collect();
        primaries.sort_unstable_by_key(|(slot, _)| *slot);
        primaries
    }

    /// The place of each slot's node among all that this process ever knew.
    pub(super) fn owners(&self) -> Vec<Option<usize>> {
        (0..SLOTS).map(|slot| self.owner(slot).map(|node| Arc::as_ptr(&node.driver).addr())).collect()
    }
}
