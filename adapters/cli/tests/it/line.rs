//! A TCP line to a node, which is disturbed once in mid-answer.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU16, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use socket2::SockRef;

/// What befalls every connection that is open when it strikes. Later ones are well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It is closed, as by the end of a process.
    Cut,
    /// It is reset: what is on its way is lost.
    Reset,
    /// Nothing passes for so long.
    Stall(Duration),
    /// Nothing passes any more, and neither side is told.
    Silence,
    /// From the first byte on, everything comes so much later.
    Delay(Duration),
}

struct Shared {
    trouble: Trouble,
    /// It strikes when so many bytes have passed to those who dialled.
    after: u64,
    target: AtomicU16,
    passed: AtomicU64,
    struck: AtomicUsize,
    connections: AtomicUsize,
}

/// The line. Its threads end with their connections and the test.
#[derive(Clone)]
pub(crate) struct Line {
    pub(crate) port: u16,
    shared: Arc<Shared>,
}

/// How soon a thread that waits for bytes notices that its connection was struck.
const GLANCE: Duration = Duration::from_millis(20);

impl Line {
    /// A line that leads nowhere yet.
    pub(crate) fn lay(trouble: Trouble, after: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared {
            trouble,
            after,
            target: AtomicU16::new(0),
            passed: AtomicU64::new(0),
            struck: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
        });
        let of_thread = shared.clone();
        thread::spawn(move || {
            for from in listener.incoming() {
                let target = of_thread.target.load(Ordering::SeqCst);
                let (Ok(from), Ok(to)) = (from, TcpStream::connect(("127.0.0.1", target))) else { continue };
                of_thread.connections.fetch_add(1, Ordering::SeqCst);
                connect(&of_thread, from, to);
            }
        });
        Line { port, shared }
    }

    pub(crate) fn lead_to(&self, port: u16) {
        self.shared.target.store(port, Ordering::SeqCst);
    }

    pub(crate) fn has_struck(&self) -> bool {
        self.shared.struck.load(Ordering::SeqCst) > 0
    }

    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

fn connect(shared: &Arc<Shared>, from: TcpStream, to: TcpStream) {
    let before = shared.struck.load(Ordering::SeqCst);
    let (from, to) = (Arc::new(from), Arc::new(to));
    for (from, to, counts) in [(from.clone(), to.clone(), false), (to, from, true)] {
        let shared = shared.clone();
        let _ = (from.set_nodelay(true), from.set_read_timeout(Some(GLANCE)));
        thread::spawn(move || shared.pass(&from, &to, counts, before));
    }
}

impl Shared {
    /// Passes bytes on until one side ends, or the trouble strikes: then both threads of the connection let go of it.
    fn pass(&self, mut from: &TcpStream, mut to: &TcpStream, counts: bool, mut before: usize) {
        let mut buffer = [0; 16 << 10];
        loop {
            let read = from.read(&mut buffer);
            if self.struck.load(Ordering::SeqCst) > before {
                before = usize::MAX;
                if !self.survives(from) {
                    return;
                }
            }
            let n = match read {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
                Err(_) => break,
            };
            if counts {
                let passed = self.passed.fetch_add(n as u64, Ordering::SeqCst);
                if passed < self.after && self.after <= passed + n as u64 {
                    self.struck.fetch_add(1, Ordering::SeqCst);
                }
            }
            if let Trouble::Delay(delay) = self.trouble {
                thread::sleep(delay);
            }
            if to.write_all(&buffer[..n]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    }

    /// True if the connection that was struck lives on.
    fn survives(&self, mut from: &TcpStream) -> bool {
        match self.trouble {
            Trouble::Delay(_) => return true,
            Trouble::Stall(pause) => {
                thread::sleep(pause);
                return true;
            }
            Trouble::Cut => {}
            // Closing it then sends a reset.
            Trouble::Reset => drop(SockRef::from(from).set_linger(Some(Duration::ZERO))),
            Trouble::Silence => {
                let mut buffer = [0; 16 << 10];
                loop {
                    match from.read(&mut buffer) {
                        Ok(0) => break,
                        Err(error) if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
                        _ => {}
                    }
                }
            }
        }
        false
    }
}
