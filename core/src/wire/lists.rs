//! Lists whose length is checked before anything of them is kept: a nested list can not amplify memory.

use alloc::vec::Vec;

use minicbor::{Decode, Decoder, decode::Error};

/// A definite list of at most `max` items.
pub(super) fn list<'b, C, T: Decode<'b, C>>(d: &mut Decoder<'b>, ctx: &mut C, max: usize) -> Result<Vec<T>, Error> {
    let len = d.array()?.ok_or_else(|| Error::message("indefinite list"))?;
    if len > max as u64 {
        return Err(Error::message("list too long"));
    }
    (0..len).map(|_| T::decode(d, ctx)).collect()
}
