//! What a connection has to do with a cluster: the one of an alias finds it, those of its nodes give back what they cannot
//! do, and one for a blocking command is followed by another when the slot moves.

use std::sync::{Arc, Weak};
use std::time::Instant;

use super::{Driver, Flush, Role};
use crate::connection::cluster::{Cluster, Returned, Why, end};
use crate::connection::dial::Established;
use crate::connection::in_flight::Entry;
use crate::connection::state::After;
use crate::error::Error;

impl Driver {
    /// The cluster that an alias's calls go to.
    pub(super) fn own_cluster(&self) -> Option<&Arc<Cluster>> {
        match &self.role {
            Role::Front(cluster) => cluster.get(),
            Role::Node(_) | Role::Dedicated { .. } => None,
        }
    }

    /// The cluster that it is of, if it is of one as far as is known.
    pub(in crate::connection) fn cluster(&self) -> Option<Arc<Cluster>> {
        match &self.role {
            Role::Front(cluster) => cluster.get().cloned(),
            Role::Node(cluster) => cluster.upgrade(),
            Role::Dedicated { front, .. } => front.upgrade().and_then(|front| front.cluster()),
        }
    }

    pub(in crate::connection) fn is_dedicated(&self) -> bool {
        matches!(self.role, Role::Dedicated { .. })
    }

    /// Whether a call that began here went on elsewhere: the connection is not used again then.
    pub(in crate::connection) fn has_successor(&self) -> bool {
        matches!(&self.role, Role::Dedicated { successor, .. } if successor.get().is_some())
    }

    /// The server is one of several.
    pub(super) fn found(&self, established: Established) {
        let Role::Front(own) = &self.role else {
            if let Role::Dedicated { front, .. } = &self.role
                && let Some(front) = front.upgrade()
            {
                front.found(established);
            }
            return;
        };
        let watch = self.lock().watch();
        if let Some(watch) = watch
            && let Some((layout, _)) = &established.layout
        {
            let cluster = own
                .get_or_init(|| Cluster::new(Arc::clone(&self.config), Weak::clone(&self.me), watch, layout));
            cluster.take_connection(established);
            cluster.come_by();
            // Calls may have come since the mutex was free, and those of this one's own attempt wait when another found it.
            let mut state = self.lock();
            let mut after = After::default();
            state.leave_to_cluster(Instant::now(), &mut after);
            self.release(state, after);
        }
    }

    /// Takes a connection that was made elsewhere, unless it has one.
    pub(in crate::connection) fn adopt(&self, mut established: Established) {
        let mut state = self.lock();
        let mut after = After::default();
        established.layout = None;
        state.take_connection(Ok(established), false, Instant::now(), &mut after);
        self.release(state, after);
    }

    /// Has the cluster go on with calls.
    pub(super) fn hand_back(&self, returned: Vec<Returned>) {
        let (Some(cluster), Some(me)) = (self.cluster(), self.me.upgrade()) else {
            for Returned { entry, why } in returned {
                let result = match why {
                    Why::Refused(reply) => Ok(reply),
                    Why::Lost(error) | Why::Unreachable(error) => Err(error),
                    Why::IsACluster => {
                        Err(Error::connection(format!("{} is a cluster that cannot be used", self.config)))
                    }
                };
                end(*entry, result);
            }
            return;
        };
        cluster.take_back(&me, returned);
    }

    /// A blocking call goes on where its keys are now.
    pub(in crate::connection) fn follow(self: &Arc<Self>, cluster: &Arc<Cluster>, entry: Box<Entry>) {
        match cluster.driver_for(&entry.packet) {
            Ok(driver) => self.follow_to(&driver, entry),
            Err(error) => end(*entry, Err(error)),
        }
    }

    /// A blocking call goes on at a node: here, if that is where this connection goes.
    pub(in crate::connection) fn follow_to(self: &Arc<Self>, node: &Arc<Self>, entry: Box<Entry>) {
        let watch = self.lock().watch();
        let (Role::Dedicated { successor, .. }, Some(watch)) = (&self.role, watch) else {
            return end(*entry, Err(Error::connection("the call was given up")));
        };
        let next = if Arc::ptr_eq(&self.config, &node.config) {
            self
        } else {
            let next = self.dedicated(Arc::clone(&node.config));
            next.attach(&watch);
            successor.get_or_init(|| next)
        };
        // NOTE: after the successor is known. A caller that goes away closes it, or is seen here to be gone.
        if !entry.is_wanted() {
            return;
        }
        if let Err(refused) = next.submit_entry(*entry, Flush::Now) {
            end(*refused.entry, Err(refused.error));
        }
    }
}
