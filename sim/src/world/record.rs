//! Kinds of records in the trace.

use haggle_core::Input;

use crate::net::Role;

pub(super) const TRANSMIT: u8 = 32;
pub(super) const EVENT: u8 = 33;
pub(super) const ORDER: u8 = 34;
pub(super) const OPEN: u8 = 35;
pub(super) const STATE: u8 = 36;
pub(super) const FAULT: u8 = 40;

/// A fact, told to the machine that plays a part.
pub(super) const fn input(input: &Input<'_>, role: Role) -> u8 {
    input_kind(input) | ((role as u8) << 4)
}

pub(super) const fn input_kind(input: &Input<'_>) -> u8 {
    match input {
        Input::Timeout => 0,
        Input::StreamOpened(_) => 1,
        Input::StreamFailed(..) => 2,
        Input::Received(..) => 3,
        Input::StreamClosed(_) => 4,
        Input::PeersFound(..) => 5,
        Input::QueryDone(..) => 6,
        Input::PeerConnected(_) => 7,
        Input::PeerGone(_) => 8,
    }
}
