//! A node's configuration: the seed's fields with the seed's defaults, and the limits beside them.

use std::{fmt, net::IpAddr, num::NonZeroUsize, time::Duration};

use haggle_core::{Limits, Policy, time::Millis};
use libp2p::{Multiaddr, PeerId, connection_limits::ConnectionLimits, multiaddr::Protocol};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{
    address,
    discovery::StoreLimits,
    groups::GroupLimits,
    id,
    runtime::{self, TransportLimits},
    sessions,
};

/// What a node is told at its start. Every field has a default; unknown fields are refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Nodes by which the network is entered, each as `ADDRESS/p2p/PEER_ID`.
    pub bootstrap_nodes: Vec<String>,
    /// Providers that are known already, each as `ADDRESS/p2p/PEER_ID`. Asked in every search.
    pub providers: Vec<String>,
    /// Whether providers are looked up, and this node's models announced, in the DHT.
    pub enable_dht: bool,
    /// Whether nodes on the local network are found by multicast.
    pub enable_mdns: bool,
    /// Where to listen, for instance `/ip4/0.0.0.0/tcp/4001` or `/ip4/0.0.0.0/tcp/4002/ws`. None: the node only dials.
    pub listen_addresses: Vec<String>,
    /// Where others reach this node, if that is not where it listens.
    pub announce_addresses: Vec<String>,
    /// The network's name; nodes of other networks are not found.
    pub network: String,
    /// From the first packet to an open stream.
    #[serde(with = "span")]
    pub dial_timeout: Duration,
    /// From the end of an award to its acceptance.
    #[serde(with = "span")]
    pub request_timeout: Duration,
    /// From an award to its first token, however often the provider says that it works; at least a minute of silence ends the
    /// wait before.
    #[serde(with = "span")]
    pub first_token: Duration,
    /// Attempts after the first; 0 is one attempt.
    pub max_retries: u32,
    /// Base of the pause before a retry.
    #[serde(with = "span")]
    pub retry_delay: Duration,
    /// How long a provider that is lost in mid-answer is waited for, if somebody else could go on.
    #[serde(with = "span")]
    pub resume_grace: Duration,
    /// How long a provider that is lost in mid-answer is waited for, if nobody else is known. Providers keep such a
    /// job for their `job_ttl`.
    #[serde(with = "span")]
    pub resume_timeout: Duration,
    /// How long a connection without a stream is kept for the next job.
    #[serde(with = "span")]
    pub idle_connection_timeout: Duration,
    /// A provider computes so many jobs at once.
    pub slots: u32,
    /// Jobs that wait for a slot; further ones are told that the provider is busy.
    pub queue: u32,
    /// A provider keeps a job whose requester was lost, or did not acknowledge its end, so long.
    #[serde(with = "span")]
    pub job_ttl: Duration,
    /// A provider ends a job whose requester takes nothing for so long: it holds a slot.
    #[serde(with = "span")]
    pub stall_timeout: Duration,
    /// Connections in all.
    pub max_connections: u32,
    /// Connections to one peer.
    pub max_connections_per_peer: u32,
    /// Inbound connections of one group of addresses (IPv4 /24, IPv6 /48).
    pub max_connections_per_group: u32,
    /// Connections that are being made, each way: the next inbound one is refused, the next dial fails.
    pub max_pending_connections: u32,
    /// Live streams to one peer: each job has one, further jobs wait. A peer refuses more than its own
    /// `limits.streams_per_peer`.
    pub max_streams_to_peer: u32,
    /// Sizes and counts of the protocol.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            bootstrap_nodes: Vec::new(),
            providers: Vec::new(),
            enable_dht: true,
            enable_mdns: true,
            listen_addresses: Vec::new(),
            announce_addresses: Vec::new(),
            network: "main".into(),
            dial_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(60),
            first_token: Duration::from_secs(600),
            max_retries: 3,
            retry_delay: Duration::from_secs(1),
            resume_grace: Duration::from_secs(5),
            resume_timeout: Duration::from_secs(120),
            idle_connection_timeout: Duration::from_secs(90),
            slots: 1,
            queue: 4,
            job_ttl: Duration::from_secs(120),
            stall_timeout: Duration::from_secs(600),
            max_connections: 1_024,
            max_connections_per_peer: 4,
            max_connections_per_group: 64,
            max_pending_connections: 128,
            max_streams_to_peer: 24,
            limits: Limits::default(),
        }
    }
}

