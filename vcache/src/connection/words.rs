//! Encoded commands, read back: what a packet holds, or says that it holds.

/// The words of one encoded command, its name first.
#[derive(Clone, Debug)]
pub(super) struct Words<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Words<'a> {
    /// Of the command that `bytes` begin with. Fewer words come out of it than were announced if they are not there.
    pub(super) fn of(bytes: &'a [u8]) -> Option<Self> {
        let (left, rest) = number(bytes, b'*')?;
        Some(Self { rest, left })
    }

    /// Takes a whole command off the beginning of `bytes`. `None` if there is no command of at least one word.
    pub(super) fn take(bytes: &mut &'a [u8]) -> Option<Self> {
        let words = Self::of(bytes)?;
        if words.left == 0 {
            return None;
        }
        let mut rest = words.rest;
        for _ in 0..words.left {
            word(&mut rest)?;
        }
        *bytes = rest;
        Some(words)
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        self.left = self.left.checked_sub(1)?;
        word(&mut self.rest)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Words<'_> {}

/// Takes a word off.
#[inline]
fn word<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, body) = number(bytes, b'$')?;
    let end = length.checked_add(2)?;
    let (word, rest) = body.split_at_checked(end)?;
    let word = word.strip_suffix(b"\r\n")?;
    *bytes = rest;
    Some(word)
}

/// The number of a header such as `$3\r\n`, and what follows. The server takes no sign and no zero in front.
#[inline]
fn number(bytes: &[u8], kind: u8) -> Option<(usize, &[u8])> {
    let digit = |digit: &u8| usize::from(digit - b'0');
    match bytes {
        // Almost all are of one digit or two.
        [first, ones @ b'0'..=b'9', b'\r', b'\n', rest @ ..] if *first == kind => Some((digit(ones), rest)),
        [first, tens @ b'1'..=b'9', ones @ b'0'..=b'9', b'\r', b'\n', rest @ ..] if *first == kind => {
            Some((digit(tens) * 10 + digit(ones), rest))
        }
        [first, digits @ ..] if *first == kind => long_number(digits),
        _ => None,
    }
}

fn long_number(digits: &[u8]) -> Option<(usize, &[u8])> {
    let mut value: usize = 0;
    for (at, byte) in digits.iter().enumerate() {
        match byte {
            b'0'..=b'9' if at == 0 || value > 0 => {
                value = value.checked_mul(10)?.checked_add(usize::from(byte - b'0'))?;
            }
            b'\r' if at > 0 => return Some((value, digits[at + 1..].strip_prefix(b"\n")?)),
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(mut bytes: &[u8]) -> Option<(Vec<&[u8]>, usize)> {
        let words = Words::take(&mut bytes)?;
        Some((words.collect(), bytes.len()))
    }

    #[test]
    fn commands_are_taken_one_by_one() {
        let two = b"*2\r\n$3\r\nGET\r\n$0\r\n\r\n*1\r\n$4\r\nPI\r\n\r\n";
        assert_eq!(taken(two), Some((vec![&b"GET"[..], b""], 14)));
        assert_eq!(
            taken(&two[two.len() - 14..]),
            Some((vec![&b"PI\r\n"[..]], 0)),
            "a line's end inside a word"
        );
        let long = [b"*11\r\n".to_vec(), b"$12\r\nabcdefghijkl\r\n".repeat(11)].concat();
        assert_eq!(taken(&long), Some((vec![&b"abcdefghijkl"[..]; 11], 0)));
    }

    #[test]
    fn what_is_cut_off_anywhere_is_no_command() {
        let whole = b"*2\r\n$3\r\nGET\r\n$10\r\n0123456789\r\n";
        assert!(taken(whole).is_some());
        for end in 0..whole.len() {
            assert_eq!(taken(&whole[..end]), None, "{end}");
        }
    }

    #[test]
    fn what_a_server_would_read_otherwise_is_no_command() {
        for bytes in [
            &b"PING\r\n"[..],
            b"*0\r\n",
            b"*-1\r\n",
            b"*01\r\n$4\r\nPING\r\n",
            b"*+1\r\n$4\r\nPING\r\n",
            b"* 1\r\n$4\r\nPING\r\n",
            b"*\r\n$4\r\nPING\r\n",
            b"*1\n$4\r\nPING\r\n",
            b"*1\r$4\r\nPING\r\n",
            b"*1\r\n+PING\r\n",
            b"*1\r\n$04\r\nPING\r\n",
            b"*1\r\n$-1\r\n",
            b"*1\r\n$3\r\nPING\r\n",
            b"*1\r\n$5\r\nPING\r\n",
            b"*1\r\n$4\r\nPINGxx",
            b"*1\r\n$4\r\nPING\n\n",
            b"*2\r\n$4\r\nPING\r\n",
            b"*99999999999999999999\r\n$4\r\nPING\r\n",
            b"*18446744073709551615\r\n$4\r\nPING\r\n",
            b"*1\r\n$18446744073709551615\r\nPING\r\n",
        ] {
            assert_eq!(taken(bytes), None, "{}", bytes.escape_ascii());
        }
    }
}
