//! Bytes from a server with OpenAI's interface: the same events and steps, however they were cut.

use haggle_engine::{
    Step,
    upstream::{
        answer::{Answer, Asked},
        sse::{MAX_EVENT, Parser},
    },
};

use crate::cursor::Cursor;

/// Any chunking yields the same events and the same steps, with one ending, and never more tokens than were asked for or
/// than there are bytes. The first bytes say what was asked and how long the pieces are.
pub fn upstream(data: &[u8]) {
    let mut cursor = Cursor::new(data);
    let kind = cursor.byte();
    let prefix = (kind & 2 > 0).then(|| ("word ".to_owned(), u32::from(kind & 4) + 1));
    let asked = Asked { max_tokens: u32::from(cursor.byte()) + 1, context: 64, is_text: kind & 8 > 0, prefix };
    let (stream, pieces) = cursor.pieces();
    assert_eq!(events(&[stream]), events(&pieces));
    let steps = steps(&asked, &[stream]);
    assert_eq!(steps, self::steps(&asked, &pieces));
    check(&asked, &steps);
}

fn events(pieces: &[&[u8]]) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut parser = Parser::default();
    let mut events = Vec::new();
    for mut piece in pieces.iter().copied() {
        while let Some(event) = parser.next(&mut piece).ok()? {
            events.push((event.name.to_vec(), event.data.to_vec()));
        }
        assert!(piece.is_empty() && parser.held() <= MAX_EVENT);
    }
    events.extend(parser.finish().map(|event| (event.name.to_vec(), event.data.to_vec())));
    Some(events)
}

fn steps(asked: &Asked, pieces: &[&[u8]]) -> Vec<Step> {
    let mut answer = Answer::new(asked.clone());
    pieces.iter().for_each(|piece| answer.feed(piece));
    answer.end(None);
    std::iter::from_fn(|| answer.step()).collect()
}

fn check(asked: &Asked, steps: &[Step]) {
    let (mut tokens, mut bytes) = (0, 0);
    for step in steps {
        if let Step::Piece(piece) = step {
            tokens += piece.n;
            bytes += piece.text.len();
            assert!(piece.n > 0 && !piece.text.is_empty() && tokens as usize <= bytes);
        }
    }
    assert!(tokens <= asked.max_tokens);
    assert_eq!(steps.iter().filter(|step| step.is_ending()).count(), 1);
    assert!(steps.last().is_some_and(Step::is_ending));
    if let Some(Step::Done(done)) = steps.last() {
        assert_eq!(done.new_tokens, tokens);
    }
}
