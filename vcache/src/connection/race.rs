//! Connecting to one of several addresses: the next is tried 250 ms after the one before it, or as soon as that failed,
//! and the first that connects wins (RFC 8305). So a dead address in front costs a quarter of a second, not the whole.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_error};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};

/// How long an address has before the next one is tried beside it ("Connection Attempt Delay", RFC 8305 section 5).
const HEAD_START: Duration = Duration::from_millis(250);

/// Addresses in turns of their families, beginning with that of the first (RFC 8305 section 4).
pub(super) fn in_turns(addresses: impl IntoIterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut addresses: Vec<_> = addresses.into_iter().collect();
    let Some(first_is_v4) = addresses.first().map(SocketAddr::is_ipv4) else { return addresses };
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for address in addresses.drain(..) {
        if address.is_ipv4() == first_is_v4 { first.push(address) } else { second.push(address) }
    }
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    loop {
        let pair = (first.next(), second.next());
        if pair == (None, None) {
            return addresses;
        }
        addresses.extend([pair.0, pair.1].into_iter().flatten());
    }
}

/// A socket that is connected to one of the addresses, and which one. Blocking, for connector threads.
pub(super) fn connect(addresses: &[SocketAddr], until: Instant) -> io::Result<(OwnedFd, SocketAddr)> {
    let mut rest = addresses.iter();
    let mut under_way: Vec<(OwnedFd, SocketAddr)> = Vec::new();
    let mut failure: Option<io::Error> = None;
    let mut start_next = Instant::now();
    loop {
        if Instant::now() >= start_next || under_way.is_empty() {
            match rest.next() {
                Some(&address) => match begin(address) {
                    Ok(socket) => {
                        under_way.push((socket, address));
                        start_next = Instant::now() + HEAD_START;
                    }
                    Err(error) => {
                        failure.get_or_insert(error);
                        continue;
                    }
                },
                None if under_way.is_empty() => return Err(failure.unwrap_or_else(no_address)),
                None => start_next = until,
            }
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(failure.unwrap_or_else(|| io::ErrorKind::TimedOut.into()));
        }
        let mut index = 0;
        for is_over in wait(&under_way, start_next.saturating_duration_since(Instant::now()).min(left))? {
            if !is_over {
                index += 1;
                continue;
            }
            let (socket, address) = under_way.remove(index);
            match socket_error(&socket)? {
                Ok(()) => return Ok((socket, address)),
                // It was connected, and reset at once by a server that said why.
                Err(_) if has_words(&socket) => return Ok((socket, address)),
                Err(error) => {
                    failure.get_or_insert(error.into());
                    start_next = Instant::now();
                }
            }
        }
    }
}

fn has_words(socket: &OwnedFd) -> bool {
    use rustix::net::{RecvFlags, recv};
    recv(socket, &mut [0_u8; 1][..], RecvFlags::PEEK | RecvFlags::DONTWAIT).is_ok_and(|(count, _)| count > 0)
}

fn no_address() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the host name has no address")
}

/// Begins to connect.
fn begin(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = new_socket(family, true)?;
    match rustix::net::connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => Ok(socket),
        Err(error) => Err(error.into()),
    }
}

/// A socket that no program which is started meanwhile inherits.
#[cfg(not(target_vendor = "apple"))]
fn new_socket(family: AddressFamily, non_blocking: bool) -> io::Result<OwnedFd> {
    use rustix::net::{SocketFlags, socket_with};
    let flags = if non_blocking { SocketFlags::NONBLOCK } else { SocketFlags::empty() };
    Ok(socket_with(family, SocketType::STREAM, flags | SocketFlags::CLOEXEC, None)?)
}

#[cfg(target_vendor = "apple")]
fn new_socket(family: AddressFamily, non_blocking: bool) -> io::Result<OwnedFd> {
    let socket = rustix::net::socket(family, SocketType::STREAM, None)?;
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
    rustix::net::sockopt::set_socket_nosigpipe(&socket, true)?;
    if non_blocking {
        rustix::io::ioctl_fionbio(&socket, true)?;
    }
    Ok(socket)
}

/// For each of the sockets whether its attempt is over.
fn wait(under_way: &[(OwnedFd, SocketAddr)], at_most: Duration) -> io::Result<Vec<bool>> {
    let mut watched: Vec<_> =
        under_way.iter().map(|(socket, _)| PollFd::new(socket, PollFlags::OUT)).collect();
    let timeout = Timespec::try_from(at_most).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
    match rustix::event::poll(&mut watched, Some(&timeout)) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(watched.iter().map(|socket| !socket.revents().is_empty()).collect())
}

/// NOTE: not `UnixStream::connect`, which waits without end for a server that does not accept.
pub(super) fn connect_unix(path: &std::path::Path, timeout: Duration) -> io::Result<OwnedFd> {
    let address = SocketAddrUnix::new(path)?;
    let socket = new_socket(AddressFamily::UNIX, false)?;
    set_socket_timeout(&socket, Timeout::Send, Some(timeout))?;
    match rustix::net::connect(&socket, &address) {
        Ok(()) => Ok(socket),
        Err(Errno::AGAIN) => Err(io::ErrorKind::TimedOut.into()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// Within this, or the test hangs.
    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    /// A listener whose queue is full, so that no further connection gets an answer; and what fills it.
    fn black_hole() -> (OwnedFd, SocketAddr, Vec<OwnedFd>) {
        let listener = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        rustix::net::bind(&listener, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let address = SocketAddr::try_from(rustix::net::getsockname(&listener).unwrap()).unwrap();
        let mut held = Vec::new();
        loop {
            let socket = begin(address).unwrap();
            let attempt = [(socket, address)];
            let over = wait(&attempt, Duration::from_millis(200)).unwrap()[0];
            held.extend(attempt.map(|(socket, _)| socket));
            if !over {
                return (listener, address, held);
            }
        }
    }

    #[test]
    fn addresses_take_turns() {
        let parse =
            |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<SocketAddr>>();
        let mixed = parse(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"]);
        let turns = parse(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"]);
        assert_eq!(in_turns(mixed), turns);
        assert_eq!(in_turns([]), []);
    }

    #[test]
    fn an_address_that_does_not_answer_does_not_keep_the_next_one_waiting() {
        let (_listener, dead, _held) = black_hole();
        let alive = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = alive.local_addr().unwrap();
        let begun = Instant::now();
        let (socket, found) = connect(&[dead, address], soon()).unwrap();
        assert_eq!(found, address);
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        assert_eq!(TcpStream::from(socket).peer_addr().unwrap(), address);
    }

    #[test]
    fn an_address_that_refuses_is_followed_by_the_next_at_once() {
        let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let alive = TcpListener::bind("127.0.0.1:0").unwrap();
        let (_, found) = connect(&[gone, alive.local_addr().unwrap()], soon()).unwrap();
        assert_eq!(found, alive.local_addr().unwrap());
        let error = connect(&[gone], soon()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn no_answer_at_all_ends_at_the_deadline() {
        let (_listener, dead, _held) = black_hole();
        let error = connect(&[dead], Instant::now() + Duration::from_millis(300)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
