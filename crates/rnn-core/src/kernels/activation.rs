//! exp, tanh and sigmoid in f32 without a branch, so that a loop over lanes becomes vector code.
//!
//! Within 2e-6 relative (1e-37 absolute) of the f64 functions for every finite input, but for `exp` above 88.376:
//! there it is infinite, while e^x is a finite f32 up to 88.722. NaN stays NaN, and infinities give the limits.
//! Comparisons are written `if x > limit`, never `min` or `max`, which would swallow a NaN.

/// ln(2) in two parts, the first with few enough bits that its multiples by small integers are exact.
const LN_2_HIGH: f32 = 0.693_359_4;
const LN_2_LOW: f32 = -2.121_944_4e-4;

/// 1.5 * 2^23: adding it rounds to an integer, which then stands in the low bits.
const ROUND: f32 = 12_582_912.0;

/// exp(x) overflows above; 88.37 keeps 2^n itself finite, and what is larger gives infinity.
const EXP_MAX: f32 = 88.376_26;

/// exp(x) is below the smallest normal number under this; the result is then 0.
const EXP_MIN: f32 = -87.336_54;

#[inline(always)]
fn mul_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// e^x = 2^n e^r with n an integer and |r| <= ln(2)/2; e^r by its Taylor polynomial of degree 7.
#[inline(always)]
pub(super) fn exp<const FMA: bool>(x: f32) -> f32 {
    let bounded = if x > EXP_MAX { EXP_MAX } else { x };
    let bounded = if bounded < EXP_MIN { EXP_MIN } else { bounded };
    let shifted = mul_add::<FMA>(bounded, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = mul_add::<FMA>(n, -LN_2_LOW, mul_add::<FMA>(n, -LN_2_HIGH, bounded));
    let mut p = 1.0 / 5040.0;
    for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = mul_add::<FMA>(p, r, coefficient);
    }
    // The low nine bits of `shifted` are n; shifted left over the mantissa they are the exponent of 2^n.
    let power = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    let value = p * power;
    let value = if x > EXP_MAX { f32::INFINITY } else { value };
    if x < EXP_MIN { 0.0 } else { value }
}

/// tanh(x) by an odd polynomial near 0, where `1 - 2/(e^2x + 1)` would cancel, and by that formula elsewhere.
#[inline(always)]
pub(super) fn tanh<const FMA: bool>(x: f32) -> f32 {
    let square = x * x;
    let mut p = TANH[0];
    for coefficient in &TANH[1..] {
        p = mul_add::<FMA>(p, square, *coefficient);
    }
    let near = mul_add::<FMA>(p * square, x, x);
    let size = x.abs();
    let far = 1.0 - 2.0 / (exp::<FMA>(2.0 * size) + 1.0);
    // `far` of a NaN is NaN, and a NaN is not below the limit.
    (if size < TANH_NEAR { near } else { far }).copysign(x)
}

/// Where the polynomial hands over.
const TANH_NEAR: f32 = 0.625;

/// Coefficients of p in `tanh(x) = x + x^3 p(x^2)` for |x| < 0.625, highest first, as in Moshier's Cephes library.
const TANH: [f32; 5] = [-5.704_988_7e-3, 2.063_909e-2, -5.373_971_6e-2, 0.133_314_42, -0.333_332_8];

/// 1 / (1 + e^-x)
#[inline(always)]
pub(super) fn sigmoid<const FMA: bool>(x: f32) -> f32 {
    1.0 / (1.0 + exp::<FMA>(-x))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Pair = (&'static str, fn(f32) -> f32, fn(f64) -> f64);
    const PAIRS: [Pair; 6] = [
        ("exp", exp::<true>, f64::exp),
        ("exp without fma", exp::<false>, f64::exp),
        ("tanh", tanh::<true>, f64::tanh),
        ("tanh without fma", tanh::<false>, f64::tanh),
        ("sigmoid", sigmoid::<true>, |x| 1.0 / (1.0 + (-x).exp())),
        ("sigmoid without fma", sigmoid::<false>, |x| 1.0 / (1.0 + (-x).exp())),
    ];

    #[test]
    fn finite_inputs_are_within_2e_6_of_the_f64_functions_as_far_as_exp_goes() {
        // Every 4099th bit pattern: about a million inputs of every sign, exponent and kind.
        for bits in (0..=u32::MAX).step_by(4099) {
            let x = f32::from_bits(bits);
            if !x.is_finite() {
                continue;
            }
            for (name, ours, exact) in PAIRS {
                let (got, want) = (f64::from(ours(x)), exact(f64::from(x)));
                if want > f64::from(f32::MAX) {
                    assert_eq!(got, f64::INFINITY, "{name}({x})");
                    continue;
                }
                // exp gives up at 88.376, a hair below the largest finite f32.
                if name.starts_with("exp") && x > EXP_MAX {
                    continue;
                }
                assert!((got - want).abs() <= 2e-6 * want.abs() + 1e-37, "{name}({x}): {got} for {want}");
            }
        }
    }

    #[test]
    fn nan_stays_nan_and_infinities_give_the_limits() {
        for (name, ours, exact) in PAIRS {
            assert!(ours(f32::NAN).is_nan(), "{name}");
            for x in [f32::INFINITY, f32::NEG_INFINITY] {
                assert_eq!(f64::from(ours(x)), exact(f64::from(x)), "{name}({x})");
            }
        }
        assert_eq!(tanh::<true>(-0.0).to_bits(), (-0.0f32).to_bits());
    }
}
