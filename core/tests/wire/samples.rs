//! Messages to test with: one list by hand, one strategy for all there are.

use haggle_core::{
    JobId, Millis, Model,
    money::{BODY_QUANTUM, Tariff},
    wire::{
        MAX_BODY_PIECE, MAX_CHUNK_TEXT, MAX_OVERLAP, MAX_WINDOW_BYTES, MAX_WINDOW_TOKENS, MIN_WINDOW_BYTES, Message,
        message::*,
    },
};
use proptest::{collection::vec, option, prelude::*, sample::select};

pub(crate) const JOB: JobId = JobId([0x11; 16]);

pub(crate) fn model(name: &str) -> Model {
    Model::new(name.as_bytes()).unwrap()
}

pub(crate) fn model_advert() -> ModelAdvert {
    ModelAdvert {
        model: model("story"),
        aliases: vec![model("tale")],
        context: 2048,
        price_in: 100_000,
        bytes_per_token: 4,
        price_out: 400_000,
        eta: Millis(250),
        can_continue: true,
        exactness: Exactness { kind: ExactnessKind::Seeded, class: [0x22; 32] },
        features: None,
        longest: None,
        price_part: None,
    }
}

pub(crate) fn offer() -> Offer {
    Offer {
        rfq: 7,
        offer: 9,
        tariff: Tariff { fee_in: 7, price_out: 400_000 },
        eta: Millis(250),
        expires_in: Millis(60_000),
        methods: None,
    }
}

pub(crate) fn award() -> Award {
    Award {
        job: JOB,
        attempt: 1,
        epoch: 1,
        model: model("story"),
        offer: Some(9),
        tariff: offer().tariff,
        max_tokens: 256,
        kind: BodyKind::Raw,
        body_bytes: 16,
        body_hash: [0x33; 32],
        prefix_bytes: 0,
        prefix_tokens: 0,
        overlap: 0,
        sampling: Sampling::default(),
        stop: vec![],
        window_tokens: 1024,
        window_bytes: 131_072,
        prefix_id_bytes: None,
        features: None,
        voucher: None,
        choice: None,
    }
}

/// An advert as large as there can be.
pub(crate) fn largest_advert() -> Advert {
    let name = Model::new(&[0xff; 128]).unwrap();
    let largest = ModelAdvert {
        model: name.clone(),
        aliases: vec![name; MAX_ALIASES],
        context: u32::MAX,
        price_in: u64::MAX,
        bytes_per_token: u32::MAX,
        price_out: u64::MAX,
        eta: Millis(u64::MAX),
        can_continue: true,
        exactness: Exactness { kind: ExactnessKind::Seeded, class: [0xff; 32] },
        features: Some(Features(u32::MAX)),
        longest: Some(u32::MAX),
        price_part: Some(u64::MAX),
    };
    let method = |n| Method { kind: MethodKind::Channel, rail: vec![n; MAX_RAIL], upfront: true };
    Advert {
        models: vec![largest; MAX_MODELS],
        slots: u32::MAX,
        free: u32::MAX,
        queued: u32::MAX,
        methods: Some((0..MAX_METHODS as u8).map(method).collect()),
    }
}

pub(crate) fn tab() -> Method {
    Method { kind: MethodKind::Tab, rail: b"EUR".to_vec(), upfront: false }
}

pub(crate) fn voucher() -> Voucher {
    Voucher { amount: 1_234_567, tokens: 32, signature: [0x66; 64] }
}

/// An award that is paid.
pub(crate) fn paid() -> Award {
    let choice = Choice { kind: MethodKind::Channel, rail: vec![0x77; 72], upfront: true, key: vec![0x88; 32] };
    let voucher = Some(Voucher { tokens: 0, ..voucher() });
    Award { choice: Some(choice), voucher, ..award() }
}

