//! The conformance kit over libp2p's streams: bytes, a clock and identities for a [`Play`], which decides all.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant as Clock},
};

use futures::{FutureExt, StreamExt, channel::mpsc, future, select};
use futures_timer::Delay;
use haggle::{
    Model,
    core::{Input, Instant, Machine, Output, StreamId, machine::StreamFailure},
    driver::Spawn,
    id,
    libp2p::{
        Multiaddr, PeerId, Swarm,
        identity::Keypair,
        swarm::{SwarmEvent, dial_opts::DialOpts},
    },
    sessions::{self, FromStream, OpenError, OpenId, SendBuffer, SessionStream, StreamTask},
};
use haggle_conformance::{Play, Scenario, Setting, Verdict};

use crate::{
    exit::{Exit, Failed},
    runtime,
};

/// More streams than any scenario opens: what is too many is for the peer to say.
const STREAMS: u32 = 60;

/// Plays a scenario with the provider at an address, as somebody whom it never met.
pub(crate) async fn ask(
    scenario: &Scenario,
    (peer, address): &(PeerId, Multiaddr),
    model: Option<Model>,
) -> Result<Verdict, Failed> {
    let (own, stranger) = (Identity::new(Some((*peer, address)))?, Identity::new(Some((*peer, address)))?);
    let setting = Setting { model, ..setting(*peer, &own) };
    let mut wire = Wire::new(own, Some(stranger));
    let mut play = Play::new(scenario, setting, wire.now());
    loop {
        if let Some(verdict) = wire.obey(&mut play)? {
            return Ok(verdict);
        }
        wire.next(&mut Some(&mut play)).await?;
    }
}

/// A provider for one scenario, which nobody met before; or two of them.
pub(crate) struct Stall {
    wire: Wire,
    /// Where it is to be reached.
    pub(crate) address: Multiaddr,
    /// Where its second provider is, in a scenario that needs one.
    pub(crate) other: Option<Multiaddr>,
}

impl Stall {
    /// Listens, at one address or at two; comes back when it knows where.
    pub(crate) async fn open(at: Multiaddr, other: Option<Multiaddr>) -> Result<Self, Failed> {
        let (own, address) = Identity::listening(at).await?;
        let (stranger, other) = match other {
            Some(at) => Identity::listening(at).await.map(|(stranger, at)| (Some(stranger), Some(at)))?,
            None => (None, None),
        };
        Ok(Self { wire: Wire::new(own, stranger), address, other })
    }

    /// Plays a scenario with whoever comes first; goes on to turn down whoever comes later, until it is dropped.
    pub(crate) async fn play(mut self, scenario: &Scenario, model: Model, tell: impl FnOnce(Verdict)) -> Failed {
        let mut play: Option<Play> = None;
        let mut tell = Some(tell);
        loop {
            if let Some(play) = &mut play {
                match self.wire.obey(play) {
                    Ok(verdict) => {
                        if let Some((verdict, tell)) = verdict.and_then(|verdict| Some((verdict, tell.take()?))) {
                            tell(verdict);
                        }
                    }
                    Err(failed) => return failed,
                }
            }
            match self.wire.next(&mut play.as_mut()).await {
                Ok(None) => {}
                Ok(Some((peer, stream))) => {
                    let setting = Setting { model: Some(model.clone()), ..setting(peer, &self.wire.own) };
                    let play = play.insert(Play::new(scenario, setting, self.wire.now()));
                    self.wire.accept(play, stream);
                }
                Err(failed) => return failed,
            }
        }
    }
}

/// Ids have to be fresh, not secret: they follow from the key.
fn setting(peer: PeerId, own: &Identity) -> Setting {
    let me = own.swarm.local_peer_id().to_bytes();
    let mut seed = [0; 32];
    seed.iter_mut().zip(me.iter().rev()).for_each(|(seed, byte)| *seed = *byte);
    // Every libp2p id is one of the core's.
    let peer = id::to_core(&peer).or_else(|| haggle::core::PeerId::new(b"peer"));
    Setting::new(peer.unwrap_or_else(|| unreachable!("four bytes are a peer id")), seed)
}

