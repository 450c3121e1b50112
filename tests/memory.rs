//! What takes memory and what does not: a stream's step allocates nothing, and inference keeps nothing of what it did.

#[path = "common/numbers.rs"]
mod numbers;

use candle_core::{DType, Device};
use numbers::random;
use rnn_core::{Cell, GruCell, LayerSpec, LstmCell, Parameters, Recurrent, Stack, TimeRnn, Way};

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

/// Bytes of memory this process holds now.
#[cfg(target_os = "linux")]
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() << 10
}

#[test]
#[cfg(target_os = "linux")]
fn inference_carries_the_state_for_ever_in_the_same_memory() {
    for way in Way::ALL {
        let parameters = Parameters::new(3, DType::F32, &Device::Cpu);
        let stack = Stack::<TimeRnn<LstmCell>>::new(LayerSpec::new(64, 128), 2, &parameters.builder())
            .unwrap()
            .with_way(way);
        let xs = random(&[4, 8, 64], DType::F32, "xs");
        let mut state = stack.zero_state(4).unwrap();
        let mut go = |windows: usize| {
            for _ in 0..windows {
                state = stack.infer(&xs, &state).unwrap().1;
            }
            resident()
        };
        let before = go(50);
        // Were each window kept, its outputs and states alone would be 24 kB, 12 MB in all.
        let grown = go(500).saturating_sub(before);
        assert!(grown < 4 << 20, "{way}: 500 windows took {grown} bytes");
    }
}
