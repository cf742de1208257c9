//! JSON by sonic-rs: the wrapper [`Json`], and reading text with its nesting bounded and errors that quote none of it.

use serde::Deserialize;

use crate::wrapper::transparent;

/// How many characters of a parser's words an error repeats. They may quote the payload: a field's name, say.
const LONGEST: usize = 160;
/// How deep arrays and objects may lie in each other.
const DEEPEST: usize = 128;

/// A value that is JSON on Python's side.
///
/// As a **parameter** it takes `str`, or UTF-8 in `bytes`, `bytearray` or `memoryview`, and deserialises it. A struct
/// takes each of its fields once; unknown ones are ignored unless the struct denies them. `NaN` and `Infinity`, which
/// Python's `json` writes and takes, are not JSON. Arrays and objects may lie in each other up to 128 levels deep.
///
/// As a **result** it becomes `bytes`, which is what Django's `HttpResponse` takes. A float that is not finite becomes
/// `null`.
///
/// # Errors
/// In Python, for a parameter: `ValueError` for bad JSON, or JSON of another shape than `T`; it says what and where
/// (line and column), and quotes no text of the payload but names. `TypeError` for an object that holds no text. For a
/// result: `ValueError` if `T` cannot be JSON, such as a map whose keys are neither text nor numbers.
///
/// ```
/// # fn main() {}
/// use serde::{Deserialize, Serialize};
/// use vcache::prelude::*;
///
/// #[derive(Deserialize)]
/// struct Order {
///     sku: String,
///     count: u32,
/// }
///
/// #[derive(Serialize)]
/// struct Receipt {
///     left: i64,
/// }
///
/// #[vcache::module]
/// mod _native {
///     use super::*;
///
///     /// `HttpResponse(await areserve(request.body), content_type="application/json")`
///     #[hotpath]
///     async fn reserve(conn: &mut Connection, order: Json<Order>) -> vcache::Result<Json<Receipt>> {
///         let left: i64 = conn.decr(format!("stock:{}", order.sku), order.count).await?;
///         Ok(Json(Receipt { left }))
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Json<T>(pub T);

transparent!(Json);

/// Reads UTF-8.
///
/// # Errors
/// What is wrong and where, in words that hold no text of the payload but names.
pub(crate) fn from_slice<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, String> {
    check_depth(text)?;
    sonic_rs::from_slice(text).map_err(|error| describe(&error))
}

/// Reads text that is known to be UTF-8.
#[cfg(feature = "python")]
pub(crate) fn from_str<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, String> {
    check_depth(text.as_bytes())?;
    sonic_rs::from_str(text).map_err(|error| describe(&error))
}

/// Refuses text that nests too deep, before sonic-rs sees it.
///
/// NOTE: sonic-rs skips what no field wants by recursion without a limit (0.5.10), so that a request of a megabyte of
/// `[` would overflow the stack, which ends the process. Up to the first error in the text both see the same strings
/// and brackets, and behind it sonic-rs does not read.
fn check_depth(text: &[u8]) -> Result<(), String> {
    // Most payloads have too few brackets to be deep, and counting them costs next to nothing.
    let brackets = text.iter().filter(|byte| matches!(byte, b'[' | b'{')).count();
    if brackets > DEEPEST && depth(text) > DEEPEST {
        return Err(format!("bad JSON: nested more than {DEEPEST} levels deep"));
    }
    Ok(())
}

/// How deep brackets lie in each other outside of strings, at most.
fn depth(text: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => {
                while let Some(byte) = bytes.next() {
                    match byte {
                        b'"' => break,
                        b'\\' => _ = bytes.next(),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    deepest
}

/// What is wrong and where, without sonic-rs's excerpt and without the text that serde quotes: either may be secret.
fn describe(error: &sonic_rs::Error) -> String {
    let text = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    // The excerpt follows the position and may hold anything. Only errors of shape quote the payload before it.
    let end = if error.is_unmatched_type() { text.rfind(&position) } else { text.find(&position) };
    let what = text[..end.unwrap_or(text.len())].to_owned();
    let what = without_payload(what);
    if error.line() == 0 {
        return format!("bad JSON: {what}");
    }
    format!("bad JSON{}: {what}", position.replace(" column", ", column"))
}

/// An error's words without the text that serde quotes, which may be secret, and of bounded length.
pub(crate) fn without_payload(mut what: String) -> String {
    for (quoting, plain) in [
        ("invalid type: string \"", "invalid type: string"),
        ("invalid value: string \"", "invalid value: string"),
    ] {
        if what.starts_with(quoting) {
            let rest = what.rfind(", expected ").map_or("", |at| &what[at..]);
            what = format!("{plain}{rest}");
        }
    }
    if let Some((cut, _)) = what.char_indices().nth(LONGEST) {
        what.truncate(cut);
        what.push('…');
    }
    what
}
