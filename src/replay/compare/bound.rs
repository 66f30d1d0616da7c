//! The statistics: how sure one can be that a rate is more than noise.
//!
//! Sources: Wilson 1927 (the score interval), Newcombe 1998 (the difference of two proportions, method 10), Press et al.,
//! Numerical Recipes §6.2 (the incomplete gamma function). Nothing here fails: counts that make no sense give 0 or 1.

/// The quantile of the normal distribution for a one-sided tail `alpha`, by bisection of [`normal_tail`].
pub(super) fn z(alpha: f64) -> f64 {
    let (mut low, mut high) = (-10.0, 10.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if normal_tail(middle) > alpha { low = middle } else { high = middle }
    }
    low
}

/// P(Z > z).
fn normal_tail(z: f64) -> f64 {
    // The chi-squared distribution of one degree of freedom is that of z².
    let both = gamma_q(0.5, z * z / 2.0);
    if z >= 0.0 { both / 2.0 } else { 1.0 - both / 2.0 }
}

/// Wilson's interval for `hits` of `of`, each side with the tail of `z`.
pub(super) fn wilson(hits: f64, of: f64, z: f64) -> (f64, f64) {
    if of <= 0.0 {
        return (0.0, 1.0);
    }
    let (p, zz) = (hits / of, z * z);
    let middle = (p + zz / (2.0 * of)) / (1.0 + zz / of);
    let half = z * (p * (1.0 - p) / of + zz / (4.0 * of * of)).max(0.0).sqrt() / (1.0 + zz / of);
    ((middle - half).max(0.0), (middle + half).min(1.0))
}

/// The least that the first rate is above the second, by Newcombe's interval.
pub(super) fn excess_low(hits: f64, of: f64, other_hits: f64, other_of: f64, z: f64) -> f64 {
    if of <= 0.0 || other_of <= 0.0 {
        return 0.0;
    }
    let (p, q) = (hits / of, other_hits / other_of);
    let (low, _) = wilson(hits, of, z);
    let (_, high) = wilson(other_hits, other_of, z);
    p - q - ((p - low).powi(2) + (high - q).powi(2)).sqrt()
}

/// How probable it is, at most, whatever the rate of noise is, that the candidate is the odd one of three at least `odd`
/// times while the other two together are it at most `others` times: the greatest of P(X ≥ odd) · P(Y ≤ others) with
/// X ~ Poisson(λ), Y ~ Poisson(2λ).
pub(super) fn odd_one_out(odd: u64, others: u64) -> f64 {
    if odd == 0 || 2 * odd <= others {
        return 1.0;
    }
    let (x, y) = (odd as f64, others as f64);
    let at = |rate: f64| {
        gamma_p(x, rate).max(f64::MIN_POSITIVE).ln()
            + gamma_q(y + 1.0, 2.0 * rate).max(f64::MIN_POSITIVE).ln()
    };
    // Both are log-concave in the rate, so there is one top; it is between what the two counts say.
    let (mut low, mut high) = (y / 2.0, x);
    for _ in 0..60 {
        let third = (high - low) / 3.0;
        if at(low + third) < at(high - third) { low += third } else { high -= third }
    }
    at(f64::midpoint(low, high)).exp().min(1.0)
}

/// Lanczos' approximation (g = 7, n = 9), good to 1e-13.
fn ln_gamma(x: f64) -> f64 {
    const TERMS: [f64; 8] = [
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    if x < 0.5 {
        let pi = std::f64::consts::PI;
        return (pi / (pi * x).sin()).abs().ln() - ln_gamma(1.0 - x);
    }
    let x = x - 1.0;
    let sum = TERMS
        .iter()
        .enumerate()
        .fold(0.999_999_999_999_809_9, |sum, (n, term)| sum + term / (x + n as f64 + 1.0));
    let t = x + 7.5;
    0.5 * (2.0 * std::f64::consts::PI).ln() + (x + 0.5) * t.ln() - t + sum.ln()
}

/// The regularised lower incomplete gamma function P(a, x); P(k, λ) is P(Poisson(λ) ≥ k).
fn gamma_p(a: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x < a + 1.0 { series(a, x) } else { 1.0 - fraction(a, x) }
}

/// The upper one; Q(k + 1, λ) is P(Poisson(λ) ≤ k).
fn gamma_q(a: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 1.0;
    }
    if x < a + 1.0 { 1.0 - series(a, x) } else { fraction(a, x) }
}

/// Terms of either way to reckon it; some √a are needed.
const TERMS_MAX: usize = 20_000;

fn series(a: f64, x: f64) -> f64 {
    let (mut term, mut sum, mut n) = (1.0 / a, 1.0 / a, a);
    for _ in 0..TERMS_MAX {
        n += 1.0;
        term *= x / n;
        sum += term;
        if term.abs() < sum.abs() * 1e-15 {
            break;
        }
    }
    sum * (a * x.ln() - x - ln_gamma(a)).exp()
}

fn fraction(a: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let mut b = x + 1.0 - a;
    let (mut c, mut d) = (1.0 / TINY, 1.0 / b);
    let mut h = d;
    for i in 1..TERMS_MAX {
        let i = i as f64;
        let an = -i * (i - a);
        b += 2.0;
        let down = an * d + b;
        d = 1.0 / if down.abs() < TINY { TINY } else { down };
        let up = b + an / c;
        c = if up.abs() < TINY { TINY } else { up };
        let step = d * c;
        h *= step;
        if (step - 1.0).abs() < 1e-15 {
            break;
        }
    }
    h * (a * x.ln() - x - ln_gamma(a)).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_those_of_the_tables() {
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-4 * b.abs().max(1e-3), "{a} is not {b}");
        near(z(0.05), 1.644_854);
        near(z(0.025), 1.959_964);
        near(z(0.001), 3.090_232);
        // Newcombe 1998, table I: 15 of 148, 95 %: 0.0624 to 0.1605; 0 of 20: 0 to 0.1611.
        let (low, high) = wilson(15.0, 148.0, z(0.025));
        assert!((low - 0.0624).abs() < 1e-4 && (high - 0.1605).abs() < 1e-4, "{low} {high}");
        near(wilson(0.0, 20.0, z(0.025)).1, 0.161_125);
        // Newcombe 1998, table II, method 10: 56/70 − 48/80, 95 %: 0.0524 at the least.
        assert!((excess_low(56.0, 70.0, 48.0, 80.0, z(0.025)) - 0.0524).abs() < 1e-4);
        // Poisson(5): P(≥ 9) = 0.068094; P(≤ 2) = 0.124652.
        near(gamma_p(9.0, 5.0), 0.068_094);
        near(gamma_q(3.0, 5.0), 0.124_652);
        near(gamma_p(1000.0, 1000.0), 0.504_205);
    }

    #[test]
    fn the_bound_is_at_least_what_any_rate_of_noise_gives() {
        for (odd, others) in [(5, 0), (6, 1), (10, 3), (40, 20), (300, 400)] {
            let bound = odd_one_out(odd, others);
            let most = (1..4000).map(|n| {
                let rate = f64::from(n) * odd as f64 / 2000.0;
                gamma_p(odd as f64, rate) * gamma_q(others as f64 + 1.0, 2.0 * rate)
            });
            let most = most.fold(0.0, f64::max);
            assert!(bound >= most * 0.999 && bound <= most * 1.02, "{odd} {others}: {bound} {most}");
        }
        assert_eq!(odd_one_out(0, 0), 1.0);
        assert_eq!(odd_one_out(3, 6), 1.0);
    }
}
