//! Putting an event where the batch job finds it.

use crate::connection::Connection;
use crate::error::{Error, Result};

/// Appends `payload` to a stream, as the field `payload`, and returns the entry's id.
///
/// With `maxlen` the stream is trimmed to about that length (`MAXLEN ~`), which silently drops the oldest entries, also
/// ones that have not been read; without, it grows.
///
/// # Errors
/// [`ErrorKind::Value`](crate::ErrorKind::Value) for an empty name; a connection's errors otherwise. After a time-out it
/// is not known whether the entry was written.
///
/// ```no_run
/// # async fn example(conn: &mut vcache::Connection) -> vcache::Result<()> {
/// let id = vcache::admission::enqueue(conn, "events", br#"{"level": "error"}"#, Some(1_000_000)).await?;
/// # Ok(()) }
/// ```
pub async fn enqueue(
    conn: &mut Connection,
    stream: &str,
    payload: &[u8],
    maxlen: Option<u64>,
) -> Result<String> {
    if stream.is_empty() {
        return Err(Error::value("the stream's name is empty"));
    }
    let mut command = redis::cmd("XADD");
    command.arg(stream);
    if let Some(maxlen) = maxlen {
        command.arg("MAXLEN").arg("~").arg(maxlen);
    }
    command.arg("*").arg("payload").arg(payload);
    Ok(command.query_async(conn).await?)
}
