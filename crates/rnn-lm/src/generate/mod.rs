//! Text made word by word: how the next one is chosen out of what a model expects.

mod greedy;

pub use greedy::most_probable;