/// A peer with a key of its own that speaks nothing but the market's streams.
struct Identity {
    swarm: Swarm<sessions::Behaviour>,
    spawn: Spawn,
    opening: BTreeMap<OpenId, (StreamId, Arc<SendBuffer>)>,
}

impl Identity {
    fn new(knows: Option<(PeerId, &Multiaddr)>) -> Result<Self, Failed> {
        let config = sessions::Config {
            max_outbound_per_peer: STREAMS,
            max_inbound_per_peer: STREAMS,
            max_resets_per_second: STREAMS,
            ..sessions::Config::default()
        };
        let (mut swarm, spawn) = runtime::sessions(&Keypair::generate_ed25519(), config)?;
        if let Some((peer, address)) = knows {
            swarm.behaviour_mut().pin_address(peer, address.clone());
            // Streams share a connection, which is not waited for.
            let _ = swarm.dial(DialOpts::peer_id(peer).addresses(vec![address.clone()]).build());
        }
        Ok(Self { swarm, spawn, opening: BTreeMap::new() })
    }

    /// One that is to be reached, and where.
    async fn listening(at: Multiaddr) -> Result<(Self, Multiaddr), Failed> {
        let mut own = Self::new(None)?;
        let failed = |error: String| Failed::config(format!("cannot listen on {at}: {error}"));
        own.swarm.listen_on(at.clone()).map_err(|error| failed(error.to_string()))?;
        let me = *own.swarm.local_peer_id();
        let address = loop {
            match own.swarm.select_next_some().await {
                SwarmEvent::NewListenAddr { address, .. } => break address.with_p2p(me),
                SwarmEvent::ListenerClosed { reason, .. } => {
                    return Err(failed(reason.err().map_or("closed".into(), |error| error.to_string())));
                }
                _ => {}
            }
        };
        let address = address.map_err(|address| failed(address.to_string()))?;
        Ok((own, address))
    }
}

/// What moves bytes for one play.
struct Wire {
    clock: Clock,
    own: Identity,
    stranger: Option<Identity>,
    live: BTreeMap<StreamId, Arc<SendBuffer>>,
    inbox: mpsc::Sender<FromStream<StreamId>>,
    received: mpsc::Receiver<FromStream<StreamId>>,
    alive: Arc<()>,
}

impl Wire {
    fn new(own: Identity, stranger: Option<Identity>) -> Self {
        let (inbox, received) = mpsc::channel(0);
        Self { clock: Clock::now(), own, stranger, live: BTreeMap::new(), inbox, received, alive: Arc::default() }
    }

