//! Models from files.

use crate::world::{Folder, Node, run};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../engine/model/haggle-tiny-stories.gguf");

#[test]
fn a_model_file_is_sold_under_its_own_name_or_another() {
    let folder = Folder::new();
    let ask = |node: &Node, model: &str| {
        let args = ["ask", "--provider", &node.address, "--model", model, "--seed", "5", "--max-tokens", "20", "Hello"];
        let over = run(folder.haggle(&args));
        over.exits(0);
        over.out
    };
    let embedded = Node::start(&["serve"]);
    let own = Node::start(&["serve", "--model-file", FILE]);
    let other = Node::start(&["serve", "--model-file", FILE, "--model", "tales", "--threads", "2", "--context", "100"]);
    let expected = ask(&embedded, "haggle-tiny-stories");
    assert_eq!(ask(&own, "haggle-tiny-stories"), expected);
    assert_eq!(ask(&other, "tales"), expected);

    let mut wide = Node::start(&["serve", "--context", "999999"]);
    wide.process.wait_for_log("--context 999999: the model takes 1024 tokens at most");
    let seen = run(folder.haggle(&["discover", "--json", "--provider", &other.address, "--model", "tales"]));
    seen.exits(0);
    assert!(seen.out.contains("\"context\":100"), "{}", seen.out);
}

#[test]
fn a_file_that_is_no_model_is_told_before_anything_starts() {
    let folder = Folder::new();
    let text = folder.file("text.gguf", "not a model").display().to_string();
    let whole = std::fs::read(FILE).expect("the embedded model");
    let cut = folder.file("cut.gguf", &whole[..whole.len() / 2]).display().to_string();
    for (file, told) in
        [("no/such.gguf", "no/such.gguf"), (".", "not a regular file"), (&text, "GGUF"), (&cut, "early")]
    {
        run(folder.haggle(&["serve", "--model-file", file])).says(2, &[told]);
    }
}

/// Needs the file that README tells how to get; its path in the variable.
#[test]
fn smollm2_knows_the_capital_of_france() {
    let Ok(file) = std::env::var("HAGGLE_SMOLLM2") else {
        eprintln!("SKIPPED: set HAGGLE_SMOLLM2 to the path of SmolLM2-135M-Instruct.Q4_1.gguf (see README)");
        return;
    };
    let node = Node::start(&["serve", "--model-file", &file, "--model", "smollm2-135m"]);
    let folder = Folder::new();
    let question = "What is the capital of France?";
    let ask = ["ask", "--provider", &node.address, "--model", "smollm2-135m", "--temperature", "0", "--chat", question];
    let over = run(folder.haggle(&ask));
    over.exits(0);
    assert!(over.out.contains("Paris"), "{}", over.out);
}
