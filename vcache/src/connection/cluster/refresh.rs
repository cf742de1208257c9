//! Asking who has which slot: when, whom, and what becomes of the answer.
//!
//! Two nodes that are connected are asked over their connections, so that a cluster costs one connection for each node at
//! all times. The first answer that covers all slots is taken, or else the fuller one. If no node is connected, or none of
//! the two answers within a second, a thread asks the addresses that the user gave, looked up anew, and then the nodes that
//! were known. There is one question at a time, and calls to nodes that are well never wait for it.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use super::layout::Layout;
use super::layout::Shape;
use super::returned::Held;
use super::{Cluster, lock};
use crate::connection::command::Packet;
use crate::connection::dial::{Dialer, Established};
use crate::connection::driver::{Driver, Flush};
use crate::connection::limits::Limits;
use crate::connection::receiver::{Outcome, Receiver};
use crate::error::Result;

/// Between two questions that nothing urgent asks for, with as much again of jitter at most.
const LEAST_APART: Duration = Duration::from_millis(1_000);
/// What is used is asked about so often, whatever happens.
const OLDEST: Duration = Duration::from_secs(60);
/// How long a node may think about it.
const PATIENCE: Duration = Duration::from_secs(1);
/// Nodes that are asked at once.
const ASKED: usize = 2;
/// Calls to a node that could not be reached, and still has its slots, fail at once for so long.
const FAILS_FAST: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(super) struct Refresh {
    round: u64,
    is_running: bool,
    /// Nodes that have not answered yet.
    outstanding: usize,
    /// The fullest answer so far.
    best: Option<Layout>,
    began: Option<Instant>,
    /// When it is to begin next.
    wanted: Option<Instant>,
    /// What is known gets old though nothing went wrong.
    pub(super) ages: bool,
    /// Connections that could not be made, to nodes that still have their slots as far as others know, and since when.
    unreachable: Vec<(usize, Instant)>,
}

impl Refresh {
    /// It is known since then.
    pub(super) fn done(&mut self, now: Instant) {
        self.began = Some(now);
    }

    /// It is to begin at that moment.
    pub(super) fn want(&mut self, at: Instant) {
        self.wanted = Some(at);
    }

    pub(super) fn is_due(&self, now: Instant, is_used: bool) -> bool {
        self.next_due(is_used).is_some_and(|due| due <= now)
    }

    pub(super) fn next_due(&self, is_used: bool) -> Option<Instant> {
        if self.is_running {
            return None;
        }
        let oldest = if is_used && self.ages { self.began.map(|began| began + OLDEST) } else { None };
        self.wanted.into_iter().chain(oldest).min()
    }

    /// The slots have other nodes now, which may be there again too.
    pub(super) fn forget_unreachable(&mut self) {
        self.unreachable.clear();
    }

    /// Whether it could not be reached just now, and no other was known to have its slots.
    pub(super) fn is_unreachable(&self, driver: &Driver, now: Instant) -> bool {
        self.unreachable.iter().any(|(key, since)| *key == driver.key() && now < *since + FAILS_FAST)
    }

    fn cannot_reach(&mut self, driver: &Driver, now: Instant) {
        self.unreachable.retain(|(key, since)| *key != driver.key() && now < *since + FAILS_FAST);
        self.unreachable.push((driver.key(), now));
    }

    /// The earliest moment for a question that is not urgent.
    fn soon(&self, now: Instant) -> Instant {
        let Some(began) = self.began else { return now };
        let mixed = (self.round ^ u64::from(std::process::id())).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let jitter = LEAST_APART.mul_f64(mixed as f64 / f64::from(u32::MAX) / 2.0);
        began + LEAST_APART + jitter
    }
}

impl Cluster {
    /// It is used again after a while.
    pub(super) fn refresh_if_old(self: &Arc<Self>, now: Instant) {
        let is_due = lock(&self.pending).refresh.is_due(now, true);
        if is_due {
            self.begin_refresh(now);
        }
        self.come_by();
    }

    /// There is a reason to ask, now or soon.
    pub(super) fn want_refresh(self: &Arc<Self>, now: Instant) {
        let mut pending = lock(&self.pending);
        let soon = pending.refresh.soon(now);
        if soon > now {
            pending.refresh.wanted.get_or_insert(soon);
            return;
        }
        drop(pending);
        self.begin_refresh(now);
    }

    /// Keeps a call to a node that cannot be reached until it is known whether another one has its keys. It comes back if that
    /// is known already.
    pub(super) fn hold_for_refresh(self: &Arc<Self>, mut held: Held) -> Result<(), Box<Held>> {
        let now = Instant::now();
        let mut pending = lock(&self.pending);
        if pending.refresh.is_unreachable(&held.from, now) {
            return Err(Box::new(held));
        }
        held.entry.waits_until = held.entry.waits_until.or_else(|| held.entry.limits.wait_from(now));
        pending.awaiting.push(held);
        drop(pending);
        self.begin_refresh(now);
        self.come_by();
        Ok(())
    }