/// A setting that cannot work: where it is, what is wrong and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The field, with the index in a list: `bootstrap_nodes[0]`.
    pub path: String,
    /// What is wrong, and how to put it right.
    pub problem: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.problem)
    }
}

impl std::error::Error for ConfigError {}

/// A peer and one address of it.
pub(crate) type Contact = (PeerId, Multiaddr);

/// A configuration that was checked and read.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) bootstrap: Vec<Contact>,
    pub(crate) providers: Vec<Contact>,
    pub(crate) listen: Vec<Multiaddr>,
    pub(crate) announce: Vec<Multiaddr>,
    pub(crate) policy: Policy,
    pub(crate) groups: GroupLimits,
    pub(crate) store: StoreLimits,
}

impl Config {
    /// Checks every field.
    ///
    /// # Errors
    /// The first field that cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.read(Policy::default()).map(drop)
    }

    /// `base` holds what the configuration does not name.
    pub(crate) fn read(&self, base: Policy) -> Result<Settings, ConfigError> {
        check("network", (1..=64).contains(&self.network.len()), "must have 1 to 64 bytes")?;
        for (field, span) in [
            ("dial_timeout", self.dial_timeout),
            ("request_timeout", self.request_timeout),
            ("first_token", self.first_token),
            ("retry_delay", self.retry_delay),
            ("resume_grace", self.resume_grace),
            ("resume_timeout", self.resume_timeout),
            ("idle_connection_timeout", self.idle_connection_timeout),
            ("job_ttl", self.job_ttl),
            ("stall_timeout", self.stall_timeout),
        ] {
            check(field, span >= Duration::from_millis(1), "must be longer than 0, for instance \"30s\"")?;
            check(field, span <= span::MAX, "must be at most 1 day")?;
        }
        for (field, count) in [
            ("slots", self.slots),
            ("max_connections", self.max_connections),
            ("max_connections_per_peer", self.max_connections_per_peer),
            ("max_connections_per_group", self.max_connections_per_group),
            ("max_pending_connections", self.max_pending_connections),
            ("max_streams_to_peer", self.max_streams_to_peer),
        ] {
            check(field, count > 0, "must be at least 1")?;
        }
        let streams = self.transport_limits().max_streams.get();
        check(
            "max_streams_to_peer",
            streams <= TransportLimits::MAX_STREAMS,
            "and limits.streams_per_peer must be at most 3576 together: no connection carries more streams",
        )?;
        self.limits.validate().map_err(field("limits."))?;
        let policy = Policy {
            request_timeout: millis(self.request_timeout),
            first_token: millis(self.first_token),
            max_retries: self.max_retries,
            retry_delay: millis(self.retry_delay),
            resume_grace: millis(self.resume_grace),
            resume_timeout: millis(self.resume_timeout),
            ..base
        };
        policy.validate().map_err(field(""))?;
        Ok(Settings {
            bootstrap: each("bootstrap_nodes", &self.bootstrap_nodes, contact)?,
            providers: each("providers", &self.providers, contact)?,
            listen: each("listen_addresses", &self.listen_addresses, listen)?,
            announce: each("announce_addresses", &self.announce_addresses, announce)?,
            policy,
            groups: GroupLimits { max_connections: self.max_connections_per_group, ..GroupLimits::default() },
            store: StoreLimits::default(),
        })
    }
}

