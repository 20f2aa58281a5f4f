//! The usage example of the design this project began with, line for line, on a network of its own on 127.0.0.1:
//! find nodes that serve a model, submit a prompt with negotiation, print tokens as they come.

use std::{error::Error, io::Write, sync::Arc};

use futures::StreamExt;
use haggle::{
    Config, Criteria, JobEvent, JobSpec, Model, Node, Prompt, Sale, Tokio,
    engine::{Llama, TINY_STORIES},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let runtime = Tokio::current().ok_or("no runtime")?;
    let bootstrap = bootstrap_node(&runtime).await?;
    let provider = provider_node(&runtime, &bootstrap).await?;

    // const sdk = new FabstirSDK({ p2pConfig: { bootstrapNodes: [...], enableDHT: true, enableMDNS: true } });
    let config = Config {
        bootstrap_nodes: vec![address(&bootstrap)],
        enable_dht: true,
        enable_mdns: false, // on 127.0.0.1 nobody is to be found by multicast
        ..Config::default()
    };
    // await sdk.connect(provider);
    let sdk = Node::start(config, runtime).await?;
    // const nodes = await sdk.discoverNodes({ modelId: "llama-3.2-1b-instruct" });
    let model = Model::new(TINY_STORIES.as_bytes()).ok_or("no name")?;
    let nodes = sdk.discover(Criteria::new(model.clone()), None).await?;
    eprintln!("{} node serves {TINY_STORIES}", nodes.providers.len());
    // const result = await sdk.submitJobWithNegotiation({ prompt: "Hello world", modelId, maxTokens: 100, stream: true });
    let job = JobSpec { budget: Some(1_000_000), ..JobSpec::new(model, Prompt::Raw("Hello world".into()), 100) };
    let mut result = sdk.submit(job).await?;
    // result.stream.on('token', (token) => { console.log(token.content); });
    while let Some(event) = result.next().await {
        match event? {
            JobEvent::Tokens { text, channel: None, .. } => print!("{text}"),
            JobEvent::Finished(receipt) => println!("\n{} micro-units are owed", receipt.bill.owed),
            _ => {}
        }
        std::io::stdout().flush()?;
    }

    for node in [sdk, provider, bootstrap] {
        node.stop().await;
    }
    Ok(())
}

fn address(node: &Node) -> String {
    node.listen_addresses()[0].to_string()
}

fn listening() -> Config {
    Config { listen_addresses: vec!["/ip4/127.0.0.1/tcp/0".into()], enable_mdns: false, ..Config::default() }
}

async fn bootstrap_node(runtime: &Tokio) -> Result<Node, haggle::Error> {
    Node::start(listening(), runtime.clone()).await
}

/// Returns when the bootstrap node's DHT had the time to hear of the model.
async fn provider_node(runtime: &Tokio, bootstrap: &Node) -> Result<Node, Box<dyn Error>> {
    let config = Config { bootstrap_nodes: vec![address(bootstrap)], ..listening() };
    let sale = Sale { price_in: 100_000, price_out: 500_000, ..Sale::new(Arc::new(Llama::tiny_stories()?)) };
    let provider = Node::builder(config).sell(sale).start(runtime.clone()).await?;
    let mut announced = provider.events();
    while !matches!(announced.next().await, Some(haggle::NodeEvent::Announced { .. }) | None) {}
    Ok(provider)
}
