//! The file of `torch.save`: a zip archive of records, none compressed, one of them a pickle that says which tensors there
//! are and the others their numbers.

use super::pickle::{self, Item};
use super::{Entry, Numbers, class_of, contiguous, dtype_of};
use crate::border::Packed;
use crate::{Error, Result};
use indexmap::IndexMap;
use std::io::{Cursor, Read, Write};
use std::ops::Range;
use std::sync::Arc;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

/// What a pickle of the time before the archives begins with: protocol 2, and a number of ten bytes.
const LEGACY: [u8; 4] = [0x80, 2, 0x8a, 10];

/// The entries of the state_dict in `bytes`, every record held against its checksum.
///
/// # Errors
/// Where it is no such archive, or one that was damaged.
pub(super) fn read(source: &str, bytes: &[u8]) -> Result<IndexMap<String, Entry>> {
    let wrong = |got: String| {
        Error::invalid(source, "a zip archive as torch.save writes it", got)
            .hint("torch.save(module.state_dict(), file) writes one")
    };
    if bytes.starts_with(&LEGACY) {
        return Err(wrong("a file of the format before PyTorch 1.6".into())
            .hint("torch.save(torch.load(file), file) writes it anew"));
    }
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(|error| wrong(error.to_string()))?;
    // Else a small file could ask for the checksum of its largest record as often as it has names.
    if archive.has_overlapping_files().map_err(|error| wrong(error.to_string()))? {
        return Err(wrong("records that lie on each other".into()));
    }
    let mut records: IndexMap<String, Range<usize>> = IndexMap::new();
    for index in 0..archive.len() {
        let (name, range) = record(&mut archive, index).map_err(&wrong)?;
        records.insert(name, range);
    }
    let mut pickles = records.keys().filter_map(|name| name.strip_suffix("data.pkl"));
    let folder = match (pickles.next(), pickles.next()) {
        (Some(folder), None) => folder,
        (None, _) => return Err(wrong("a zip archive without data.pkl".into())),
        _ => return Err(wrong("a zip archive with several data.pkl".into())),
    };
    let get = |name: &str| {
        let range = records.get(&format!("{folder}{name}"));
        range.map(|range| (range.clone(), bytes.get(range.clone()).unwrap_or_default()))
    };
    if get("byteorder").is_some_and(|(_, order)| order != b"little") {
        return Err(wrong("one of a machine whose numbers begin with the highest byte".into()));
    }
    let (_, pickle) = get("data.pkl").unwrap_or_default();
    let mut entries = IndexMap::new();
    for (name, item) in pickle::read(source, pickle)? {
        let entry = match item {
            Item::Other => Entry::Other,
            Item::Tensor(tensor) => {
                // Nobody else has it any more, unless it stands under several names.
                let tensor = Arc::unwrap_or_clone(tensor);
                let Some((range, _)) = get(&format!("data/{}", tensor.key)) else {
                    return Err(wrong(format!("no record data/{}, which {name} is in", tensor.key)));
                };
                let dtype = dtype_of(&tensor.class);
                if dtype
                    .is_some_and(|dtype| Some(range.len()) != tensor.len.checked_mul(dtype.size_in_bytes()))
                {
                    let got = format!("{} bytes for {} of {}", range.len(), tensor.len, tensor.class);
                    return Err(wrong(format!("a record data/{} of {got}", tensor.key)));
                }
                let (dims, strides, offset) = (tensor.dims, tensor.strides, tensor.offset);
                let numbers = Numbers { range, dims, strides, offset };
                Entry::Tensor { called: tensor.class, dtype, numbers }
            }
        };
        entries.insert(name, entry);
    }
    Ok(entries)
}

/// The name of a record, and where in the file its bytes are.
fn record(
    archive: &mut ZipArchive<Cursor<&[u8]>>,
    index: usize,
) -> std::result::Result<(String, Range<usize>), String> {
    let mut file = archive.by_index(index).map_err(|error| error.to_string())?;
    let name = file.name().map_err(|error| error.to_string())?.into_owned();
    if file.compression() != CompressionMethod::Stored {
        return Err(format!("a record {name} that is compressed"));
    }
    // The checksum is compared at the end of the record.
    let len = std::io::copy(&mut file.by_ref(), &mut std::io::sink());
    let len = len.map_err(|error| format!("a record {name} that is damaged: {error}"))?;
    let start = file.data_start().and_then(|start| usize::try_from(start).ok());
    let range =
        start.zip(usize::try_from(len).ok()).and_then(|(start, len)| Some(start..start.checked_add(len)?));
    Ok((name, range.ok_or("a record that lies outside")?))
}

/// The archive of a state_dict, each tensor a record of its own. The same tensors give the same bytes.
///
/// # Errors
/// Those of the archive's writer, none of which a memory that is large enough meets.
pub(super) fn write(tensors: &[Packed]) -> Result<Vec<u8>> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let written = (|| {
        let mut record = |name: &str, bytes: &[u8]| {
            // PyTorch's records begin at multiples of 64 bytes, so that they can be mapped.
            let options = SimpleFileOptions::default()
                .compression_method(CompressionMethod::Stored)
                .large_file(u32::try_from(bytes.len()).is_err())
                .with_alignment(64);
            archive.start_file(format!("archive/{name}"), options)?;
            archive.write_all(bytes)
        };
        record("data.pkl", &pickled(tensors))?;
        record("byteorder", b"little")?;
        for (k, tensor) in tensors.iter().enumerate() {
            record(&format!("data/{k}"), &tensor.bytes)?;
        }
        record("version", b"3\n")?;
        archive.finish().map_err(std::io::Error::from)
    })();
    let cursor = written.map_err(|error: std::io::Error| candle_core::Error::wrap(error))?;
    Ok(cursor.into_inner())
}

fn pickled(tensors: &[Packed]) -> Vec<u8> {
    const ORDERED_DICT: &[u8] = b"ccollections\nOrderedDict\n)R";
    let mut out = vec![0x80, 2];
    out.extend_from_slice(ORDERED_DICT);
    out.push(b'(');
    for (k, Packed { name, dtype, dims, bytes }) in tensors.iter().enumerate() {
        text(&mut out, name);
        out.extend_from_slice(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut out, "storage");
        out.extend_from_slice(format!("ctorch\n{}Storage\n", class_of(*dtype)).as_bytes());
        text(&mut out, &k.to_string());
        text(&mut out, "cpu");
        int(&mut out, bytes.len() / dtype.size_in_bytes());
        out.extend_from_slice(b"tQK\0(");
        dims.iter().for_each(|&size| int(&mut out, size));
        out.extend_from_slice(b"t(");
        contiguous(dims).into_iter().for_each(|stride| int(&mut out, stride));
        // No gradient is wanted, and there are no hooks.
        out.extend_from_slice(b"t\x89");
        out.extend_from_slice(ORDERED_DICT);
        out.extend_from_slice(b"tR");
    }
    out.extend_from_slice(b"u.");
    out
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.push(b'X');
    // The names of parameters and a prefix: they fit.
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn int(out: &mut Vec<u8>, int: usize) {
    match i32::try_from(int) {
        Ok(int) => {
            out.push(b'J');
            out.extend_from_slice(&int.to_le_bytes());
        }
        Err(_) => {
            out.extend_from_slice(&[0x8a, 8]);
            out.extend_from_slice(&(int as u64).to_le_bytes());
        }
    }
}