/// The valid vectors: file, name, message.
pub(crate) fn all() -> Vec<(&'static str, &'static str, Message<'static>)> {
    let free = Advert { models: vec![model_advert()], slots: 2, free: 1, queued: 0, methods: None };
    let plain = ModelAdvert {
        model: Model::new(&[0xff]).unwrap(),
        aliases: vec![],
        context: 0,
        price_in: 0,
        bytes_per_token: 1,
        price_out: u64::MAX,
        eta: Millis(u64::MAX),
        can_continue: false,
        exactness: Exactness::default(),
        features: None,
        longest: None,
        price_part: None,
    };
    let two = Advert { models: vec![model_advert(), plain], slots: u32::MAX, free: 0, queued: 24, methods: None };
    let rfq = Rfq { rfq: 7, model: model("story"), body_bytes: 256, max_tokens: 256 };
    let free_of_charge = Offer { tariff: Tariff::default(), eta: Millis::ZERO, expires_in: Millis::ZERO, ..offer() };
    let highest = Offer { tariff: Tariff { fee_in: u64::MAX, price_out: u64::MAX }, ..offer() };
    let counter = Counter { rfq: 7, offer: 9, tariff: Tariff { fee_in: 6, price_out: 380_000 } };
    let busy = Decline { reason: DeclineReason::Busy, retry_after: Some(Millis(1500)), offer: None, shown: None };
    let stale = Decline {
        reason: DeclineReason::Stale,
        retry_after: None,
        offer: Some(Offer { rfq: 0, ..offer() }),
        shown: None,
    };
    let both =
        Decline { reason: DeclineReason::TooCheap, retry_after: Some(Millis(0)), offer: Some(offer()), shown: None };
    let mismatch = Decline { reason: DeclineReason::BodyMismatch, retry_after: None, offer: None, shown: None };
    let posted = Award { offer: None, kind: BodyKind::Chat, ..award() };
    let continued = Award {
        attempt: 2,
        epoch: 3,
        body_bytes: 70_000,
        prefix_bytes: 40,
        prefix_tokens: 10,
        overlap: 8,
        stop: vec!["\n\n".into(), "Ende – fin".into()],
        sampling: Sampling { temperature_milli: 0, top_k: 40, top_p_milli: 950, seed: u64::MAX },
        kind: BodyKind::Tokens,
        ..award()
    };
    let accepted =
        Accepted { terms: [0x44; 32], body_credit: 16, window_tokens: 1024, window_bytes: 131_072, eta: None };
    let small = Accepted { terms: [0; 32], body_credit: 0, window_tokens: 1, window_bytes: 16_512, eta: None };
    let queued = Accepted { eta: Some(Millis(90_000)), ..accepted.clone() };
    let end = End {
        reason: EndReason::Stop,
        prompt_tokens: 4,
        tokens: 23,
        hash: [0x55; 32],
        thought: None,
        cached: None,
        receipt: None,
    };
    let cancelled = End {
        reason: EndReason::Cancelled,
        prompt_tokens: 0,
        tokens: 0,
        hash: [0; 32],
        thought: None,
        cached: None,
        receipt: None,
    };
    let too_slow = End {
        reason: EndReason::TooSlow,
        prompt_tokens: 24,
        tokens: 256,
        hash: [0; 32],
        thought: None,
        cached: None,
        receipt: None,
    };
    let ids = Some(&[1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff][..]);
    let ack = |next, end| Message::Ack { next, end, voucher: None };
    let chunk = |text, channel| Message::Chunk { seq: 7, n: 1, text, ids: None, channel };
    let tools = Features::TOOLS.with(Features::JSON_SCHEMA);
    let able = ModelAdvert {
        features: Some(Features(0x8000_0000).with(tools)),
        longest: Some(512),
        price_part: Some(90_000),
        ..model_advert()
    };
    let channel = Method { kind: MethodKind::Channel, rail: vec![0x77; 72], upfront: true };
    let for_money = Advert { models: vec![able], slots: 1, free: 1, queued: 0, methods: Some(vec![tab(), channel]) };
    let shown = Shown { amount: 77, note: [0x99; 32], signature: [0x66; 64] };
    let unpaid = Decline { reason: DeclineReason::Settlement, retry_after: None, offer: None, shown: Some(shown) };
    let request = Award { kind: BodyKind::Request, features: Some(tools), ..award() };
    let thoughtful = End {
        reason: EndReason::ToolCalls,
        thought: Some(20),
        cached: Some(4),
        receipt: Some(Receipt([0xaa; 64])),
        ..end.clone()
    };
    vec![
        ("00-describe", "the only one", Message::Describe),
        ("01-advert", "one model", Message::Advert(free)),
        ("01-advert", "two models, one with a name that is no text", Message::Advert(two)),
        ("01-advert", "nothing is served", Message::Advert(Advert::default())),
        ("01-advert", "what the engine can do, and how it is paid", Message::Advert(for_money)),
        ("02-rfq", "256 bytes, 256 tokens", Message::Rfq(rfq.clone())),
        (
            "02-rfq",
            "all that fits",
            Message::Rfq(Rfq { rfq: u64::MAX, body_bytes: 2 << 20, max_tokens: u64::MAX, ..rfq }),
        ),
        ("03-offer", "priced", Message::Offer(offer())),
        ("03-offer", "free of charge", Message::Offer(free_of_charge)),
        ("03-offer", "the highest price", Message::Offer(highest)),
        ("03-offer", "on a tab", Message::Offer(Offer { methods: Some(vec![tab()]), ..offer() })),
        ("04-counter", "five percent less", Message::Counter(counter)),
        ("05-decline", "busy, with a time", Message::Decline(busy)),
        ("05-decline", "stale, with the terms of now", Message::Decline(stale)),
        ("05-decline", "too cheap, with time and offer", Message::Decline(both)),
        ("05-decline", "body mismatch, alone", Message::Decline(mismatch)),
        ("05-decline", "settlement, with the voucher that is held", Message::Decline(unpaid)),
        ("06-release", "price", Message::Release(ReleaseReason::Price)),
        ("06-release", "unaffordable", Message::Release(ReleaseReason::Unaffordable)),
        ("07-award", "an offer is taken", Message::Award(award())),
        ("07-award", "the posted price is taken", Message::Award(posted)),
        ("07-award", "a run is continued", Message::Award(continued)),
        ("07-award", "a request with tools and a schema", Message::Award(request)),
        ("07-award", "paid through a channel", Message::Award(paid())),
        ("08-body", "a first piece", Message::Body { offset: 0, bytes: b"Once upon a time" }),
        ("08-body", "a later piece", Message::Body { offset: 65_536, bytes: &[0, 255] }),
        ("09-accepted", "the whole window", Message::Accepted(accepted)),
        ("09-accepted", "the smallest window", Message::Accepted(small)),
        ("09-accepted", "a job that waits for a slot", Message::Accepted(queued)),
        ("10-chunk", "one token", Message::Chunk { seq: 0, n: 1, text: " there", ids: None, channel: None }),
        ("10-chunk", "two tokens with ids", Message::Chunk { seq: 1024, n: 2, text: "é", ids, channel: None }),
        ("10-chunk", "far out", Message::Chunk { seq: u64::MAX, n: u32::MAX, text: "x", ids: None, channel: None }),
        (
            "10-chunk",
            "begins with U+FEFF",
            Message::Chunk { seq: 0, n: 1, text: "\u{feff}a", ids: None, channel: None },
        ),
        ("10-chunk", "a thought", chunk(" hm", Some(Channel::Thought))),
        ("10-chunk", "a refusal", chunk("I can not", Some(Channel::Refusal))),
        (
            "10-chunk",
            "a tool call",
            chunk(r#"{"index":0,"id":"a","name":"f","arguments":""}"#, Some(Channel::ToolCall)),
        ),
        ("10-chunk", "only a byte order mark", chunk("\u{feff}", None)),
        ("10-chunk", "line ends and a NUL are as they are", chunk("a\r\n\rb\u{0}", None)),
        ("10-chunk", "a letter and a mark are two characters", chunk("e\u{301}", None)),
        (
            "10-chunk",
            "what stands for broken text, and what is no character",
            chunk("\u{fffd}\u{ffff}\u{10ffff}", None),
        ),
        ("10-chunk", "separators of lines and paragraphs, and of directions", chunk("\u{2028}\u{2029}\u{202e}", None)),
        ("11-keepalive", "the only one", Message::Keepalive),
        ("12-end", "stop", Message::End(end.clone())),
        ("12-end", "cancelled before the first token", Message::End(cancelled)),
        ("12-end", "too slow", Message::End(too_slow)),
        ("12-end", "tool calls, after thoughts", Message::End(thoughtful)),
        ("12-end", "filtered", Message::End(End { reason: EndReason::Filtered, ..end.clone() })),
        ("12-end", "not paid", Message::End(End { reason: EndReason::Settlement, ..end.clone() })),
        ("13-ack", "32 tokens", ack(32, false)),
        ("13-ack", "the end", ack(23, true)),
        ("13-ack", "far out", ack(u64::MAX, false)),
        ("13-ack", "32 tokens, paid", Message::Ack { next: 32, end: false, voucher: Some(voucher()) }),
        ("14-cancel", "the first attempt", Message::Cancel { job: JOB, attempt: 1, voucher: None }),
        ("14-cancel", "with what is paid", Message::Cancel { job: JOB, attempt: 1, voucher: Some(voucher()) }),
        ("15-resume", "from token 300", Message::Resume { job: JOB, attempt: 1, epoch: 2, next: 300 }),
        ("16-resumed", "at token 300", Message::Resumed { next: 300 }),
        ("17-gone", "unknown", Message::Gone(GoneReason::Unknown)),
        ("17-gone", "stale", Message::Gone(GoneReason::Stale)),
        ("18-working", "it waits", working(Phase::Queued, None, None, None)),
        (
            "18-working",
            "a model of 4 GiB is loaded",
            working(Phase::Loading, Some(1 << 30), Some(4 << 30), Some(90_000)),
        ),
        ("18-working", "it reads", working(Phase::Reading, Some(300), None, None)),
        ("18-working", "it thinks, for no time", working(Phase::Thinking, None, Some(0), Some(0))),
    ]
}

fn working(phase: Phase, done: Option<u64>, of: Option<u64>, eta: Option<u64>) -> Message<'static> {
    Message::Working { phase, done, of, eta: eta.map(Millis) }
}

