use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    iter,
    time::{Duration, Instant},
};

use libp2p::{
    PeerId,
    kad::{
        ProviderRecord, Record, RecordKey,
        store::{Error, RecordStore, Result},
    },
};

/// What a node keeps for others and for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreLimits {
    /// Keys this node announces itself.
    pub max_own_keys: usize,
    /// Records of other nodes in all; the one refreshed longest ago goes first.
    pub max_records: usize,
    /// Records of one node.
    pub max_records_per_source: usize,
    /// Records of one key; the one refreshed longest ago goes first.
    pub max_records_per_key: usize,
    /// Addresses kept of a record.
    pub max_addresses: usize,
    /// How long a record lives unless it is refreshed.
    pub ttl: Duration,
}

impl Default for StoreLimits {
    fn default() -> Self {
        StoreLimits {
            max_own_keys: 256,
            max_records: 16_384,
            max_records_per_source: 64,
            max_records_per_key: 20,
            max_addresses: 8,
            ttl: Duration::from_secs(3_600),
        }
    }
}

/// The records of the DHT that this node holds. Only "who provides this key" is stored; values are refused.
///
/// libp2p's own store keeps the first that came and can be filled by one peer until it refuses its own node's records.
/// Here the node's own records have their own room, every source has a quota, and the oldest record makes place.
#[derive(Debug)]
pub struct ProviderStore {
    me: PeerId,
    limits: StoreLimits,
    own: BTreeSet<Vec<u8>>,
    records: BTreeMap<Vec<u8>, BTreeMap<PeerId, Held>>,
    /// The records by the time of their last refresh.
    by_age: BTreeMap<u64, (Vec<u8>, PeerId)>,
    per_source: BTreeMap<PeerId, usize>,
    clock: u64,
}

#[derive(Debug)]
struct Held {
    record: ProviderRecord,
    refreshed: u64,
}

/// Keys are SHA-256 digests.
const KEY_LEN: usize = 32;

impl ProviderStore {
    /// An empty store of the node `me`.
    pub fn new(me: PeerId, limits: StoreLimits) -> Self {
        ProviderStore {
            me,
            limits,
            own: BTreeSet::new(),
            records: BTreeMap::new(),
            by_age: BTreeMap::new(),
            per_source: BTreeMap::new(),
            clock: 0,
        }
    }

    /// Records of other nodes that are held now.
    pub fn len(&self) -> usize {
        self.by_age.len()
    }

    /// True if no other node's record is held.
    pub fn is_empty(&self) -> bool {
        self.by_age.is_empty()
    }

    fn add_own(&mut self, key: &RecordKey) -> Result<()> {
        if self.own.len() >= self.limits.max_own_keys && !self.own.contains(key.as_ref()) {
            return Err(Error::MaxProvidedKeys);
        }
        self.own.insert(key.to_vec());
        Ok(())
    }

    fn add_remote(&mut self, mut record: ProviderRecord, now: Instant) -> Result<()> {
        let (key, source) = (record.key.to_vec(), record.provider);
        let latest = now + self.limits.ttl;
        record.expires = Some(record.expires.map_or(latest, |at| at.min(latest)));
        record.addresses.truncate(self.limits.max_addresses);
        self.drop_expired(now);
        self.remove(&key, &source);
        if self.per_source.get(&source).is_some_and(|n| *n >= self.limits.max_records_per_source) {
            return Err(Error::MaxProvidedKeys);
        }
        if let Some(held) = self.records.get(&key)
            && held.len() >= self.limits.max_records_per_key
            && let Some(oldest) = held.iter().min_by_key(|(_, held)| held.refreshed).map(|(peer, _)| *peer)
        {
            self.remove(&key, &oldest);
        }
        if self.by_age.len() >= self.limits.max_records
            && let Some((key, source)) = self.by_age.values().next().cloned()
        {
            self.remove(&key, &source);
        }
        self.clock += 1;
        self.by_age.insert(self.clock, (key.clone(), source));
        *self.per_source.entry(source).or_default() += 1;
        self.records.entry(key).or_default().insert(source, Held { record, refreshed: self.clock });
        Ok(())
    }

    /// All live equally long, so those refreshed longest ago end first.
    fn drop_expired(&mut self, now: Instant) {
        while let Some((key, source)) = self.by_age.values().next().cloned() {
            if !self.records[&key][&source].record.is_expired(now) {
                return;
            }
            self.remove(&key, &source);
        }
    }

    fn remove(&mut self, key: &[u8], source: &PeerId) {
        let Some(of_key) = self.records.get_mut(key) else { return };
        let Some(held) = of_key.remove(source) else { return };
        if of_key.is_empty() {
            self.records.remove(key);
        }
        self.by_age.remove(&held.refreshed);
        if let Some(n) = self.per_source.get_mut(source) {
            *n -= 1;
            if *n == 0 {
                self.per_source.remove(source);
            }
        }
    }

    fn own_record(&self, key: &[u8]) -> ProviderRecord {
        // Without addresses: Kademlia puts in the current ones whenever it answers.
        ProviderRecord::new(RecordKey::new(&key), self.me, Vec::new())
    }
}

impl RecordStore for ProviderStore {
    type RecordsIter<'a> = iter::Empty<Cow<'a, Record>>;
    type ProvidedIter<'a> = Box<dyn Iterator<Item = Cow<'a, ProviderRecord>> + 'a>;