    pub(super) fn begin_refresh(self: &Arc<Self>, now: Instant) {
        let mut pending = lock(&self.pending);
        let refresh = &mut pending.refresh;
        if refresh.is_running {
            return;
        }
        refresh.round += 1;
        (refresh.is_running, refresh.began, refresh.wanted, refresh.best) = (true, Some(now), None, None);
        self.is_used.store(false, Ordering::Relaxed);
        let map = self.map.load();
        let (round, count) = (refresh.round, map.nodes.len());
        let turn = usize::try_from(round).unwrap_or_default();
        drop(pending);
        let nodes: Vec<_> = (0..count)
            .map(|at| &map.nodes[(turn + at) % count])
            // What knows of no slots is looked at by a thread.
            .filter(|node| map.shape == Shape::Cluster && node.driver.is_up())
            .take(ASKED)
            .collect();
        lock(&self.pending).refresh.outstanding = nodes.len();
        if nodes.is_empty() {
            return self.dial(round);
        }
        for node in nodes {
            let answer = Arc::new(Answer {
                cluster: Arc::downgrade(self),
                round,
                host: node.host.clone(),
                layout: Mutex::default(),
            });
            let mut packet = Packet::unchecked();
            packet.then("CLUSTER", 1).arg(b"SLOTS");
            let limits = Limits { timeout: Some(PATIENCE), ..Limits::default() };
            if node.driver.submit(packet, Arc::clone(&answer) as _, limits, Flush::Now).is_err() {
                answer.wake();
            }
        }
    }

    /// A node has answered, or failed to.
    fn answered(self: &Arc<Self>, round: u64, layout: Option<Layout>) {
        let mut pending = lock(&self.pending);
        let refresh = &mut pending.refresh;
        if round != refresh.round || !refresh.is_running || refresh.outstanding == 0 {
            return;
        }
        refresh.outstanding -= 1;
        // Of two that are as full, the later one.
        let is_better =
            |layout: &Layout| layout.covered() >= refresh.best.as_ref().map_or(1, Layout::covered);
        if let Some(layout) = layout.filter(is_better) {
            refresh.best = Some(layout);
        }
        // A node may not know yet of a failover that calls wait for.
        let map = self.map.load();
        let is_enough = |layout: &Layout| {
            layout.is_full()
                && pending.awaiting.iter().all(|held| {
                    let before = held.entry.slot.and_then(|slot| map.owner(slot));
                    let after = held.entry.slot.and_then(|slot| layout.owner(slot));
                    before.zip(after).is_none_or(|(before, after)| {
                        let (host, port) = self.config.mapped(&after.host, after.port);
                        !before.is_at(&host, port)
                    })
                })
        };
        let refresh = &pending.refresh;
        if refresh.outstanding > 0 && !refresh.best.as_ref().is_some_and(is_enough) {
            return;
        }
        let refresh = &mut pending.refresh;
        refresh.outstanding = 0;
        let best = refresh.best.take();
        drop(pending);
        match best {
            Some(layout) => self.refreshed(Some(&layout)),
            None => self.dial(round),
        }
    }

    /// Has a thread ask those that are not connected.
    fn dial(self: &Arc<Self>, round: u64) {
        let me = Arc::downgrade(self);
        let map = self.map.load();
        let nodes = map.nodes.iter().map(|node| (node.host.clone(), node.port)).collect();
        Dialer::for_layout(Arc::clone(&self.config), nodes, map.zones()).start(move |outcome| {
            if let Some(cluster) = me.upgrade() {
                cluster.dialed(round, outcome);
            }
        });
    }

    fn dialed(self: &Arc<Self>, round: u64, outcome: Result<Established>) {
        if self.front.upgrade().is_none_or(|front| front.is_stale())
            || lock(&self.pending).refresh.round != round
        {
            return;
        }
        let Ok(mut established) = outcome else { return self.refreshed(None) };
        // Where the cluster was, a server may stand alone now.
        established.layout = established.layout.take().or_else(|| established.alone());
        let layout = established.layout.as_ref().map(|(layout, _)| layout.clone());
        self.refreshed(layout.as_ref());
        self.take_connection(established);
    }

    /// It is known, or cannot be known now. Calls that waited for it go on, or fail.
    fn refreshed(self: &Arc<Self>, layout: Option<&Layout>) {
        let now = Instant::now();
        if let Some(layout) = layout {
            self.adopt(layout, now);
        }
        let map = self.map.load_full();
        let mut pending = lock(&self.pending);
        pending.refresh.is_running = false;
        let mut again = Vec::new();
        let mut over = Vec::new();
        for held in std::mem::take(&mut pending.awaiting) {
            let owner = held.entry.slot.and_then(|slot| map.owner(slot));
            let is_same = owner.is_none_or(|owner| Arc::ptr_eq(&owner.driver, &held.from));
            if is_same && !held.from.is_up() {
                pending.refresh.cannot_reach(&held.from, now);
                over.push(held);
            } else {
                again.push(held);
            }
        }
        drop(pending);
        over.into_iter().for_each(Held::end);
        again.into_iter().for_each(|held| self.send_again(held));
        self.come_by();
    }
}

/// Takes one node's answer.
struct Answer {
    cluster: Weak<Cluster>,
    round: u64,
    /// Where the node was reached.
    host: String,
    layout: Mutex<Option<Layout>>,
}

impl Receiver for Answer {
    fn fill(self: Arc<Self>, outcome: Outcome) -> Option<Waker> {
        if let Ok(answer) = &outcome.result {
            *lock(&self.layout) = Layout::read(answer, &self.host);
        }
        // The driver's mutex is held here. What is woken is not.
        Some(Waker::from(self))
    }

    fn is_abandoned(&self) -> bool {
        false
    }

    fn is_tied(&self) -> bool {
        true
    }
}

impl Wake for Answer {
    fn wake(self: Arc<Self>) {
        let layout = lock(&self.layout).take();
        if let Some(cluster) = self.cluster.upgrade() {
            cluster.answered(self.round, layout);
        }
    }
}
