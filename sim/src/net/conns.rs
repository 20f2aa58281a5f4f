//! Streams between nodes, by number.

use super::Conn;

/// Bits of a stream's number that say where it lies; those above count, so that numbers rise with age.
const SLOT_BITS: u32 = 24;

/// Streams by number. A number is never used twice, and never 0.
#[derive(Clone, Debug, Default)]
pub(crate) struct Conns {
    slots: Vec<(u64, Option<Conn>)>,
    free: Vec<u32>,
    opened: u64,
}

impl Conns {
    /// The number of the next stream.
    pub(crate) fn next_id(&self) -> u64 {
        let slot = self.free.last().map_or(self.slots.len() as u64, |slot| u64::from(*slot));
        debug_assert!(slot < 1 << SLOT_BITS, "16 million streams at once");
        ((self.opened + 1) << SLOT_BITS) | slot
    }

    pub(crate) fn insert(&mut self, conn: Conn) -> u64 {
        let id = self.next_id();
        self.opened += 1;
        match self.free.pop() {
            Some(slot) => self.slots[slot as usize] = (id, Some(conn)),
            None => self.slots.push((id, Some(conn))),
        }
        id
    }

    pub(crate) fn get(&self, id: u64) -> Option<&Conn> {
        let (found, conn) = self.slots.get(slot(id))?;
        conn.as_ref().filter(|_| *found == id)
    }

    pub(crate) fn get_mut(&mut self, id: u64) -> Option<&mut Conn> {
        let (found, conn) = self.slots.get_mut(slot(id))?;
        conn.as_mut().filter(|_| *found == id)
    }

    pub(crate) fn remove(&mut self, id: u64) -> Option<Conn> {
        let (found, conn) = self.slots.get_mut(slot(id))?;
        let removed = if *found == id { conn.take() } else { None };
        if removed.is_some() {
            self.free.push(slot(id) as u32);
        }
        removed
    }

    pub(crate) const fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

const fn slot(id: u64) -> usize {
    (id & ((1 << SLOT_BITS) - 1)) as usize
}
