//! Where a message ends. The framer sees the bytes from the message's beginning on, as often as more have come, and
//! looks at each of them once.

use std::ops::Range;

use super::head::Head;
use super::line::RequestLine;

/// The hot routes, as the framer asks for them.
pub trait Routes {
    /// What stands for a route that was found.
    type Route;
    /// Why the routes could not be asked.
    type Error;

    /// The hot route of a decoded path, and the bytes that a body may have; None for a path of others.
    fn find(&self, path: &str) -> Result<Option<(Self::Route, u64)>, Self::Error>;
}

/// A message: its head, and where its parts are.
#[derive(Debug, PartialEq, Eq)]
pub struct Message<R> {
    pub route: R,
    pub line: RequestLine,
    pub head: Head,
    /// The header lines, without the empty one.
    pub headers: Range<usize>,
    pub body: Range<usize>,
}

/// What the bytes so far are.
#[derive(Debug, PartialEq, Eq)]
pub enum Look<R> {
    /// The beginning of a message that may be one for a hot route.
    More,
    /// Another parser's, all of them.
    Foreign,
    /// A message whose body is larger than its route takes. It has not been waited for; `body` is what has come of it.
    TooLarge(Message<R>),
    /// A message for a hot route.
    Whole(Message<R>),
}

enum State<R> {
    Line,
    Headers { line: RequestLine, route: R, most: u64, begin: usize },
    Body(Message<R>),
}

/// Finds the end of one message after the other.
pub struct Framer<R> {
    most_head: usize,
    state: State<R>,
    /// Where the line begins that is read.
    line: usize,
    /// How far it was searched for its end.
    seen: usize,
}

impl<R> Framer<R> {
    /// `most_head`: the bytes that a head may have. A longer one is another parser's.
    pub fn new(most_head: usize) -> Self {
        Self { most_head, state: State::Line, line: 0, seen: 0 }
    }

    /// Whether a head was for a hot route, and its body is waited for.
    pub fn is_in_body(&self) -> bool {
        matches!(self.state, State::Body(_))
    }

    /// Looks at all bytes of a message so far. After any answer but [`Look::More`] the next call begins a message.
    ///
    /// # Errors
    /// What the routes said. The next call begins a message.
    pub fn look<S: Routes<Route = R>>(&mut self, bytes: &[u8], routes: &S) -> Result<Look<R>, S::Error> {
        let look = self.go_on(bytes, routes);
        if !matches!(look, Ok(Look::More)) {
            *self = Self::new(self.most_head);
        }
        look
    }

    fn go_on<S: Routes<Route = R>>(&mut self, bytes: &[u8], routes: &S) -> Result<Look<R>, S::Error> {
        loop {
            match std::mem::replace(&mut self.state, State::Line) {
                State::Line => {
                    let line = match self.next_line(bytes) {
                        Line::Whole(line) => line,
                        Line::More => return Ok(Look::More),
                        Line::Odd => return Ok(Look::Foreign),
                    };
                    let Some(line) = RequestLine::read(&bytes[line]) else { return Ok(Look::Foreign) };
                    let Some((route, most)) = routes.find(&line.path)? else { return Ok(Look::Foreign) };
                    self.state = State::Headers { line, route, most, begin: self.line };
                }
                State::Headers { line, route, most, begin } => match self.next_line(bytes) {
                    Line::Odd => return Ok(Look::Foreign),
                    Line::More => {
                        self.state = State::Headers { line, route, most, begin };
                        return Ok(Look::More);
                    }
                    Line::Whole(last) if last.is_empty() => {
                        let Some(head) = Head::read(&bytes[begin..self.line]) else {
                            return Ok(Look::Foreign);
                        };
                        let (headers, length) = (begin..last.start, head.length);
                        let mut message = Message { route, line, head, headers, body: self.line..self.line };
                        if length > most {
                            message.body.end = bytes.len();
                            return Ok(Look::TooLarge(message));
                        }
                        let Some(end) =
                            usize::try_from(length).ok().and_then(|length| self.line.checked_add(length))
                        else {
                            return Ok(Look::Foreign);
                        };
                        message.body.end = end;
                        self.state = State::Body(message);
                    }
                    Line::Whole(_) => self.state = State::Headers { line, route, most, begin },
                },
                State::Body(message) if message.body.end <= bytes.len() => return Ok(Look::Whole(message)),
                State::Body(message) => {
                    self.state = State::Body(message);
                    return Ok(Look::More);
                }
            }
        }
    }

