use crate::bpe::Vocab;
use crate::net::{Net, Shape};
use crate::text::{self, Rng};

fn small() -> Net {
    let shape = Shape { vocab: 32, dim: 64, layers: 2, heads: 4, kv_heads: 2, ffn: 48, context: 128 };
    let mut rng = Rng(7);
    let mut net = Net::new(shape, &mut rng);
    // Larger weights than at the start, so that no gradient is lost in rounding, and norms that are not 1.
    net.params.iter_mut().for_each(|p| *p = *p * 1.5 + (rng.below(1000) as f32 - 500.0) * 2e-4);
    net
}

/// Along a random direction within each tensor, the loss changes as its gradient says.
#[test]
fn gradients_agree_with_finite_differences() {
    let mut net = small();
    let mut rng = Rng(8);
    let tokens: Vec<u16> = (0..81).map(|_| rng.below(32) as u16).collect();
    let mut grad = vec![0.0; net.params.len()];
    net.loss(&tokens, &mut grad);

    let mut tensors = vec![net.embed.clone(), net.norm.clone()];
    for l in net.layers.clone() {
        tensors.extend([l.attn_norm, l.q, l.k, l.v, l.o, l.ffn_norm, l.gate, l.up, l.down]);
    }
    for (number, tensor) in tensors.into_iter().enumerate() {
        // Half along the gradient, half at random: a sum that is far from zero, and no part left out.
        let length = grad[tensor.clone()].iter().map(|g| g * g).sum::<f32>().sqrt() / (tensor.len() as f32).sqrt();
        let direction: Vec<f32> = grad[tensor.clone()].iter().map(|g| g / length + rng.below(3) as f32 - 1.0).collect();
        let expected: f64 =
            grad[tensor.clone()].iter().zip(&direction).map(|(g, d)| f64::from(*g) * f64::from(*d)).sum();
        let kept = net.params.clone();
        let mut at = |step: f32| {
            net.params.copy_from_slice(&kept);
            net.params[tensor.clone()].iter_mut().zip(&direction).for_each(|(p, d)| *p += step * d);
            net.loss(&tokens, &mut vec![0.0; kept.len()])
        };
        let step = 2e-5;
        let measured = (at(step) - at(-step)) / (2.0 * f64::from(step));
        net.params = kept;
        let error = (measured - expected).abs() / expected.abs();
        assert!(error < 0.005, "tensor {number}: expected {expected}, measured {measured}");
    }
}

#[test]
fn the_same_seed_tells_the_same_stories() {
    let tell = |seed| text::document(&mut Rng(seed));
    assert_eq!(tell(5), tell(5));
    assert_ne!(tell(5), tell(6));
}

#[test]
fn tokens_spell_the_document() {
    let mut rng = Rng(1);
    let documents: Vec<String> = (0..100).map(|_| text::document(&mut rng)).collect();
    let mut vocab = Vocab::learn(&documents, 400);
    let document = "Unseen wörds, and 3 \u{1f600} too.";
    let mut tokens = Vec::new();
    vocab.encode(document, &mut tokens);
    let inner = &tokens[1..tokens.len() - 1];
    let bytes: Vec<u8> = inner.iter().flat_map(|t| vocab.bytes[*t as usize - 2].clone()).collect();
    assert_eq!(bytes, document.as_bytes());
}
