//! Files that are not what their names say, cut short, damaged or made to do harm: errors, and never a panic.

use crate::{all_bits, fixture, network, says};
use candle_core::DType;
use rnn_core::border::pytorch::StateDict;
use rnn_core::border::{Kind, Network, NetworkSpec};
use std::io::{Cursor, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use zip::write::SimpleFileOptions;

#[test]
fn files_that_are_not_a_state_dict_say_what_they_are() {
    let cases: [(&str, &[&str]); 9] = [
        ("bad_module.pt", &["got torch.nn.modules.rnn.RNN", "state_dict()"]),
        ("bad_list.pt", &["expected a state_dict, got what is not a dict"]),
        ("bad_legacy.pt", &["format before PyTorch 1.6", "torch.save(torch.load(file), file)"]),
        ("bad_call.pt", &["got posix.system", "nothing was run"]),
        ("bad_call_eval.pt", &["got __builtin__.eval", "nothing was run"]),
        ("bad_deflated.pt", &["archive/data.pkl", "zip archive as torch.save writes it"]),
        ("bad_zip.pt", &["a zip archive without data.pkl"]),
        ("make_fixtures.pt", &["zip archive as torch.save writes it"]),
        ("make_fixtures.safetensors", &["a file in safetensors"]),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (name, parts) in cases {
        let mut path = fixture(name);
        if name.starts_with("make") {
            path = folder.path().join(name);
            std::fs::copy(fixture("make_fixtures.py"), &path).unwrap();
        }
        says(StateDict::read(&path), &[parts, &[name]].concat());
    }
    let file = StateDict::read(fixture("bad_expanded.pt")).unwrap();
    let spec = file.spec("").unwrap();
    says(file.network(&spec, ""), &["weight_ih_l0: expected numbers that are there", "made contiguous"]);
}

/// What becomes of a file of these bytes; a panic fails the test and says where.
fn read_bytes(name: impl AsRef<Path>, bytes: &[u8], what: &str) -> Result<Network, String> {
    let read = || {
        let file = StateDict::from_bytes(&name, bytes.to_vec())?;
        file.network(&file.spec("")?, "")
    };
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => panic!("a panic: {what}"),
    }
}

#[test]
fn a_file_that_is_cut_short_anywhere_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let network = network(NetworkSpec::new(Kind::Gru, 1, 1), DType::F32);
    for name in ["a.pt", "a.safetensors"] {
        let path = folder.path().join(name);
        network.write(&path, "").unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for len in 0..bytes.len() {
            let result = read_bytes(&path, &bytes[..len], &format!("{name} of {len} bytes"));
            assert!(result.is_err(), "{name} of {len} of {} bytes was read", bytes.len());
        }
    }
    // PyTorch's own, whose tensors stand in a larger model.
    let bytes = std::fs::read(fixture("half.pt")).unwrap();
    for len in 0..bytes.len() {
        assert!(read_bytes("half.pt", &bytes[..len], &format!("half.pt of {len} bytes")).is_err());
    }
}

#[test]
fn a_flipped_byte_is_an_error_or_changes_nothing_where_there_is_a_checksum() {
    let folder = tempfile::tempdir().unwrap();
    let network = network(NetworkSpec::new(Kind::RnnTanh, 1, 1), DType::F32);
    for name in ["a.pt", "a.safetensors"] {
        let path = folder.path().join(name);
        network.write(&path, "").unwrap();
        let good = std::fs::read(&path).unwrap();
        for at in 0..good.len() {
            for flip in [1, 0x80, 0xff] {
                let mut bytes = good.clone();
                bytes[at] ^= flip;
                let result = read_bytes(&path, &bytes, &format!("{name}: byte {at} with {flip:#x} flipped"));
                if let (Ok(read), "a.pt") = (result, name) {
                    assert_eq!(all_bits(&read), all_bits(&network), "byte {at} with {flip:#x} flipped");
                }
            }
        }
    }
}

