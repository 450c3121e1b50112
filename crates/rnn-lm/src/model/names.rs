//! The names of a model's parts: those of a PyTorch module `embedding`, `rnn`, `affine`, whose `state_dict` a file of weights is.

/// The table of word vectors.
pub(crate) const EMBEDDING: &str = "embedding";
/// The recurrent layers.
pub(crate) const RNN: &str = "rnn";
/// What makes logits of their outputs.
pub(crate) const AFFINE: &str = "affine";

/// `[V, D]`
pub(crate) const EMBEDDING_WEIGHT: &str = "embedding.weight";
/// `[V, H]`
pub(crate) const AFFINE_WEIGHT: &str = "affine.weight";
/// `[V]`
pub(crate) const AFFINE_BIAS: &str = "affine.bias";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_named_after_their_parts() {
        for (name, part) in [(EMBEDDING_WEIGHT, EMBEDDING), (AFFINE_WEIGHT, AFFINE), (AFFINE_BIAS, AFFINE)] {
            assert_eq!(name.split_once('.').map(|(first, _)| first), Some(part));
        }
    }
}
