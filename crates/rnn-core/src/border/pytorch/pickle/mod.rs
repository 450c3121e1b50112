//! The pickle of a state_dict, read by a machine that can make tensors, numbers, names and dicts of them, and nothing
//! else: whatever names other code is refused, and nothing is ever called.
//!
//! Not candle's reader: that one keeps unknown names as opaque objects, leaves out tensors that it cannot read with a line
//! on stderr, copies what the memo holds, so that a few bytes grow to gigabytes, and can be made to panic. Values stand
//! here in one list and name each other by number, and texts are shared: there is no more of them than bytes in the
//! file. What is made of one more than once is bounded: a tensor's sizes by [`MOST_DIMS`], names by [`flat::NAMED`]. So is what
//! takes a byte there and many here: values and items by [`MOST`].

mod flat;

use crate::{Error, Result};
use indexmap::IndexMap;
use std::sync::Arc;

/// A tensor as the pickle describes it; none of it is checked against the numbers there are.
#[derive(Debug, Clone)]
pub(super) struct Pickled {
    /// The storage's class without `Storage`: `Float`.
    pub(super) class: Arc<str>,
    /// The name of the record that holds the storage.
    pub(super) key: Arc<str>,
    /// How many numbers the storage has.
    pub(super) len: usize,
    /// Which of them is the first.
    pub(super) offset: usize,
    pub(super) dims: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

/// What stands under a name.
#[derive(Debug, Clone)]
pub(super) enum Item {
    Tensor(Arc<Pickled>),
    /// A number, a list and the like.
    Other,
}

/// More sizes no tensor has.
const MOST_DIMS: usize = 16;

/// More values, and more items under names of their own, no state_dict has: a training's checkpoint of a large model has some
/// thousands.
#[derive(Debug, Clone, Copy)]
struct Most {
    values: usize,
    items: usize,
}

/// A few hundred megabytes of either.
const MOST: Most = Most { values: 1 << 23, items: 1 << 20 };

type Id = usize;

#[derive(Debug)]
enum Value {
    Text(Arc<str>),
    Int(i64),
    /// What nothing here asks about: None, a bool, a float, a list.
    Other,
    Tuple(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Name(Name),
    Storage(Box<Storage>),
    Tensor(Arc<Pickled>),
}

/// The class and the key of [`Pickled`], and how many numbers there are.
#[derive(Debug)]
struct Storage {
    class: Arc<str>,
    key: Arc<str>,
    len: usize,
}

/// The only names that a pickle may call.
#[derive(Debug, Clone)]
enum Name {
    OrderedDict,
    RebuildTensor,
    Storage(Arc<str>),
}

/// Every tensor of a pickled state_dict, or of a dict of such, and the names of what is not a tensor.
///
/// # Errors
/// Where it is not one, is cut short, or names anything but tensors.
pub(super) fn read(source: &str, pickle: &[u8]) -> Result<IndexMap<String, Item>> {
    read_at_most(MOST, source, pickle)
}

fn read_at_most(most: Most, source: &str, pickle: &[u8]) -> Result<IndexMap<String, Item>> {
    let mut machine = Machine {
        source,
        most,
        rest: pickle,
        values: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: IndexMap::new(),
    };
    let id = machine.run()?;
    machine.items(id, pickle.len())
}

struct Machine<'a> {
    source: &'a str,
    most: Most,
    rest: &'a [u8],
    values: Vec<Value>,
    stack: Vec<Id>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: IndexMap<u32, Id>,
}

impl<'a> Machine<'a> {
    fn wrong(&self, want: &str, got: impl std::fmt::Display) -> Error {
        Error::invalid(self.source, want, got)
            .hint("torch.save(module.state_dict(), file) writes a state_dict")
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or_else(|| self.wrong("a whole pickle", "one that is cut short"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn text(&self, bytes: &[u8]) -> Result<String> {
        String::from_utf8(bytes.to_vec()).map_err(|_| self.wrong("text in UTF-8", "other bytes"))
    }

    fn line(&mut self) -> Result<String> {
        let end = self.rest.iter().position(|&byte| byte == b'\n');
        let end = end.ok_or_else(|| self.wrong("a whole pickle", "one that is cut short"))?;
        let line = self.take(end + 1)?;
        self.text(&line[..end])
    }

    fn push(&mut self, value: Value) -> Result<()> {
        self.values.push(value);
        self.push_id(self.values.len() - 1)
    }

    fn push_id(&mut self, id: Id) -> Result<()> {
        self.stack.push(id);
        let most = self.most.values;
        match self.values.len().max(self.stack.len()) <= most {
            true => Ok(()),
            false => Err(self.wrong(&format!("a pickle of at most {most} values"), "more")),
        }
    }

    fn pop(&mut self) -> Result<Id> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err(self.wrong("a pickle in order", "one that takes what is not there"));
        }
        self.stack.pop().ok_or_else(|| self.wrong("a pickle in order", "an empty stack"))
    }

    fn top(&mut self) -> Result<Id> {
        let id = self.pop()?;
        self.stack.push(id);
        Ok(id)
    }

    fn since_mark(&mut self) -> Result<Vec<Id>> {
        let height =
            self.marks.pop().ok_or_else(|| self.wrong("a pickle in order", "a mark that is missing"))?;
        Ok(self.stack.split_off(height))
    }

    fn tuple(&mut self, len: usize) -> Result<()> {
        let mut ids = (0..len).map(|_| self.pop()).collect::<Result<Vec<_>>>()?;
        ids.reverse();
        self.push(Value::Tuple(ids))
    }

    /// Runs to the end; the value that is left.
    fn run(&mut self) -> Result<Id> {
        let [proto, version] = self.array()?;
        if (proto, version) != (0x80, 2) {
            return Err(self.wrong("a pickle of protocol 2", format!("bytes {proto:#04x} {version:#04x}")));
        }
        loop {
            let [op] = self.array()?;
            match op {
                b'.' => return self.pop(),
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    let name = self.name(&module, &name)?;
                    self.push(Value::Name(name))?;
                }
                b'(' => self.marks.push(self.stack.len()),
                b')' => self.push(Value::Tuple(Vec::new()))?,
                0x85..=0x87 => self.tuple(usize::from(op - 0x84))?,
                b't' => {
                    let ids = self.since_mark()?;
                    self.push(Value::Tuple(ids))?;
                }
                b'}' => self.push(Value::Dict(Vec::new()))?,
                b's' => {
                    let (value, key) = (self.pop()?, self.pop()?);
                    self.set(&[key, value])?;
                }
                b'u' => {
                    let pairs = self.since_mark()?;
                    self.set(&pairs)?;
                }
                b'N' | 0x88 | 0x89 | b']' => self.push(Value::Other)?,
                b'G' => {
                    self.take(8)?;
                    self.push(Value::Other)?;
                }
                b'a' => {
                    self.pop()?;
                    self.onto_list()?;
                }
                b'e' => {
                    self.since_mark()?;
                    self.onto_list()?;
                }
                b'K' => {
                    let [byte] = self.array()?;
                    self.push(Value::Int(byte.into()))?;
                }
                b'M' => {
                    let int = u16::from_le_bytes(self.array()?);
                    self.push(Value::Int(int.into()))?;
                }
                b'J' => {
                    let int = i32::from_le_bytes(self.array()?);
                    self.push(Value::Int(int.into()))?;
                }
                0x8a => {
                    let int = self.long()?;
                    self.push(Value::Int(int))?;
                }
                b'X' => {
                    let len = u32::from_le_bytes(self.array()?);
                    let bytes = self.take(len as usize)?;
                    let text = self.text(bytes)?;
                    self.push(Value::Text(text.into()))?;
                }
                b'q' | b'r' => {
                    let slot = self.slot(op == b'r')?;
                    let id = self.top()?;
                    self.memo.insert(slot, id);
                }
                b'h' | b'j' => {
                    let slot = self.slot(op == b'j')?;
                    let id = self.memo.get(&slot).copied();
                    self.push_id(id.ok_or_else(|| self.wrong("a pickle in order", "an unknown memo"))?)?;
                }
                b'Q' => {
                    let id = self.pop()?;
                    let storage = self.storage(id)?;
                    self.push(storage)?;
                }
                b'R' => {
                    let (args, call) = (self.pop()?, self.pop()?);
                    let made = self.call(call, args)?;
                    self.push(made)?;
                }
                // The attributes of a state_dict, its `_metadata`: versions of modules, which say nothing about these.
                b'b' => {
                    self.pop()?;
                    let object = self.top()?;
                    if !matches!(self.values[object], Value::Dict(_)) {
                        return Err(self.wrong("a state_dict", "an object of another kind"));
                    }
                }
                _ => return Err(self.wrong("a state_dict", format!("a pickle with opcode {op:#04x}"))),
            }
        }
    }

