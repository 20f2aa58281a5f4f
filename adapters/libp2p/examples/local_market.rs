//! A market of two nodes on 127.0.0.1: one sells the model that comes with haggle, the other buys a story.

use std::{error::Error, sync::Arc};

use haggle::engine::{Llama, TINY_STORIES};
use haggle::{Config, JobSpec, Model, Node, Prompt, Sale, Tokio};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let runtime = Tokio::current().ok_or("no runtime")?;
    let local = Config { enable_mdns: false, enable_dht: false, ..Config::default() };

    let sale = Sale { price_out: 500_000, ..Sale::new(Arc::new(Llama::tiny_stories()?)) };
    let config = Config { listen_addresses: vec!["/ip4/127.0.0.1/tcp/0".into()], ..local.clone() };
    let seller = Node::builder(config).sell(sale).start(runtime.clone()).await?;

    let config = Config { providers: vec![seller.listen_addresses()[0].to_string()], ..local };
    let buyer = Node::start(config, runtime).await?;
    let model = Model::new(TINY_STORIES.as_bytes()).ok_or("no name")?;
    let prompt = Prompt::Raw("Once upon a time".into());
    let job = buyer.submit(JobSpec { budget: Some(1_000), ..JobSpec::new(model, prompt, 60) }).await?;
    let answer = job.answer().await?;
    println!("Once upon a time{}\n{} micro-units are owed.", answer.text, answer.receipt.bill.owed);
    Ok(())
}
