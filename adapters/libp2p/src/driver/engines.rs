//! Engines on threads of their own: one blocking thread per engine steps all its live generations in turn.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::Duration,
};

use futures::{SinkExt, channel::mpsc, executor::block_on};
use haggle_core::{
    AttemptId, Model,
    event::Work,
    wire::{
        Prompt,
        message::{self, EndReason},
    },
};
use haggle_engine::{
    Engine, Failure, Generation, Guarded, Message, Outage, Phase, Piece, Prefix, Request, Sampling, Step, Stop, Why,
};

use super::pieces;

/// What an engine reports.
#[derive(Debug)]
pub(super) enum FromEngine {
    /// The prompt was read; perhaps told once more at the end, for engines that know only then how long it was.
    Started {
        attempt: AttemptId,
        prompt_tokens: u64,
        cached: Option<u64>,
    },
    /// What it does now, before its first text.
    Working(AttemptId, message::Phase),
    Piece(AttemptId, Piece),
    Ended(AttemptId, EndReason),
    /// It cannot compute its models now, or can again.
    Outage(Arc<Sold>, Option<Outage>),
}

enum Order {
    /// Start an attempt; its window has room for so many tokens.
    Start(AttemptId, Request, u32),
    /// The driver has placed a piece.
    Placed(AttemptId),
    Stop(AttemptId),
}

/// Pieces of one attempt that may be under way to the driver, or wait there for room.
const AHEAD: usize = 32;
/// Tokens evaluated in one step: short enough that many generations take turns.
const STEP: u32 = 8;
/// How soon a generation that waits for something outside is asked again.
const WAIT: Duration = Duration::from_millis(5);

/// The threads, and the pieces that wait for room.
pub(super) struct Engines {
    threads: Threads,
    live: BTreeMap<AttemptId, Live>,
    reports: mpsc::Receiver<FromEngine>,
    report: mpsc::Sender<FromEngine>,
}

/// The thread of each model that is sold.
pub(super) type Threads = BTreeMap<Model, Thread>;

/// One engine's. It ends when nothing is sold of it any more and its last attempt is over.
#[derive(Clone)]
pub(super) struct Thread {
    orders: Sender<Order>,
    engine: Arc<dyn Engine>,
    sold: Arc<Sold>,
}

/// What is sold of one engine.
#[derive(Debug)]
pub(super) struct Sold {
    pub(super) models: Vec<Model>,
    /// Another engine computes them now, or none: what this one tells of itself matters no more.
    is_over: AtomicBool,
}

impl Sold {
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }
}

struct Live {
    thread: Sender<Order>,
    /// What waits for room. Bounded by [`AHEAD`], and what one piece of the engine is split into.
    pieces: VecDeque<Piece>,
    end: Option<EndReason>,
}

