//! Calls on their way: to the node that has their keys, and on from the one that did not take them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use redis::Value;

use super::joint::{Group, Joint, resume};
use super::map::Map;
use super::place::{Place, Plan, To};
use super::returned::{Held, Returned, Why, target, telling};
use super::{Cluster, Node, lock};
use crate::config::ReadFrom;
use crate::connection::command::Packet;
use crate::connection::driver::{Driver, Flush, Submitted};
use crate::connection::in_flight::Entry;
use crate::connection::limits::Limits;
use crate::connection::policy::Blocking;
use crate::connection::receiver::Receiver;
use crate::connection::refusal::WhenRefused;
use crate::error::{Error, Result};

/// The pieces of a call that one node gets.
struct ForNode {
    /// Which node it is.
    owner: usize,
    to: To,
    packet: Packet,
    /// The pieces' numbers, and how many replies each has.
    pieces: Vec<(usize, usize)>,
}

impl Cluster {
    /// Accepts a call, or refuses it at once.
    pub(in crate::connection) fn submit(
        self: &Arc<Self>,
        packet: Packet,
        receiver: Arc<dyn Receiver>,
        limits: Limits,
        flush: Flush,
    ) -> Result<Submitted> {
        if !self.is_used.swap(true, Ordering::Relaxed) {
            self.refresh_if_old(Instant::now());
        }
        let map = self.map.load();
        let place = match limits.slot {
            Some(slot) => Place::Whole(To::Slot(slot)),
            None => map.place(&packet)?,
        };
        match place {
            Place::Whole(to) => self.send(&map, Entry::new(packet, Some(receiver), limits), to, flush),
            Place::Pieces(plan) => self.send_pieces(packet, receiver, limits, plan, None, flush),
        }
    }

    fn send(self: &Arc<Self>, map: &Map, mut entry: Entry, to: To, flush: Flush) -> Result<Submitted> {
        entry.slot = match to {
            To::Slot(slot) => Some(slot),
            To::Anywhere | To::Primaries => None,
        };
        let Some(node) = self.node_for(map, entry.slot) else {
            return self.hold_without_owner(Box::new(entry));
        };
        if let Some(replica) = self.replica_for(map, &entry) {
            match replica.driver.submit_entry(entry, flush) {
                Ok(submitted) => return Ok(submitted),
                // The primary is there for what a replica cannot do.
                Err(refused) => entry = *refused.entry,
            }
        }
        match node.driver.submit_entry(entry, flush) {
            Ok(submitted) => Ok(submitted),
            Err(refused) if refused.is_unreachable => {
                let from = Arc::clone(&node.driver);
                self.hold_for_refresh(Held { entry: refused.entry, from, error: Some(refused.error) })
                    .map(|()| Submitted::Waiting)
                    .map_err(|held| held.error.unwrap_or_else(no_node))
            }
            Err(refused) => Err(refused.error),
        }
    }

    /// The node that has a slot; without one, any, but rather one that is there.
    fn node_for(&self, map: &Map, slot: Option<u16>) -> Option<Arc<Node>> {
        if let Some(slot) = slot {
            return map.owner(slot).cloned();
        }
        let count = map.nodes.len();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let in_turn = || (0..count).map(|at| &map.nodes[(turn + at) % count]);
        in_turn().find(|node| node.driver.is_up()).or_else(|| in_turn().next()).cloned()
    }

    /// The slot of a call whose keys are all in one, which is noted with it.
    fn only_slot(&self, entry: &mut Entry) -> Option<u16> {
        if let Ok(Place::Whole(To::Slot(slot))) = self.map.load().place(&entry.packet) {
            entry.slot = Some(slot);
        }
        entry.slot
    }

