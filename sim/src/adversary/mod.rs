//! Hostile peers over the real codec: providers that cheat, requesters that pester.

mod cheat;
mod pest;

pub use self::{
    cheat::{CHEAT_LENGTH, CHEAT_TOKEN, CHEATS, Cheat, cheat},
    pest::{PESTS, Pest, pest},
};
