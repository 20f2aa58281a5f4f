//! A provider that is told to read its settings again while many buy from it.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{Sender, channel},
    },
    thread,
};

use serde_json::Value;

use crate::{
    books::{figures, lines},
    server::{Does, Server},
    world::{Folder, Node, Running, run},
};

const PROMPT: &str = "Once upon a time";
const BUYERS: usize = 4;
const ROUNDS: usize = 5;

/// Somebody who buys, again and again, and books it.
struct Buyer<'a> {
    folder: &'a Folder,
    provider: &'a str,
    ledger: PathBuf,
}

impl Buyer<'_> {
    fn ask(&self, args: &[&str]) -> Running {
        let ask = ["ask", "--provider", self.provider, "--budget", "9", "--ledger"];
        let ledger = self.ledger.to_str().expect("text");
        Running::spawn(self.folder.haggle(&[&ask[..], &[ledger], args].concat()))
    }

    /// Tells of each answer when it begins.
    fn buy_until(&self, is_over: &AtomicBool, began: &Sender<()>) {
        while !is_over.load(Ordering::SeqCst) {
            let mut ask = self.ask(&["--max-tokens", "24", "--seed", "1", PROMPT]);
            ask.wait_for_output();
            let _ = began.send(());
            ask.over().says(0, &["24 written"]);
        }
    }

    fn last_price(&self) -> Value {
        lines(&self.ledger).last().expect("a line")["price_out"].clone()
    }
}

/// Sends the buyers home, whatever becomes of the test.
struct Closing<'a>(&'a AtomicBool);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// What is sold in a round: at another price each time, and in every other one a second model.
fn settings(round: usize, server: &Server) -> String {
    let second = match round % 2 {
        0 => String::new(),
        _ => format!(
            "[[models]]\nmodel = \"haggle-tiny-stories\"\n[[models]]\nmodel = \"words\"\nupstream = {:?}\n",
            server.url()
        ),
    };
    format!("slots = 8\ntokens_per_second = 100\nprice_out = \"{}\"\n{second}", round + 1)
}

/// Moves the ledger away, changes the settings, and says so more often than needed.
fn turn_over(serve: &mut Node, ledger: &Path, file: &Path, text: &str, round: usize) {
    fs::rename(ledger, ledger.with_extension(round.to_string())).expect("moved");
    fs::write(file, text).expect("written");
    serve.process.signal("HUP");
    serve.process.signal("HUP");
    // Two hangups may be one to the system; the second finds nothing new.
    loop {
        let said = serve.process.json();
        assert_ne!(said["event"], "reload_failed", "{said}");
        if said["event"] == "reloaded" && said["detail"]["changed"] != serde_json::json!([]) {
            return;
        }
    }
}

#[test]
fn hangups_under_load_lose_no_job_and_no_line() {
    let (folder, server) = (Folder::new(), Server::start(Does::Writes));
    let (file, sold) = (folder.file("haggle.toml", settings(0, &server)), folder.path().join("sold.jsonl"));
    let (file_text, sold_text) = (file.to_str().expect("text"), sold.to_str().expect("text"));
    let mut serve = Node::start(&["serve", "--config", file_text, "--ledger", sold_text]);
    let provider = serve.address.clone();
    let buyer = |name: String| Buyer { folder: &folder, provider: &provider, ledger: folder.path().join(name) };
    let ((began, begins), is_over) = (channel(), AtomicBool::new(false));
    let one = buyer("bought-one.jsonl".into());
    thread::scope(|scope| {
        let closing = Closing(&is_over);
        for n in 0..BUYERS {
            let (began, is_over) = (began.clone(), &is_over);
            let buyer = buyer(format!("bought-{n}.jsonl"));
            scope.spawn(move || buyer.buy_until(is_over, &began));
        }
        drop(began);
        let mut across: Option<Running> = None;
        for round in 1..=ROUNDS {
            // Everybody is in the midst of an answer, or of asking for the next one.
            begins.iter().take(BUYERS).for_each(drop);
            turn_over(&mut serve, &sold, &file, &settings(round, &server), round);
            let last = across.take();
            one.ask(&["--max-tokens", "2", PROMPT]).over().exits(0);
            assert_eq!(one.last_price(), (round + 1).to_string());
            // One whose model is not sold any more before it ends.
            if let Some(words) = last {
                words.over().says(0, &["24 written"]);
            } else if round % 2 == 1 {
                let second = buyer("bought-words.jsonl".into());
                let mut words = second.ask(&["--model", "words", "--max-tokens", "24", "--chat", "Hi"]);
                words.wait_for_output();
                across = Some(words);
            }
        }
        drop(closing);
        across.into_iter().for_each(|words| words.over().says(0, &["24 written"]));
    });
    run(folder.haggle(&["ask", "--provider", &provider, "--model", "words", "--max-tokens", "2", "--chat", "Hi"]))
        .exits(5);
    serve.process.signal("TERM");
    serve.process.over().exits(0);

    let of = |name: &str| {
        let files = fs::read_dir(folder.path()).expect("a folder").map(|entry| entry.expect("one").path());
        let named = |path: &PathBuf| path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(name));
        files.filter(named).flat_map(|path| lines(&path)).collect::<Vec<Value>>()
    };
    let (sold, bought) = (of("sold."), of("bought-"));
    assert!(bought.len() >= BUYERS * ROUNDS, "{}", bought.len());
    assert!(bought.iter().chain(&sold).all(|line| line["outcome"] == "length"), "{bought:?} {sold:?}");
    assert_eq!(figures(&sold), figures(&bought), "each line is there once");
}
