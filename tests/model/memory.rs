//! Of what is large there is one buffer: the logits of a window, what a rule keeps of a table, and a piece of a long text.

use candle_core::{DType, Device, Tensor, Var};
use rnn_core::{LstmCell, Way};
use rnn_lm::data::{Batches, Streams, TextFile, Window};
use rnn_lm::evaluate::Order;
use rnn_lm::model::{CellKind, LmSpec, Rnnlm, build};
use rnn_lm::run::Ids;
use rnn_lm::tokenizer::{Options, Tokenizer, Unit};
use rnn_lm::train::{Adam, Grad, Optimizer, Sgd, Values};

const V: usize = 20_000;

/// A window of 4 x 64 and the id behind it, and the bytes of its logits.
fn large() -> (Vec<u32>, Window, usize) {
    let (batch, time) = (4, 64);
    let ids: Vec<u32> = (0..batch * time + 1).map(|i| (i * 7919 % V) as u32).collect();
    let window = Streams::new(&ids, batch, time).unwrap().window(0, 0).unwrap();
    (ids, window, batch * time * V * size_of::<f32>())
}

#[test]
fn the_logits_of_a_window_exist_once_while_it_learns_and_while_it_is_measured() {
    let (ids, window, logits) = large();
    let Window { batch, time, .. } = window;
    for way in [Way::Manual, Way::Fused] {
        // The output layer is a thirtieth of the logits, and so is its gradient.
        let spec = LmSpec::new(V, 4, 8);
        let mut model = build(CellKind::Lstm, &spec, way, (DType::F32, &Device::Cpu), 1).unwrap();
        let learnt = allocation_counter::measure(|| {
            model.forward(&window).unwrap();
            model.backward().unwrap();
            model.update(&mut Optimizer::new(Sgd::default(), 0.1)).unwrap();
        });
        let order = Order::Streams { batch };
        let measured = allocation_counter::measure(|| {
            order.evaluate(model.as_ref(), &ids, time, None).unwrap();
        });
        for (what, counted) in [("learning", learnt), ("measuring", measured)] {
            let most = counted.bytes_max as usize;
            assert!(
                (logits..logits * 13 / 10).contains(&most),
                "{way}, {what}: {most} bytes beside {logits}"
            );
        }
    }
}

#[test]
fn nor_are_they_more_than_once_in_candles_graph() {
    let (_, window, logits) = large();
    let Window { batch, time, .. } = window;
    for (tied, spec) in [(false, LmSpec::new(V, 4, 8)), (true, LmSpec::new(V, 8, 8).tied(true))] {
        let cpu = (DType::F32, &Device::Cpu);
        let model = Rnnlm::<LstmCell>::new(&spec, Way::Fused, cpu, 1).unwrap();
        let xs = Tensor::from_slice(&window.xs, (batch, time), &Device::Cpu).unwrap();
        let state = model.zero_state(batch).unwrap();
        let counted = allocation_counter::measure(|| {
            let (loss, _) = model.loss(&xs, &window.ts, &state).unwrap();
            loss.backward().unwrap();
        });
        let most = counted.bytes_max as usize;
        assert!((logits..logits * 13 / 10).contains(&most), "tied {tied}: {most} bytes beside {logits}");
    }
}

#[test]
fn a_rule_goes_over_a_table_of_which_few_rows_have_a_gradient_without_another_one() {
    let (vocabulary, size) = (10_000, 64);
    let table = Var::zeros((vocabulary, size), DType::F32, &Device::Cpu).unwrap();
    let (ids, values) = ([9000, 3, 4], vec![1.0f32; 3 * size]);
    let mut optimizer = Optimizer::new(Adam::default(), 0.1);
    let mut step = || {
        let grad = Grad::Rows { ids: &ids, values: Values::F32(&values) };
        optimizer.step(std::slice::from_ref(&table), &[grad]).unwrap();
    };
    // The first one makes what Adam keeps: two more tables.
    let bytes = vocabulary * size * size_of::<f32>();
    let first = allocation_counter::measure(&mut step).bytes_max as usize;
    assert!(first > 2 * bytes, "{first}");
    let second = allocation_counter::measure(&mut step).bytes_max as usize;
    assert!(second < bytes / 10, "{second} bytes beside a table of {bytes}");
    // The same bits as with all other rows there, which are zero.
    let (whole, mut all) = (table.zeros_like().unwrap(), vec![0.0; vocabulary * size]);
    let whole = Var::from_tensor(&whole).unwrap();
    ids.iter().for_each(|&id| all[id as usize * size..][..size].fill(1.0));
    let mut optimizer = Optimizer::new(Adam::default(), 0.1);
    for _ in 0..2 {
        optimizer.step(std::slice::from_ref(&whole), &[Grad::Dense(Values::F32(&all))]).unwrap();
    }
    let [got, want] = [&table, &whole].map(|table| table.flatten_all().unwrap().to_vec1::<f32>().unwrap());
    assert!(got == want && got[9000 * size] != 0.0 && got[9001 * size] == 0.0);
}

#[test]
fn a_text_that_memory_has_no_room_for_takes_as_much_of_it_whatever_its_length() {
    const MIB: usize = 1 << 20;
    let folder = tempfile::tempdir().unwrap();
    let (path, cache) = (folder.path().join("text"), folder.path().join("ids"));
    let line = "internationalisation considerably underestimates acknowledgement\n";
    // Of one thread, because what others allocate is not seen.
    let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    for unit in Unit::ALL {
        let options = Options { max: (unit == Unit::Bpe).then_some(400), ..Options::new(unit) };
        let tokenizer = Tokenizer::train(line.repeat(2).as_bytes(), &options).unwrap();
        // All ids, and a few windows far apart.
        let most = |mib: usize, in_memory: usize| {
            std::fs::write(&path, line.repeat(mib * MIB / line.len() + 1)).unwrap();
            let text = TextFile::open(&path).unwrap();
            let read = || {
                let ids = Ids::encode(&text, &tokenizer, 0, (&cache, (in_memory * MIB) as u64)).unwrap();
                let windows = Streams::new(ids.source(), 8, 32).unwrap();
                let last = windows.windows(0) - 1;
                for number in [0, last / 2, last] {
                    windows.window(0, number).unwrap();
                }
            };
            alone.install(|| allocation_counter::measure(read)).bytes_max as usize
        };
        let (short, long) = (most(9, 0), most(17, 0));
        assert!(long < short + MIB / 8, "{unit}: {short} bytes for 9 MiB, {long} for 17");
        // The control: ids that are held in memory take more where they are more.
        if unit == Unit::Byte {
            let (short, long) = (most(9, 64), most(17, 64));
            assert!(long > short + 32 * MIB, "{unit}: {short} bytes for 9 MiB, {long} for 17");
        }
    }
}
