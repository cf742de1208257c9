//! Which node has which slots: as `CLUSTER SLOTS` says it, or of a primary with replicas, which has them all.

use redis::Value;

use super::key_slot::SLOTS;
use crate::config::Config;
use crate::connection::exchange::{pairs, text};

/// A node as another announces it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::connection) struct Announced {
    pub(in crate::connection) host: String,
    pub(in crate::connection) port: u16,
    pub(in crate::connection) id: String,
    /// Other names of it, which its certificate may have.
    pub(in crate::connection) names: Vec<String>,
    pub(in crate::connection) zone: Option<String>,
}

/// Slots, the primary that has them, and its replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) first: u16,
    pub(super) last: u16,
    pub(super) primary: Announced,
    pub(super) replicas: Vec<Announced>,
}

/// How the keys are spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Shape {
    /// Each primary has those of some slots, and a command's keys must be in one slot.
    #[default]
    Cluster,
    /// One primary has them all, and no server knows of slots.
    Replicated,
}

/// Who has which slots, as one node sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(super) shape: Shape,
    pub(super) ranges: Vec<Range>,
}

impl Layout {
    /// A primary that is no cluster's, and the replicas that have copies of all it has.
    pub(in crate::connection) fn of_primary(primary: Announced, replicas: Vec<Announced>) -> Self {
        let range = Range { first: 0, last: SLOTS - 1, primary, replicas };
        Self { shape: Shape::Replicated, ranges: vec![range] }
    }

    /// Reads the answer of a node that was reached at `host`, which stands for a node that announces no address.
    pub(crate) fn read(answer: &Value, host: &str) -> Option<Self> {
        let Value::Array(rows) = answer else { return None };
        let ranges = rows.iter().filter_map(|row| range(row, host)).collect();
        Some(Self { shape: Shape::Cluster, ranges })
    }

    /// The same with the addresses at which the nodes are reached.
    pub(super) fn mapped(&self, config: &Config) -> Self {
        let mut layout = self.clone();
        if self.shape == Shape::Replicated {
            // They were reached there.
            return layout;
        }
        for range in &mut layout.ranges {
            for node in std::iter::once(&mut range.primary).chain(&mut range.replicas) {
                (node.host, node.port) = config.mapped(&node.host, node.port);
            }
        }
        layout
    }

    /// Whether the answer names nodes, and all of them without a port: those of a cluster without `tls-cluster` that has no
    /// port for plain TCP do so.
    pub(crate) fn has_no_ports(answer: &Value) -> bool {
        let Value::Array(rows) = answer else { return false };
        let ports = rows.iter().filter_map(|row| {
            let Value::Array(fields) = row else { return None };
            let Some(Value::Array(primary)) = fields.get(2) else { return None };
            primary.get(1)
        });
        let mut ports = ports.peekable();
        ports.peek().is_some() && ports.all(|port| *port == Value::Int(0))
    }

    /// Slots that have a primary.
    pub(super) fn covered(&self) -> usize {
        self.ranges.iter().map(|range| usize::from(range.last - range.first) + 1).sum()
    }

    /// The primary of a slot.
    pub(super) fn owner(&self, slot: u16) -> Option<&Announced> {
        let range = self.ranges.iter().find(|range| (range.first..=range.last).contains(&slot))?;
        Some(&range.primary)
    }

    /// Whether each slot has a primary.
    pub(super) fn is_full(&self) -> bool {
        self.covered() >= usize::from(SLOTS)
    }
}

fn range(row: &Value, host: &str) -> Option<Range> {
    let Value::Array(fields) = row else { return None };
    let [first, last, primary, replicas @ ..] = fields.as_slice() else { return None };
    let (first, last) = (slot(first)?, slot(last)?);
    let primary = node(primary, host)?;
    (first <= last).then(|| Range {
        first,
        last,
        primary,
        replicas: replicas.iter().filter_map(|replica| node(replica, host)).collect(),
    })
}

fn slot(value: &Value) -> Option<u16> {
    match value {
        Value::Int(slot) => u16::try_from(*slot).ok().filter(|slot| *slot < SLOTS),
        _ => None,
    }
}

