//! What a pickle shares, and where it ends.

use super::*;

#[test]
fn what_the_memo_holds_is_shared_by_all_that_is_made_of_it() {
    let storage = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x03\0\0\0keyX\x03\0\0\0cpuK\x04tq\x01";
    let mut pickle = [b"\x80\x02", storage.as_slice(), b"}"].concat();
    for name in [b'a', b'b'] {
        pickle.extend([b'X', 1, 0, 0, 0, name]);
        pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n(h\x01QK\0K\x01\x85K\x01\x85NNtRs");
    }
    pickle.push(b'.');
    let items = read("a.pt", &pickle).unwrap();
    let tensor = |name: &str| match &items[name] {
        Item::Tensor(tensor) => tensor,
        Item::Other => panic!("{name} is no tensor"),
    };
    let (a, b) = (tensor("a"), tensor("b"));
    assert_eq!((&*a.class, &*a.key, &a.dims), ("Float", "key", &vec![1]));
    assert!(Arc::ptr_eq(&a.key, &b.key) && Arc::ptr_eq(&a.class, &b.class));
}

/// What takes one byte of a file takes some here: there is an end to it.
#[test]
fn a_pickle_has_no_more_values_and_items_than_there_is_room_for() {
    assert!(size_of::<Value>() <= 32 && size_of::<Item>() <= 8, "{}", size_of::<Value>());
    let most = Most { values: 6, items: 3 };
    let says = |body: &[u8], want: Option<&str>| {
        let pickle = [b"\x80\x02", body, b"."].concat();
        match (read_at_most(most, "a.pt", &pickle), want) {
            (Ok(_), None) => {}
            (Err(error), Some(want)) => assert!(error.to_string().contains(want), "{error}"),
            (got, _) => panic!("{body:?}: {got:?}, not {want:?}"),
        }
    };
    let too_many = Some("expected a pickle of at most 6 values, got more");
    for one in [b"N".as_slice(), b")", b"}", b"]", b"\x88", b"K\x07"] {
        says(&[b"}", one.repeat(6).as_slice()].concat(), too_many);
    }
    // One that the memo holds is on the stack again and again.
    says(&[b"}q\0", b"h\0".repeat(6).as_slice()].concat(), too_many);
    let items = |count: u8| {
        let of_one = |k| [b'K', k, b'h', 0, b's'];
        [b"Nq\0}".as_slice(), (0..count).flat_map(of_one).collect::<Vec<u8>>().as_slice()].concat()
    };
    says(&items(3), None);
    says(&items(4), Some("expected at most 3 tensors and other items, got more"));
}