/// A message that owns its text and bytes.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "one is made for each case, and none is kept")]
pub(crate) enum Owned {
    Plain(Message<'static>),
    Body(u64, Vec<u8>),
    Chunk(u64, u32, String, Option<Vec<u8>>, Option<Channel>),
}

impl Owned {
    pub(crate) fn message(&self) -> Message<'_> {
        match self {
            Self::Plain(message) => message.clone(),
            Self::Body(offset, bytes) => Message::Body { offset: *offset, bytes },
            Self::Chunk(seq, n, text, ids, channel) => {
                Message::Chunk { seq: *seq, n: *n, text, ids: ids.as_deref(), channel: *channel }
            }
        }
    }
}

/// Any message within its bounds.
pub(crate) fn any_message() -> impl Strategy<Value = Owned> {
    let plain = prop_oneof![
        select(all())
            .prop_map(|(_, _, message)| message)
            .prop_filter("plain", |message| { !matches!(message, Message::Body { .. } | Message::Chunk { .. }) }),
        any_advert().prop_map(Message::Advert),
        (1..=u64::MAX, any_model(), 0..1_u64 << 40, 1..=u64::MAX).prop_map(|(rfq, model, quanta, max_tokens)| {
            Message::Rfq(Rfq { rfq, model, body_bytes: quanta * BODY_QUANTUM, max_tokens })
        }),
        any_offer().prop_map(Message::Offer),
        any_offer().prop_map(|o| Message::Counter(Counter { rfq: o.rfq, offer: o.offer, tariff: o.tariff })),
        any_decline().prop_map(Message::Decline),
        any_award().prop_map(Message::Award),
        (any::<[u8; 32]>(), any_number(), any_window()).prop_map(
            |(terms, body_credit, (window_tokens, window_bytes))| {
                Message::Accepted(Accepted { terms, body_credit, window_tokens, window_bytes, eta: None })
            }
        ),
        any_working(),
        any_end().prop_map(Message::End),
        (any_number(), any::<bool>(), option::of(any_voucher())).prop_map(|(next, end, voucher)| Message::Ack {
            next,
            end,
            voucher
        }),
        (any::<[u8; 16]>(), 1..=u32::MAX, option::of(any_voucher()))
            .prop_map(|(job, attempt, voucher)| Message::Cancel { job: JobId(job), attempt, voucher }),
        (any::<[u8; 16]>(), 1..=u32::MAX, 1..=u32::MAX, any_number())
            .prop_map(|(job, attempt, epoch, next)| { Message::Resume { job: JobId(job), attempt, epoch, next } }),
    ];
    let body = (any_number(), vec(any::<u8>(), 1..64)).prop_map(|(offset, bytes)| Owned::Body(offset, bytes));
    let large_body = (any_number(), any::<u8>()).prop_map(|(at, byte)| Owned::Body(at, vec![byte; MAX_BODY_PIECE]));
    let channels = option::of(select(vec![Channel::Thought, Channel::Refusal, Channel::ToolCall]));
    let ids = option::of(vec(any::<[u8; 4]>(), 1..20));
    let chunk = (any_number(), ".{1,40}", ids, 1..=u32::MAX, channels).prop_map(|(seq, text, ids, n, channel)| {
        let n = ids.as_ref().map_or(n, |ids| ids.len() as u32);
        Owned::Chunk(seq, n, text, ids.map(|ids| ids.concat()), channel)
    });
    let large_chunk = any_number().prop_map(|seq| {
        let (text, ids) = ("x".repeat(MAX_CHUNK_TEXT), vec![0xff; 4096]);
        Owned::Chunk(seq, 1024, text, Some(ids), Some(Channel::ToolCall))
    });
    prop_oneof![
        10 => plain.prop_map(Owned::Plain),
        2 => body,
        1 => large_body,
        4 => chunk,
        1 => large_chunk,
    ]
}

