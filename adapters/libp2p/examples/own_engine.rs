//! An engine of your own: it answers with the words of the prompt, backwards.

use std::{error::Error, sync::Arc};

use haggle::engine::{Done, Engine, ExactKind, Exactness, Failure, Generation, ModelInfo, Piece, PrefixUse};
use haggle::engine::{Prompt, Request, Started, Step, Stop, Why};
use haggle::{Config, JobSpec, Model, Node, Sale, Tokio};

struct Backwards(ModelInfo);

/// Words that are left, and how many were read and written.
struct Words(Vec<String>, Option<u32>, u32);

impl Engine for Backwards {
    fn info(&self) -> &ModelInfo {
        &self.0
    }
    fn start(&self, request: Request) -> Result<Box<dyn Generation>, Failure> {
        let Prompt::Raw(text) = request.prompt else { return Err(Failure::new(Why::BadRequest, "plain text only")) };
        let words: Vec<_> = text.split_whitespace().take(request.max_tokens as usize).map(str::to_owned).collect();
        let read = words.len() as u32;
        Ok(Box::new(Words(words, Some(read), 0)))
    }
}

impl Generation for Words {
    fn step(&mut self, _: u32) -> Step {
        if let Some(prompt_tokens) = self.1.take() {
            return Step::Started(Started { prompt_tokens, cached: None, prefix: PrefixUse::None });
        }
        let Some(word) = self.0.pop() else {
            return Step::Done(Done { stop: Stop::End, prompt_tokens: self.2, new_tokens: self.2, cached: None });
        };
        self.2 += 1;
        Step::Piece(Piece { n: 1, text: word + " ", ids: None, channel: None })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let runtime = Tokio::current().ok_or("no runtime")?;
    let exactness = Exactness { kind: ExactKind::None, class: [0; 32] };
    let info = ModelInfo {
        features: None,
        name: "backwards".into(),
        weights: [0; 32],
        context: 1_000,
        can_continue: false,
        exactness,
    };
    let local = Config { enable_mdns: false, enable_dht: false, ..Config::default() };
    let config = Config { listen_addresses: vec!["/ip4/127.0.0.1/tcp/0".into()], ..local.clone() };
    let seller = Node::builder(config).sell(Sale::new(Arc::new(Backwards(info)))).start(runtime.clone()).await?;

    let config = Config { providers: vec![seller.listen_addresses()[0].to_string()], ..local };
    let buyer = Node::start(config, runtime).await?;
    let model = Model::new(b"backwards").ok_or("no name")?;
    let job = buyer.submit(JobSpec::new(model, haggle::Prompt::Raw("one two three".into()), 10)).await?;
    println!("{}", job.answer().await?.text);
    Ok(())
}