    fn slot(&mut self, long: bool) -> Result<u32> {
        if long {
            return Ok(u32::from_le_bytes(self.array()?));
        }
        let [slot] = self.array()?;
        Ok(slot.into())
    }

    /// A number of up to eight bytes, the lowest first, the last one's highest bit its sign.
    fn long(&mut self) -> Result<i64> {
        let [len] = self.array()?;
        let bytes = self.take(len.into())?;
        let Some(&last) = bytes.last() else { return Ok(0) };
        if bytes.len() > 8 {
            return Err(self.wrong("whole numbers of 64 bits", format!("one of {} bytes", bytes.len())));
        }
        let mut all = if last < 0x80 { [0; 8] } else { [0xff; 8] };
        all[..bytes.len()].copy_from_slice(bytes);
        Ok(i64::from_le_bytes(all))
    }

    fn name(&self, module: &str, name: &str) -> Result<Name> {
        let class = name.strip_suffix("Storage").filter(|_| module == "torch");
        match (module, name, class) {
            ("collections", "OrderedDict", _) => Ok(Name::OrderedDict),
            ("torch._utils", "_rebuild_tensor_v2", _) => Ok(Name::RebuildTensor),
            (_, _, Some(class)) if class.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
                Ok(Name::Storage(class.into()))
            }
            _ => {
                Err(Error::invalid(self.source, "a state_dict, of tensors alone", format!("{module}.{name}"))
                    .hint("nothing was run; torch.save(module.state_dict(), file) writes a state_dict"))
            }
        }
    }

