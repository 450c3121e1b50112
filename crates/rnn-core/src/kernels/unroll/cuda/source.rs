//! The text of a cell's two kernels: its arithmetic, traced, between loads and stores. A thread takes one unit of one row at
//! one step; the products between the steps are cuBLAS's.

use crate::kernels::trace::{Listing, Op, Term, Traced};
use crate::kernels::unroll::cpu::Traits;
use candle_core::DType;

/// Functions by the names that lines have for them, as [`crate::kernels::Vector`] says what they do.
const FUNCTIONS: &str = "\
__device__ inline real sigmoid(real x) { return (real)1 / ((real)1 + exp(-x)); }
__device__ inline real relu(real x) { return x <= (real)0 ? (real)0 : x; }
__device__ inline real above_zero(real x) { return x > (real)0 ? (real)1 : (real)0; }
__device__ inline real larger(real a, real b) { return b > a ? b : a; }
";

/// The window as a kernel sees it; the same in `launch.rs`. Pointers that a cell has no use for are null.
pub(super) const WINDOW: &str = "\
struct Window {
    real* gates;             // [N, T, G*H]: sums come in, activations go out
    const real* product;     // [N, G*H] of this step, of a cell that keeps the halves apart; else it is in the sums
    const real* bias_ih;     // [G*H]
    const real* bias_hh;     // [G*H]
    const real* own;         // [own*H]
    const real* h;           // [N, H] before the window
    real* hs;                // [N, T, H]
    real* c;                 // [N, H], from step to step
    real* kept;              // [N, T, H]
    real* c_before;          // [N, T, H]
    real* next_h;            // [N, H], at the last step
    const real* dhs;         // [N, T, H]
    real* dinput;            // [N, T, G*H]
    real* drecurrent;        // [N, T, G*H], of a cell that keeps the halves apart
    real* dh;                // [1 + G, N, H], from step to step: what passed by the product, and through it by each gate
    real* dc;                // [N, H], from step to step
    real* terms;             // [N, T, own*H]
    int batch, time, hidden;
    int step, before;        // before: -1 at the first step
};
";

/// Where a thread is.
const PLACE: &str = "\
    const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (size_t)w.batch * w.hidden) return;
    const size_t row = i / w.hidden, unit = i % w.hidden, H = w.hidden;
    const size_t at = row * w.time + w.step;
";

/// Both kernels, `forward` and `backward`.
pub(super) fn source(traced: &Traced, dtype: DType) -> String {
    let real = if dtype == DType::F64 { "double" } else { "float" };
    let (forward, backward) = (forward(traced), backward(traced));
    format!("typedef {real} real;\n{FUNCTIONS}{WINDOW}{forward}{backward}")
}

fn kernel(name: &str, loads: &[String], arithmetic: &Listing, stores: &[String]) -> String {
    let indented = |lines: &[String]| lines.iter().map(|line| format!("    {line}\n")).collect::<String>();
    let (loads, stores) = (indented(loads), indented(stores));
    format!(
        "extern \"C\" __global__ void {name}(const Window w) {{\n{PLACE}{loads}{}{stores}}}\n",
        statements(arithmetic)
    )
}

/// One a line, after which each result has its name.
fn statements(Listing { lines, results }: &Listing) -> String {
    let line = |(i, op): (usize, &Op)| format!("    const real t{i} = {op};\n");
    let result = |(name, i): &(String, Term)| format!("    const real {name} = {i};\n");
    lines.iter().enumerate().map(line).chain(results.iter().map(result)).collect()
}

fn forward(Traced { forward, traits, .. }: &Traced) -> String {
    let gates = traits.gates;
    let mut loads = vec![format!("real* sums = w.gates + at * {gates} * H + unit;")];
    for g in 0..gates {
        loads.push(format!("const real bias_ih{g} = w.bias_ih ? w.bias_ih[{g} * H + unit] : (real)0;"));
        loads.push(format!("const real bias_hh{g} = w.bias_hh ? w.bias_hh[{g} * H + unit] : (real)0;"));
        loads.push(format!("const real input{g} = sums[{g} * H] + bias_ih{g};"));
        let product = match traits.two_sided {
            true => format!("w.product[row * {gates} * H + {g} * H + unit] + "),
            false => String::new(),
        };
        loads.push(format!("const real recurrent{g} = {product}bias_hh{g};"));
    }
    loads.push(number("c", traits.carry, "w.c[i]"));
    loads.extend(shared_loads(traits));
    let mut stores: Vec<_> = (0..gates).map(|g| format!("sums[{g} * H] = gate{g};")).collect();
    if traits.extra {
        stores.push("if (w.kept) w.kept[at * H + unit] = kept;".into());
    }
    if traits.carry {
        stores.push("if (w.c_before) w.c_before[at * H + unit] = c;".into());
        stores.push("w.c[i] = next_c;".into());
    }
    stores.push("w.hs[at * H + unit] = made;".into());
    stores.push("if (w.next_h) w.next_h[i] = made;".into());
    kernel("forward", &loads, forward, &stores)
}

/// It reads the tape (gates, kept, `c_before`) and hs, and leaves in dh what passes by the product.
fn backward(Traced { backward, traits, .. }: &Traced) -> String {
    let gates = traits.gates;
    let mut loads = vec![format!("const size_t sums = at * {gates} * H + unit;")];
    loads.extend((0..gates).map(|g| format!("const real gate{g} = w.gates[sums + {g} * H];")));
    loads.push(number("kept", traits.extra, "w.kept[at * H + unit]"));
    loads.push(number("c", traits.carry, "w.c_before[at * H + unit]"));
    let through: String = (1..=gates).map(|g| format!(" + w.dh[{g} * w.batch * H + i]")).collect();
    loads.push(format!("const real dmade = w.dhs[at * H + unit] + w.dh[i]{through};"));
    loads.push(number("dnext_c", traits.carry, "w.dc[i]"));
    loads.extend(shared_loads(traits));
    let mut stores = Vec::new();
    for g in 0..gates {
        stores.push(format!("w.dinput[sums + {g} * H] = dinput{g};"));
        if traits.two_sided {
            stores.push(format!("w.drecurrent[sums + {g} * H] = drecurrent{g};"));
        }
    }
    stores.push("w.dh[i] = dread;".into());
    if traits.carry {
        stores.push("w.dc[i] = dc;".into());
    }
    let own = traits.own;
    stores.extend((0..own).map(|k| format!("w.terms[at * {own} * H + {k} * H + unit] = down{k};")));
    kernel("backward", &loads, backward, &stores)
}

/// Whether a cell takes the hidden state before a step for more than the product: in a plain window that is also what is fed.
fn reads(traits: &Traits) -> bool {
    traits.reads_h || traits.reads_fed
}

/// What both kernels read: the hidden state before the step, and parameters of the cell's own.
fn shared_loads(traits: &Traits) -> Vec<String> {
    let before = "w.before < 0 ? w.h[i] : w.hs[(row * w.time + w.before) * H + unit]";
    let mut loads = vec![number("read", reads(traits), before)];
    loads.extend((0..traits.own).map(|k| format!("const real own{k} = w.own[{k} * H + unit];")));
    loads
}

/// A number, or zero where there is none.
fn number(name: &str, there: bool, from: &str) -> String {
    format!("const real {name} = {};", if there { from } else { "(real)0" })
}
