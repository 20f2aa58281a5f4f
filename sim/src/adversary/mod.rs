//! Hostile peers over the real codec: providers that cheat, requesters that pester.

mod cheat;
mod milker;
mod pest;

pub use self::{
    cheat::{CHEAT_LENGTH, CHEAT_TOKEN, CHEATS, Cheat, cheat},
    milker::{Milked, milker},
    pest::{PESTS, Pest, pest},
};
