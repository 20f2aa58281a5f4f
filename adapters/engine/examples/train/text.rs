//! The text the model learns from: tiny stories made from templates. All of it is written here.

use std::collections::BTreeMap;

/// A small counter-based generator (SplitMix64): the same seed gives the same stories on every machine.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    /// One of the alternatives of a list written `a|b|c`.
    fn pick<'a>(&mut self, of: &'a str) -> &'a str {
        let all: Vec<&str> = of.split('|').collect();
        self.one(&all)
    }
}

const GIRLS: &str = "Lily|Mia|Anna|Rosa|Ella|Nora|Zoe|Ivy|Lucy|Emma";
const BOYS: &str = "Tom|Ben|Max|Sam|Leo|Finn|Oscar|Jack|Tim|Hugo";
const KINDS: &str = "fox|rabbit|bear|mouse|cat|dog|duck|frog|hedgehog|squirrel|turtle|dragon|robot|penguin|pony|goat";
const HELPERS: &str = "owl|fox|rabbit|bear|mouse|cat|dog|duck|frog|turtle|bird|goose|badger|beaver|snail";
const TRAITS: &str = "little|small|brave|curious|kind|shy|clever|funny|quiet|happy|young|gentle";
const HELPER_TRAITS: &str = "wise|old|big|friendly|kind|tall|sleepy|gray|tiny|busy";
const PLACES: &str = "village|forest|garden|town|valley|meadow|house by the sea|cottage on a hill|barn|castle|city";
const OUTSIDE: &str = "the forest|the park|the river|the garden|the hill|the beach|the lake|the old bridge|the market";
const THINGS: &str = "ball|kite|hat|key|lamp|drum|book|boat|scarf|bell|shell|coin|blanket|basket|whistle";
const COLORS: &str = "red|blue|green|yellow|golden|silver|purple|white|shiny|orange";
const SPOTS: &str = "under a tree|behind a rock|in the tall grass|near the water|under the bed|in a nest|on a branch|\
                     inside a hollow log|next to the gate|at the bottom of the pond";
const HOBBIES: &str = "play outside|sing songs|draw pictures|look at the stars|climb trees|read books|count the clouds|\
                       pick flowers|dance in the rain|run in the wind|tell jokes|swim in the river";
const FOODS: &str = "bread|soup|cake|apples|berries|honey|cookies|cheese|pears|warm milk|nuts|pancakes";
const FEARS: &str = "the dark|the deep water|loud thunder|the high bridge|the big stairs|the wind";
const PROJECTS: &str = "tower|boat|snowman|birdhouse|swing|tree house|tiny bridge|raft|sand castle|wooden cart";
const TOPICS: &str = "the moon|a lost key|a friend|the sea|a storm|a birthday|the stars|winter|a secret|a garden";