/// Streams of a connection that are none of jobs: identify's, Kademlia's.
const OTHER_STREAMS: u32 = 8;

/// What each layer below is allowed.
impl Config {
    pub(crate) fn transport_limits(&self) -> TransportLimits {
        let streams =
            self.limits.streams_per_peer.saturating_add(self.max_streams_to_peer).saturating_add(OTHER_STREAMS);
        let max_streams = NonZeroUsize::new(streams as usize).unwrap_or(NonZeroUsize::MIN);
        TransportLimits { dial_timeout: self.dial_timeout, max_streams, ..TransportLimits::default() }
    }

    pub(crate) fn session_limits(&self) -> sessions::Config {
        // A job waits for one stream at a time.
        let jobs = self.limits.jobs as usize;
        sessions::Config {
            open_timeout: self.dial_timeout,
            max_waiting_per_peer: jobs,
            max_waiting: jobs.saturating_mul(2),
            max_outbound_per_peer: self.max_streams_to_peer,
            max_inbound_per_peer: self.limits.streams_per_peer,
            max_inbound: self.limits.streams,
            ..sessions::Config::default()
        }
    }

    pub(crate) fn connection_limits(&self) -> ConnectionLimits {
        ConnectionLimits::default()
            .with_max_pending_incoming(Some(self.max_pending_connections))
            .with_max_pending_outgoing(Some(self.max_pending_connections))
            .with_max_established(Some(self.max_connections))
            .with_max_established_per_peer(Some(self.max_connections_per_peer))
    }
}

