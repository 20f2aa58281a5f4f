//! Bytes from peers: one value has one encoding, however it arrives.

use haggle_core::wire::{self, Deframer, FrameError, MAX_FRAME, Prompt, message::BodyKind};

use crate::cursor::Cursor;

/// What decodes encodes to itself, and is in bounds.
pub fn decode(data: &[u8]) {
    if let Ok(message) = wire::decode(data) {
        assert!(message.is_in_bounds());
        let mut again = Vec::new();
        wire::encode(&message, &mut again);
        assert_eq!(again, data);
        assert!(!format!("{message:?}").is_empty());
    }
}

/// Any chunking yields the same frames. The first bytes say how long the pieces are.
pub fn deframe(data: &[u8]) {
    let mut cursor = Cursor::new(data);
    let (stream, pieces) = cursor.pieces();
    assert_eq!(frames(&[stream]), frames(&pieces));
}

fn frames(pieces: &[&[u8]]) -> (Vec<Vec<u8>>, Option<FrameError>) {
    let mut deframer = Deframer::default();
    let mut payloads = Vec::new();
    for mut piece in pieces.iter().copied() {
        loop {
            match deframer.next(&mut piece) {
                Ok(Some(payload)) => payloads.push(payload.to_vec()),
                Ok(None) => break,
                Err(error) => return (payloads, Some(error)),
            }
        }
        assert!(piece.is_empty() && deframer.held() < MAX_FRAME + 2);
    }
    (payloads, None)
}

/// What decodes as a prompt encodes to itself. The first byte says which kind.
pub fn prompt(data: &[u8]) {
    let Some((kind, body)) = data.split_first() else { return };
    let kinds = [BodyKind::Chat, BodyKind::Raw, BodyKind::Tokens, BodyKind::Request];
    let kind = kinds[usize::from(*kind) % kinds.len()];
    match Prompt::decode(kind, body) {
        Ok(prompt) => {
            assert_eq!(prompt.kind(), kind);
            assert_eq!(prompt.encode(), body);
            assert_eq!(prompt.check(), Ok(()));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