    fn now(&self) -> Instant {
        Instant::from_millis(u64::try_from(self.clock.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// Carries out what the play orders; its verdict, once.
    fn obey(&mut self, play: &mut Play) -> Result<Option<Verdict>, Failed> {
        while let Some(output) = play.poll_output() {
            match output {
                Output::Open { stream, peer } => {
                    let peer = id::to_libp2p(&peer).ok_or_else(|| Failed::usage("peer", "no peer id of libp2p"))?;
                    let is_strangers = play.is_strangers(stream);
                    let identity = self.stranger.as_mut().filter(|_| is_strangers).unwrap_or(&mut self.own);
                    let open = identity.swarm.behaviour_mut().open(peer).map_err(unreached)?;
                    let buffer = Arc::new(SendBuffer::default());
                    self.live.insert(stream, buffer.clone());
                    identity.opening.insert(open, (stream, buffer));
                }
                Output::Transmit { stream, bytes } => {
                    if let Some(buffer) = self.live.get(&stream).filter(|buffer| !buffer.push(bytes)) {
                        buffer.reset();
                    }
                }
                Output::Close(stream) => self.live.remove(&stream).iter().for_each(|buffer| buffer.close()),
                Output::Reset(stream) => self.live.remove(&stream).iter().for_each(|buffer| buffer.reset()),
                Output::Event(verdict) => return Ok(Some(verdict)),
                _ => {}
            }
        }
        Ok(None)
    }

    fn accept(&mut self, play: &mut Play, stream: SessionStream) {
        let key = play.accept_stream(self.now());
        let buffer = Arc::new(SendBuffer::default());
        self.live.insert(key, buffer.clone());
        run(&self.own.spawn, StreamTask::new(key, stream, buffer, self.inbox.clone(), self.alive.clone()));
    }

    /// Waits for what comes next, and tells the play; a stream for which there is no play yet is handed back.
    async fn next(&mut self, play: &mut Option<&mut Play>) -> Result<Option<(PeerId, SessionStream)>, Failed> {
        let due = play.as_ref().and_then(|play| play.poll_timeout());
        let wait = due.map(|due| Duration::from_millis(due.at.since(self.now()).0));
        let mut timer = match wait {
            Some(wait) => Delay::new(wait).left_future(),
            None => future::pending().right_future(),
        };
        let strangers = match &mut self.stranger {
            Some(stranger) => stranger.swarm.select_next_some().left_future(),
            None => future::pending().right_future(),
        };
        let (event, is_strangers) = select! {
            () = (&mut timer).fuse() => {
                self.tell(play, Input::Timeout);
                return Ok(None);
            }
            told = self.received.next() => {
                match told {
                    Some(FromStream::Received(stream, bytes)) => self.tell(play, Input::Received(stream, &bytes)),
                    Some(FromStream::Closed(stream)) => {
                        self.live.remove(&stream);
                        self.tell(play, Input::StreamClosed(stream));
                    }
                    None => {}
                }
                return Ok(None);
            }
            event = self.own.swarm.select_next_some() => (event, false),
            event = strangers.fuse() => (event, true),
        };
        let event = match event {
            SwarmEvent::Behaviour(event) => event,
            SwarmEvent::ConnectionClosed { peer_id, num_established: 0, .. } if !is_strangers => {
                id::to_core(&peer_id).into_iter().for_each(|peer| self.tell(play, Input::PeerGone(peer)));
                return Ok(None);
            }
            _ => return Ok(None),
        };
        match event {
            sessions::Event::Inbound { peer, stream } => match play {
                Some(play) => self.accept(play, stream),
                None => return Ok(Some((peer, stream))),
            },
            sessions::Event::Opened { id, stream, .. } => self.opened(play, is_strangers, id, stream),
            sessions::Event::OpenFailed { id, error, .. } => self.failed(play, is_strangers, id, error)?,
            _ => {}
        }
        Ok(None)
    }

    fn tell(&self, play: &mut Option<&mut Play>, input: Input<'_>) {
        let now = self.now();
        if let Some(play) = play {
            play.handle_input(now, input);
        }
    }

    fn identity(&mut self, is_strangers: bool) -> &mut Identity {
        self.stranger.as_mut().filter(|_| is_strangers).unwrap_or(&mut self.own)
    }

    fn opened(&mut self, play: &mut Option<&mut Play>, is_strangers: bool, open: OpenId, stream: SessionStream) {
        let Some((key, buffer)) = self.identity(is_strangers).opening.remove(&open) else { return };
        run(&self.own.spawn, StreamTask::new(key, stream, buffer, self.inbox.clone(), self.alive.clone()));
        self.tell(play, Input::StreamOpened(key));
    }

    /// Who cannot be reached cannot be judged; a stream that the peer refuses is its answer.
    fn failed(
        &mut self,
        play: &mut Option<&mut Play>,
        is_strangers: bool,
        open: OpenId,
        error: OpenError,
    ) -> Result<(), Failed> {
        let Some((key, _)) = self.identity(is_strangers).opening.remove(&open) else { return Ok(()) };
        self.live.remove(&key);
        if !matches!(error, OpenError::ConnectionLost(_) | OpenError::Busy | OpenError::TimedOut) {
            return Err(unreached(error));
        }
        self.tell(play, Input::StreamFailed(key, StreamFailure::Refused));
        Ok(())
    }
}

fn run(spawn: &Spawn, task: StreamTask<StreamId, SessionStream>) {
    spawn(Box::pin(task));
}

fn unreached(error: OpenError) -> Failed {
    Failed::new(Exit::NobodyFound, error.code(), format!("the peer under test: {error}"))
}