pub(crate) fn millis(span: Duration) -> Millis {
    Millis(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
}

/// A setting that the core does not take, where it is found in the configuration.
pub(crate) fn field(prefix: &'static str) -> impl Fn(haggle_core::ConfigError) -> ConfigError {
    move |error| refuse(format!("{prefix}{}", error.field), format!("must be {}", error.must))
}

fn check(path: &str, ok: bool, problem: &str) -> Result<(), ConfigError> {
    if ok { Ok(()) } else { Err(refuse(path.into(), problem.into())) }
}

fn refuse(path: String, problem: String) -> ConfigError {
    ConfigError { path, problem }
}

fn each<T>(field: &str, values: &[String], read: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, ConfigError> {
    let read_one = |(at, value): (usize, &String)| {
        read(value).map_err(|problem| refuse(format!("{field}[{at}]"), format!("{value:?} {problem}")))
    };
    values.iter().enumerate().map(read_one).collect()
}

const CONTACT: &str = "/ip4/203.0.113.7/tcp/4001/p2p/12D3KooW...";

/// Reads `ADDRESS/p2p/PEER_ID`, or says what is wrong with it, to be put behind the address.
pub fn contact(text: &str) -> Result<(PeerId, Multiaddr), String> {
    if let Some((_, id)) = text.rsplit_once("/p2p/")
        && id.parse::<PeerId>().is_err()
    {
        return Err(format!("ends in {id:?}, which is no peer id; one looks like {CONTACT}"));
    }
    match address::split_peer(parse(text, CONTACT)?) {
        (_, None) => Err(format!("does not say whose address it is; add /p2p/ and the peer id, as in {CONTACT}")),
        (address, Some(_)) if !runtime::supports(&address) => Err(UNSUPPORTED.into()),
        (address, Some(peer)) => Ok((peer, address)),
    }
}

/// As [`contact`], in a simulated network: it has addresses of its own.
pub(crate) fn simulated_contact(text: &str) -> Result<Contact, String> {
    match address::split_peer(parse(text, CONTACT)?) {
        (address, Some(peer)) if id::is_simulated(&peer) => Ok((peer, address)),
        _ => Err("is no address of a node of this simulated network; its nodes have `listen_addresses`".into()),
    }
}

fn listen(text: &str) -> Result<Multiaddr, String> {
    let address = parse(text, "/ip4/0.0.0.0/tcp/4001")?;
    if matches!(address.iter().last(), Some(Protocol::P2p(_))) {
        return Err("names a peer; leave out /p2p/, a node listens as itself only".into());
    }
    if address::ip(&address).is_none() {
        return Err("is a name; a node listens on /ip4 or /ip6, and announces names with announce_addresses".into());
    }
    if address.iter().any(|part| matches!(part, Protocol::Wss(_))) {
        return Err("asks for TLS; listen on /ws behind a proxy that ends TLS, and announce its /wss address".into());
    }
    if runtime::supports(&address) { Ok(address) } else { Err(UNSUPPORTED.into()) }
}

fn announce(text: &str) -> Result<Multiaddr, String> {
    let (address, _) = address::split_peer(parse(text, "/ip4/203.0.113.7/tcp/4001")?);
    match address::ip(&address) {
        Some(ip) if ip.is_unspecified() => {
            Err("is the address for any interface; announce one that others can dial".into())
        }
        _ if runtime::supports(&address) => Ok(address),
        _ => Err(UNSUPPORTED.into()),
    }
}

const UNSUPPORTED: &str = "is of a kind that cannot be used here; use /ip4, /ip6 or /dns, then /tcp, then perhaps /ws; \
                           QUIC is spoken on no runtime of this version";

fn parse(text: &str, example: &str) -> Result<Multiaddr, String> {
    text.parse().map_err(|_| match multiaddr(text) {
        Some(address) if example == CONTACT => format!("is no multiaddr; write {address}/p2p/ and the peer id"),
        Some(address) => format!("is no multiaddr; write {address}"),
        None => format!("is no multiaddr; one looks like {example}"),
    })
}

/// What is meant by a host and a port.
fn multiaddr(text: &str) -> Option<Multiaddr> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let is_name =
        |host: &str| !host.is_empty() && host.bytes().all(|c| c.is_ascii_alphanumeric() || b"-.".contains(&c));
    let host = match host.parse::<IpAddr>() {
        Ok(ip) => Multiaddr::from(ip),
        Err(_) if is_name(host) => Multiaddr::empty().with(Protocol::Dns(host.into())),
        Err(_) => return None,
    };
    Some(host.with(Protocol::Tcp(port.parse().ok()?)))
}

/// Spans of time: a whole number with its unit, such as `"30s"`, `"250ms"` or `"2m"`.
pub mod span {
    use super::{Deserializer, Duration, Serializer, de, fmt};

    /// No span of a configuration is longer.
    pub const MAX: Duration = Duration::from_secs(86_400);

    /// Reads a span: `"30s"`, `"250ms"`, `"2m"` or `"1h"`. A number without its unit may mean either and is refused.
    ///
    /// # Errors
    /// What was wrong, and an example.
    pub fn parse(text: &str) -> Result<Duration, String> {
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let scale = match unit.trim() {
            "" if !number.is_empty() => return Err(without_unit(number)),
            "ms" => 1,
            "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            _ => return Err(format!("{text:?} is no span of time; write for instance \"30s\", \"250ms\" or \"2m\"")),
        };
        let number: u64 =
            number.parse().map_err(|_| format!("{text:?} is no span of time; write for instance \"30s\""))?;
        number.checked_mul(scale).map(Duration::from_millis).ok_or_else(|| format!("{text:?} is too long"))
    }

    fn without_unit(number: impl fmt::Display) -> String {
        format!("{number} has no unit: write \"{number}s\" for seconds, or \"{number}ms\"")
    }

    /// Writes a span as [`parse`] reads it.
    pub fn serialize<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        let text = match span.as_millis() {
            whole if whole % 1_000 == 0 => format!("{}s", whole / 1_000),
            millis => format!("{millis}ms"),
        };
        serializer.serialize_str(&text)
    }

    /// Reads a span from a string; a number is refused with what it may have meant.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Duration;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a span of time such as \"30s\" or \"250ms\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
                parse(text).map_err(E::custom)
            }
            fn visit_u64<E: de::Error>(self, millis: u64) -> Result<Duration, E> {
                Err(E::custom(without_unit(millis)))
            }
            fn visit_i64<E: de::Error>(self, millis: i64) -> Result<Duration, E> {
                Err(E::custom(without_unit(millis)))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_can_ask_for_any_value_of_what_it_names() {
        // The defaults, too: they are asked for as anything else is.
        let base = Policy { resume_grace: Millis(7), resume_timeout: Millis(8), ..Policy::default() };
        let policy = Config::default().read(base).expect("it can work").policy;
        assert_eq!(policy, Policy::default(), "both have the same defaults");
        let zero = Config { resume_timeout: Duration::ZERO, ..Config::default() };
        assert_eq!(zero.validate().map_err(|error| error.path), Err("resume_timeout".into()));
    }

    #[test]
    fn every_setting_reaches_whom_it_is_for() {
        let span = Duration::from_millis;
        let config = Config {
            request_timeout: span(1_001),
            first_token: span(1_007),
            max_retries: 7,
            retry_delay: span(1_002),
            resume_grace: span(1_003),
            resume_timeout: span(1_004),
            slots: 11,
            queue: 12,
            job_ttl: span(1_005),
            stall_timeout: span(1_006),
            max_connections_per_group: 13,
            max_streams_to_peer: 14,
            ..Config::default()
        };
        let settings = config.read(Policy::default()).expect("it can work");
        let service = crate::sale::service(&config, &[]).expect("it can work");
        // No `..`: a new field has to be dealt with here, too.
        let Config {
            request_timeout,
            first_token,
            max_retries,
            retry_delay,
            resume_grace,
            resume_timeout,
            slots,
            queue,
            job_ttl,
            stall_timeout,
            max_connections_per_group,
            max_streams_to_peer,
            // Shown by the tests over real sockets and by those of the command line.
            bootstrap_nodes: _,
            providers: _,
            enable_dht: _,
            enable_mdns: _,
            listen_addresses: _,
            announce_addresses: _,
            network: _,
            dial_timeout: _,
            idle_connection_timeout: _,
            max_connections: _,
            max_connections_per_peer: _,
            max_pending_connections: _,
            limits,
        } = config.clone();
        let Policy { request_timeout: request, max_retries: retries, retry_delay: delay, .. } = settings.policy;
        assert_eq!((request, retries, delay), (millis(request_timeout), max_retries, millis(retry_delay)));
        let Policy { first_token: first, resume_grace: grace, resume_timeout: resume, .. } = settings.policy;
        assert_eq!((first, grace, resume), (millis(first_token), millis(resume_grace), millis(resume_timeout)));
        assert_eq!((service.slots, service.queue), (slots, queue));
        assert_eq!((service.job_ttl, service.stall), (millis(job_ttl), millis(stall_timeout)));
        assert_eq!(settings.groups.max_connections, max_connections_per_group);
        let sessions = config.session_limits();
        assert_eq!((sessions.max_outbound_per_peer, sessions.max_inbound), (max_streams_to_peer, limits.streams));
        assert_eq!(config.transport_limits().max_streams.get(), 32 + 14 + 8);
    }

    #[test]
    fn a_default_is_the_same_for_whom_it_is_for() {
        let (defaults, max_streams) = (Config::default(), TransportLimits::default().max_streams);
        assert_eq!(defaults.session_limits().max_outbound_per_peer, sessions::Config::default().max_outbound_per_peer);
        assert_eq!(defaults.transport_limits().max_streams, max_streams, "both say the same");
        let (own, core) = (Config::default(), haggle_core::provider::Service::default());
        let defaults = (own.slots, own.queue, millis(own.job_ttl), millis(own.stall_timeout));
        assert_eq!(defaults, (core.slots, core.queue, core.job_ttl, core.stall), "both say the same");
    }
}