    /// The next line of the head, without its end.
    fn next_line(&mut self, bytes: &[u8]) -> Line {
        let Some(at) = memchr::memchr(b'\n', &bytes[self.seen..]) else {
            self.seen = bytes.len();
            // The end, should it come, lies beyond the limit.
            return if bytes.len() >= self.most_head { Line::Odd } else { Line::More };
        };
        let end = self.seen + at;
        // A line that ends without CR is one line to some parsers, and an error to others.
        if end + 1 > self.most_head || end == self.line || bytes[end - 1] != b'\r' {
            return Line::Odd;
        }
        let line = self.line..end - 1;
        self.line = end + 1;
        self.seen = end + 1;
        Line::Whole(line)
    }
}

enum Line {
    More,
    Odd,
    Whole(Range<usize>),
}

struct Everything;

impl Routes for Everything {
    type Route = ();
    type Error = std::convert::Infallible;

    fn find(&self, path: &str) -> Result<Option<((), u64)>, Self::Error> {
        Ok((path != "/cold").then_some(((), 1000)))
    }
}

/// For the fuzz target: bytes in pieces are framed as they are in one. The first byte says how large the pieces are.
pub fn fuzz_cuts(data: &[u8]) {
    let Some((&size, bytes)) = data.split_first() else { return };
    let size = usize::from(size) + 1;
    let mut once = Framer::new(2000);
    let Ok(whole) = once.look(bytes, &Everything);
    let mut framer = Framer::new(2000);
    let mut end = 0;
    while end < bytes.len() {
        end = (end + size).min(bytes.len());
        let Ok(mut look) = framer.look(&bytes[..end], &Everything);
        match &mut look {
            Look::More => continue,
            // How much of the body has come is what differs.
            Look::TooLarge(message) => message.body.end = bytes.len(),
            Look::Foreign | Look::Whole(_) => {}
        }
        assert_eq!(look, whole, "in pieces of {size}");
        return;
    }
    assert_eq!(whole, Look::More, "in pieces of {size}");
}

#[cfg(test)]
mod tests {
    use super::*;

    const POST: &[u8] = b"POST /hot?x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /";

    fn look(bytes: &[u8]) -> Look<()> {
        let Ok(look) = Framer::new(2000).look(bytes, &Everything);
        look
    }

    fn whole(bytes: &[u8]) -> Message<()> {
        match look(bytes) {
            Look::Whole(message) => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_parts_of_a_message() {
        let message = whole(POST);
        assert_eq!(&POST[message.line.query], b"x");
        assert_eq!(&POST[message.headers], b"Host: a\r\nContent-Length: 3\r\n");
        assert_eq!(&POST[message.body], b"abc");
    }

    #[test]
    fn a_message_comes_byte_by_byte() {
        let mut framer = Framer::new(2000);
        let end = POST.len() - 5;
        for cut in 0..end {
            assert_eq!(framer.look(&POST[..cut], &Everything), Ok(Look::More), "{cut}");
        }
        assert_eq!(framer.look(&POST[..end], &Everything), Ok(Look::Whole(whole(POST))));
    }

    #[test]
    fn a_path_of_others_is_known_by_its_line() {
        assert_eq!(look(b"GET /cold HTTP/1.1"), Look::More);
        assert_eq!(look(b"GET /cold HTTP/1.1\r\n"), Look::Foreign);
    }

    #[test]
    fn lines_end_with_both_characters() {
        for bytes in [
            &b"\n"[..],
            b"\r\n",
            b"GET / HTTP/1.1\n",
            b"GET / HTTP/1.1\r\nHost: a\n",
            b"GET / HTTP/1.1\r\nHost: a\r\n\n",
            b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n",
        ] {
            assert_eq!(look(bytes), Look::Foreign, "{bytes:?}");
        }
    }

    #[test]
    fn a_head_has_a_limit_however_it_comes() {
        let head = |filler: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(filler));
        let filler = 2000 - head(0).len();
        assert_eq!(whole(head(filler).as_bytes()).body, 2000..2000);
        let long = head(filler + 1);
        assert_eq!(look(long.as_bytes()), Look::Foreign);
        assert_eq!(look(&long.as_bytes()[..1999]), Look::More);
        assert_eq!(look(&long.as_bytes()[..2000]), Look::Foreign);
        assert_eq!(look(&[b'x'; 2000]), Look::Foreign);
    }

    #[test]
    fn a_body_above_the_limit_is_not_waited_for() {
        let bytes = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\nab";
        let Look::TooLarge(message) = look(bytes) else { panic!("{:?}", look(bytes)) };
        assert_eq!((message.head.length, &bytes[message.body]), (1001, &b"ab"[..]));
    }

    #[test]
    fn pieces_are_framed_as_the_whole() {
        for size in [0, 1, 2, 7, 30, 255] {
            for bytes in [POST, b"GET /cold HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r"] {
                fuzz_cuts(&[&[size], bytes].concat());
            }
        }
    }
}