    fn set(&mut self, pairs: &[Id]) -> Result<()> {
        let dict = self.top()?;
        let (pairs, rest) = pairs.as_chunks();
        if !rest.is_empty() {
            return Err(self.wrong("a pickle in order", "a name without a value"));
        }
        match &mut self.values[dict] {
            Value::Dict(items) => items.extend(pairs.iter().map(|&[key, value]| (key, value))),
            _ => return Err(self.wrong("a state_dict", "items of what is not a dict")),
        }
        Ok(())
    }

    fn onto_list(&mut self) -> Result<()> {
        let list = self.top()?;
        match self.values[list] {
            Value::Other => Ok(()),
            _ => Err(self.wrong("a pickle in order", "items of what is not a list")),
        }
    }

    /// `("storage", torch.FloatStorage, key, device, length)`
    fn storage(&self, id: Id) -> Result<Value> {
        if let Value::Tuple(parts) = &self.values[id]
            && let [what, class, key, _, len] = parts.as_slice()
            && let (Value::Text(what), Value::Name(Name::Storage(class))) =
                (&self.values[*what], &self.values[*class])
            && let (Value::Text(key), Some(len)) = (&self.values[*key], self.size(*len))
            && **what == *"storage"
        {
            return Ok(Value::Storage(Box::new(Storage { class: class.clone(), key: key.clone(), len })));
        }
        Err(self.wrong("a storage by class, name and length", "something else"))
    }

    fn call(&self, call: Id, args: Id) -> Result<Value> {
        let (Value::Name(name), Value::Tuple(args)) = (&self.values[call], &self.values[args]) else {
            return Err(self.wrong("a state_dict", "a call of what is not a name"));
        };
        match (name, args.as_slice()) {
            (Name::OrderedDict, []) => Ok(Value::Dict(Vec::new())),
            // The rest: whether it wants a gradient, hooks, and sometimes metadata.
            (Name::RebuildTensor, [storage, offset, dims, strides, _, _, ..]) => {
                if let Value::Storage(storage) = &self.values[*storage]
                    && let Some(offset) = self.size(*offset)
                    && let (Some(dims), Some(strides)) = (self.sizes(*dims), self.sizes(*strides))
                    && dims.len() == strides.len()
                {
                    let Storage { class, key, len } = &**storage;
                    let (class, key) = (class.clone(), key.clone());
                    let tensor = Pickled { class, key, len: *len, offset, dims, strides };
                    return Ok(Value::Tensor(Arc::new(tensor)));
                }
                let want =
                    format!("tensors of a storage, an offset, and at most {MOST_DIMS} sizes and strides");
                Err(self.wrong(&want, "something else"))
            }
            _ => Err(self.wrong("a state_dict", format!("a call with {} arguments", args.len()))),
        }
    }

    fn size(&self, id: Id) -> Option<usize> {
        match self.values[id] {
            Value::Int(int) => usize::try_from(int).ok(),
            _ => None,
        }
    }

    fn sizes(&self, id: Id) -> Option<Vec<usize>> {
        match &self.values[id] {
            Value::Tuple(ids) if ids.len() <= MOST_DIMS => ids.iter().map(|&id| self.size(id)).collect(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
