//! The book's and Keras's layouts: there and back gives the same numbers, and they mean the same on both sides.
//!
//! What they mean is written down here once more, in loops, in the formulas and layouts of the book and of Keras.
#![allow(clippy::unwrap_used, reason = "what a test expects")]

#[path = "common/network.rs"]
mod network;

use candle_core::{D, DType, Device, Tensor};
use network::{numbers, off, run};
use proptest::prelude::*;
use rnn_core::Way;
use rnn_core::border::{BookLayer, KerasLayer, Kind, Network, NetworkSpec};
use rnn_core::rng::Stream;

fn random(shape: &[usize], purpose: &str) -> Tensor {
    let mut stream = Stream::new(5, purpose, 0);
    let numbers: Vec<f64> = (0..shape.iter().product()).map(|_| stream.normal()).collect();
    Tensor::from_vec(numbers, shape, &Device::Cpu).unwrap()
}

/// A layer's share of anything that is laid out as the parameters of `spec`: D of the layer, G*H.
fn sizes(spec: &NetworkSpec) -> impl Iterator<Item = (usize, usize)> {
    let spec = *spec;
    spec.places().into_iter().map(move |place| (spec.input_of(place.layer), spec.kind.gates() * spec.hidden))
}

fn book_layers(spec: &NetworkSpec) -> Vec<BookLayer> {
    let layer = |(inputs, columns)| BookLayer {
        wx: random(&[inputs, columns], "wx"),
        wh: random(&[spec.hidden, columns], "wh"),
        b: random(&[columns], "b"),
    };
    sizes(spec).map(layer).collect()
}

fn keras_layers(spec: &NetworkSpec) -> Vec<KerasLayer> {
    let layer = |(inputs, columns)| {
        let bias = match spec.kind {
            Kind::Gru => random(&[2, columns], "bias"),
            _ => random(&[columns], "bias"),
        };
        let kernel = random(&[inputs, columns], "kernel");
        KerasLayer::new(kernel, random(&[spec.hidden, columns], "recurrent"), spec.bias.then_some(bias))
    };
    sizes(spec).map(layer).collect()
}

fn spec_of(kinds: &'static [Kind]) -> impl Strategy<Value = NetworkSpec> {
    let kind = prop::sample::select(kinds);
    (kind, 1..5usize, 1..5usize, 1..4usize, any::<bool>(), any::<bool>()).prop_map(
        |(kind, input, hidden, layers, bidirectional, bias)| NetworkSpec {
            layers,
            bidirectional,
            bias,
            ..NetworkSpec::new(kind, input, hidden)
        },
    )
}

fn same(a: &Tensor, b: &Tensor) {
    assert_eq!((a.dims(), numbers(a)), (b.dims(), numbers(b)));
}

