//! A stream's step allocates nothing: what comes in goes through memory that is there.

use candle_core::{DType, Device};
use rnn_core::{Cell, GruCell, LayerSpec, LstmCell, Parameters, Stack, TimeRnn};

fn steps<C: Cell>(stack: &Stack<TimeRnn<C>>, rows: usize) {
    let mut stream = stack.stream::<f32>(rows).unwrap();
    let xs = vec![0.25; rows * 40];
    let order: Vec<usize> = (0..rows).rev().collect();
    stream.step(&xs).unwrap();
    stream.select(&order).unwrap();
    let counted = allocation_counter::measure(|| {
        for _ in 0..50 {
            stream.step(&xs).unwrap();
            stream.select(&order).unwrap();
        }
    });
    assert_eq!(counted.count_total, 0, "{counted:?}");
    // The control: a snapshot does allocate, and is seen to.
    let counted = allocation_counter::measure(|| drop(stream.state().unwrap()));
    assert!(counted.count_total > 0);
}

#[test]
fn a_step_of_a_stream_allocates_nothing_after_the_first() {
    let vb = Parameters::new(1, DType::F32, &Device::Cpu).builder();
    let spec = LayerSpec::new(40, 150);
    let lstm = Stack::<TimeRnn<LstmCell>>::new(spec.projection(70), 2, &vb.pp("lstm")).unwrap();
    let gru = Stack::<TimeRnn<GruCell>>::new(spec, 2, &vb.pp("gru")).unwrap();
    for rows in [1, 5] {
        steps(&lstm, rows);
        steps(&gru, rows);
    }
}
