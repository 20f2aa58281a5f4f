//! Several models of one provider, and prices that change while it runs.

use serde_json::{Value, json};

use crate::{
    server::{Does, Server, words},
    world::{Folder, Node, Running, run},
};

const PROMPT: &str = "Once upon a time";

#[test]
fn a_hangup_changes_prices_and_models_and_loses_no_job() {
    let (folder, server) = (Folder::new(), Server::start(Does::Writes));
    let file = folder.file("haggle.toml", "tokens_per_second = 50\nprice_out = \"1\"\n");
    let mut serve = Node::start(&["serve", "--config", file.to_str().expect("text"), "--slots", "2"]);
    let ask = |args: &[&str]| folder.haggle(&[&["ask", "--provider", &serve.address, "--budget", "9"], args].concat());
    let mut running = Running::spawn(ask(&["--max-tokens", "60", "--seed", "1", PROMPT]));
    running.wait_for_output();
    let models = format!(
        "tokens_per_second = 50\n[[models]]\nmodel = \"haggle-tiny-stories\"\nprice_out = \"1000\"\n\
         [[models]]\nmodel = \"words\"\naliases = [\"talk\"]\nprice_out = \"500\"\nslots = 3\nupstream = {:?}\n\
         tokens_per_second = 0\n",
        server.url()
    );
    std::fs::write(&file, models).expect("written");
    serve.process.signal("HUP");
    serve.process.wait_for_log("changed: models, price_out");
    // What runs ends at the price that was agreed, what comes then has the new one.
    running.over().says(0, &["60 written", "owed 0.00006 units"]);
    run(ask(&["--max-tokens", "10", "--seed", "1", PROMPT])).says(0, &["owed 0.01 units"]);
    let over = run(ask(&["--model", "talk", "--max-tokens", "4", "--chat", "Hi"]));
    over.says(0, &["owed 0.002 units"]);
    assert_eq!(over.out, words(4));
    let seen = run(folder.haggle(&["discover", "--json", "--provider", &serve.address, "--model", "words"]));
    assert!(seen.out.contains("\"slots\":4"), "{}", seen.out);

    // What cannot be sold changes nothing.
    std::fs::write(&file, "[[models]]\nmodel = \"no-such\"\n").expect("written");
    serve.process.signal("HUP");
    serve.process.wait_for_log("stay as they were");
    run(ask(&["--model", "words", "--max-tokens", "4", "--chat", "Hi"])).exits(0);
    // And what is not sold any more is not.
    std::fs::write(&file, "price_out = \"1\"\n").expect("written");
    serve.process.signal("HUP");
    serve.process.wait_for_log("changed: models, price_out, tokens_per_second");
    run(ask(&["--model", "words", "--max-tokens", "4", "--chat", "Hi"])).exits(4);
    run(ask(&["--max-tokens", "4", PROMPT])).exits(0);
    serve.process.signal("TERM");
    serve.process.over().exits(0);
}

#[test]
fn several_models_are_sold_by_flags_each_at_its_own_price() {
    let (folder, server) = (Folder::new(), Server::start(Does::Writes));
    let serve = ["serve", "--price-in", "1", "--model", "haggle-tiny-stories", "--alias", "tales", "--price-out", "2"];
    let words = ["--model", "words", "--upstream", &server.url(), "--price-out", "3", "--slots", "2"];
    let mut serve = Running::spawn(folder.haggle(&[&serve[..], &words, &["--json"]].concat()));
    let said = serve.json();
    let of =
        |key: &str| said["models"].as_array().expect("models").iter().map(|one| one[key].clone()).collect::<Value>();
    assert_eq!(of("model"), json!(["haggle-tiny-stories", "words"]));
    assert_eq!((of("price_in"), of("price_out"), of("slots")), (json!(["1", "1"]), json!(["2", "3"]), json!([1, 2])));
    let address = said["addresses"][0].as_str().expect("an address").to_owned();
    for (model, kind) in [("tales", "--max-tokens=3"), ("words", "--chat")] {
        let ask = ["ask", "--provider", &address, "--budget", "1", "--max-tokens", "3", "--model", model];
        let ask = if kind == "--chat" { [&ask[..], &["--chat"]].concat() } else { ask.to_vec() };
        run(folder.haggle(&[&ask[..], &["Hi"]].concat())).exits(0);
    }
    let over = run(folder.haggle(&["serve", "--model", "a", "--slots", "1", "--slots", "2", "--model", "b"]));
    over.says(2, &["--slots is given twice"]);
}

#[test]
fn a_table_that_cannot_be_sold_is_told_with_its_place() {
    let folder = Folder::new();
    for (text, code, says) in [
        ("[[models]]\nprise_out = \"1\"\n", 3, &["models[0].prise_out", "did you mean price_out"][..]),
        ("[[models]]\nprice_out = \"-1\"\n", 3, &["price_out", "negative", "models[0]"]),
        ("[[models]]\ndrain = \"1s\"\n", 3, &["models[0].drain", "no such setting"]),
        ("[[models]]\n[[models]]\n", 3, &["\"haggle-tiny-stories\" is sold twice"]),
        ("[[models]]\nmodel = \"gpt\"\n", 2, &["\"gpt\" is not part of this program"]),
        ("models = [1]\n", 3, &["models:"]),
    ] {
        let file = folder.file("models.toml", text);
        run(folder.haggle(&["serve", "--config", file.to_str().expect("text")])).says(code, says);
    }
    // A flag stands above what a table says, and what is shown is TOML.
    let file = folder.file("models.toml", "[[models]]\nprice_out = \"1\"\naliases = [\"x\"]\n");
    let file = file.to_str().expect("text");
    let mut serve = Running::spawn(folder.haggle(&["serve", "--json", "--config", file, "--price-out", "2"]));
    assert_eq!(serve.json()["models"][0]["price_out"], "2");
    let shown = run(folder.haggle(&["config", "--config", file]));
    let again = folder.file("again.toml", &shown.out);
    let again = run(folder.haggle(&["config", "--json", "--config", again.to_str().expect("text")]));
    again.exits(0);
    assert_eq!(again.json()["settings"]["models"]["value"], json!([{"price_out": "1", "aliases": ["x"]}]));
}
