//! The DHT: Kademlia under a name of our own, as a directory of hints. A record says only that a peer claims to serve a
//! model; its terms come from the peer itself.

pub(crate) mod search;
mod store;

use std::{num::NonZeroUsize, time::Duration};

use libp2p::{PeerId, StreamProtocol, kad};

pub use store::{ProviderStore, StoreLimits};

/// Nodes of other networks and of other uses of Kademlia are not in our tables.
// [D1]
pub const KAD_PROTOCOL: StreamProtocol = StreamProtocol::new("/haggle/kad/1");

/// How often a provider announces its models again.
const REPUBLISH: Duration = Duration::from_secs(20 * 60);

/// Twenty providers and twenty closer peers with eight addresses each pass Kademlia's usual 16 KiB.
const MAX_PACKET: usize = 32 * 1024;

/// Kademlia for the node `me`. `server`: it answers others, which only nodes that listen can.
pub fn kademlia(
    me: PeerId,
    server: bool,
    query_timeout: Duration,
    limits: StoreLimits,
) -> kad::Behaviour<ProviderStore> {
    let mut config = kad::Config::new(KAD_PROTOCOL);
    config
        .set_query_timeout(query_timeout)
        .set_provider_record_ttl(Some(limits.ttl))
        .set_provider_publication_interval(Some(REPUBLISH))
        .set_record_filtering(kad::StoreInserts::Unfiltered)
        .set_kbucket_inserts(kad::BucketInserts::OnConnected)
        .set_replication_factor(NonZeroUsize::new(20).unwrap_or(NonZeroUsize::MIN))
        .set_max_packet_size(MAX_PACKET)
        .disjoint_query_paths(true);
    let mut kad = kad::Behaviour::with_config(me, ProviderStore::new(me, limits), config);
    kad.set_mode(Some(if server { kad::Mode::Server } else { kad::Mode::Client }));
    kad
}
