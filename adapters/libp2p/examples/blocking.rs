//! A market of two nodes on 127.0.0.1 in a program without a word of async: a node runs beside it, on its own threads.
use std::{error::Error, io::Write, sync::Arc};

use futures::executor::block_on_stream;
use haggle::engine::{Llama, TINY_STORIES};
use haggle::{Config, JobEvent, JobSpec, Model, Node, Prompt, Sale, Tokio, runtime::Runtime};

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = Tokio::start()?;
    let local = Config { enable_mdns: false, enable_dht: false, ..Config::default() };
    let config = Config { listen_addresses: vec!["/ip4/127.0.0.1/tcp/0".into()], ..local.clone() };
    let sale = Sale { price_out: 500_000, ..Sale::new(Arc::new(Llama::tiny_stories()?)) };
    let seller = runtime.block_on(Node::builder(config).sell(sale).start(runtime.clone()))?;

    let config = Config { providers: vec![seller.listen_addresses()[0].to_string()], ..local };
    let buyer = runtime.block_on(Node::start(config, runtime.clone()))?;
    let model = Model::new(TINY_STORIES.as_bytes()).ok_or("no name")?;
    let spec = JobSpec::new(model, Prompt::Raw("Once upon a time".into()), 60);
    let job = runtime.block_on(buyer.submit(JobSpec { budget: Some(1_000), ..spec }))?;
    print!("Once upon a time");
    for event in block_on_stream(job) {
        match event? {
            JobEvent::Tokens { text, channel: None, .. } => print!("{text}"),
            JobEvent::Finished(receipt) => println!("\n{} micro-units are owed.", receipt.bill.owed),
            _ => {}
        }
        std::io::stdout().flush()?;
    }
    Ok(())
}