impl Engines {
    /// Starts one thread for each engine; several models may share one.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn start(engines: Vec<(Model, Arc<dyn Engine>)>) -> io::Result<Self> {
        let (report, reports) = mpsc::channel(64);
        let mut started = Engines { threads: Threads::new(), live: BTreeMap::new(), reports, report };
        started.threads = started.prepare(engines)?;
        Ok(started)
    }

    /// The threads for other engines: those that go on, and new ones that wait for work. Nothing is changed yet.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn prepare(&self, engines: Vec<(Model, Arc<dyn Engine>)>) -> io::Result<Threads> {
        let mut wanted: Vec<(Arc<dyn Engine>, Vec<Model>)> = Vec::new();
        for (model, engine) in engines {
            match wanted.iter_mut().find(|(other, _)| Arc::ptr_eq(other, &engine)) {
                Some((_, models)) => models.push(model),
                None => wanted.push((engine, vec![model])),
            }
        }
        let mut threads = Threads::new();
        for (engine, models) in wanted {
            let goes_on = |thread: &&Thread| Arc::ptr_eq(&thread.engine, &engine) && thread.sold.models == models;
            let thread = match self.threads.values().find(goes_on) {
                Some(thread) => thread.clone(),
                None => self.begin(engine, models.clone())?,
            };
            threads.extend(models.into_iter().map(|model| (model, thread.clone())));
        }
        Ok(threads)
    }

    fn begin(&self, engine: Arc<dyn Engine>, models: Vec<Model>) -> io::Result<Thread> {
        let (orders, inbox) = channel();
        let sold = Arc::new(Sold { models, is_over: AtomicBool::new(false) });
        let thread = Thread { orders, engine: engine.clone(), sold: sold.clone() };
        let report = self.report.clone();
        thread::Builder::new().name(format!("engine {}", engine.info().name)).spawn(move || {
            let to_driver = report.clone();
            // Here, because it may be told at once, and that waits as a thread does: not where futures are polled.
            engine.watch(Box::new(move |outage| {
                let report = FromEngine::Outage(sold.clone(), outage.cloned());
                !sold.is_over() && block_on(to_driver.clone().send(report)).is_ok()
            }));
            Runner { engine, report, live: VecDeque::new() }.run(&inbox);
        })?;
        Ok(thread)
    }

    /// Sells what these threads compute. Returns the models that another engine computes than before.
    pub(super) fn change(&mut self, next: Threads) -> Vec<Model> {
        let before = std::mem::replace(&mut self.threads, next);
        let is_same = |model: &Model, thread: &Thread| {
            self.threads.get(model).is_some_and(|now| Arc::ptr_eq(&now.sold, &thread.sold))
        };
        let (_, over): (Threads, Threads) = before.into_iter().partition(|(model, thread)| is_same(model, thread));
        over.values().for_each(|thread| thread.sold.is_over.store(true, Ordering::Relaxed));
        over.into_keys().collect()
    }

    pub(super) fn reports(&mut self) -> &mut mpsc::Receiver<FromEngine> {
        &mut self.reports
    }

    /// False if there is no engine for the model.
    pub(super) fn compute(&mut self, attempt: AttemptId, work: Work) -> bool {
        let Some(thread) = self.threads.get(&work.model) else { return false };
        let thread = thread.orders.clone();
        self.live.insert(attempt, Live { thread: thread.clone(), pieces: VecDeque::new(), end: None });
        let window = work.window_tokens;
        thread.send(Order::Start(attempt, request(work), window)).is_ok()
    }

    pub(super) fn stop(&mut self, attempt: AttemptId) {
        if let Some(live) = self.live.remove(&attempt) {
            let _ = live.thread.send(Order::Stop(attempt));
        }
    }

    /// Whether a piece of the attempt waits for room.
    pub(super) fn waits(&self, attempt: AttemptId) -> bool {
        self.live.get(&attempt).is_some_and(|live| !live.pieces.is_empty())
    }

    /// Keeps a piece for which there is no room yet.
    pub(super) fn hold(&mut self, attempt: AttemptId, piece: Piece) {
        if let Some(live) = self.live.get_mut(&attempt) {
            live.pieces.push_back(piece);
        }
    }

    /// The piece that has waited longest.
    pub(super) fn next(&mut self, attempt: AttemptId) -> Option<Piece> {
        self.live.get_mut(&attempt)?.pieces.pop_front()
    }

    /// It has to wait on.
    pub(super) fn put_back(&mut self, attempt: AttemptId, piece: Piece) {
        if let Some(live) = self.live.get_mut(&attempt) {
            live.pieces.push_front(piece);
        }
    }

    pub(super) fn hold_end(&mut self, attempt: AttemptId, reason: EndReason) {
        if let Some(live) = self.live.get_mut(&attempt) {
            live.end = Some(reason);
        }
    }

    /// The end of an attempt, once all its pieces are placed.
    pub(super) fn due_end(&mut self, attempt: AttemptId) -> Option<EndReason> {
        let live = self.live.get(&attempt)?;
        let end = live.end.filter(|_| live.pieces.is_empty())?;
        self.live.remove(&attempt);
        Some(end)
    }

    /// A piece is on its way: the engine may compute another.
    pub(super) fn placed(&mut self, attempt: AttemptId) {
        if let Some(live) = self.live.get(&attempt) {
            let _ = live.thread.send(Order::Placed(attempt));
        }
    }
}

