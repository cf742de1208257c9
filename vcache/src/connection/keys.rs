//! What the keys begin with that this crate makes on a connection.

use std::fmt::Write as _;

/// A prefix and a colon, with everything percent-encoded that has a meaning in keys of a cluster, or cannot be seen; nothing
/// for no prefix.
pub(super) fn head(prefix: &str) -> String {
    let mut head = String::with_capacity(prefix.len() + 1);
    for letter in prefix.chars() {
        if matches!(letter, '{' | '}' | '%') || letter.is_control() || letter.is_whitespace() {
            for byte in letter.encode_utf8(&mut [0; 4]).bytes() {
                let _ = write!(head, "%{byte:02X}");
            }
        } else {
            head.push(letter);
        }
    }
    if !head.is_empty() {
        head.push(':');
    }
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_stands_as_it_is_but_for_what_would_move_a_key() {
        assert_eq!(head(""), "");
        assert_eq!(head("shop:eu"), "shop:eu:");
        assert_eq!(head("a{b} 100%"), "a%7Bb%7D%20100%25:");
    }

    #[test]
    fn different_prefixes_never_begin_alike() {
        assert_ne!(head("a{"), head("a%7B"));
    }
}
