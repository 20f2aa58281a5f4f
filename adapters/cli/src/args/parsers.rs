//! Values as they are written on the command line; each refusal says what to write instead.

use std::net::SocketAddr;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use haggle::{
    config::span,
    core::{spec::Failover, time::Millis},
    libp2p::PeerId,
};

use crate::money::parse_temperature;

pub(super) fn parse_span(text: &str) -> Result<Millis, String> {
    match span::parse(text)?.as_millis() {
        0 => Err("it must be longer than 0".into()),
        millis => Ok(Millis(u64::try_from(millis).unwrap_or(u64::MAX))),
    }
}

pub(super) fn failover() -> impl TypedValueParser<Value = Failover> {
    let values = [
        PossibleValue::new("continue").help("Another one reads prompt and answer, and goes on after the last token"),
        PossibleValue::new("restart").help("Another one begins anew, below what was written; both are owed"),
        PossibleValue::new("continue-or-restart")
            .help("Another one goes on, and where nobody can, another one begins anew"),
        PossibleValue::new("never").help("The answer ends there, with exit code 7"),
    ];
    PossibleValuesParser::new(values).map(|how| match how.as_str() {
        "restart" => Failover::Restart,
        "continue-or-restart" => Failover::ContinueOrRestart,
        "never" => Failover::Never,
        _ => Failover::Continue,
    })
}

/// A whole number, of any of the sizes that flags have.
pub(super) fn parse_whole<N: TryFrom<u64>>(text: &str) -> Result<N, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse::<u64>().ok().and_then(|number| N::try_from(number).ok());
    number.ok_or_else(|| match digits {
        true => "it is too large".into(),
        false => "write a whole number of digits alone, such as 4 or 8192".into(),
    })
}

/// The least share of a price that is taken, in thousandths.
pub(super) fn parse_floor(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(floor @ 0..=1_000) => Ok(floor),
        _ => Err(format!("write a whole number from 0 to 1000, in thousandths of the price{}", meant(text, "price"))),
    }
}

/// What a share was perhaps meant to be, in thousandths.
fn meant(text: &str, of: &str) -> String {
    let share = parse_share(text).ok().filter(|_| text.contains('.'));
    share.map_or(String::new(), |share| format!("; {text} of the {of} is {share}"))
}

pub(super) fn at_least_one(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(0) => Err("it must be at least 1".into()),
        Ok(number) => Ok(number),
        Err(_) => Err("write a whole number of at least 1".into()),
    }
}

/// A bid in thousandths of an offer.
pub(super) fn parse_bid(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(bid @ 1..=999) => Ok(bid),
        _ => Err(format!("write a whole number from 1 to 999, in thousandths of the offer{}", meant(text, "offer"))),
    }
}

/// A share, in thousandths: more than nothing, at most all.
pub(super) fn parse_share(text: &str) -> Result<u32, String> {
    match parse_temperature(text) {
        Ok(share @ 1..=1_000) => Ok(share),
        Ok(_) => Err("it must be more than 0 and at most 1".into()),
        Err(error) => Err(error.to_string()),
    }
}

/// Where this machine listens for something else than the market.
pub(super) fn parse_socket(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "write IP:PORT, such as 127.0.0.1:8484 or [::1]:8484".into())
}

/// A peer's id. Who has its address has it, too.
pub(super) fn parse_peer(text: &str) -> Result<PeerId, String> {
    let id = text.rsplit_once("/p2p/").map_or(text, |(_, id)| id);
    id.parse().map_err(|_| {
        "it is no peer id: write what follows /p2p/ in an address, for instance \
         12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp; `haggle discover` shows those who serve a model"
            .into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_says_what_to_write() {
        let spans =
            [("30", "write \"30s\" for seconds, or \"30ms\""), ("", "30s"), ("s", "30s"), ("0s", "longer than 0")];
        for (text, told) in spans {
            assert!(parse_span(text).is_err_and(|error| error.contains(told)), "{text:?}: {:?}", parse_span(text));
        }
        assert_eq!((parse_span("30ms"), parse_span("2m")), (Ok(Millis(30)), Ok(Millis(120_000))));
        for (text, told) in
            [("0.9", "0.9 of the offer is 900"), ("0", "1 to 999"), ("1000", "1 to 999"), ("x", "1 to 999")]
        {
            assert!(parse_bid(text).is_err_and(|error| error.contains(told)), "{text:?}: {:?}", parse_bid(text));
        }
        assert_eq!((parse_bid("900"), parse_share("0.9"), parse_share("1")), (Ok(900), Ok(900), Ok(1_000)));
        for text in ["0", "1.1", "-0.5", "0.0001", "all"] {
            assert!(parse_share(text).is_err(), "{text:?}");
        }
        for (text, told) in [("8k", "8192"), ("two", "whole number"), ("", "whole number"), ("-1", "whole number")] {
            assert!(parse_whole::<u32>(text).is_err_and(|error| error.contains(told)), "{text:?}");
        }
        assert!(parse_whole::<u32>("4294967296").is_err_and(|error| error.contains("too large")));
        assert_eq!((parse_whole::<u32>("8192"), parse_whole::<u64>("4294967296")), (Ok(8_192), Ok(1 << 32)));
        for (text, told) in [("0.8", "0.8 of the price is 800"), ("2000", "0 to 1000"), ("most", "0 to 1000")] {
            assert!(parse_floor(text).is_err_and(|error| error.contains(told)), "{text:?}: {:?}", parse_floor(text));
        }
        assert_eq!((parse_floor("0"), parse_floor("1000")), (Ok(0), Ok(1_000)));
        let peer = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";
        assert_eq!(parse_peer(&format!("/ip4/127.0.0.1/tcp/1/p2p/{peer}")), parse_peer(peer));
        assert!(parse_peer("foo").is_err_and(|error| error.contains("follows /p2p/")));
    }
}
