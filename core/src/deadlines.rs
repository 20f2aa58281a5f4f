//! The one index of deadlines: who has to be looked at next, and why.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use crate::{machine::Timeout, time::Instant};

/// Deadlines by key. Each key has one, derived from its state and handed in after every change.
///
/// A deadline that moved later is left where it was: looking once too early costs less than moving it with every token.
#[derive(Clone, Debug)]
pub(crate) struct Deadlines<K> {
    by_time: BTreeSet<(Timeout, K)>,
    by_key: BTreeMap<K, Timeout>,
}

impl<K: Ord + Clone> Deadlines<K> {
    pub(crate) const fn new() -> Self {
        Self { by_time: BTreeSet::new(), by_key: BTreeMap::new() }
    }

    /// Sets, moves or removes a key's deadline.
    pub(crate) fn set(&mut self, now: Instant, key: K, due: Option<Timeout>) {
        match (self.by_key.get(&key).copied(), due) {
            // One that is due already may have been put back by the handler of another: it is not to be left there.
            (Some(old), Some(new)) if now < old.at && old.at <= new.at => {}
            (old, new) => {
                if let Some(old) = old {
                    self.by_time.remove(&(old, key.clone()));
                    self.by_key.remove(&key);
                }
                if let Some(new) = new {
                    self.by_time.insert((new, key.clone()));
                    self.by_key.insert(key, new);
                }
            }
        }
    }

    /// Takes out every key that is due: the handler looks at each, and sets it anew.
    pub(crate) fn take_due(&mut self, now: Instant) -> Vec<K> {
        let mut due = Vec::new();
        while self.by_time.first().is_some_and(|(timeout, _)| timeout.at <= now) {
            if let Some((_, key)) = self.by_time.pop_first() {
                self.by_key.remove(&key);
                due.push(key);
            }
        }
        due
    }

    pub(crate) fn next(&self) -> Option<Timeout> {
        self.by_time.first().map(|(timeout, _)| *timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Cause;

    fn due(at: u64) -> Option<Timeout> {
        Some(Timeout { at: Instant::from_millis(at), cause: Cause::Idle })
    }

    fn next(deadlines: &Deadlines<u8>) -> Option<u64> {
        deadlines.next().map(|timeout| timeout.at.as_millis())
    }

    #[test]
    fn later_ones_stay_where_they_were_until_they_are_due() {
        let now = Instant::from_millis(5);
        let mut deadlines = Deadlines::new();
        deadlines.set(now, 1, due(10));
        deadlines.set(now, 1, due(20));
        assert_eq!(next(&deadlines), Some(10), "looking once too early costs less than moving it");
        deadlines.set(now, 1, due(7));
        assert_eq!(next(&deadlines), Some(7));
        assert_eq!(deadlines.take_due(Instant::from_millis(7)), [1]);
        assert_eq!(next(&deadlines), None);
    }

    #[test]
    fn what_was_put_back_while_due_is_moved() {
        let now = Instant::from_millis(30);
        let mut deadlines = Deadlines::new();
        deadlines.set(now, 1, due(10));
        deadlines.set(now, 1, due(40));
        assert_eq!(next(&deadlines), Some(40));
    }
}