/// An archive of `torch.save` around a pickle, its checksums right.
fn archive(pickle: &[u8]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in [("data.pkl", pickle), ("data/0", &[0; 16]), ("data/1", &[0; 16])] {
        let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        archive.start_file(format!("archive/{name}"), options).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// A tensor of four floats in the record `0`, and what pickle has for its sizes, strides and offset.
fn tensor(offset: &str, dims: &str, strides: &str) -> Vec<u8> {
    let storage = "(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x04tQ";
    let tail = "Nccollections\nOrderedDict\n)RtR";
    let text = format!("ctorch._utils\n_rebuild_tensor_v2\n({storage}{offset}({dims}t({strides}t{tail}");
    text.into_bytes()
}

fn state_dict(of: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut pickle = b"\x80\x02}(".to_vec();
    for (name, value) in of {
        pickle.push(b'X');
        pickle.extend((name.len() as u32).to_le_bytes());
        pickle.extend(name.as_bytes());
        pickle.extend(value);
    }
    pickle.extend(b"u.");
    pickle
}

#[test]
fn a_pickle_with_any_byte_changed_is_an_error_or_harmless() {
    let good = state_dict(&[
        ("weight_ih_l0", tensor("K\0", "K\x01K\x03", "K\x03K\x01")),
        ("weight_hh_l0", tensor("K\0", "K\x01K\x01", "K\x01K\x01")),
    ]);
    assert!(read_bytes("a.pt", &archive(&good), "a good one").is_ok());
    for at in 0..good.len() {
        for byte in b".c()tubqhRQNJKMXGaes}]\x85\x86\x87\x88\x8a\x80\0\x01\x7f\xff\n" {
            let mut pickle = good.clone();
            pickle[at] = *byte;
            let _ = read_bytes("a.pt", &archive(&pickle), &format!("byte {at} as {byte:#x}"));
        }
        let result = read_bytes("a.pt", &archive(&good[..at]), &format!("a pickle of {at} bytes"));
        assert!(result.is_err(), "a pickle of {at} bytes was read");
    }
}

fn text(text: &str) -> Vec<u8> {
    [b"X", (text.len() as u32).to_le_bytes().as_slice(), text.as_bytes()].concat()
}

/// What a storage is made of, but for its key.
fn storage(key: &[u8]) -> Vec<u8> {
    let ends = [text("storage"), b"ctorch\nFloatStorage\n".to_vec(), text("cpu")];
    [b"(", ends[0].as_slice(), &ends[1], key, &ends[2], b"K\x04t"].concat()
}

/// So many calls that make a tensor of the same so many sizes.
fn many_sizes(sizes: usize, calls: usize) -> Vec<u8> {
    let name = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nq\0K\x01q\x02(".to_vec();
    let args = [b"tq\x03(", storage(&text("0")).as_slice(), b"QK\0h\x03h\x03NNtq\x04"].concat();
    [name, b"h\x02".repeat(sizes), args, b"h\0h\x04R".repeat(calls), b"}.".to_vec()].concat()
}

/// So many storages of one key.
fn long_key(len: usize, calls: usize) -> Vec<u8> {
    let head = [b"\x80\x02".to_vec(), text(&"k".repeat(len)), b"q\0".to_vec(), storage(b"h\0")].concat();
    [head, b"q\x01".to_vec(), b"h\x01Q".repeat(calls), b"}.".to_vec()].concat()
}

/// A dict under a long name, with so many names in it.
fn long_name(len: usize, names: usize) -> Vec<u8> {
    let name = |k: usize| [text(&format!("{k:04}")), b"N".to_vec()].concat();
    let names = (0..names).flat_map(name).collect();
    [b"\x80\x02}".to_vec(), text(&"k".repeat(len)), b"}(".to_vec(), names, b"us.".to_vec()].concat()
}

/// So many dicts, each with the same long name in it.
fn long_inner(len: usize, dicts: usize) -> Vec<u8> {
    let dict = |k: usize| [text(&format!("{k:04}")), b"}h\0Ns".to_vec()].concat();
    let dicts = (0..dicts).flat_map(dict).collect();
    [b"\x80\x02".to_vec(), text(&"k".repeat(len)), b"q\0}(".to_vec(), dicts, b"u.".to_vec()].concat()
}

#[test]
fn hostile_pickles_are_errors() {
    let one = || tensor("K\0", "K\x01K\x01", "K\x01K\x01");
    let huge = "M\x7f\x7f";
    let minus: &[u8] = &[b'J', 255, 255, 255, 255];
    let with_minus = |parts: &str| -> Vec<u8> {
        let mut bytes = tensor("D", parts, parts);
        let at = bytes.iter().position(|&b| b == b'D').unwrap();
        bytes.splice(at..=at, minus.iter().copied());
        bytes
    };
    // The largest of 64 bits, as many times as there are sizes `D`.
    let huge_long = |dims: &str| -> Vec<u8> {
        let long = [0x8a, 8, 255, 255, 255, 255, 255, 255, 255, 0x7f];
        let one = tensor("K\0", dims, "K\x01K\x01");
        let (head, tail) = one.split_at(one.iter().rposition(|&b| b == b'N').unwrap());
        let byte = |&b: &u8| if b == b'D' { long.to_vec() } else { vec![b] };
        [head.iter().flat_map(byte).collect(), tail.to_vec()].concat()
    };
    let with = |first: Vec<u8>| state_dict(&[("weight_ih_l0", first), ("weight_hh_l0", one())]);
    let deep: Vec<u8> = [b"\x80\x02}X\x01\0\0\0aN".to_vec(), vec![0x85; 1_000_000], b"s.".to_vec()].concat();
    // Each tuple holds the one before twice: 2^500 of them if any were copied.
    let laughs = b"\x80\x02}X\x01\0\0\0aNq\0".iter().copied();
    let laughs: Vec<u8> = laughs.chain((0..500).flat_map(|_| *b"h\0\x86q\0").chain(*b"s.")).collect();
    let (wide, long) = ("J\0\0\x10\0", "K\x01K\x01");
    let cases: [(&str, Vec<u8>, &str); 23] = [
        ("many sizes, often", many_sizes(2000, 2000), "at most 16 sizes"),
        ("a long key, often", long_key(20_000, 5000), "weight_ih_l0"),
        ("a long name around names", long_name(5000, 5000), "names of at most 64 bytes for each byte"),
        ("a long name in many dicts", long_inner(5000, 5000), "names of at most 64 bytes for each byte"),
        ("empty", Vec::new(), "cut short"),
        ("protocol 4", b"\x80\x04}.".to_vec(), "protocol 2"),
        ("numbers outside", with(tensor("K\x03", "K\x01K\x02", "K\x02K\x01")), "numbers that are there"),
        (
            "a stride outside",
            with(tensor("K\0", "K\x01K\x02", &format!("K\x01{huge}"))),
            "numbers that are there",
        ),
        ("an offset outside", with(tensor(huge, "K\x01K\x01", "K\x01K\x01")), "numbers that are there"),
        ("an offset below zero", with(with_minus("K\x01K\x01")), "something else"),
        ("sizes beyond memory", with(huge_long("DK\x01")), "rows, got 9223372036854775807"),
        (
            "sizes beyond counting",
            state_dict(&[("weight_ih_l0", huge_long("DK\x01")), ("weight_hh_l0", huge_long("DD"))]),
            "sizes: expected weights that some memory has room for",
        ),
        (
            "sizes beyond the file",
            state_dict(&[
                ("weight_ih_l0", tensor("K\0", &format!("{wide}K\x01"), long)),
                ("weight_hh_l0", tensor("K\0", &format!("{wide}{wide}"), long)),
            ]),
            "8 for each byte",
        ),
        ("fewer strides", with(tensor("K\0", "K\x01K\x01", "K\x01")), "something else"),
        ("a name twice", state_dict(&[("a", one()), ("a", one())]), "two of a"),
        ("a dict in itself", b"\x80\x02}q\0X\x01\0\0\0ah\0s.".to_vec(), "in two places"),
        ("deep", deep, "cut short"),
        ("laughs", laughs, "in order"),
        ("two colons", b"\x80\x02ctorch\n_utils.Storage\n.".to_vec(), "torch._utils.Storage"),
        ("an unknown opcode", b"\x80\x02\x93.".to_vec(), "opcode 0x93"),
        ("a text beyond the end", b"\x80\x02X\xff\xff\xff\xffabc.".to_vec(), "cut short"),
        ("a long of 255 bytes", [b"\x80\x02\x8a\xff".to_vec(), vec![1; 256]].concat(), "255 bytes"),
        ("two calls", b"\x80\x02ccollections\nOrderedDict\n)R)R.".to_vec(), "not a name"),
    ];
    for (what, pickle, says) in cases {
        let result = read_bytes("a.pt", &archive(&pickle), what).map(|_| ());
        if matches!(what, "deep" | "laughs" | "a long key, often") {
            // Harmless, and no network.
            assert!(result.as_ref().is_err_and(|error| error.contains("weight_ih_l0")), "{what}: {result:?}");
            continue;
        }
        assert!(result.as_ref().is_err_and(|error| error.contains(says)), "{what}: {result:?}");
    }
}

#[test]
fn records_that_lie_on_each_other_are_an_error() {
    let mut file = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    file.start_file("archive/data.pkl", options).unwrap();
    file.write_all(&state_dict(&[])).unwrap();
    file.shallow_copy_file("archive/data.pkl", "archive/data/0").unwrap();
    let bytes = file.finish().unwrap().into_inner();
    says(StateDict::from_bytes("a.pt", bytes), &["a.pt: expected a zip archive", "lie on each other"]);
}

#[test]
fn a_tensor_of_no_numbers_whose_sizes_multiply_to_too_many_is_an_error() {
    let header = r#"{"x":{"dtype":"F32","shape":[0,4611686018427387904,8],"data_offsets":[0,0]}}"#;
    let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
    let read = StateDict::from_bytes("a.safetensors", bytes).and_then(|file| file.tensor("x"));
    says(read, &["a.safetensors"]);
}
