//! What tells a file of tensors that was damaged from one that was not: safetensors takes flipped bits.

/// Over texts, and then over tensors by their names, in whatever order they come.
pub(crate) fn checksum<'a>(
    texts: impl IntoIterator<Item = &'a str>,
    tensors: impl Iterator<Item = (&'a str, &'a [u8])>,
) -> String {
    let mut sum = crc32fast::Hasher::new();
    texts.into_iter().for_each(|text| sum.update(text.as_bytes()));
    let mut tensors: Vec<_> = tensors.collect();
    tensors.sort_unstable_by_key(|(name, _)| *name);
    for (name, bytes) in tensors {
        sum.update(name.as_bytes());
        sum.update(bytes);
    }
    format!("{:08x}", sum.finalize())
}
