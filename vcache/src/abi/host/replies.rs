//! A reply as flat nodes. Strings are not copied: their nodes point into the value, which lies behind the struct.

use std::ptr;

use redis::Value;

use crate::abi::table::{Data, Node, Reply};

/// The struct, and behind it what its nodes point into. It must not be moved once it is filled.
#[repr(C)]
pub(super) struct HostReply {
    view: Reply,
    /// The only node, as most replies have.
    single: Node,
    many: Vec<Node>,
    value: Value,
}

impl HostReply {
    pub(super) fn empty() -> Self {
        Self {
            view: Reply { nodes: ptr::null(), count: 0 },
            single: node(Node::NIL, 0, Data { int: 0 }),
            many: Vec::new(),
            value: Value::Nil,
        }
    }

    /// Frees what it holds, and keeps the place.
    pub(super) fn clear(&mut self) {
        self.value = Value::Nil;
        self.many = Vec::new();
        self.view = Reply { nodes: ptr::null(), count: 0 };
    }

    pub(super) fn fill(&mut self, value: Value) {
        self.value = value;
        match scalar(&self.value) {
            Some(single) => {
                self.single = single;
                self.view = Reply { nodes: &raw const self.single, count: 1 };
            }
            None => {
                flatten(&self.value, &mut self.many);
                self.view = Reply { nodes: self.many.as_ptr(), count: self.many.len() };
            }
        }
    }
}

fn node(tag: u32, len: usize, data: Data) -> Node {
    Node { tag, reserved: 0, len, data }
}

fn bytes(tag: u32, bytes: &[u8]) -> Node {
    node(tag, bytes.len(), Data { bytes: bytes.as_ptr() })
}

/// The node of a value without members.
fn scalar(value: &Value) -> Option<Node> {
    Some(match value {
        Value::Nil => node(Node::NIL, 0, Data { int: 0 }),
        Value::Int(int) => node(Node::INT, 0, Data { int: *int }),
        Value::BulkString(text) => bytes(Node::BULK, text),
        Value::SimpleString(text) => bytes(Node::SIMPLE, text.as_bytes()),
        Value::Okay => node(Node::OKAY, 0, Data { int: 0 }),
        Value::Double(double) => node(Node::DOUBLE, 0, Data { double: *double }),
        Value::Boolean(truth) => node(Node::BOOL, 0, Data { int: i64::from(*truth) }),
        Value::BigNumber(digits) => bytes(Node::BIG, digits),
        _ => return None,
    })
}

/// The depth is bounded by the reader that made the value.
fn flatten(value: &Value, nodes: &mut Vec<Node>) {
    if let Some(scalar) = scalar(value) {
        nodes.push(scalar);
        return;
    }
    let members = |tag: u32, items: &[Value], nodes: &mut Vec<Node>| {
        nodes.push(node(tag, items.len(), Data { int: 0 }));
        items.iter().for_each(|item| flatten(item, nodes));
    };
    match value {
        Value::Array(items) | Value::Push { data: items, .. } => members(Node::ARRAY, items, nodes),
        Value::Set(items) => members(Node::SET, items, nodes),
        Value::Map(pairs) => {
            nodes.push(node(Node::MAP, pairs.len(), Data { int: 0 }));
            for (key, value) in pairs {
                flatten(key, nodes);
                flatten(value, nodes);
            }
        }
        Value::VerbatimString { format, text } => {
            nodes.push(bytes(Node::VERBATIM, text.as_bytes()));
            let format = match format {
                redis::VerbatimFormat::Text => "txt",
                redis::VerbatimFormat::Markdown => "mkd",
                redis::VerbatimFormat::Unknown(name) => name.as_str(),
                _ => "",
            };
            nodes.push(bytes(Node::BULK, format.as_bytes()));
        }
        Value::ServerError(error) => {
            // Two members, because the host's error type keeps them apart.
            nodes.push(bytes(Node::ERROR, error.code().as_bytes()));
            nodes.push(error.details().map_or(node(Node::NIL, 0, Data { int: 0 }), |details| {
                bytes(Node::BULK, details.as_bytes())
            }));
        }
        Value::Attribute { data, .. } => flatten(data, nodes),
        // A kind of value that redis-rs may add: no guest could know it either.
        _ => nodes.push(node(u32::MAX, 0, Data { int: 0 })),
    }
}