/// Numbers around every width of their encoding.
fn any_number() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        select(vec![0, 1, 23, 24, 255, 256, 65_535, 65_536, 0xffff_ffff, 0x1_0000_0000, u64::MAX])
    ]
}

fn any_working() -> impl Strategy<Value = Message<'static>> {
    let phases = select(vec![Phase::Queued, Phase::Loading, Phase::Reading, Phase::Thinking]);
    let number = || option::of(any_number());
    (phases, number(), number(), number()).prop_map(|(phase, done, of, eta)| working(phase, done, of, eta))
}

fn any_end() -> impl Strategy<Value = End> {
    use EndReason::{BadRequest, Filtered, Length, Settlement, ToolCalls};
    let reasons = select(vec![BadRequest, Length, ToolCalls, Filtered, Settlement]);
    let counts = (any_number(), any_number(), option::of(any_number()), option::of(any_number()));
    (reasons, counts, any::<[u8; 32]>(), option::of(any::<[u8; 32]>())).prop_map(
        |(reason, (prompt_tokens, tokens, thought, cached), hash, receipt)| End {
            reason,
            prompt_tokens,
            tokens,
            hash,
            thought: thought.map(|thought| thought.min(tokens)),
            cached,
            receipt: receipt.map(|half| Receipt([half, half].concat().try_into().unwrap())),
        },
    )
}

