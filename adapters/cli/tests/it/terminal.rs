//! What a person sees on a terminal of 80 columns.

use std::{
    fs::File,
    io::{Read, Write},
    process::{Child, Command},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{Mode, OFlags},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

use crate::{
    server::{Does, Server, words},
    world::{Folder, Node, PATIENCE},
};

/// A process on a terminal of its own.
struct Terminal {
    child: Child,
    keys: File,
    screen: Receiver<Vec<u8>>,
    /// All that was written to it.
    bytes: Vec<u8>,
}

impl Terminal {
    fn start(mut command: Command) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("mine");
        tcsetwinsize(&master, Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 }).expect("a size");
        let name = ptsname(&master, Vec::new()).expect("a name");
        let slave = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).expect("its other side");
        let side = || File::from(slave.try_clone().expect("a handle"));
        let child = command.stdin(side()).stdout(side()).stderr(side()).spawn().expect("haggle");
        let keys = File::from(master);
        let mut reader = keys.try_clone().expect("a handle");
        let (sender, screen) = channel();
        thread::spawn(move || {
            let mut buffer = [0; 4_096];
            // The last reader on the other side is gone: an error.
            while let Ok(n @ 1..) = reader.read(&mut buffer) {
                if sender.send(buffer[..n].to_vec()).is_err() {
                    return;
                }
            }
        });
        Terminal { child, keys, screen, bytes: Vec::new() }
    }

    fn types(&mut self, text: &str) {
        self.keys.write_all(text.as_bytes()).expect("it listens");
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// Waits until the screen was sent a text, and gives all until its end.
    fn until(&mut self, text: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let shown = self.shown();
            if let Some(at) = shown.find(text) {
                return shown[..at + text.len()].to_owned();
            }
            match self.screen.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.bytes.extend(bytes),
                Err(_) => panic!("{text:?} is not in {shown:?}"),
            }
        }
    }

    fn over(mut self) -> String {
        let status = self.child.wait().expect("a child");
        while let Ok(bytes) = self.screen.recv_timeout(Duration::from_millis(500)) {
            self.bytes.extend(bytes);
        }
        assert!(status.success(), "{status}: {}", self.shown());
        self.shown()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const ERASE: &str = "\r\x1b[2K";

#[test]
fn who_waits_sees_whom_for_and_the_line_vanishes() {
    let server = Server::start(Does::SlowFirst(Duration::from_secs(4)));
    let serve = Node::start(&["serve", "--upstream", &server.url(), "--model", "m"]);
    let folder = Folder::new();
    let ask = ["ask", "--provider", &serve.address, "--model", "m", "--chat", "--max-tokens", "2", "Hi"];
    let mut terminal = Terminal::start(folder.haggle(&ask));
    let name = &serve.peer[serve.peer.len() - 8..];
    terminal.until(&format!("waiting for …{name}: first token ... 0 s"));
    // The provider says that it works, and at what.
    let waits = format!("waiting: …{name} loads the model ... 1 s");
    terminal.until(&waits);
    let shown = terminal.over();
    let (_, after) = shown.split_once(&waits).expect("seen");
    // It is taken back before the first word, and the bill begins a line of its own.
    let (before, bill) = after.split_once("word 0 word 1").expect("the answer");
    assert!(before.contains(ERASE), "{before:?}");
    assert!(bill.trim_start_matches(' ').starts_with("\r\n\r\n") && bill.contains("settlement: none"), "{bill:?}");
    assert!(!bill.contains("waiting"), "{bill:?}");
}

#[test]
fn a_strangers_answer_cannot_command_a_terminal() {
    let server = Server::start(Does::Says(&["a\x1b]0;title\x07b\x1b[2J", "\u{202e}c"]));
    let serve = Node::start(&["serve", "--upstream", &server.url(), "--model", "m"]);
    let folder = Folder::new();
    // Not even if a program is said to read it: none does.
    let ask = ["ask", "--raw", "--provider", &serve.address, "--model", "m", "--chat", "Hi"];
    let shown = Terminal::start(folder.haggle(&ask)).over();
    assert!(shown.contains("a\u{fffd}]0;title\u{fffd}b\u{fffd}[2J\u{fffd}c"), "{shown:?}");
    let own = ["\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[32m", "\x1b[2K"];
    let rest = own.iter().fold(shown, |shown, own| shown.replace(own, ""));
    assert!(!rest.contains('\x1b'), "{rest:?}");
}

#[test]
fn a_dumb_terminal_gets_nothing_but_text() {
    let server = Server::start(Does::SlowFirst(Duration::from_secs(2)));
    let serve = Node::start(&["serve", "--upstream", &server.url(), "--model", "m"]);
    let folder = Folder::new();
    let ask = ["ask", "--provider", &serve.address, "--model", "m", "--chat", "--max-tokens", "2", "Hi"];
    let mut ask = folder.haggle(&ask);
    ask.env("TERM", "dumb");
    let shown = Terminal::start(ask).over();
    assert!(shown.contains("word 0 word 1") && !shown.contains('\x1b'), "{shown:?}");
}

#[test]
fn a_talk_on_a_terminal() {
    let server = Server::start(Does::Writes);
    let serve = Node::start(&["serve", "--upstream", &server.url(), "--model", "m", "--price-out", "1000000"]);
    let folder = Folder::new();
    let chat = ["chat", "--provider", &serve.address, "--model", "m", "--max-tokens", "2", "--budget", "9"];
    let mut terminal = Terminal::start(folder.haggle(&chat));
    terminal.until("\r\n> ");
    terminal.types("Hello\n");
    terminal.until("2 of 9 units for this talk");
    terminal.types("And then?\n");
    terminal.until("4 of 9 units for this talk");
    // Ctrl-D.
    terminal.types("\x04");
    let shown = terminal.over();
    assert_eq!(shown.matches(words(2).trim_end()).count(), 2, "{shown:?}");
    let asked = server.asked().pop().expect("it was asked");
    assert_eq!(asked["messages"][1]["content"], words(2), "{asked}");
}

#[test]
fn the_key_of_ctrl_c_ends_the_answer_and_the_next_turn_knows_it() {
    let server = Server::start(Does::Stalls);
    let serve = Node::start(&["serve", "--upstream", &server.url(), "--model", "m", "--price-out", "1000000"]);
    let folder = Folder::new();
    let chat = ["chat", "--provider", &serve.address, "--model", "m", "--max-tokens", "4", "--budget", "99"];
    // A key is a signal on the terminal that rules a session only.
    let mut command = Command::new("setsid");
    folder.prepare(&mut command);
    command.env("HAGGLE_ENABLE_MDNS", "false").args(["-c", env!("CARGO_BIN_EXE_haggle")]).args(chat);
    let mut terminal = Terminal::start(command);
    terminal.until("\r\n> ");
    terminal.types("Hello\n");
    terminal.until("word 0");
    server.does(Does::Writes);
    terminal.types("\x03");
    terminal.until("of 99 units for this talk");
    terminal.types("And then?\n");
    terminal.until("4 written");
    terminal.types("/bye\n");
    let shown = terminal.over();
    assert!(shown.lines().all(|line| line.chars().count() <= 80 || line.contains('\x1b')), "{shown:?}");
    let asked = server.asked().pop().expect("it was asked");
    let said = |at: usize| asked["messages"][at]["content"].as_str().expect("a text").to_owned();
    assert!(said(0) == "Hello" && said(1).starts_with("word 0") && said(2) == "And then?", "{asked}");
}
