//! Sizes of parts in exact arithmetic: counts, ratios, decimal text; never a rounded product of floats.

use crate::SplitError;
use serde::{Deserialize, Serialize};

/// How large a part is to be.
///
/// Ratios are exact rationals: 25 rows times 0.28 are 7 rows, where floating point gives 8. A float stands
/// for its shortest decimal, so `0.28` means 28/100.
///
/// ```
/// use firebrick_split::Size;
///
/// assert_eq!(Size::from(0.28).of(25)?.ceil, 7);
/// assert_eq!(Size::from("0.28").of(25)?, Size::from((7, 25)).of(25)?);
/// assert!(Size::from("28").of(25).is_err()); // a text is a ratio; a count is a number
/// # Ok::<(), firebrick_split::SplitError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Size {
    /// So many rows.
    Count(usize),
    /// `num / den` of the rows.
    Ratio {
        /// Numerator.
        num: u64,
        /// Denominator.
        den: u64,
    },
    /// A decimal ("0.15"), a percentage ("15%") or a fraction ("3/20") as text.
    Text(String),
    /// What the other parts leave.
    Rest,
}

/// A size applied to a number of rows: the quota as the exact fraction `num / den`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Rows if the quota is rounded down.
    pub floor: usize,
    /// Rows if it is rounded up.
    pub ceil: usize,
    /// `quota - floor`, numerator, in lowest terms.
    pub rest_num: u128,
    /// Denominator of the quota in lowest terms.
    pub den: u128,
}

impl From<usize> for Size {
    fn from(count: usize) -> Self {
        Self::Count(count)
    }
}
impl From<f64> for Size {
    fn from(ratio: f64) -> Self {
        Self::Text(format!("{ratio}"))
    }
}
impl From<f32> for Size {
    fn from(ratio: f32) -> Self {
        Self::Text(format!("{ratio}"))
    }
}
impl From<&str> for Size {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}
impl From<(u64, u64)> for Size {
    fn from((num, den): (u64, u64)) -> Self {
        Self::Ratio { num, den }
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count} rows"),
            Self::Ratio { num, den } => write!(f, "{num}/{den}"),
            Self::Text(text) => f.write_str(text),
            Self::Rest => f.write_str("the rest"),
        }
    }
}

fn bad(reason: String) -> SplitError {
    SplitError::BadSizes { reason }
}

fn gcd(mut a: u128, mut b: u128) -> u128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

impl Size {
    /// The ratio as a fraction in lowest terms, or none for a count or the rest.
    ///
    /// # Errors
    /// [`SplitError::BadSizes`] when the ratio is not strictly between 0 and 1, not a number, or has more
    /// than 19 decimals.
    pub fn ratio(&self) -> Result<Option<(u64, u64)>, SplitError> {
        let (num, den) = match self {
            Self::Count(_) | Self::Rest => return Ok(None),
            Self::Ratio { num, den } => (*num, *den),
            Self::Text(text) => parse(text.trim()).ok_or_else(|| {
                bad(format!(
                    "{text:?} is no decimal, percentage or fraction with at most 19 decimals"
                ))
            })?,
        };
        if num == 0 || num >= den {
            return Err(bad(format!("a ratio must be strictly between 0 and 1, got {self}")));
        }
        let common = gcd(num.into(), den.into()) as u64;
        Ok(Some((num / common, den / common)))
    }

    /// The quota of this size among `n` rows; `Rest` counts as no rows.
    ///
    /// # Errors
    /// [`SplitError::BadSizes`] when the ratio is not strictly between 0 and 1, not a number, or has more
    /// than 19 decimals.
    pub fn of(&self, n: usize) -> Result<Quota, SplitError> {
        let (num, den) = match self {
            Self::Count(count) => (*count as u128, 1),
            Self::Rest => (0, 1),
            _ => {
                let (num, den) = self.ratio()?.unwrap_or((0, 1));
                (num as u128 * n as u128, u128::from(den))
            }
        };
        let common = gcd(num, den).max(1);
        let (num, den) = (num / common, den / common);
        let floor = num / den;
        Ok(Quota {
            floor: floor as usize,
            ceil: num.div_ceil(den) as usize,
            rest_num: num - floor * den,
            den,
        })
    }
}