/// What the engine is asked, in its own words.
pub(crate) fn request(work: Work) -> Request {
    let message = |message: haggle_core::wire::ChatMessage| Message { role: message.role, content: message.content };
    let prefix = (work.prefix_tokens > 0).then(|| Prefix {
        text: work.prefix,
        tokens: u32::try_from(work.prefix_tokens).unwrap_or(u32::MAX),
        ids: work.prefix_ids,
    });
    Request {
        prompt: match work.prompt {
            Prompt::Chat(messages) => haggle_engine::Prompt::Chat(messages.into_iter().map(message).collect()),
            Prompt::Raw(text) => haggle_engine::Prompt::Raw(text),
            Prompt::Tokens(tokens) => haggle_engine::Prompt::Tokens(tokens),
            Prompt::Request(json) => haggle_engine::Prompt::Request(json),
        },
        prefix,
        sampling: Sampling {
            temperature_milli: work.sampling.temperature_milli,
            top_k: work.sampling.top_k,
            top_p_milli: work.sampling.top_p_milli,
            seed: work.sampling.seed,
        },
        max_tokens: u32::try_from(work.max_tokens).unwrap_or(u32::MAX),
        stop: work.stop,
    }
}

pub(crate) fn end_of(stop: Stop) -> EndReason {
    match stop {
        Stop::End | Stop::Text => EndReason::Stop,
        Stop::MaxTokens => EndReason::Length,
        Stop::Context => EndReason::Context,
        Stop::ToolCalls => EndReason::ToolCalls,
        Stop::Filtered => EndReason::Filtered,
    }
}

pub(crate) fn end_after(failure: &Failure) -> EndReason {
    match failure.why {
        Why::BadRequest => EndReason::BadRequest,
        Why::ContextOverflow => EndReason::Context,
        // Nothing was begun, and nothing broke: nobody is to blame.
        Why::Unavailable => EndReason::Shutdown,
        _ => EndReason::Engine,
    }
}

fn read(attempt: AttemptId, prompt_tokens: u32, cached: Option<u32>) -> FromEngine {
    FromEngine::Started { attempt, prompt_tokens: prompt_tokens.into(), cached: cached.map(u64::from) }
}

/// What runs on an engine's thread.
struct Runner {
    engine: Arc<dyn Engine>,
    report: mpsc::Sender<FromEngine>,
    live: VecDeque<Running>,
}

struct Running {
    attempt: AttemptId,
    generation: Guarded,
    /// What the driver was told last that it does.
    phase: Phase,
    window: u32,
    ahead: usize,
}

/// What one turn over all generations came to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    /// None can go on until the driver says something.
    Blocked,
    /// Some wait for something outside.
    Waiting,
    Worked,
}

impl Running {
    /// What it does, if that is something else than before.
    fn changed_phase(&mut self) -> Option<Phase> {
        let phase = self.generation.phase();
        let before = std::mem::replace(&mut self.phase, phase);
        (before != phase).then_some(phase)
    }
}

/// What a requester is told that an engine does; `None` if that is nothing to wait for.
fn wire_phase(phase: Phase) -> Option<message::Phase> {
    match phase {
        Phase::Queued => Some(message::Phase::Queued),
        Phase::Loading => Some(message::Phase::Loading),
        Phase::Reading => Some(message::Phase::Reading),
        Phase::Thinking => Some(message::Phase::Thinking),
        _ => None,
    }
}