fn any_voucher() -> impl Strategy<Value = Voucher> {
    (any_number(), any_number(), any::<u8>()).prop_map(|(amount, tokens, byte)| Voucher {
        amount,
        tokens,
        signature: [byte; 64],
    })
}

fn any_choice() -> impl Strategy<Value = Choice> {
    let kinds = select(vec![MethodKind::Tab, MethodKind::Channel]);
    (kinds, vec(any::<u8>(), 0..=MAX_RAIL), any::<bool>(), vec(any::<u8>(), 0..=MAX_KEY))
        .prop_map(|(kind, rail, upfront, key)| Choice { kind, rail, upfront, key })
}

fn any_methods() -> impl Strategy<Value = Option<Vec<Method>>> {
    let kinds = select(vec![MethodKind::None, MethodKind::Tab, MethodKind::Channel]);
    let method = (kinds, any::<bool>()).prop_map(|(kind, upfront)| Method { kind, rail: vec![], upfront });
    let unlike = |mut methods: Vec<Method>| {
        methods.iter_mut().enumerate().for_each(|(at, method)| method.rail = vec![at as u8; 24 * at]);
        methods
    };
    option::of(vec(method, 1..=MAX_METHODS).prop_map(unlike))
}

fn any_model() -> impl Strategy<Value = Model> {
    vec(any::<u8>(), 1..=128).prop_map(|name| Model::new(&name).unwrap())
}

