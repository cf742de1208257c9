//! The primaries of a cluster, for what has to be asked of each.

use super::Connection;

/// The primaries of a cluster, and the slots that each had. See [`Connection::primaries`].
#[derive(Debug)]
pub struct Primaries {
    connection: Connection,
    /// One slot of each; none without a cluster.
    slots: Vec<u16>,
    /// For each slot, its node.
    owners: Vec<Option<usize>>,
}

impl Primaries {
    /// How many slots a cluster has.
    pub const SLOTS: u16 = 16_384;

    pub(super) fn new(connection: &Connection, owners: Vec<Option<usize>>) -> Self {
        Self { connection: connection.clone(), slots: firsts(&owners, |_| true), owners }
    }

    /// A connection to each.
    #[must_use]
    pub fn connections(&self) -> Vec<Connection> {
        if self.owners.is_empty() {
            return vec![self.connection.clone()];
        }
        self.at(&self.slots)
    }

    /// Connections to those that have slots now, in `later`, that they did not have before: what was asked of all has to be
    /// asked of them again.
    #[must_use]
    pub fn that_gained(&self, later: &Self) -> Vec<Connection> {
        later.at(&firsts(&later.owners, |slot| self.owners.get(slot) != later.owners.get(slot)))
    }

    fn at(&self, slots: &[u16]) -> Vec<Connection> {
        slots.iter().map(|slot| Connection { slot: Some(*slot), ..self.connection.clone() }).collect()
    }
}

/// The first slot of each node, of those slots that count.
fn firsts(owners: &[Option<usize>], counts: impl Fn(usize) -> bool) -> Vec<u16> {
    let mut seen = Vec::new();
    let mut slots = Vec::new();
    for (slot, owner) in owners.iter().enumerate() {
        if let Some(owner) = owner
            && counts(slot)
            && !seen.contains(owner)
        {
            seen.push(*owner);
            slots.extend(u16::try_from(slot));
        }
    }
    slots
}

#[cfg(all(test, feature = "driver"))]
mod tests {
    use super::*;
    use crate::config::Config;

    fn primaries(owners: &[usize]) -> Primaries {
        let connection = Connection::new("primaries-tests", Config::from_url("redis://localhost").unwrap());
        let owners: Vec<_> = owners.iter().copied().map(Some).collect();
        Primaries { connection, slots: firsts(&owners, |_| true), owners }
    }

    fn slots(connections: Vec<Connection>) -> Vec<Option<u16>> {
        connections.into_iter().map(|connection| connection.slot).collect()
    }

    #[test]
    fn each_node_is_found_by_one_of_its_slots() {
        assert_eq!(slots(primaries(&[7, 7, 9, 7, 4]).connections()), [Some(0), Some(2), Some(4)]);
        assert_eq!(slots(primaries(&[]).connections()), [None]);
    }

    #[test]
    fn those_that_gained_slots_are_found_by_them() {
        let before = primaries(&[7, 7, 9, 9]);
        assert_eq!(slots(before.that_gained(&before)), []);
        assert_eq!(slots(before.that_gained(&primaries(&[7, 9, 9, 5]))), [Some(1), Some(3)]);
    }
}
