//! `POST /v1/responses`. Nothing is kept here: an answer cannot be asked for again, or gone on with by its id.

mod answer;
mod request;

pub(crate) use self::{
    answer::{Events, whole},
    request::read,
};