impl Runner {
    /// Ends when the node does.
    fn run(mut self, orders: &Receiver<Order>) {
        let mut turn = Turn::Blocked;
        loop {
            let order = match turn {
                Turn::Worked => orders.recv_timeout(Duration::ZERO),
                Turn::Waiting => orders.recv_timeout(WAIT),
                Turn::Blocked => orders.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match order {
                Ok(order) => {
                    self.obey(order);
                    while let Ok(order) = orders.try_recv() {
                        self.obey(order);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            turn = self.turn();
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Start(attempt, request, window) => match Guarded::start(&*self.engine, request) {
                Ok(generation) => {
                    let phase = Phase::Unknown;
                    self.live.push_back(Running { attempt, generation, phase, window, ahead: 0 });
                }
                Err(failure) => {
                    tracing::warn!(%failure, "the engine refused a job");
                    self.tell(FromEngine::Ended(attempt, end_after(&failure)));
                }
            },
            Order::Placed(attempt) => {
                if let Some(running) = self.live.iter_mut().find(|running| running.attempt == attempt) {
                    running.ahead = running.ahead.saturating_sub(1);
                }
            }
            Order::Stop(attempt) => self.live.retain(|running| running.attempt != attempt),
        }
    }

    /// Steps every generation once.
    fn turn(&mut self) -> Turn {
        let mut turn = Turn::Blocked;
        for _ in 0..self.live.len() {
            let Some(mut running) = self.live.pop_front() else { break };
            if running.ahead >= AHEAD {
                self.live.push_back(running);
                continue;
            }
            let attempt = running.attempt;
            let step = running.generation.step(STEP);
            turn = turn.max(if step == Step::Waiting { Turn::Waiting } else { Turn::Worked });
            if let Some(phase) = running.changed_phase().and_then(wire_phase) {
                self.tell(FromEngine::Working(attempt, phase));
            }
            match step {
                Step::Working | Step::Waiting => self.live.push_back(running),
                Step::Started(started) => {
                    self.live.push_back(running);
                    self.tell(read(attempt, started.prompt_tokens, started.cached));
                }
                Step::Piece(piece) => {
                    if pieces::fits(&piece, running.window) {
                        running.ahead += 1;
                        self.tell(FromEngine::Piece(attempt, piece));
                    } else {
                        let parts = pieces::split(piece, running.window);
                        running.ahead += parts.len();
                        parts.into_iter().for_each(|part| self.tell(FromEngine::Piece(attempt, part)));
                    }
                    self.live.push_back(running);
                }
                Step::Done(done) => {
                    self.tell(read(attempt, done.prompt_tokens, done.cached));
                    self.tell(FromEngine::Ended(attempt, end_of(done.stop)));
                }
                Step::Failed(failure) => {
                    tracing::warn!(%failure, "an engine failed");
                    self.tell(FromEngine::Ended(attempt, end_after(&failure)));
                }
            }
        }
        turn
    }

    /// Waits while the driver has not taken the last report; a driver that is gone ends the thread soon.
    fn tell(&mut self, report: FromEngine) {
        let _ = block_on(self.report.send(report));
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use haggle_engine::{ExactKind, Exactness, ModelInfo, Watcher};

    use super::*;

    /// It cannot answer, and says so as soon as somebody wants to know.
    struct Sick(ModelInfo);

    impl Engine for Sick {
        fn info(&self) -> &ModelInfo {
            &self.0
        }

        fn start(&self, _: Request) -> Result<Box<dyn Generation>, Failure> {
            Err(Failure::new(Why::Unavailable, "it is sick"))
        }

        fn watch(&self, watcher: Watcher) {
            watcher(Some(&Outage { lasts: Duration::from_secs(1), detail: "it is sick".into() }));
        }
    }

    #[test]
    fn an_engine_may_tell_of_an_outage_at_once_wherever_a_node_is_started() {
        let exactness = Exactness { kind: ExactKind::None, class: [0; 32] };
        let info = ModelInfo {
            features: None,
            name: "sick".into(),
            weights: [0; 32],
            context: 4096,
            can_continue: false,
            exactness,
        };
        let model = Model::new(b"sick").expect("a name");
        let sick: Arc<dyn Engine> = Arc::new(Sick(info));
        block_on(async {
            let mut engines = Engines::start(vec![(model.clone(), sick)]).expect("a thread");
            match engines.reports().next().await {
                Some(FromEngine::Outage(sold, Some(_))) => assert_eq!(sold.models, [model]),
                other => panic!("{other:?}"),
            }
        });
    }
}