/// What became of `network` on the way out and in again: the weights are the same, and so is the sum of the biases.
fn same_but_for_the_cut_of_biases(network: &Network, again: &Network) {
    let spec = network.spec();
    for place in spec.places() {
        for weight in ["weight_ih", "weight_hh"] {
            same(network.get(weight, place).unwrap(), again.get(weight, place).unwrap());
        }
        let sum = |network: &Network| {
            let bias = |name| network.get(name, place);
            bias("bias_ih").zip(bias("bias_hh")).map(|(a, b)| (a + b).unwrap())
        };
        match (sum(network), sum(again)) {
            (Some(before), Some(after)) => same(&before, &after),
            (None, Some(after)) => same(&after.zeros_like().unwrap(), &after),
            (_, None) => assert!(!spec.bias),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn the_book_there_and_back(spec in spec_of(&[Kind::RnnTanh, Kind::Lstm]), seed in 0..u64::MAX) {
        let with_bias = NetworkSpec { bias: true, ..spec };
        let theirs = book_layers(&spec);
        let back = Network::from_book(with_bias, &theirs).unwrap().to_book().unwrap();
        prop_assert_eq!(back.len(), theirs.len());
        for (a, b) in theirs.iter().zip(&back) {
            same(&a.wx, &b.wx);
            same(&a.wh, &b.wh);
            same(&a.b, &b.b);
        }
        let network = Network::seeded(spec, seed, DType::F64).unwrap();
        let again = Network::from_book(with_bias, &network.to_book().unwrap()).unwrap();
        same_but_for_the_cut_of_biases(&network, &again);
    }

    #[test]
    fn keras_there_and_back(spec in spec_of(&Kind::ALL), seed in 0..u64::MAX) {
        let theirs = keras_layers(&spec);
        let back = Network::from_keras(spec, &theirs).unwrap().to_keras().unwrap();
        prop_assert_eq!(back.len(), theirs.len());
        for (a, b) in theirs.iter().zip(&back) {
            same(&a.kernel, &b.kernel);
            same(&a.recurrent_kernel, &b.recurrent_kernel);
            prop_assert_eq!(a.bias.is_some(), b.bias.is_some());
            a.bias.iter().zip(&b.bias).for_each(|(a, b)| same(a, b));
        }
        let network = Network::seeded(spec, seed, DType::F64).unwrap();
        let again = Network::from_keras(spec, &network.to_keras().unwrap()).unwrap();
        same_but_for_the_cut_of_biases(&network, &again);
        if spec.kind == Kind::Gru {
            for ((name, before), (_, after)) in network.tensors().zip(again.tensors()) {
                prop_assert_eq!(numbers(before), numbers(after), "{}", name);
            }
        }
    }
}

/// x W + b for one row.
fn affine(x: &[f64], w: &Tensor, b: &[f64]) -> Vec<f64> {
    let w = w.to_vec2::<f64>().unwrap();
    (0..b.len()).map(|j| b[j] + x.iter().zip(&w).map(|(x, row)| x * row[j]).sum::<f64>()).collect()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// One step of one row: x, and h and c before it, which it changes.
type Step<'a> = &'a dyn Fn(&[f64], &mut Vec<f64>, &mut Vec<f64>);

/// Our layer on a window of random numbers equals the loop over `step` in every output and in the last state.
fn means(network: &Network, step: Step) {
    let (batch, time) = (2, 4);
    let spec = network.spec();
    let x = random(&[batch, time, spec.input], "x");
    let parts = if spec.kind == Kind::Lstm { vec!["h0", "c0"] } else { vec!["h0"] };
    let starts: Vec<Tensor> = parts.iter().map(|part| random(&[1, batch, spec.hidden], part)).collect();
    let (mut out, mut last) = (Vec::new(), vec![Vec::new(), Vec::new()]);
    for (n, row) in x.to_vec3::<f64>().unwrap().iter().enumerate() {
        let state = |p: usize| starts.get(p).map(|start| start.get(0).unwrap().get(n).unwrap());
        let start = |p| state(p).map_or(Vec::new(), |start| start.to_vec1().unwrap());
        let (mut h, mut c) = (start(0), start(1));
        for x in row {
            step(x, &mut h, &mut c);
            out.extend_from_slice(&h);
        }
        last[0].extend(h);
        last[1].extend(c);
    }
    let want = std::iter::once((out, vec![batch, time, spec.hidden]))
        .chain(last.into_iter().map(|last| (last, vec![1, batch, spec.hidden])));
    for way in [Way::Reference, Way::Fused] {
        for (got, (want, shape)) in run(network, way, &x, &starts).iter().zip(want.clone()) {
            let off = off(got, &Tensor::from_vec(want, shape, &Device::Cpu).unwrap());
            assert!(off < 1e-12, "{way}: {off:e} off");
        }
    }
}

fn one_layer(kind: Kind) -> NetworkSpec {
    NetworkSpec::new(kind, 3, 2)
}

#[test]
fn the_books_rnn_means_the_same() {
    let spec = one_layer(Kind::RnnTanh);
    let layers = book_layers(&spec);
    let BookLayer { wx, wh, b } = &layers[0];
    means(&Network::from_book(spec, &layers).unwrap(), &|x, h, _| {
        let t = affine(h, wh, &affine(x, wx, &numbers(b)));
        *h = t.into_iter().map(f64::tanh).collect();
    });
}

#[test]
fn the_books_lstm_means_the_same() {
    let spec = one_layer(Kind::Lstm);
    let layers = book_layers(&spec);
    let BookLayer { wx, wh, b } = &layers[0];
    means(&Network::from_book(spec, &layers).unwrap(), &|x, h_prev, c_prev| {
        let a = affine(h_prev, wh, &affine(x, wx, &numbers(b)));
        let size = h_prev.len();
        for j in 0..size {
            let f = sigmoid(a[j]);
            let g = a[size + j].tanh();
            let i = sigmoid(a[2 * size + j]);
            let o = sigmoid(a[3 * size + j]);
            c_prev[j] = f * c_prev[j] + g * i;
            h_prev[j] = o * c_prev[j].tanh();
        }
    });
}

#[test]
fn kerass_simple_rnn_means_the_same() {
    for (kind, activation) in [
        (Kind::RnnTanh, f64::tanh as fn(f64) -> f64),
        (Kind::RnnRelu, |x: f64| if x > 0.0 { x } else { 0.0 }),
    ] {
        let spec = one_layer(kind);
        let layers = keras_layers(&spec);
        let KerasLayer { kernel, recurrent_kernel, bias, .. } = &layers[0];
        let bias = numbers(bias.as_ref().unwrap());
        means(&Network::from_keras(spec, &layers).unwrap(), &|x, h, _| {
            let sum = affine(h, recurrent_kernel, &affine(x, kernel, &bias));
            *h = sum.into_iter().map(activation).collect();
        });
    }
}

#[test]
fn kerass_lstm_means_the_same() {
    let spec = one_layer(Kind::Lstm);
    let layers = keras_layers(&spec);
    let KerasLayer { kernel, recurrent_kernel, bias, .. } = &layers[0];
    let bias = numbers(bias.as_ref().unwrap());
    means(&Network::from_keras(spec, &layers).unwrap(), &|x, h, c| {
        let z = affine(h, recurrent_kernel, &affine(x, kernel, &bias));
        let units = h.len();
        for j in 0..units {
            let i = sigmoid(z[j]);
            let f = sigmoid(z[units + j]);
            c[j] = f * c[j] + i * z[2 * units + j].tanh();
            let o = sigmoid(z[3 * units + j]);
            h[j] = o * c[j].tanh();
        }
    });
}

#[test]
fn kerass_gru_means_the_same() {
    let spec = one_layer(Kind::Gru);
    let layers = keras_layers(&spec);
    let KerasLayer { kernel, recurrent_kernel, bias, .. } = &layers[0];
    let bias = bias.as_ref().unwrap().to_vec2::<f64>().unwrap();
    means(&Network::from_keras(spec, &layers).unwrap(), &|x, h, _| {
        let matrix_x = affine(x, kernel, &bias[0]);
        let matrix_inner = affine(h, recurrent_kernel, &bias[1]);
        let units = h.len();
        for j in 0..units {
            let z = sigmoid(matrix_x[j] + matrix_inner[j]);
            let r = sigmoid(matrix_x[units + j] + matrix_inner[units + j]);
            let hh = (matrix_x[2 * units + j] + r * matrix_inner[2 * units + j]).tanh();
            h[j] = z * h[j] + (1.0 - z) * hh;
        }
    });
}

/// The forward layer, then the backward one; their outputs side by side.
#[test]
fn two_directions_of_keras_are_two_layers() {
    let spec = NetworkSpec { bidirectional: true, ..one_layer(Kind::Gru) };
    let layers = keras_layers(&spec);
    let single = |layer: usize| Network::from_keras(one_layer(Kind::Gru), &layers[layer..=layer]).unwrap();
    let (x, start) = (random(&[2, 4, 3], "x"), random(&[2, 2, 2], "h0"));
    let both =
        run(&Network::from_keras(spec, &layers).unwrap(), Way::Fused, &x, std::slice::from_ref(&start));
    let of =
        |layer: usize, x: &Tensor| run(&single(layer), Way::Fused, x, &[start.narrow(0, layer, 1).unwrap()]);
    let backwards = |t: &Tensor| t.flip(&[1]).unwrap();
    let (forward, reverse) = (of(0, &x), of(1, &backwards(&x)));
    let out = Tensor::cat(&[&forward[0], &backwards(&reverse[0])], D::Minus1).unwrap();
    assert_eq!(off(&both[0], &out), 0.0);
    assert_eq!(off(&both[1], &Tensor::cat(&[&forward[1], &reverse[1]], 0).unwrap()), 0.0);
}

fn refused(result: Result<Network, rnn_core::Error>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn what_is_another_layer_is_refused_with_the_reason() {
    let gru = one_layer(Kind::Gru);
    assert_eq!(
        refused(Network::from_book(gru, &book_layers(&gru))),
        "Network::from_book: kind: expected rnn_tanh or lstm, got gru (the book's GRU multiplies h by r before the \
         product, ours after it: no weights make them one)"
    );
    let relu = one_layer(Kind::RnnRelu);
    assert!(refused(Network::from_book(relu, &book_layers(&relu))).contains("the book's RNN has tanh"));
    let projected = NetworkSpec { projection: Some(1), ..one_layer(Kind::Lstm) };
    assert!(refused(Network::from_book(projected, &[])).contains("projection: expected none, got 1"));
    assert!(Network::seeded(projected, 0, DType::F64).unwrap().to_keras().is_err());

    // Said by the argument, and given away by the bias.
    let layer = &keras_layers(&gru)[0];
    let said = KerasLayer { reset_after: false, ..layer.clone() };
    let shown = KerasLayer { bias: Some(random(&[6], "bias")), ..layer.clone() };
    for layer in [said, shown] {
        assert_eq!(
            refused(Network::from_keras(gru, &[layer])),
            "Network::from_keras: l0: expected a GRU with reset_after=True, got reset_after=False (that one multiplies \
             h by r before the product, ours after it: no weights make them one)"
        );
    }
}

#[test]
fn what_does_not_fit_is_named_as_they_name_it() {
    let lstm = one_layer(Kind::Lstm);
    let mut layers = book_layers(&lstm);
    let two = NetworkSpec { layers: 2, ..lstm };
    let want = "Network::from_book: layers: expected 2, one for each layer and direction, got 1";
    assert_eq!(refused(Network::from_book(two, &layers)), want);
    layers[0].wx = layers[0].wx.t().unwrap();
    assert_eq!(
        refused(Network::from_book(lstm, &layers)),
        "Network::from_book: wx of l0: expected [3, 8], got [8, 3]"
    );
    let plain = NetworkSpec { bias: false, ..lstm };
    assert!(
        refused(Network::from_book(plain, &book_layers(&lstm))).contains("bias: expected true, got false")
    );
    assert_eq!(
        refused(Network::from_keras(plain, &keras_layers(&lstm))),
        "Network::from_keras: bias of l0: expected none, got one (NetworkSpec::bias is Keras's use_bias)"
    );
    let nothing = NetworkSpec { hidden: 0, ..lstm };
    assert!(refused(Network::from_keras(nothing, &[])).contains("hidden: expected at least 1, got 0"));
}
