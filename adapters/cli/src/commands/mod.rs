//! One file for each command.

pub(crate) mod ask;
pub(crate) mod bootstrap;
pub(crate) mod chat;
pub(crate) mod config;
pub(crate) mod conformance;
pub(crate) mod demo;
pub(crate) mod discover;
pub(crate) mod gateway;
pub(crate) mod ledger;
pub(crate) mod models;
pub(crate) mod paper;
pub(crate) mod quote;
pub(crate) mod replay;
pub(crate) mod serve;
pub(crate) mod status;
pub(crate) mod trust;
