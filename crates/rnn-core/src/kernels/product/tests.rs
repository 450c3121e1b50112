use super::*;
use crate::kernels::dispatch::{Cpu, with};
use crate::kernels::tests::refused;
use crate::rng::Stream;
use proptest::prelude::*;

fn random(n: usize, purpose: &str) -> Vec<f64> {
    let mut stream = Stream::new(0, purpose, n as u64);
    (0..n).map(|_| stream.normal()).collect()
}

/// The definition.
fn sums(a: &[f64], b: &[f64], rows: usize, depth: usize, columns: usize) -> Vec<f64> {
    let element = |r: usize, c: usize| (0..depth).map(|k| a[r * depth + k] * b[k * columns + c]).sum();
    (0..rows * columns).map(|i| element(i / columns, i % columns)).collect()
}

fn transpose<T: Copy>(a: &[T], rows: usize, columns: usize) -> Vec<T> {
    (0..rows * columns).map(|i| a[(i % rows) * columns + i / rows]).collect()
}

/// What `f` gives from a team of as many threads, all of which take part.
fn in_pool<R: Send>(threads: usize, f: impl FnOnce() -> R + Send) -> R {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let (made, members) = pool.install(|| team::in_company(f));
    assert_eq!(members, threads);
    made
}

fn close(got: &[f64], want: &[f64], what: &str) -> Result<(), TestCaseError> {
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        prop_assert!((got - want).abs() < 1e-11, "{what}: {got} for {want} at {i}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_path_is_the_definition(rows in 1usize..40, depth in 1usize..40, columns in 1usize..120) {
        let (a, b, row) = (random(rows * depth, "a"), random(depth * columns, "b"), random(columns, "row"));
        let (turned_a, turned_b) = (transpose(&a, rows, depth), transpose(&b, depth, columns));
        let want = sums(&a, &b, rows, depth, columns);
        let lifted: Vec<f64> = want.iter().enumerate().map(|(i, x)| x + row[i % columns]).collect();
        let added: Vec<f64> = want.iter().map(|x| x + 1.0).collect();
        let rooms = &mut Rooms::default();
        for cpu in Cpu::available() {
            for left in [Mat::new(&a, rows, depth), Mat::new(&turned_a, depth, rows).t()] {
                for right in [Mat::new(&b, depth, columns), Mat::new(&turned_b, columns, depth).t()] {
                    let mut out = vec![f64::NAN; rows * columns];
                    with(cpu, || product(&mut out, left, right, Store::Set, rooms));
                    close(&out, &want, "set")?;
                    with(cpu, || product(&mut out, left, right, Store::Row(&row), rooms));
                    close(&out, &lifted, "row")?;
                    out.fill(1.0);
                    with(cpu, || product(&mut out, left, right, Store::Add, rooms));
                    close(&out, &added, "add")?;
                }
            }
        }
    }

    #[test]
    fn a_row_has_the_same_bits_whatever_stands_beside_it(rows in 1usize..30, depth in 1usize..60) {
        let columns = 101;
        let single = |x: Vec<f64>| x.into_iter().map(|x| x as f32).collect::<Vec<_>>();
        let (a, b) = (single(random(rows * depth, "a")), single(random(depth * columns, "b")));
        let right = Mat::new(&b, depth, columns);
        let rooms = &mut Rooms::default();
        for cpu in Cpu::available() {
            let mut together = vec![0f32; rows * columns];
            with(cpu, || product(&mut together, Mat::new(&a, rows, depth), right, Store::Set, rooms));
            for (a, together) in a.chunks(depth).zip(together.chunks(columns)) {
                let mut alone = vec![0f32; columns];
                with(cpu, || product(&mut alone, Mat::new(a, 1, depth), right, Store::Set, rooms));
                prop_assert_eq!(&alone, together);
            }
        }
    }

    #[test]
    fn both_gradients_are_the_definition(rows in 1usize..40, outs in 1usize..40, ins in 1usize..80) {
        let (dy, x) = (random(rows * outs, "dy"), random(rows * ins, "x"));
        let want = sums(&transpose(&dy, rows, outs), &x, outs, rows, ins);
        let bias_want = sums(&vec![1.0; rows], &dy, 1, rows, outs);
        for cpu in Cpu::available() {
            let (mut weight, mut bias) = (vec![f64::NAN; outs * ins], vec![f64::NAN; outs]);
            let (dy, x) = (Mat::new(&dy, rows, outs), Mat::new(&x, rows, ins));
            let rooms = &mut Rooms::default();
            with(cpu, || gradients((&mut weight, Some(&mut bias)), dy, x, false, rooms));
            close(&weight, &want, "weight")?;
            close(&bias, &bias_want, "bias")?;
            with(cpu, || gradients((&mut weight, Some(&mut bias)), dy, x, true, rooms));
            close(&weight, &want.iter().map(|x| 2.0 * x).collect::<Vec<_>>(), "weight, added")?;
            close(&bias, &bias_want.iter().map(|x| 2.0 * x).collect::<Vec<_>>(), "bias, added")?;
        }
    }
}

