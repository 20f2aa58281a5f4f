use std::{
    collections::VecDeque,
    task::{Context, Poll},
    time::Duration,
};

use libp2p::{
    Stream, StreamProtocol,
    core::upgrade::ReadyUpgrade,
    swarm::{
        ConnectionHandler, ConnectionHandlerEvent, StreamUpgradeError, SubstreamProtocol,
        handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound},
    },
};

use super::{OpenError, OpenId, PROTOCOL};

/// Negotiates the streams of one connection. It keeps nothing back: what it got goes to the behaviour at once, and the
/// swarm does not poll a connection whose events it cannot take, so a slow node makes its peers wait and loses nothing.
#[derive(Debug)]
pub struct Handler {
    timeout: Duration,
    asked: VecDeque<OpenId>,
    events: VecDeque<FromHandler>,
}

/// An order of the behaviour.
#[derive(Debug)]
pub struct ToHandler(pub(super) OpenId);

/// A result for the behaviour.
#[derive(Debug)]
pub struct FromHandler(pub(super) Negotiated);

#[derive(Debug)]
pub(super) enum Negotiated {
    Opened(OpenId, Stream),
    Failed(OpenId, OpenError),
    Inbound(Stream),
}

impl Handler {
    pub(super) fn new(timeout: Duration) -> Self {
        Handler { timeout, asked: VecDeque::new(), events: VecDeque::new() }
    }

    fn tell(&mut self, event: Negotiated) {
        self.events.push_back(FromHandler(event));
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = ToHandler;
    type ToBehaviour = FromHandler;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = OpenId;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ())
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Self::OutboundOpenInfo, Self::ToBehaviour>> {
        if let Some(event) = self.events.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(event));
        }
        if let Some(id) = self.asked.pop_front() {
            let protocol = SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), id).with_timeout(self.timeout);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        // No waker is kept: events and orders come through the connection, which polls again after each of them.
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, ToHandler(id): Self::FromBehaviour) {
        self.asked.push_back(id);
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<
            Self::InboundProtocol,
            Self::OutboundProtocol,
            Self::InboundOpenInfo,
            Self::OutboundOpenInfo,
        >,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, .. }) => {
                self.tell(Negotiated::Inbound(protocol));
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, info }) => {
                self.tell(Negotiated::Opened(info, protocol));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                let error = match error {
                    StreamUpgradeError::Timeout => OpenError::TimedOut,
                    StreamUpgradeError::NegotiationFailed => OpenError::Unsupported,
                    StreamUpgradeError::Io(error) => OpenError::ConnectionLost(error.to_string()),
                    StreamUpgradeError::Apply(never) => match never {},
                };
                self.tell(Negotiated::Failed(info, error));
            }
            _ => {}
        }
    }
}