/// Who acts in one story: the words for the slots of the templates.
struct Cast(BTreeMap<&'static str, String>);

impl Cast {
    fn new(rng: &mut Rng) -> Self {
        let mut slots = BTreeMap::new();
        let girl = rng.chance(50);
        let human = rng.chance(40);
        let kind = if !human { rng.pick(KINDS) } else { ["boy", "girl"][usize::from(girl)] };
        let pronouns = if girl { ["she", "her", "her", "She"] } else { ["he", "him", "his", "He"] };
        for (slot, word) in ["he", "him", "his", "He"].into_iter().zip(pronouns) {
            slots.insert(slot, word.to_string());
        }
        slots.insert("kind", kind.to_string());
        slots.insert("name", rng.pick(if girl { GIRLS } else { BOYS }).to_string());
        slots.insert("place", rng.pick(PLACES).to_string());
        slots.insert("trait", rng.pick(TRAITS).to_string());
        slots.insert("hobby", rng.pick(HOBBIES).to_string());
        slots.insert("His", capital(&slots["his"]));
        let mut cast = Self(slots);
        cast.draw(rng, DAYS);
        cast
    }

    /// Draws what may be new for each thing that happens.
    fn draw(&mut self, rng: &mut Rng, days: &[&str]) {
        let lists = [
            ("old", HELPER_TRAITS),
            ("out", OUTSIDE),
            ("thing", THINGS),
            ("color", COLORS),
            ("spot", SPOTS),
            ("food", FOODS),
            ("fear", FEARS),
            ("project", PROJECTS),
            ("topic", TOPICS),
        ];
        for (slot, list) in lists {
            self.0.insert(slot, rng.pick(list).to_string());
        }
        self.0.insert("day", rng.one(days).to_string());
        self.0.insert("Spot", capital(&self.0["spot"]));
        // Nobody meets one of his own kind, or the same helper twice.
        let mut known = vec![self.0["kind"].clone()];
        known.extend(self.0.get("helper").cloned());
        for slot in ["helper", "other"] {
            let mut helper = rng.pick(HELPERS);
            while known.iter().any(|k| k == helper) {
                helper = rng.pick(HELPERS);
            }
            known.push(helper.to_string());
            self.0.insert(slot, helper.to_string());
        }
    }

    /// Fills the `{slots}` of a template.
    fn tell(&self, template: &str) -> String {
        let mut text = String::new();
        for (i, part) in template.split(['{', '}']).enumerate() {
            text.push_str(if i % 2 == 0 { part } else { &self.0[part] });
        }
        text
    }
}

const OPENINGS: &[&str] = &[
    "Once upon a time, there was a {trait} {kind} named {name}.",
    "Once upon a time, there was a {trait} {kind}. {He} was called {name}.",
    "Once upon a time, in a {place}, there lived a {trait} {kind} named {name}.",
    "Once upon a time, a {trait} {kind} lived in a {place}. {His} name was {name}.",
    "There once was a {kind} named {name} who lived in a {place}.",
    "Long ago, a {trait} {kind} named {name} lived in a {place}.",
    "In a {place} there lived a {kind}. {His} name was {name}.",
    "{name} was a {trait} {kind} who lived in a {place}.",
];
const HABITS: &[&str] = &[
    "{He} loved to {hobby}.",
    "Every day {he} liked to {hobby}.",
    "{name} loved to {hobby} and to eat {food}.",
    "What {he} liked best was to {hobby}.",
    "In the morning {he} ate {food}, and then {he} went out to {hobby}.",
];
const DETAILS: &[&str] = &[
    "The {place} was small, but it was full of flowers.",
    "{He} had a {color} {thing}, and {he} took it everywhere.",
    "{His} best friend was a {other}.",
    "Everyone in the {place} liked {name}.",
    "At night {he} dreamed about {topic}.",
    "{He} lived with a {other} who told the best stories.",
];
const DAYS: &[&str] =
    &["One day,", "One morning,", "One sunny day,", "One cold day,", "One evening,", "On a windy day,"];
/// Each plot is a row of sentences; each sentence is a choice.
const PLOTS: &[&[&[&str]]] = &[
    &[
        &["{day} {name} lost {his} {color} {thing}.", "{day} {his} {color} {thing} was gone."],
        &["{He} looked and looked, but {he} could not find it.", "{He} was very sad and began to cry."],
        &[
            "Then {he} met a {old} {helper}.",
            "A {old} {helper} came by.",
            "So {he} went to {out} and met a {old} {helper}.",
        ],
        &["\"Why are you sad?\" asked the {helper}.", "\"What is wrong?\" said the {helper}."],
        &[
            "\"I lost my {thing},\" said {name}. \"Can you help me?\"",
            "\"My {thing} is gone,\" {name} said. \"Will you help me?\"",
        ],
        &["\"Yes, let us look together,\" said the {helper}.", "\"Of course I will,\" said the {helper}."],
        &[
            "They looked everywhere, and at last they found the {thing} {spot}.",
            "Soon they saw something {color} {spot}. It was the {thing}!",
        ],
        &[
            "\"Thank you!\" said {name} and gave the {helper} a big hug.",
            "{name} was so happy that {he} gave the {helper} some {food}.",
        ],
    ],
    &[
        &[
            "{day} {name} walked to {out} and found a {color} {thing} {spot}.",
            "{day} {he} saw a {color} {thing} {spot}.",
        ],
        &["\"Whose {thing} is this?\" {he} asked.", "{He} wanted to keep it, but it was not {his} {thing}."],
        &["{He} asked the {other}, but the {other} did not know.", "{He} asked everyone {he} met, but nobody knew."],
        &[
            "Then {he} heard someone cry. It was a {old} {helper}.",
            "At last {he} came to a {old} {helper} who looked sad.",
        ],
        &["\"Is this your {thing}?\" asked {name}.", "\"I think this {thing} is yours,\" said {name}."],
        &["\"Yes! You found it!\" said the {helper}.", "\"Oh, thank you, thank you!\" said the {helper}."],
        &[
            "They shared some {food} and talked about {topic}.",
            "The {helper} gave {name} some {food}, and they sat by the fire.",
        ],
    ],
    &[
        &["But {name} was afraid of {fear}.", "There was one thing {name} did not like. {He} was afraid of {fear}."],
        &["{day} {his} friend the {helper} was in trouble near {out}.", "{day} {he} heard the {helper} call for help."],
        &["\"Help me, {name}!\" called the {helper}.", "\"I am stuck!\" said the {helper}. \"Please help me!\""],
        &["{name} took a deep breath.", "{His} heart was beating fast, but {he} did not run away."],
        &[
            "{He} thought of {his} friend and was not afraid any more.",
            "Step by step {he} went on, and soon {he} was there.",
        ],
        &[
            "{He} pulled and pulled until the {helper} was free.",
            "{He} took the {helper} by the hand, and they walked home.",
        ],
        &[
            "\"You are very brave,\" said the {helper}.",
            "\"You did it!\" said the {helper}. \"You are a true friend.\"",
        ],
    ],
    &[
        &[
            "{day} {name} wanted to build a {project}.",
            "{day} {he} had an idea. \"I will build a {project}!\" {he} said.",
        ],
        &["{He} worked all day, but the {project} fell down.", "But it was hard, and the {project} broke."],
        &["\"I can not do it,\" said {name}.", "{name} sat down and was sad."],
        &["A {old} {helper} saw it and smiled.", "Then a {old} {helper} came along."],
        &[
            "\"Try again,\" said the {helper}. \"I will help you.\"",
            "\"Do not give up,\" said the {helper}. \"Let us do it together.\"",
        ],
        &["So they worked together, and they sang a song.", "They ate some {food} and started again."],
        &[
            "In the evening the {project} was done, and it was beautiful.",
            "At last it was ready. It was the best {project} in the world.",
        ],
    ],
    &[
        &[
            "{day} a {old} {helper} came to the {place}. The {helper} was hungry and cold.",
            "{day} {he} met a {old} {helper} who had nothing to eat.",
        ],
        &["{name} had only a little {food}.", "{name} looked at {his} {food}. There was not much left."],
        &["\"You can have some of my {food},\" {he} said.", "\"Please eat with me,\" said {name}."],
        &["The {helper} ate and smiled.", "They sat down and ate together."],
        &[
            "\"You are kind,\" said the {helper}. \"I want to give you something.\"",
            "\"Now I will show you a secret,\" said the {helper}.",
        ],
        &["It was a {color} {thing}, and it could sing.", "{Spot}, there was a {color} {thing}. It was magic."],
        &["{name} could not believe {his} eyes.", "{name} laughed and danced with joy."],
    ],
    &[
        &[
            "{day} a big storm came, and {name} was far from home.",
            "{day} it began to snow, and {name} could not find the way home.",
        ],
        &["It was dark, and {he} was cold.", "The wind was loud, and {he} was alone."],
        &["Then {he} saw a small light {spot}.", "Then {he} heard a soft voice."],
        &["It was a {old} {helper} with a lamp.", "\"Come in,\" said a {old} {helper}. \"It is warm in here.\""],
        &["The {helper} gave {him} {food} and a {color} blanket.", "They ate {food} and told stories about {topic}."],
        &[
            "In the morning the sun was back, and the {helper} showed {him} the way.",
            "When the storm was over, they walked home together.",
        ],
    ],
];
const ENDINGS: &[&str] = &[
    "From that day on, they were best friends.",
    "From then on, {name} and the {helper} met every day.",
    "{name} went home and slept very well that night.",
    "That night {name} looked at the stars and smiled.",
    "And {name} learned that it is good to share.",
    "{name} learned that friends can do great things together.",
    "And they all lived happily ever after.",
    "And {name} was never alone again.",
    "Everyone in the {place} still tells this story.",
];
/// What people ask for before the story begins.
const ASKED: &[&str] = &[
    "Tell me a story about a {kind}.",
    "Tell me a story about a {kind} and a {helper}.",
    "Write a story about a {kind} named {name}.",
    "Please tell me a story.",
    "Can you tell me about a {trait} {kind}?",
    "tell me a story about a {kind}",
    "A {kind} and a {thing}",
    "What happened to the {kind}?",
];
const SMALL_TALK: &[&str] = &[
    "Hello!",
    "Hi, how are you?",
    "Who are you?",
    "What can you do?",
    "What is {topic}?",
    "Why is {topic} so far away?",
    "How do I build a {project}?",
    "Where is {out}?",
    "Do you like {food}?",
    "What is the best {thing} in the world?",
];
const ANSWERS: &[&str] = &[
    "I am a very small model, and all I know is tiny stories. Here is one.",
    "I do not know much, but I can tell you a story.",
    "That is a good question. It makes me think of a story.",
];

/// One document: a story, now and then after what somebody asked.
pub(crate) fn document(rng: &mut Rng) -> String {
    let mut cast = Cast::new(rng);
    let mut text = String::new();
    if rng.chance(15) {
        text += &cast.tell(rng.one(ASKED));
        text.push('\n');
    } else if rng.chance(10) {
        text += &cast.tell(rng.one(SMALL_TALK));
        text.push('\n');
        text += &cast.tell(rng.one(ANSWERS));
        text.push('\n');
    }
    text += &cast.tell(rng.one(OPENINGS));
    let mut say = |cast: &Cast, choices: &[&str], rng: &mut Rng| {
        text.push(' ');
        text += &cast.tell(rng.one(choices));
    };
    say(&cast, HABITS, rng);
    if rng.chance(60) {
        say(&cast, DETAILS, rng);
    }
    let first = rng.below(PLOTS.len());
    PLOTS[first].iter().for_each(|sentence| say(&cast, sentence, rng));
    if rng.chance(35) {
        cast.draw(rng, &["The next day,", "A week later,", "Some days later,"]);
        let second = (first + 1 + rng.below(PLOTS.len() - 1)) % PLOTS.len();
        PLOTS[second].iter().for_each(|sentence| say(&cast, sentence, rng));
    }
    say(&cast, ENDINGS, rng);
    if rng.chance(50) {
        say(&cast, &["The end."], rng);
    }
    with_articles(&text)
}

fn capital(word: &str) -> String {
    word[..1].to_uppercase() + &word[1..]
}

/// Turns "a old" into "an old".
fn with_articles(text: &str) -> String {
    let mut fixed = text.to_string();
    for vowel in ["a", "e", "i", "o", "u"] {
        fixed = fixed.replace(&format!(" a {vowel}"), &format!(" an {vowel}"));
    }
    fixed
}