/// Sizes that are cut by rows and by columns, and more terms than one piece has.
#[test]
fn any_number_of_members_gives_the_same_bits() {
    for (rows, depth, columns) in [(301, 70, 65), (65, 70, 301), (40, 2 * DEPTH + 7, 130), (1, 900, 1000)] {
        let single = |x: Vec<f64>| x.into_iter().map(|x| x as f32).collect::<Vec<_>>();
        let (a, b) = (single(random(rows * depth, "a")), single(random(depth * columns, "b")));
        let turned = transpose(&a, rows, depth);
        let all = |threads: usize| {
            in_pool(threads, || {
                let (mut out, mut weight, mut bias) =
                    (vec![0f32; rows * columns], vec![0f32; rows * columns], vec![0f32; rows]);
                let rooms = &mut Rooms::default();
                let b = Mat::new(&b, depth, columns);
                product(&mut out, Mat::new(&a, rows, depth), b, Store::Set, rooms);
                gradients((&mut weight, Some(&mut bias)), Mat::new(&turned, depth, rows), b, false, rooms);
                assert_eq!(out, weight, "the same sums from rows and from columns");
                (out, bias)
            })
        };
        let one = all(1);
        for threads in [2, 3, 5] {
            assert!(all(threads) == one, "{rows} x {depth} x {columns}, {threads} threads");
        }
    }
}

/// More of `b` than is packed at once: its columns come in chunks, and the bias is counted with the first of them alone.
#[test]
fn columns_in_chunks_are_the_definition() {
    let (rows, outs, ins) = (700, 40, 1700);
    let (dy, x) = (random(rows * outs, "dy"), random(rows * ins, "x"));
    let bias_want = sums(&vec![1.0; rows], &dy, 1, rows, outs);
    let turned = transpose(&dy, rows, outs);
    let want = sums(&turned, &x, outs, rows, ins);
    for (cpu, threads) in Cpu::available().into_iter().flat_map(|cpu| [(cpu, 1), (cpu, 2)]) {
        let (mut weight, mut bias, mut plain) =
            (vec![f64::NAN; outs * ins], vec![f64::NAN; outs], vec![f64::NAN; outs * ins]);
        in_pool(threads, || {
            with(cpu, || {
                let (rooms, right) = (&mut Rooms::default(), Mat::new(&x, rows, ins));
                gradients((&mut weight, Some(&mut bias)), Mat::new(&dy, rows, outs), right, false, rooms);
                product(&mut plain, Mat::new(&turned, outs, rows), right, Store::Set, rooms);
            });
        });
        for (what, got, want) in
            [("weight", &weight, &want), ("product", &plain, &want), ("bias", &bias, &bias_want)]
        {
            close(got, want, &format!("{what}, {cpu:?}, {threads} threads")).unwrap();
        }
    }
}

#[test]
fn states_before_are_those_after_one_step_earlier() {
    // N = 2, T = 3, H = 1
    let (first, after) = ([10.0, 20.0], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let before = Mat::before(&first, &after, 1, (3, crate::Direction::Forward));
    let mut out = [0.0; 6];
    let identity: Vec<f64> = (0..36).map(|i| if i % 7 == 0 { 1.0 } else { 0.0 }).collect();
    product(&mut out, Mat::new(&identity, 6, 6), before, Store::Set, &mut Rooms::default());
    assert_eq!(out, [10.0, 1.0, 2.0, 20.0, 4.0, 5.0]);
}

/// Sizes whose product is a small number again where it does not fit into the address space.
#[test]
fn sizes_that_only_fit_when_they_wrap_are_refused() {
    let (many, few) = (vec![0f32; 1 << 16], [0f32; 16]);
    let huge = (1 << 63) + (1 << 14);
    assert!(refused(|| assert_eq!(Mat::new(&many, huge, 4).shape().1, 4)).contains("a matrix of"));
    // Rows of no numbers: as many as one likes.
    let said = refused(|| {
        let mut out = vec![0f32; 1 << 16];
        let (a, b) = (Mat::new(&many[..0], huge, 0), Mat::new(&few[..0], 0, 4));
        product(&mut out, a, b, Store::Set, &mut Rooms::default());
    });
    assert!(said.contains("a product of"), "{said}");
}

#[test]
fn a_bias_has_its_gradient_where_nothing_comes_in() {
    let (dy, mut bias) = ([1.0, 2.0, 3.0, 4.0], [5.0, 5.0]);
    for (add, want) in [(true, [9.0, 11.0]), (false, [4.0, 6.0])] {
        let (dy, x) = (Mat::new(&dy, 2, 2), Mat::new(&[], 2, 0));
        gradients((&mut [], Some(&mut bias)), dy, x, add, &mut Rooms::default());
        assert_eq!(bias, want);
    }
}

#[test]
fn sums_over_the_rows_of_a_transpose_are_refused() {
    let said = refused(|| column_sums(&mut [0.0; 2], Mat::new(&[1.0, 2.0, 3.0, 4.0], 2, 2).t(), None, false));
    assert!(said.contains("of a transpose"), "{said}");
}

#[test]
fn a_product_is_cut_where_less_is_packed_twice() {
    let cut = |size, slivers| team::as_member(1, 2, |member| cut(&member, size, (8, 16), slivers));
    // The input's gradient: 41 registers of columns do not come out even, but to pack all of b twice costs more.
    assert_eq!(cut((700, 650), false), (0..700, 320..650));
    // Weight gradients: here all of a would be packed twice.
    assert_eq!(cut((2600, 650), true), (1296..2600, 0..650));
    // A step of a window.
    assert_eq!(cut((20, 2600), false), (0..20, 1296..2600));
}
