//! The host's flat replies as [`Value`]s. Nothing in them is believed beyond the nodes that there are.

use redis::{Value, VerbatimFormat};

use crate::abi::table::{Node, Reply};
use crate::error::{Error, Result};

/// The host's own reader allows less.
const DEEPEST: usize = 128;

/// Copies a reply.
///
/// # Safety
/// It must be a host's, and not have been freed.
pub(super) unsafe fn read(reply: *const Reply) -> Result<Value> {
    // SAFETY: the caller's promise.
    let nodes = unsafe { std::slice::from_raw_parts((*reply).nodes, (*reply).count) };
    let mut nodes = nodes.iter();
    // SAFETY: the nodes are a host's, so their pointers are good.
    let value = unsafe { next(&mut nodes, DEEPEST)? };
    if nodes.len() > 0 {
        return Err(unreadable("it goes on after its end"));
    }
    Ok(value)
}

fn unreadable(what: &str) -> Error {
    Error::refused(format!(
        "a reply handed over by django-vcache cannot be read ({what}): is the extension module built for another version?"
    ))
}

/// # Safety
/// The pointers of the nodes must be good.
unsafe fn next(nodes: &mut std::slice::Iter<'_, Node>, depth: usize) -> Result<Value> {
    let node = nodes.next().ok_or_else(|| unreadable("it ends too early"))?;
    let Some(depth) = depth.checked_sub(1) else { return Err(unreadable("it is nested too deep")) };
    // SAFETY: which field of the union is set follows from the tag; and the caller's promise.
    unsafe {
        Ok(match node.tag {
            Node::NIL => Value::Nil,
            Node::INT => Value::Int(node.data.int),
            Node::BULK => Value::BulkString(bytes(node).to_vec()),
            Node::ARRAY => Value::Array(members(nodes, node.len, depth)?),
            Node::SIMPLE => Value::SimpleString(text(node)),
            Node::OKAY => Value::Okay,
            Node::MAP => {
                let mut pairs = Vec::with_capacity(node.len.min(nodes.len()));
                for _ in 0..node.len {
                    pairs.push((next(nodes, depth)?, next(nodes, depth)?));
                }
                Value::Map(pairs)
            }
            Node::SET => Value::Set(members(nodes, node.len, depth)?),
            Node::DOUBLE => Value::Double(node.data.double),
            Node::BOOL => Value::Boolean(node.data.int != 0),
            Node::VERBATIM => {
                let format = match nodes.next().map(|format| text(format)).as_deref() {
                    Some("txt") => VerbatimFormat::Text,
                    Some("mkd") => VerbatimFormat::Markdown,
                    Some(other) => VerbatimFormat::Unknown(other.to_owned()),
                    None => return Err(unreadable("a text without its format")),
                };
                Value::VerbatimString { format, text: text(node) }
            }
            Node::BIG => Value::BigNumber(bytes(node).to_vec()),
            Node::ERROR => {
                let details = nodes.next().ok_or_else(|| unreadable("an error without its text"))?;
                server_error(&text(node), (details.tag != Node::NIL).then(|| text(details)).as_deref())?
            }
            unknown => return Err(unreadable(&format!("the tag {unknown}"))),
        })
    }
}

/// # Safety
/// As for [`next`].
unsafe fn members(nodes: &mut std::slice::Iter<'_, Node>, count: usize, depth: usize) -> Result<Vec<Value>> {
    let mut items = Vec::with_capacity(count.min(nodes.len()));
    for _ in 0..count {
        // SAFETY: the caller's promise.
        items.push(unsafe { next(nodes, depth)? });
    }
    Ok(items)
}

/// # Safety
/// The node must be one with bytes.
unsafe fn bytes(node: &Node) -> &[u8] {
    if node.len == 0 {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(node.data.bytes, node.len) }
}

/// # Safety
/// As for [`bytes`].
unsafe fn text(node: &Node) -> String {
    // SAFETY: the caller's promise.
    String::from_utf8_lossy(unsafe { bytes(node) }).into_owned()
}

/// redis-rs makes its error type only by parsing.
fn server_error(code: &str, details: Option<&str>) -> Result<Value> {
    let line = match details {
        Some(details) => format!("-{code} {details}\r\n"),
        None => format!("-{code}\r\n"),
    };
    // The line is to end where it ends.
    let line = line[..line.len() - 2].replace(['\r', '\n'], " ") + "\r\n";
    redis::parse_redis_value(line.as_bytes()).map_err(|_| unreadable("an error of more than one line"))
}
