//! Links between pairs of nodes that ever had to do with each other.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

use super::LinkConfig;
use crate::dice::mix;

/// A link that was used or changed.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) config: LinkConfig,
    pub(crate) stalled_until: u64,
    /// Bytes that still arrive before all streams are cut.
    pub(crate) cut_in: Option<u64>,
    /// Bytes that have arrived.
    pub(crate) arrived: u64,
    /// Streams opened over it so far: the key of their draws.
    pub(crate) opened: u64,
}

impl Link {
    /// Counts bytes that arrive against the cut that is due; `false`: it comes behind those that are left.
    pub(crate) fn spend(&mut self, bytes: &mut Vec<u8>) -> bool {
        let Some(left) = self.cut_in else {
            self.arrived += bytes.len() as u64;
            return true;
        };
        self.cut_in = left.checked_sub(bytes.len() as u64);
        bytes.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        self.arrived += bytes.len() as u64;
        self.cut_in.is_some()
    }
}

/// Links by pair, made when they are first needed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Links {
    list: Vec<Link>,
    /// Never iterated: its order would be nobody's.
    index: HashMap<u64, u32, BuildHasherDefault<PairHasher>>,
}

impl Links {
    /// The number of the link from `src` to `dst`.
    pub(crate) fn between(&mut self, src: u32, dst: u32, config: impl FnOnce() -> LinkConfig) -> u32 {
        let list = &mut self.list;
        *self.index.entry(pair(src, dst)).or_insert_with(|| {
            list.push(Link { config: config(), stalled_until: 0, cut_in: None, arrived: 0, opened: 0 });
            (list.len() - 1) as u32
        })
    }

    /// The link from `src` to `dst`, if it was ever needed.
    pub(crate) fn find(&self, src: u32, dst: u32) -> Option<&Link> {
        self.index.get(&pair(src, dst)).map(|link| &self.list[*link as usize])
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Link> {
        self.list.iter()
    }

    pub(crate) fn all_mut(&mut self) -> impl Iterator<Item = &mut Link> {
        self.list.iter_mut()
    }

    pub(crate) fn get(&self, link: u32) -> &Link {
        &self.list[link as usize]
    }

    pub(crate) fn get_mut(&mut self, link: u32) -> &mut Link {
        &mut self.list[link as usize]
    }
}

const fn pair(src: u32, dst: u32) -> u64 {
    ((src as u64) << 32) | dst as u64
}

/// Spreads a pair of nodes; equal everywhere, and nobody here chooses pairs to collide.
#[derive(Clone, Copy, Default)]
struct PairHasher(u64);

impl Hasher for PairHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = mix(self.0 ^ u64::from(*byte)));
    }

    fn write_u64(&mut self, pair: u64) {
        self.0 = mix(pair);
    }
}
