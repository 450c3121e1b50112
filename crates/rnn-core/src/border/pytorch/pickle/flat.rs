//! A dict and the dicts in it as one list of names.

use super::{Id, Item, Machine, Value};
use crate::Result;
use indexmap::IndexMap;
use std::collections::HashSet;

/// Dicts within dicts have their names joined by dots, down to this many.
const DEPTH: usize = 4;

/// Bytes of names, joined ones and those of dicts, for each byte of the pickle. A name that is used again takes two or
/// three bytes there, and outer names stand before it.
pub(super) const NAMED: usize = 64;

/// What is found in dicts.
struct Flat {
    items: IndexMap<String, Item>,
    /// The dicts that were looked into.
    seen: HashSet<Id>,
    /// Bytes that further names may have.
    left: usize,
}

impl Machine<'_> {
    /// What stands in a dict, of a pickle of so many bytes.
    pub(super) fn items(&self, dict: Id, bytes: usize) -> Result<IndexMap<String, Item>> {
        let left = bytes.saturating_mul(NAMED);
        let mut flat = Flat { items: IndexMap::new(), seen: HashSet::new(), left };
        self.flatten(dict, (String::new(), 0), &mut flat)?;
        Ok(flat.items)
    }

    fn flatten(&self, id: Id, (name, depth): (String, usize), flat: &mut Flat) -> Result<()> {
        let item = match &self.values[id] {
            Value::Dict(pairs) if depth < DEPTH => {
                if !flat.seen.insert(id) {
                    return Err(self.wrong("a state_dict", "a dict that stands in two places"));
                }
                for (key, value) in pairs {
                    let key = match &self.values[*key] {
                        Value::Text(text) => text.clone(),
                        Value::Int(int) => int.to_string().into(),
                        _ => return Err(self.wrong("a dict of names", "a key of another kind")),
                    };
                    let left = flat.left.checked_sub(name.len() + 1 + key.len());
                    flat.left = left.ok_or_else(|| {
                        let want = format!("names of at most {NAMED} bytes for each byte of the pickle");
                        self.wrong(&want, "longer ones")
                    })?;
                    let key = if depth == 0 { key.to_string() } else { format!("{name}.{key}") };
                    self.flatten(*value, (key, depth + 1), flat)?;
                }
                return Ok(());
            }
            _ if depth == 0 => return Err(self.wrong("a state_dict", "what is not a dict")),
            Value::Tensor(tensor) => Item::Tensor(tensor.clone()),
            _ => Item::Other,
        };
        let most = self.most.items;
        match flat.items.insert(name.clone(), item) {
            None if flat.items.len() > most => {
                Err(self.wrong(&format!("at most {most} tensors and other items"), "more"))
            }
            None => Ok(()),
            Some(_) => Err(self.wrong("one item of each name", format!("two of {name}"))),
        }
    }
}
