//! A test of your own: how your program takes it when its provider dies in mid-answer. The network is simulated.

use futures::StreamExt;
use haggle::testing::{Market, ProviderConfig};
use haggle::{Config, Error, JobEvent, JobSpec, Model, Node, Prompt};

/// The code under test, as it runs over real nodes: it shows an answer as it comes, and returns what is owed.
async fn tell_a_story(node: &Node, mut show: impl FnMut(&str)) -> Result<u128, Error> {
    let model = Model::new(b"story").expect("a name");
    let spec = JobSpec::new(model, Prompt::Raw("Once upon a time".into()), 40);
    let mut job = node.submit(JobSpec { budget: Some(1_000), ..spec }).await?;
    while let Some(event) = job.next().await {
        match event? {
            JobEvent::Tokens { text, channel: None, .. } => show(&text),
            JobEvent::Finished(receipt) => return Ok(receipt.bill.owed),
            _ => {}
        }
    }
    Err(Error::Stopped)
}

fn main() -> Result<(), Error> {
    let market = Market::new(7);
    let cheap = market.provider(ProviderConfig::new("story", 100_000, 400_000))?;
    let _dear = market.provider(ProviderConfig::new("story", 200_000, 900_000))?;
    let me = market.node(Config::default())?;

    let (mut calm, mut shaken, mut tokens) = (String::new(), String::new(), 0);
    market.run(tell_a_story(&me, |text| calm.push_str(text)))?;
    let owed = market.run(tell_a_story(&me, |text| {
        shaken.push_str(text);
        tokens += 1;
        if tokens == 10 {
            market.kill(&cheap);
        }
    }))?;
    assert_eq!(shaken, calm, "another one goes on with the same text");
    println!("{shaken}\n{owed} micro-units would be owed, {:?} have passed.", market.now());
    Ok(())
}
