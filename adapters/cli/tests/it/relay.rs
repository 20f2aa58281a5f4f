//! A relay that passes TCP connections on and keeps every byte, and what it must not see.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use crate::world::{Folder, Node, run};

/// What passed, each way. The relay's threads end with their connections and the test.
#[derive(Clone, Default)]
pub(crate) struct Captured {
    pub(crate) to_provider: Arc<Mutex<Vec<u8>>>,
    pub(crate) to_requester: Arc<Mutex<Vec<u8>>>,
}

impl Captured {
    fn saw(&self, text: &str) -> bool {
        [&self.to_provider, &self.to_requester].iter().any(|bytes| {
            let bytes = bytes.lock().expect("not poisoned");
            bytes.windows(text.len()).any(|window| window == text.as_bytes())
        })
    }
}

/// A relay to a node: its address, and what passes through it.
pub(crate) fn relay_to(node: &Node) -> (String, Captured) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (captured, target) = (Captured::default(), node.port());
    let of_thread = captured.clone();
    thread::spawn(move || {
        for from in listener.incoming() {
            let (Ok(from), Ok(to)) = (from, TcpStream::connect(("127.0.0.1", target))) else { return };
            let (Ok(from_again), Ok(to_again)) = (from.try_clone(), to.try_clone()) else { return };
            let (one, other) = (of_thread.to_provider.clone(), of_thread.to_requester.clone());
            thread::spawn(move || pass(from, to, &one));
            thread::spawn(move || pass(to_again, from_again, &other));
        }
    });
    (format!("/ip4/127.0.0.1/tcp/{port}/p2p/{}", node.peer), captured)
}

fn pass(mut from: TcpStream, mut to: TcpStream, captured: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 16 << 10];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        captured.lock().expect("not poisoned").extend_from_slice(&buffer[..n]);
        if to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

#[test]
fn the_wire_tells_neither_prompt_nor_answer_nor_price() {
    // The same figures in every form in which they could cross: as text, and as CBOR's four-byte integers.
    let serve = Node::start(&["serve", "--price-in", "1234.567891", "--price-out", "1987.654321"]);
    let (address, captured) = relay_to(&serve);
    let folder = Folder::new();
    let prompt = "Once upon a time there was a girl called Persimmon";
    let asked = run(folder.haggle(&[
        "ask",
        "--provider",
        &address,
        "--budget",
        "10",
        "--seed",
        "1",
        "--max-tokens",
        "60",
        prompt,
    ]));
    asked.exits(0);
    assert!(asked.out.len() > 60, "an answer: {:?}", asked.out);
    assert!(captured.saw("/noise"), "the capture does see what is in clear");
    let words: Vec<&str> = asked.out.split_whitespace().filter(|word| word.len() > 6).collect();
    for secret in words.into_iter().chain([prompt, "Persimmon", "Once upon", "haggle-tiny-stories", "/haggle/2"]) {
        assert!(!captured.saw(secret), "{secret:?} crossed the wire in clear");
    }
    for price in [1_234_567_891_u32, 1_987_654_321] {
        for bytes in [&captured.to_provider, &captured.to_requester] {
            let bytes = bytes.lock().expect("not poisoned");
            assert!(!bytes.windows(4).any(|window| window == price.to_be_bytes()), "{price} crossed in clear");
        }
    }
    assert!(!captured.saw("1987654321") && !captured.saw("1987.65"));
}