    fn get(&self, _: &RecordKey) -> Option<Cow<'_, Record>> {
        None
    }

    fn put(&mut self, _: Record) -> Result<()> {
        Err(Error::ValueTooLarge)
    }

    fn remove(&mut self, _: &RecordKey) {}

    fn records(&self) -> Self::RecordsIter<'_> {
        iter::empty()
    }

    fn add_provider(&mut self, record: ProviderRecord) -> Result<()> {
        if record.key.as_ref().len() != KEY_LEN {
            return Err(Error::ValueTooLarge);
        }
        if record.provider == self.me {
            return self.add_own(&record.key);
        }
        self.add_remote(record, Instant::now())
    }

    fn providers(&self, key: &RecordKey) -> Vec<ProviderRecord> {
        let own = self.own.contains(key.as_ref()).then(|| self.own_record(key.as_ref()));
        let others = self.records.get(key.as_ref()).into_iter().flat_map(BTreeMap::values);
        own.into_iter().chain(others.map(|held| held.record.clone())).collect()
    }

    fn provided(&self) -> Self::ProvidedIter<'_> {
        Box::new(self.own.iter().map(|key| Cow::Owned(self.own_record(key))))
    }

    fn remove_provider(&mut self, key: &RecordKey, provider: &PeerId) {
        if *provider == self.me {
            self.own.remove(key.as_ref());
        } else {
            ProviderStore::remove(self, key.as_ref(), provider);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u32) -> RecordKey {
        let mut bytes = [0; KEY_LEN];
        bytes[..4].copy_from_slice(&n.to_be_bytes());
        RecordKey::new(&bytes)
    }

    fn record(n: u32, provider: PeerId) -> ProviderRecord {
        ProviderRecord::new(key(n), provider, vec!["/ip4/8.8.8.8/tcp/1".parse().expect("an address"); 50])
    }

    fn consistent(store: &ProviderStore) {
        let held: usize = store.records.values().map(BTreeMap::len).sum();
        assert_eq!(held, store.by_age.len());
        assert_eq!(held, store.per_source.values().sum::<usize>());
        assert!(store.records.values().all(|of_key| !of_key.is_empty()));
    }

    #[test]
    fn one_source_cannot_fill_the_store() {
        let (me, greedy, honest) = (PeerId::random(), PeerId::random(), PeerId::random());
        let mut store = ProviderStore::new(me, StoreLimits::default());
        let taken = (0..5_000).filter(|n| store.add_provider(record(*n, greedy)).is_ok()).count();
        assert_eq!(taken, StoreLimits::default().max_records_per_source);
        store.add_provider(record(9_000, honest)).expect("room for another source");
        store.add_provider(record(9_001, me)).expect("room for the node itself");
        assert!(store.add_provider(record(0, greedy)).is_ok(), "a refresh is always taken");
        assert_eq!(store.providers(&key(9_001)), [record(9_001, me)]);
        consistent(&store);
    }

    #[test]
    fn a_full_store_and_a_full_key_give_up_the_oldest() {
        let limits = StoreLimits { max_records: 100, ..StoreLimits::default() };
        let mut store = ProviderStore::new(PeerId::random(), limits);
        let peers: Vec<_> = (0..30).map(|_| PeerId::random()).collect();
        for peer in &peers {
            store.add_provider(record(7, *peer)).expect("taken");
        }
        let held: Vec<_> = store.providers(&key(7)).into_iter().map(|r| r.provider).collect();
        assert_eq!(held.len(), 20);
        assert!(peers[10..].iter().all(|peer| held.contains(peer)));
        for n in 100..1_000 {
            store.add_provider(record(n, PeerId::random())).expect("taken");
        }
        assert_eq!(store.len(), 100);
        assert!(store.providers(&key(7)).is_empty() && !store.providers(&key(999)).is_empty());
        consistent(&store);
    }

    #[test]
    fn records_are_cut_to_size_and_end() {
        let (mut store, peer) = (ProviderStore::new(PeerId::random(), StoreLimits::default()), PeerId::random());
        let mut long_lived = record(1, peer);
        long_lived.expires = Some(Instant::now() + Duration::from_secs(1 << 30));
        store.add_provider(long_lived).expect("taken");
        let held = store.providers(&key(1)).remove(0);
        assert_eq!(held.addresses.len(), 8);
        let end = held.expires.expect("an end");
        assert!(end <= Instant::now() + StoreLimits::default().ttl);
        store.add_remote(record(2, peer), end).expect("taken");
        assert!(store.providers(&key(1)).is_empty());
        consistent(&store);
    }

    #[test]
    fn values_and_odd_keys_are_refused() {
        let me = PeerId::random();
        let mut store = ProviderStore::new(me, StoreLimits::default());
        assert!(store.put(Record::new(key(1), vec![1])).is_err());
        let odd = ProviderRecord::new(RecordKey::new(&[1; 4_000]), PeerId::random(), Vec::new());
        assert!(store.add_provider(odd).is_err());
        let own = (0..1_000).filter(|n| store.add_provider(record(*n, me)).is_ok()).count();
        assert_eq!(own, StoreLimits::default().max_own_keys);
        store.remove_provider(&key(0), &me);
        assert!(store.add_provider(record(5_000, me)).is_ok());
        assert_eq!(store.provided().count(), 256);
    }
}