    /// The replica that answers a call in place of the primary, if that is wanted and it only reads.
    fn replica_for(&self, map: &Map, entry: &Entry) -> Option<Arc<Node>> {
        if !self.config.read_from.wants_replicas() || entry.limits.slot.is_some() {
            return None;
        }
        let replicas = map.replicas(entry.slot?);
        if replicas.is_empty() || !entry.packet.only_reads_keys() || entry.packet.blocking != Blocking::No {
            return None;
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut in_turn = (0..replicas.len()).map(|at| &replicas[(turn + at) % replicas.len()]);
        match &self.config.read_from {
            ReadFrom::Primary => None,
            ReadFrom::PreferReplica => in_turn.next(),
            ReadFrom::Zone(zone) => in_turn.find(|replica| replica.zone.as_deref() == Some(zone)),
        }
        .cloned()
    }

    /// Sends a call in pieces; those for one node go together. `before` is the call that they are of, if it was sent before.
    fn send_pieces(
        self: &Arc<Self>,
        packet: Packet,
        receiver: Arc<dyn Receiver>,
        limits: Limits,
        mut plan: Plan,
        before: Option<&Entry>,
        flush: Flush,
    ) -> Result<Submitted> {
        self.spread(&mut plan)?;
        let map = self.map.load();
        let repeatable = packet.repeatable;
        let joint = Joint::new(receiver, packet, plan.units, plan.pieces.len());
        // The pieces of each node, in the order of the call.
        let mut groups: Vec<ForNode> = Vec::new();
        for (number, piece) in plan.pieces.into_iter().enumerate() {
            let owner = match piece.to {
                To::Slot(slot) => map.owner(slot).map_or(usize::MAX, |node| Arc::as_ptr(node).addr()),
                To::Anywhere | To::Primaries => 0,
            };
            match groups.iter_mut().find(|group| group.owner == owner) {
                Some(ForNode { packet, pieces, .. }) => {
                    packet.extend(&piece.bytes, piece.replies);
                    pieces.push((number, piece.replies));
                }
                None => {
                    let packet = Packet::piece(piece.bytes, piece.replies, repeatable);
                    groups.push(ForNode {
                        owner,
                        to: piece.to,
                        packet,
                        pieces: vec![(number, piece.replies)],
                    });
                }
            }
        }
        let mut all = Submitted::Sent;
        for ForNode { to, mut packet, pieces, .. } in groups {
            if !repeatable {
                packet.judge_again();
            }
            let group: Arc<dyn Receiver> = Arc::new(Group { joint: Arc::clone(&joint), pieces });
            let mut entry = Entry::new(packet, Some(Arc::clone(&group)), limits);
            if let Some(before) = before {
                entry.goes_on_from(before);
            }
            match self.send(&map, entry, to, flush) {
                Ok(Submitted::Sent) => {}
                Ok(Submitted::Unsent) => all = Submitted::Unsent,
                Ok(Submitted::Waiting) if all == Submitted::Sent => all = Submitted::Waiting,
                Ok(Submitted::Waiting) => {}
                Err(error) => fail(group, error),
            }
        }
        Ok(all)
    }

    /// Gives each primary its own piece of what is for all of them.
    fn spread(&self, plan: &mut Plan) -> Result<()> {
        if plan.pieces.iter().all(|piece| piece.to != To::Primaries) {
            return Ok(());
        }
        let primaries = self.primaries();
        if primaries.is_empty() {
            return Err(no_node());
        }
        let mut pieces = Vec::new();
        let mut old = std::mem::take(&mut plan.pieces).into_iter();
        for unit in &mut plan.units {
            let first = pieces.len();
            for piece in old.by_ref().take(unit.count) {
                if piece.to == To::Primaries {
                    pieces.extend(primaries.iter().map(|slot| super::place::Piece {
                        to: To::Slot(*slot),
                        bytes: piece.bytes.clone(),
                        replies: piece.replies,
                    }));
                } else {
                    pieces.push(piece);
                }
            }
            (unit.first, unit.count) = (first, pieces.len() - first);
        }
        plan.pieces = pieces;
        Ok(())
    }

    /// Takes calls that came back from a node, and sees to each.
    pub(in crate::connection) fn take_back(self: &Arc<Self>, from: &Arc<Driver>, returned: Vec<Returned>) {
        let mut refreshes = false;
        for Returned { mut entry, why } in returned {
            if let Why::Refused(reply) = &why {
                refreshes |= self.learn(from, reply);
            } else {
                refreshes |= matches!(why, Why::Lost(_));
            }
            if !entry.is_wanted() {
                continue;
            }
            if entry.is_tied() {
                end(
                    *entry,
                    match why {
                        Why::Refused(reply) => Ok(reply),
                        Why::Lost(error) | Why::Unreachable(error) => Err(error),
                        Why::IsACluster => Err(no_node()),
                    },
                );
                continue;
            }
            let from = Arc::clone(from);
            match why {
                Why::Refused(reply) => self.go_on(entry, &from, reply),
                Why::Lost(error) => {
                    entry.unask();
                    self.send_again(Held { entry, from, error: Some(error) });
                }
                Why::IsACluster => {
                    let replica =
                        self.only_slot(&mut entry).and_then(|_| self.replica_for(&self.map.load(), &entry));
                    let held = Held { entry, from, error: None };
                    match replica {
                        Some(replica) if !held.from.is_dedicated() => self.give(&replica.driver, held),
                        _ => self.send_again(held),
                    }
                }
                Why::Unreachable(error) => {
                    entry.unask();
                    if let Err(held) = self.hold_for_refresh(Held { entry, from, error: Some(error) }) {
                        held.end();
                    }
                }
            }
        }
        if refreshes {
            self.want_refresh(Instant::now());
        }
        self.come_by();
    }

    /// Notes what an error reply says of who has which slot. Whether it is a reason to ask.
    pub(in crate::connection) fn learn(self: &Arc<Self>, from: &Driver, reply: &Value) -> bool {
        let replies = match reply {
            Value::Array(replies) => replies.as_slice(),
            single => std::slice::from_ref(single),
        };
        let mut asks = false;
        for reply in replies {
            match WhenRefused::in_a_cluster(reply) {
                Some(WhenRefused::Moved) => {
                    if let Some((slot, host, port)) = target(reply) {
                        let host = host.unwrap_or_else(|| from.host().to_owned());
                        self.moved(slot, &host, port);
                    }
                    asks = true;
                }
                Some(WhenRefused::NotPrimary) => asks = true,
                Some(WhenRefused::NotYet) => {
                    asks |= matches!(reply, Value::ServerError(error) if error.code() == "CLUSTERDOWN");
                }
                Some(WhenRefused::Asked | WhenRefused::UnknownScript) | None => {}
            }
        }
        asks
    }

    /// The slot is on that node from now on.
    fn moved(self: &Arc<Self>, slot: u16, host: &str, port: u16) {
        let node = self.node_at(host, port);
        let map = self.map.load();
        if let Some(at) = map.find(&node.host, node.port) {
            map.set(slot, at);
        }
    }

    /// A call was refused: it goes where the refusal says, or waits until that is over.
    fn go_on(self: &Arc<Self>, mut entry: Box<Entry>, from: &Arc<Driver>, reply: Value) {
        entry.unask();
        let units = entry.packet.units();
        if units.len() > 1 {
            return self.take_apart(*entry, from, &units, reply);
        }
        let replies = match &reply {
            Value::Array(replies) if entry.packet.replies > 1 => replies.as_slice(),
            single => std::slice::from_ref(single),
        };
        let (Some(_), Some((when, said))) = (entry.packet.when_refused(replies), telling(replies)) else {
            return end(*entry, Ok(reply));
        };
        let target = target(said);
        let now = Instant::now();
        entry.wait_as_sent();
        entry.refusal = Some(reply);
        match (when, target) {
            (WhenRefused::Moved, Some((slot, ..))) if entry.may_follow() => {
                entry.slot = Some(slot);
                self.send_again(Held { entry, from: Arc::clone(from), error: None });
            }
            (WhenRefused::Asked, Some((_, host, port))) if entry.may_follow() => {
                let host = host.unwrap_or_else(|| from.host().to_owned());
                let node = self.node_at(&host, port);
                entry.ask();
                self.give(&node.driver, Held { entry, from: Arc::clone(from), error: None });
            }
            (WhenRefused::NotPrimary | WhenRefused::NotYet, _) => {
                self.delay(Held { entry, from: Arc::clone(from), error: None }, now);
            }
            _ => Held { entry, from: Arc::clone(from), error: None }.end(),
        }
    }

    /// Of several commands some were refused: those go on, each for itself.
    fn take_apart(self: &Arc<Self>, mut entry: Entry, from: &Arc<Driver>, units: &[Packet], reply: Value) {
        let Some(receiver) = entry.take_receiver() else { return };
        let replies = match reply {
            Value::Array(replies) => replies,
            single => vec![single],
        };
        let mut replies = replies.into_iter();
        let packet = std::mem::replace(&mut entry.packet, Packet::empty());
        let joint = resume(receiver, packet, units);
        for (number, unit) in units.iter().enumerate() {
            let of_unit: Vec<_> = replies.by_ref().take(unit.replies).collect();
            let group = Arc::new(Group { joint: Arc::clone(&joint), pieces: vec![(number, unit.replies)] });
            if telling(&of_unit).is_none() {
                if let Some(waker) = joint.put(Ok(vec![(number, of_unit)]), true) {
                    waker.wake();
                }
                continue;
            }
            let mut piece = Packet::piece(unit.bytes.clone(), unit.replies, unit.repeatable);
            if !unit.repeatable {
                piece.judge_again();
            }
            let mut part = Entry::new(piece, Some(group), entry.limits);
            part.goes_on_from(&entry);
            let reply = if of_unit.len() == 1 {
                of_unit.into_iter().next().unwrap_or(Value::Nil)
            } else {
                Value::Array(of_unit)
            };
            self.go_on(Box::new(part), from, reply);
        }
    }

    /// Sends a call to the node that has its keys now.
    pub(super) fn send_again(self: &Arc<Self>, mut held: Held) {
        if !held.entry.is_wanted() {
            return;
        }
        if held.from.is_dedicated() {
            return held.from.follow(self, held.entry);
        }
        let place = match held.entry.slot.or(held.entry.limits.slot) {
            Some(slot) => Ok(Place::Whole(To::Slot(slot))),
            None => self.map.load().place(&held.entry.packet),
        };
        match place {
            Ok(Place::Whole(to)) => {
                held.entry.slot = match to {
                    To::Slot(slot) => Some(slot),
                    To::Anywhere | To::Primaries => None,
                };
                let map = self.map.load();
                match self.node_for(&map, held.entry.slot) {
                    Some(node) => self.give(&node.driver, held),
                    None => {
                        if let Err(error) = self.hold_without_owner(held.entry) {
                            drop(error);
                        }
                    }
                }
            }
            Ok(Place::Pieces(plan)) => {
                let mut entry = *held.entry;
                let Some(receiver) = entry.take_receiver() else { return };
                let packet = std::mem::replace(&mut entry.packet, Packet::empty());
                let limits = entry.limits;
                if let Err(error) =
                    self.send_pieces(packet, Arc::clone(&receiver), limits, plan, Some(&entry), Flush::Now)
                {
                    fail(receiver, error);
                }
            }
            Err(error) => end(*held.entry, Err(error)),
        }
    }

    /// The connection to the node that a call is for.
    pub(in crate::connection) fn driver_for(&self, packet: &Packet) -> Result<Arc<Driver>> {
        let map = self.map.load();
        let slot = match map.place(packet)? {
            Place::Whole(To::Slot(slot)) => Some(slot),
            Place::Whole(To::Anywhere | To::Primaries) | Place::Pieces(_) => None,
        };
        self.node_for(&map, slot).map(|node| Arc::clone(&node.driver)).ok_or_else(no_node)
    }

    fn give(self: &Arc<Self>, driver: &Arc<Driver>, held: Held) {
        if held.from.is_dedicated() {
            return held.from.follow_to(driver, held.entry);
        }
        if let Err(refused) = driver.submit_entry(*held.entry, Flush::Now) {
            let held = Held { entry: refused.entry, from: Arc::clone(driver), error: Some(refused.error) };
            if !refused.is_unreachable {
                return held.end();
            }
            if let Err(held) = self.hold_for_refresh(held) {
                held.end();
            }
        }
    }

    /// Sends a call again after a pause, which ends when its time is over.
    fn delay(&self, mut held: Held, now: Instant) {
        let at = now + held.entry.next_pause();
        let at = held.entry.waits_until.map_or(at, |until| until.min(at));
        lock(&self.pending).delayed.push((at, held));
    }

    /// Nothing is known to have the slot: that may be over soon.
    fn hold_without_owner(self: &Arc<Self>, mut entry: Box<Entry>) -> Result<Submitted> {
        let now = Instant::now();
        entry.waits_until = entry.waits_until.or_else(|| entry.limits.wait_from(now));
        let Some(from) = self.front.upgrade() else { return Err(no_node()) };
        self.delay(Held { entry, from, error: None }, now);
        self.want_refresh(now);
        self.come_by();
        Ok(Submitted::Waiting)
    }
}

/// What a call fails with when there is no node for it.
fn no_node() -> Error {
    Error::connection("the cluster has no node for the call: not all of its slots are served")
}

/// Gives a call its outcome.
pub(in crate::connection) fn end(entry: Entry, result: Result<Value>) {
    if let Some(waker) = entry.complete(result) {
        waker.wake();
    }
}

fn fail(receiver: Arc<dyn Receiver>, error: Error) {
    let packet = Packet::empty();
    if let Some(waker) =
        receiver.fill(crate::connection::receiver::Outcome { result: Err(error), packet, sent: false })
    {
        waker.wake();
    }
}
