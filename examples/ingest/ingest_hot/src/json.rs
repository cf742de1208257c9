//! JSON from outside: parsed with a bound on its depth, and with errors that quote nothing of it.

use serde::Deserialize;

use crate::refusal::Refusal;

/// How deep arrays and objects may lie in each other. The parser skips what no field wants by calling itself.
const DEEPEST: usize = 128;

/// The struct that a JSON object is, or a refusal that says what is wrong with `what`.
///
/// # Errors
/// A refusal with 400 for what is not UTF-8, not a JSON object, too deep, or of another shape than `T`.
pub fn object<'a, T: Deserialize<'a>>(what: &str, text: &'a [u8]) -> Result<T, Refusal> {
    // Serde takes an array for a struct, too.
    if text.trim_ascii_start().first() != Some(&b'{') {
        return Err(Refusal::bad(format!("{what} is not a JSON object")));
    }
    parse(what, text)
}

fn parse<'a, T: Deserialize<'a>>(what: &str, text: &'a [u8]) -> Result<T, Refusal> {
    if is_too_deep(text) {
        return Err(Refusal::bad(format!("{what} has more than {DEEPEST} levels of JSON in each other")));
    }
    let Ok(text) = std::str::from_utf8(text) else {
        return Err(Refusal::bad(format!("{what} is not UTF-8")));
    };
    sonic_rs::from_str(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        Refusal::bad(format!("{what} is not the JSON that it should be, at line {line}, column {column}"))
    })
}

/// Brackets outside of strings are counted; whether they match is the parser's concern.
fn is_too_deep(text: &[u8]) -> bool {
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(&byte) = text.get(at) {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                if depth > DEEPEST {
                    return true;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => at = end_of_string(text, at + 1),
            _ => {}
        }
        at += 1;
    }
    false
}

/// Where the quote is that ends a string which begins at `from`; the end of the text if there is none.
fn end_of_string(text: &[u8], mut from: usize) -> usize {
    while let Some(found) = text.get(from..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        if text[from + found] == b'"' {
            return from + found;
        }
        from += found + 2;
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use serde::de::IgnoredAny;

    use super::*;

    fn is_json(text: &str) -> bool {
        parse::<IgnoredAny>("it", text.as_bytes()).is_ok()
    }

    #[test]
    fn depth_is_bounded_and_strings_do_not_count() {
        let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert!(is_json(&nested(128)));
        assert!(!is_json(&nested(129)));
        assert!(!is_json(&"[".repeat(1_000_000)));
        assert!(!is_json(&"{\"a\":".repeat(300_000)));
        assert!(is_json(&format!("\"{}\"", "[".repeat(500))));
        assert!(is_json(&format!("\"\\\"{}\"", "[".repeat(500))), "a quote that is escaped ends no string");
        assert!(
            !is_json(&format!("\"\\\\\"{}", "[".repeat(500))),
            "a backslash that is escaped escapes nothing"
        );
        assert!(!is_json("\"\\"));
        assert!(!is_json("\""));
    }

    #[test]
    fn what_python_takes_and_json_has_not_is_refused() {
        for text in [
            "NaN",
            "{\"a\": NaN}",
            "[Infinity]",
            "[-Infinity]",
            "{\"a\": 1,}",
            "{'a': 1}",
            "01",
            "[1] [2]",
            "",
        ] {
            assert!(!is_json(text), "{text}");
        }
    }

    #[test]
    fn an_error_quotes_nothing() {
        let refusal = parse::<u32>("the header", b"{\"secret\": tru}").unwrap_err();
        assert!(!refusal.reason.contains("secret"), "{}", refusal.reason);
        assert!(parse::<IgnoredAny>("it", b"\"\xff\"").unwrap_err().reason.contains("UTF-8"));
    }
}
