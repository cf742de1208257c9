//! What a server may do on a session, played by rustls' own server: new keys, records of every size, a narrow line, a lost
//! line, a second visit.

use std::io::{self, IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustix::net::sockopt;
use rustls::pki_types::PrivateKeyDer;
use rustls::{HandshakeKind, ServerConfig, ServerConnection, StreamOwned};

use super::*;

const PATIENCE: Duration = Duration::from_secs(30);

type Served = StreamOwned<ServerConnection, TcpStream>;

/// A server with a certificate for `localhost`, and settings that trust it.
struct Server {
    listener: TcpListener,
    config: Arc<ServerConfig>,
    tls: Tls,
}

impl Server {
    fn new() -> Self {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(settings::provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        Self {
            listener: TcpListener::bind("127.0.0.1:0").unwrap(),
            config: Arc::new(config),
            tls: Tls { ca_text: Some(cert.pem()), ..Tls::default() },
        }
    }

    /// Takes one connection, and has `serve` serve it.
    fn serve<T: Send + 'static>(
        &self,
        serve: impl FnOnce(&mut Served) -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let listener = self.listener.try_clone().unwrap();
        let session = ServerConnection::new(Arc::clone(&self.config)).unwrap();
        thread::spawn(move || {
            let (socket, _) = listener.accept().unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut served = StreamOwned::new(session, socket);
            while served.conn.is_handshaking() {
                served.conn.complete_io(&mut served.sock).unwrap();
            }
            serve(&mut served)
        })
    }

    /// Connects, with `prepare` done to the socket before.
    fn connect(&self, prepare: impl FnOnce(&OwnedFd)) -> TlsSocket {
        let socket = OwnedFd::from(TcpStream::connect(self.listener.local_addr().unwrap()).unwrap());
        prepare(&socket);
        let connected = TlsSocket::connect(Socket::new(socket), &self.tls, &["localhost"], until());
        connected.unwrap_or_else(|failure| match failure {
            Failure::Io(error) => panic!("{error}"),
            Failure::Refused(words) => panic!("{words}"),
        })
    }
}

fn until() -> Instant {
    Instant::now() + PATIENCE
}

/// Reads so many bytes, `piece` at a time.
fn read(tls: &mut TlsSocket, count: usize, piece: usize) -> Vec<u8> {
    let mut all = Vec::with_capacity(count);
    let mut into = vec![0; piece];
    while all.len() < count {
        let got = tls.read(&mut into).unwrap();
        assert_ne!(got, 0, "the server went away");
        all.extend_from_slice(&into[..got]);
    }
    all
}

fn noise(count: usize) -> Vec<u8> {
    let mut state = 1u64;
    let byte = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    (0..count).map(byte).collect()
}

#[test]
fn either_side_may_take_new_keys_at_any_time() {
    let server = Server::new();
    let served = server.serve(|served| {
        for _ in 0..50 {
            served.write_all(b"before").unwrap();
            // It asks the client to do the same, which goes with what the client writes next.
            served.conn.refresh_traffic_keys().unwrap();
            served.write_all(b"after").unwrap();
            served.flush().unwrap();
            let mut word = [0; 4];
            served.read_exact(&mut word).unwrap();
            assert_eq!(&word, b"last");
        }
    });
    let mut client = server.connect(|_| {});
    for _ in 0..50 {
        assert_eq!(read(&mut client, 11, 64), b"beforeafter");
        client.session.refresh_traffic_keys().unwrap();
        assert_eq!(client.write(&[IoSlice::new(b"la"), IoSlice::new(b"st")]).unwrap(), 4);
    }
    served.join().unwrap();
}

#[test]
fn a_record_is_read_in_pieces_of_any_size() {
    for piece in [1, 7, 16 * 1024, 100_000] {
        let server = Server::new();
        let sent = noise(200_000);
        let served = server.serve({
            let sent = sent.clone();
            move |served| {
                served.write_all(&sent).unwrap();
                served.flush().unwrap();
                let _ = served.read(&mut [0]);
            }
        });
        let mut client = server.connect(|_| {});
        assert_eq!(read(&mut client, sent.len(), piece), sent, "{piece}");
        drop(client);
        served.join().unwrap();
    }
}

#[test]
fn what_is_left_of_a_record_is_told() {
    let server = Server::new();
    let served = server.serve(|served| {
        served.write_all(b"0123456789").unwrap();
        served.flush().unwrap();
        let _ = served.read(&mut [0]);
    });
    let mut client = server.connect(|_| {});
    assert_eq!(read(&mut client, 4, 4), b"0123");
    // No poller would tell of these.
    assert!(client.holds_bytes() && client.may_have_more());
    assert_eq!(read(&mut client, 6, 6), b"456789");
    drop(client);
    served.join().unwrap();
}

#[test]
fn a_narrow_line_gets_all_bytes_in_order() {
    let server = Server::new();
    let sent = noise(3_000_000);
    let count = sent.len();
    let served = server.serve(move |served| {
        let mut all = Vec::with_capacity(count);
        let mut piece = [0; 5_000];
        while all.len() < count {
            // Now and then it is slower than the client.
            if all.len() % 7 == 0 {
                thread::sleep(Duration::from_millis(1));
            }
            let got = served.read(&mut piece).unwrap();
            assert_ne!(got, 0);
            all.extend_from_slice(&piece[..got]);
        }
        all
    });
    let mut client = server.connect(|socket| sockopt::set_socket_send_buffer_size(socket, 4_096).unwrap());
    rustix::io::ioctl_fionbio(&client.socket, true).unwrap();
    let (mut rest, mut was_full) = (&sent[..], false);
    while !rest.is_empty() || client.has_unsent() {
        let (head, tail) = rest.split_at(rest.len() / 3);
        let outcome = match rest {
            [] => client.flush().map(|()| 0),
            _ => client.write(&[IoSlice::new(head), IoSlice::new(tail)]),
        };
        match outcome {
            Ok(taken) => rest = &rest[taken..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                was_full = true;
                thread::sleep(Duration::from_millis(1));
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(was_full, "the line was not narrow");
    assert_eq!(served.join().unwrap(), sent);
}

#[test]
fn a_second_visit_resumes_the_session() {
    let server = Server::new();
    let visit = || {
        let served = server.serve(|served| {
            served.write_all(b"hello").unwrap();
            served.flush().unwrap();
            let _ = served.read(&mut [0]);
            served.conn.handshake_kind()
        });
        let mut client = server.connect(|_| {});
        assert_eq!(read(&mut client, 5, 64), b"hello");
        drop(client);
        served.join().unwrap()
    };
    assert_eq!(visit(), Some(HandshakeKind::Full));
    assert_eq!(visit(), Some(HandshakeKind::Resumed));
    assert_eq!(visit(), Some(HandshakeKind::Resumed));
}

#[test]
fn what_came_before_a_lost_line_is_read() {
    let server = Server::new();
    let served = server.serve(|served| {
        served.write_all(b"whole").unwrap();
        served.flush().unwrap();
        // It goes without a farewell.
    });
    let mut client = server.connect(|_| {});
    served.join().unwrap();
    assert_eq!(read(&mut client, 5, 64), b"whole");
    assert_eq!(client.read(&mut [0; 64]).unwrap(), 0);
}

#[test]
fn bytes_that_are_no_record_end_it_in_words() {
    let server = Server::new();
    let served = server.serve(|served| {
        served.write_all(b"whole").unwrap();
        served.flush().unwrap();
        served.sock.write_all(b"-ERR not TLS any more\r\n").unwrap();
        let _ = served.read(&mut [0]);
    });
    let mut client = server.connect(|_| {});
    assert_eq!(read(&mut client, 5, 64), b"whole");
    let error = client.read(&mut [0; 64]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert!(error.to_string().contains("does not speak TLS"), "{error}");
    drop(client);
    served.join().unwrap();
}

#[test]
fn bytes_that_were_taken_count_as_sent_and_the_next_call_tells_that_they_are_lost() {
    let server = Server::new();
    let served =
        server.serve(|served| sockopt::set_socket_linger(&served.sock, Some(Duration::ZERO)).unwrap());
    let mut client = server.connect(|_| {});
    // The server goes by a reset.
    served.join().unwrap();
    let begun = Instant::now();
    let error = loop {
        match client.write(&[IoSlice::new(b"SET k v")]) {
            Ok(taken) => assert_eq!(taken, 7),
            Err(error) => break error,
        }
        assert!(begun.elapsed() < PATIENCE);
    };
    assert!(matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe), "{error}");
}

#[test]
fn a_forked_child_says_no_farewell_on_its_parents_session() {
    crate::fork::watch();
    let server = Server::new();
    let served = server.serve(|served| {
        let mut got = [0; 5];
        served.read_exact(&mut got).unwrap();
        got
    });
    let mut client = server.connect(|_| {});
    // SAFETY: the child drops what it has of the session, and leaves at once.
    match unsafe { libc::fork() } {
        0 => {
            drop(client);
            // SAFETY: it ends the child without running what belongs to the parent.
            unsafe { libc::_exit(0) }
        }
        child => {
            let mut status = -1;
            // SAFETY: the child is ours, and the place for its status too.
            unsafe { libc::waitpid(child, &raw mut status, 0) };
            assert_eq!(status, 0);
        }
    }
    assert_eq!(client.write(&[IoSlice::new(b"still")]).unwrap(), 5);
    assert_eq!(&served.join().unwrap(), b"still");
}