/// A node; None if it does not say where it is.
fn node(value: &Value, host: &str) -> Option<Announced> {
    let Value::Array(fields) = value else { return None };
    let [endpoint, port, rest @ ..] = fields.as_slice() else { return None };
    let Value::Int(port) = port else { return None };
    let port = u16::try_from(*port).ok().filter(|port| *port != 0)?;
    let id = rest.first().and_then(text).unwrap_or_default();
    let said: Vec<_> = rest.get(1).map(pairs).unwrap_or_default();
    let of = |name: &str| said.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let host = match text(endpoint).as_deref() {
        // A cluster that was just made does not know its own addresses.
        None | Some("" | "0.0.0.0" | "::") => host.to_owned(),
        // It has a name that it does not tell.
        Some("?") => of("ip").filter(|ip| !ip.is_empty())?,
        Some(endpoint) => endpoint.to_owned(),
    };
    let names = [of("hostname"), of("ip")].into_iter().flatten();
    let names = names.filter(|name| !name.is_empty() && *name != host).collect();
    Some(Announced { host, port, id, names, zone: of("availability-zone").filter(|zone| !zone.is_empty()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    fn row(first: i64, last: i64, nodes: Vec<Value>) -> Value {
        Value::Array([vec![Value::Int(first), Value::Int(last)], nodes].concat())
    }

    fn node(endpoint: Value, port: i64, said: &[(&str, &str)]) -> Value {
        let said = said.iter().map(|(name, value)| (bulk(name), bulk(value))).collect();
        Value::Array(vec![endpoint, Value::Int(port), bulk("id"), Value::Map(said)])
    }

    fn hosts(rows: Vec<Value>) -> Vec<(u16, u16, String, usize)> {
        let layout = Layout::read(&Value::Array(rows), "seed").unwrap();
        layout
            .ranges
            .iter()
            .map(|range| (range.first, range.last, range.primary.host.clone(), range.replicas.len()))
            .collect()
    }

    #[test]
    fn nodes_are_announced_in_many_ways() {
        let primary =
            |endpoint: Value, said: &[(&str, &str)]| hosts(vec![row(0, 9, vec![node(endpoint, 7000, said)])]);
        assert_eq!(primary(bulk("10.0.0.1"), &[]), [(0, 9, "10.0.0.1".to_owned(), 0)]);
        for nowhere in [Value::Nil, bulk(""), bulk("0.0.0.0")] {
            assert_eq!(primary(nowhere, &[]), [(0, 9, "seed".to_owned(), 0)]);
        }
        assert_eq!(primary(bulk("?"), &[("ip", "10.0.0.7")]), [(0, 9, "10.0.0.7".to_owned(), 0)]);
        assert_eq!(primary(bulk("?"), &[]), []);
    }

    #[test]
    fn names_and_zones_are_kept() {
        let said = [("hostname", "n1.example"), ("ip", "10.0.0.1"), ("availability-zone", "eu-1a")];
        let rows = vec![row(0, 9, vec![node(bulk("10.0.0.1"), 7000, &said)])];
        let layout = Layout::read(&Value::Array(rows), "seed").unwrap();
        let primary = &layout.ranges[0].primary;
        assert_eq!(
            (&primary.names[..], primary.zone.as_deref()),
            (&["n1.example".to_owned()][..], Some("eu-1a"))
        );
    }

    #[test]
    fn what_is_no_answer_is_left_out() {
        let good = || node(bulk("a"), 1, &[]);
        assert_eq!(Layout::read(&Value::Okay, "seed"), None);
        assert_eq!(hosts(vec![row(5, 4, vec![good()]), row(0, 16_384, vec![good()]), row(0, 1, vec![])]), []);
        assert_eq!(hosts(vec![row(0, 1, vec![node(bulk("a"), 0, &[])]), Value::Nil]), []);
        assert_eq!(hosts(vec![row(0, 1, vec![good(), Value::Nil, good()])]), [(0, 1, "a".to_owned(), 1)]);
    }

    #[test]
    fn nodes_without_ports_are_told_from_those_without_slots() {
        let ports = |ports: &[i64]| {
            let rows = ports.iter().map(|port| row(0, 9, vec![node(bulk("a"), *port, &[])])).collect();
            Layout::has_no_ports(&Value::Array(rows))
        };
        assert_eq!([&[][..], &[0], &[0, 0], &[0, 1]].map(ports), [false, true, true, false]);
        assert!(!Layout::has_no_ports(&Value::Nil));
    }

    #[test]
    fn a_layout_is_full_when_each_slot_has_a_primary() {
        let good = || node(bulk("a"), 1, &[]);
        let read = |rows| Layout::read(&Value::Array(rows), "seed").unwrap();
        assert!(read(vec![row(0, 8191, vec![good()]), row(8192, 16_383, vec![good()])]).is_full());
        assert!(!read(vec![row(0, 8191, vec![good()]), row(8193, 16_383, vec![good()])]).is_full());
    }
}