fn any_window() -> impl Strategy<Value = (u32, u32)> {
    (1..=MAX_WINDOW_TOKENS, MIN_WINDOW_BYTES..=MAX_WINDOW_BYTES)
}

fn any_tariff() -> impl Strategy<Value = Tariff> {
    (any_number(), any_number()).prop_map(|(fee_in, price_out)| Tariff { fee_in, price_out })
}

fn any_offer() -> impl Strategy<Value = Offer> {
    (1..=u64::MAX, 1..=u64::MAX, any_tariff(), any_number(), any_number(), any_methods()).prop_map(
        |(rfq, offer, tariff, eta, expires, methods)| Offer {
            rfq,
            offer,
            tariff,
            eta: Millis(eta),
            expires_in: Millis(expires),
            methods,
        },
    )
}

fn any_decline() -> impl Strategy<Value = Decline> {
    let reasons = vec![DeclineReason::Stale, DeclineReason::TooCheap];
    (select(reasons), option::of(any_number()), option::of(any_offer())).prop_map(|(reason, after, offer)| Decline {
        reason,
        retry_after: after.map(Millis),
        offer,
        shown: None,
    })
}

fn any_advert() -> impl Strategy<Value = Advert> {
    let model = (any_model(), vec(any_model(), 0..=MAX_ALIASES), any_tariff(), any::<(u32, bool, [u8; 32])>())
        .prop_map(|(model, aliases, tariff, (context, can_continue, class))| ModelAdvert {
            model,
            aliases,
            context,
            price_in: tariff.fee_in,
            bytes_per_token: context.max(1),
            price_out: tariff.price_out,
            eta: Millis(tariff.fee_in),
            can_continue,
            exactness: Exactness { kind: ExactnessKind::Greedy, class },
            features: can_continue.then_some(Features(context)),
            longest: (!can_continue).then_some(context),
            price_part: (context % 3 == 0).then_some(tariff.price_out),
        });
    (vec(model, 0..=MAX_MODELS), any::<(u32, u32, u32)>(), any_methods())
        .prop_map(|(models, (slots, free, queued), methods)| Advert { models, slots, free, queued, methods })
}

fn any_award() -> impl Strategy<Value = Award> {
    let prefix = (0..1_u64 << 32, 0..1_u64 << 20)
        .prop_map(|(bytes, tokens)| if bytes == 0 { (0, 0) } else { (bytes, tokens.clamp(1, bytes)) });
    let named = (any::<[u8; 16]>(), 1..=u32::MAX, 1..=u32::MAX, any_model(), option::of(1..=u64::MAX));
    (
        named,
        any_tariff(),
        1..=u64::MAX,
        prefix,
        0..=MAX_OVERLAP,
        any::<(u32, u32, u32, u64)>(),
        vec("[a-z]{1,64}", 0..=MAX_STOPS),
        any_window(),
        (option::of((any_choice(), any_voucher())), option::of(any::<u32>())),
    )
        .prop_map(
            |(
                (job, attempt, epoch, model, offer),
                tariff,
                max_tokens,
                prefix,
                overlap,
                draw,
                stop,
                window,
                (paid, features),
            )| Award {
                job: JobId(job),
                attempt,
                epoch,
                model,
                offer,
                tariff,
                max_tokens,
                kind: BodyKind::Chat,
                body_bytes: prefix.0 + 4 * prefix.1 + 1 + max_tokens % 1000,
                body_hash: [attempt as u8; 32],
                prefix_bytes: prefix.0,
                prefix_tokens: prefix.1,
                overlap: if prefix.1 == 0 { 0 } else { overlap.min(u32::try_from(max_tokens - 1).unwrap_or(overlap)) },
                sampling: Sampling { temperature_milli: draw.0, top_k: draw.1, top_p_milli: draw.2, seed: draw.3 },
                stop,
                window_tokens: window.0,
                window_bytes: window.1,
                prefix_id_bytes: (prefix.1 > 0 && attempt % 2 == 0).then_some(4 * prefix.1),
                features: features.map(Features),
                voucher: paid.as_ref().map(|(_, voucher)| *voucher),
                choice: paid.map(|(choice, _)| choice),
            },
        )
}
