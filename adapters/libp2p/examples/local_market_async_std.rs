//! A market of two nodes on 127.0.0.1, on async-std: one sells the model that comes with haggle, the other buys a story.
use std::{error::Error, sync::Arc};

use haggle::engine::{Llama, TINY_STORIES};
use haggle::{Config, JobSpec, Model, Node, Prompt, Sale, runtime::Runtime};

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = haggle::AsyncStd;
    runtime.block_on(async {
        let local = Config { enable_mdns: false, enable_dht: false, ..Config::default() };
        let config = Config { listen_addresses: vec!["/ip4/127.0.0.1/tcp/0".into()], ..local.clone() };
        let sale = Sale { price_out: 500_000, ..Sale::new(Arc::new(Llama::tiny_stories()?)) };
        let seller = Node::builder(config).sell(sale).start(runtime.clone()).await?;

        let config = Config { providers: vec![seller.listen_addresses()[0].to_string()], ..local };
        let buyer = Node::start(config, runtime.clone()).await?;
        let model = Model::new(TINY_STORIES.as_bytes()).ok_or("no name")?;
        let spec = JobSpec::new(model, Prompt::Raw("Once upon a time".into()), 60);
        let answer = buyer.submit(JobSpec { budget: Some(1_000), ..spec }).await?.answer().await?;
        println!("Once upon a time{}\n{} micro-units are owed.", answer.text, answer.receipt.bill.owed);
        Ok(())
    })
}