/// Decimal, percentage or fraction to numerator and denominator.
fn parse(text: &str) -> Option<(u64, u64)> {
    if let Some((num, den)) = text.split_once('/') {
        return Some((num.trim().parse().ok()?, den.trim().parse().ok().filter(|&d: &u64| d > 0)?));
    }
    let (text, percent) = match text.strip_suffix('%') {
        Some(number) => (number.trim_end(), 2),
        None => (text, 0),
    };
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let decimals = decimals.trim_end_matches('0');
    if whole.is_empty() && decimals.is_empty() {
        return None;
    }
    if !whole.bytes().chain(decimals.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let den = 10u64.checked_pow(u32::try_from(decimals.len() + percent).ok()?)?;
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let fraction: u64 = if decimals.is_empty() { 0 } else { decimals.parse().ok()? };
    let scale = 10u64.checked_pow(u32::try_from(decimals.len()).ok()?)?;
    Some((whole.checked_mul(scale)?.checked_add(fraction)?, den))
}

/// Rows of the train, validation and test part; what is missing to `n` stays out of all.
///
/// Two parts follow scikit-learn (held-out part rounded up, training rounded down, or the complement when
/// it is the rest); three parts the largest remainder with ties to the earlier part, so that their sum is exact.
pub(crate) fn resolve(
    n: usize,
    train: &Size,
    validation: Option<&Size>,
    test: Option<&Size>,
) -> Result<[usize; 3], SplitError> {
    let given: Vec<(usize, &Size)> = [Some(train), validation, test]
        .into_iter()
        .enumerate()
        .filter_map(|(i, size)| Some((i, size?)))
        .collect();
    if given.iter().filter(|(_, size)| **size == Size::Rest).count() > 1 {
        return Err(bad("at most one part can be the rest".into()));
    }
    if given.len() < 2 {
        return Err(bad("a validation or a test part must be given".into()));
    }
    let mut quotas = Vec::new();
    for (part, size) in &given {
        if let Size::Count(count) = size
            && *count > n
        {
            return Err(bad(format!("a part of {count} rows cannot come out of {n}")));
        }
        quotas.push((*part, *size, size.of(n)?));
    }
    check_sum(n, &given, &quotas)?;
    let rest = given.iter().find(|(_, size)| **size == Size::Rest).map(|(part, _)| *part);
    let mut sizes = [0usize; 3];
    if given.len() == 2 {
        for (part, _, quota) in &quotas {
            sizes[*part] = if *part == 0 { quota.floor } else { quota.ceil };
        }
    } else {
        apportion(n, &quotas, rest, &mut sizes);
    }
    if let Some(part) = rest {
        let others: usize =
            sizes.iter().enumerate().filter(|(i, _)| *i != part).map(|(_, s)| s).sum();
        sizes[part] = n
            .checked_sub(others)
            .ok_or_else(|| bad(format!("the parts need {others} rows, there are {n}")))?;
    }
    let sum = sizes.iter().try_fold(0usize, |sum, &s| sum.checked_add(s));
    if sum.is_none_or(|sum| sum > n) {
        return Err(bad(format!("the parts {sizes:?} need more rows than the {n} there are")));
    }
    Ok(sizes)
}

/// Refuses counts and ratios that add up to more than there is, in exact arithmetic.
fn check_sum(
    n: usize,
    given: &[(usize, &Size)],
    quotas: &[(usize, &Size, Quota)],
) -> Result<(), SplitError> {
    let floors: u128 = quotas.iter().map(|(_, _, q)| q.floor as u128).sum();
    // The fractions alone may overflow their common denominator only for absurd ones; those are refused too.
    let mut sum = (0u128, 1u128);
    for (_, _, quota) in quotas {
        let common = gcd(sum.1, quota.den);
        let den = (sum.1 / common).checked_mul(quota.den).filter(|&den| den < 1 << 120);
        let num = den.and_then(|den| {
            sum.0
                .checked_mul(den / sum.1)?
                .checked_add(quota.rest_num.checked_mul(den / quota.den)?)
        });
        sum =
            num.zip(den).ok_or_else(|| bad("the ratios have too many decimals together".into()))?;
    }
    let over = floors * sum.1 + sum.0 > n as u128 * sum.1;
    if over {
        let list: Vec<String> = given.iter().map(|(_, size)| size.to_string()).collect();
        return Err(bad(format!("{} add up to more than the {n} rows", list.join(" + "))));
    }
    Ok(())
}

/// Largest remainder among three parts, the rest or what stays out taking part with its own remainder.
fn apportion(
    n: usize,
    quotas: &[(usize, &Size, Quota)],
    rest: Option<usize>,
    sizes: &mut [usize; 3],
) {
    let mut floors = 0;
    let mut order: Vec<(usize, u128, u128)> = Vec::new();
    for (part, size, quota) in quotas {
        sizes[*part] = quota.floor;
        floors += quota.floor;
        if **size != Size::Rest && quota.rest_num > 0 {
            order.push((*part, quota.rest_num, quota.den));
        }
    }
    // The complement's remainder: 1 minus the fractional part of the sum of the others'.
    let sum = order.iter().try_fold((0u128, 1u128), |sum, &(_, num, den)| {
        let common = gcd(sum.1, den);
        let to = (sum.1 / common).checked_mul(den)?;
        Some((sum.0 * (to / sum.1) + num * (to / den), to))
    });
    let (num, den) = sum.unwrap_or((0, 1));
    let complement = (den - num % den) % den;
    // Units that the fractional quotas are worth together, the complement's share included.
    let units = ((num + complement) / den) as usize;
    if complement > 0 {
        order.push((rest.unwrap_or(3), complement, den));
    }
    // Descending remainders, ties to the earlier part.
    order.sort_by(|a, b| greater(b.1, b.2, a.1, a.2).then(a.0.cmp(&b.0)));
    for &(part, _, _) in order.iter().take(units.min(n - floors.min(n))) {
        if part < 3 {
            sizes[part] += 1;
        }
    }
}

/// Compares two proper fractions `a/b` and `c/d` without rounding.
fn greater(a: u128, b: u128, c: u128, d: u128) -> std::cmp::Ordering {
    match (a.checked_mul(d), c.checked_mul(b)) {
        (Some(left), Some(right)) => left.cmp(&right),
        // Denominators beyond 2^64: the continued fraction decides, one quotient at a time.
        _ => {
            let (left, right) = (a / b, c / d);
            if left != right {
                return left.cmp(&right);
            }
            match (a % b, c % d) {
                (0, 0) => std::cmp::Ordering::Equal,
                (0, _) => std::cmp::Ordering::Less,
                (_, 0) => std::cmp::Ordering::Greater,
                (r, s) => greater(d, s, b, r),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two(n: usize, test: impl Into<Size>) -> usize {
        resolve(n, &Size::Rest, None, Some(&test.into())).expect("fits")[2]
    }

    #[test]
    fn ratios_are_exact_where_floats_are_not() {
        assert_eq!(two(25, 0.28), 7);
        assert_eq!((25.0f64 * 0.28).ceil(), 8.0);
        // 0.07 + 0.93 of 100 is 7 + 93, 0.42 + 0.58 is 42 + 58.
        for (test, train) in [("0.07", "0.93"), ("0.42", "0.58"), ("0.29", "0.71")] {
            let sizes = resolve(100, &train.into(), None, Some(&test.into())).expect("fits");
            assert_eq!(sizes[0] + sizes[2], 100);
        }
        let thirds = resolve(100, &"0.33".into(), Some(&"0.56".into()), Some(&"0.11".into()));
        assert_eq!(thirds, Ok([33, 56, 11]));
    }

    #[test]
    fn every_two_decimal_ratio_agrees_in_all_notations() {
        for n in [1usize, 2, 3, 7, 25, 99, 100, 1797, 2999] {
            for hundredths in 1..100u64 {
                let exact = (n as u64 * hundredths).div_ceil(100) as usize;
                for size in [
                    Size::from(format!("0.{hundredths:02}").as_str()),
                    Size::from(hundredths as f64 / 100.0),
                    Size::from(hundredths as f32 / 100.0),
                    Size::from((hundredths, 100)),
                    Size::from(format!("{hundredths}%").as_str()),
                    Size::from(format!("{hundredths}/100").as_str()),
                ] {
                    assert_eq!(size.of(n).expect("valid").ceil, exact, "{n} x {size}");
                }
            }
        }
    }

    #[test]
    fn three_parts_follow_the_largest_remainder() {
        let three = |n, v: &str, t: &str| {
            resolve(n, &Size::Rest, Some(&v.into()), Some(&t.into())).expect("fits")
        };
        assert_eq!(three(10, "0.15", "0.2"), [7, 1, 2]); // 6.5 and 1.5 tie: the earlier part
        assert_eq!(three(11, "0.25", "0.25"), [5, 3, 3]); // 5.5, 2.75, 2.75
        assert_eq!(three(1797, "0.15", "0.2"), [1168, 270, 359]); // 1168.05, 269.55, 359.4
        // A part of the rows left out takes part in the apportionment.
        let left = resolve(10, &"0.25".into(), Some(&"0.25".into()), Some(&"0.25".into()));
        assert_eq!(left, Ok([3, 3, 2])); // 2.5 each: two units, to the earlier parts
        assert_eq!(resolve(10, &Size::Rest, Some(&3.into()), Some(&"0.25".into())), Ok([5, 3, 2]));
    }

    #[test]
    fn bad_sizes_are_named() {
        let of = |train: Size, test: Size| {
            resolve(100, &train, None, Some(&test)).map_err(|e| e.to_string())
        };
        for bad in
            ["1.0", "0", "-0.2", "1.5", "NaN", "inf", "", ".", "1/0", "a", "0.12345678901234567891"]
        {
            let message = of(Size::Rest, bad.into()).expect_err(bad);
            assert!(message.contains("sizes of the parts"), "{message}");
        }
        assert!(of(Size::Rest, f64::NAN.into()).expect_err("NaN").contains("NaN"));
        assert!(of(Size::Rest, Size::Rest).expect_err("two rests").contains("at most one"));
        assert!(of("0.6".into(), "0.5".into()).expect_err("sum").contains("0.6 + 0.5"));
        assert!(of(60.into(), 41.into()).expect_err("sum").contains("60 rows + 41 rows"));
        assert!(of(Size::Rest, 101.into()).expect_err("count").contains("101"));
        assert!(resolve(9, &Size::Rest, None, None).is_err());
        assert!(
            resolve(usize::MAX, &Size::Rest, None, Some(&"0.999999999999999999".into())).is_ok()
        );
    }
}
