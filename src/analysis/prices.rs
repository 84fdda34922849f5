//! What tokens cost: a table of prices per million tokens, and sums without rounding.

use std::fmt;

use thiserror::Error;

/// Money, exactly: a millionth of a millionth of the currency in which prices are given.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub struct Money(u128);

const PICO: u128 = 1_000_000_000_000;

impl Money {
    pub fn plus(self, other: Money) -> Money {
        Money(self.0.saturating_add(other.0))
    }

    /// What is between the two.
    pub fn apart(self, other: Money) -> Money {
        Money(self.0.abs_diff(other.0))
    }

    /// Whole percent of a sum; `None` of nothing.
    pub fn percent_of(self, sum: Money) -> Option<u128> {
        // Far below the largest number for any money that there is.
        self.0.saturating_mul(100).checked_div(sum.0)
    }

    /// All digits, without zeros at the end.
    pub fn exact(self) -> String {
        let text = format!("{}.{:012}", self.0 / PICO, self.0 % PICO);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

/// Rounded to a millionth.
impl fmt::Display for Money {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millionths = self.0.saturating_add(500_000) / 1_000_000;
        write!(formatter, "{}.{:06}", millionths / 1_000_000, millionths % 1_000_000)
    }
}

/// Per million tokens, in millionths of the currency.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Price {
    pub input: u64,
    pub output: u64,
}

impl Price {
    pub fn of(&self, input_tokens: u64, output_tokens: u64) -> Money {
        let part = |tokens: u64, price: u64| u128::from(tokens) * u128::from(price);
        Money(part(input_tokens, self.input).saturating_add(part(output_tokens, self.output)))
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error(
    "`{text}` is no price: MODEL=INPUT/OUTPUT is meant, per million tokens, such as gpt-4o=2.50/10 or small-*=0.25/1.25"
)]
pub struct PriceError {
    text: String,
}

/// Prices by model. A name may end in `*`, which stands for any rest; the longest name that fits counts.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Prices {
    rows: Vec<(String, Price)>,
}

impl Prices {
    /// `model=in/out`, comma separated. Of equal names the later counts.
    pub fn parse(text: &str) -> Result<Self, PriceError> {
        let mut prices = Prices::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            prices.add(part)?;
        }
        Ok(prices)
    }

    pub fn add(&mut self, text: &str) -> Result<(), PriceError> {
        let wrong = || PriceError { text: super::text::one_line(text, 80) };
        let (model, price) = text.rsplit_once('=').ok_or_else(wrong)?;
        let (input, output) = price.split_once('/').ok_or_else(wrong)?;
        let model = model.trim();
        if model.is_empty() || model.contains('*') && model.find('*') != Some(model.len() - 1) {
            return Err(wrong());
        }
        let price =
            Price { input: millionths(input).ok_or_else(wrong)?, output: millionths(output).ok_or_else(wrong)? };
        self.rows.retain(|(name, _)| name != model);
        self.rows.push((model.to_owned(), price));
        Ok(())
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub fn of(&self, model: &str) -> Option<Price> {
        let fits = |name: &str| match name.strip_suffix('*') {
            Some(start) => model.starts_with(start),
            None => model == name,
        };
        let rank = |name: &str| (name.trim_end_matches('*').len(), !name.ends_with('*'));
        let fitting = self.rows.iter().filter(|(name, _)| fits(name));
        fitting.max_by_key(|(name, _)| rank(name)).map(|(_, price)| *price)
    }
}

/// `2.5` as 2,500,000. At most six digits behind the point: what is finer is a mistake.
fn millionths(text: &str) -> Option<u64> {
    let text = text.trim();
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(part) || part.len() > 6 {
        return None;
    }
    let part: u64 = format!("{part:0<6}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_name_that_fits_counts() {
        let prices = Prices::parse("*=1/2, big-*=10/20.5,big-model=3/4,big-model*=7/7").expect("prices");
        let of = |model: &str| prices.of(model).map(|price| (price.input / 1_000_000, price.output / 100_000));
        assert_eq!(of("any"), Some((1, 20)));
        assert_eq!(of("big-one"), Some((10, 205)));
        assert_eq!(of("big-model"), Some((3, 40)));
        assert_eq!(of("big-model-2"), Some((7, 70)));
        assert_eq!(Prices::parse("a=1/1").expect("a price").of("b"), None);
        assert_eq!(
            Prices::parse("a=1/1,a=2/2").expect("prices").of("a"),
            Some(Price { input: 2_000_000, output: 2_000_000 })
        );
    }

    #[test]
    fn sums_are_exact() {
        let price = Prices::parse("m=0.25/1.25").expect("a price").of("m").expect("known");
        let money = price.of(1, 0);
        assert_eq!(money.exact(), "0.00000025");
        assert_eq!(money.to_string(), "0.000000");
        assert_eq!(price.of(2, 0).to_string(), "0.000001", "rounded, half up");
        assert_eq!(price.of(3_000_000, 2_000_000).exact(), "3.25");
        assert_eq!(price.of(3_000_000, 2_000_000).to_string(), "3.250000");
        assert_eq!(Money::default().exact(), "0");
        let most = Price { input: u64::MAX, output: u64::MAX }.of(u64::MAX, u64::MAX);
        assert_eq!(most.plus(most), most.plus(most).plus(most), "a sum ends at the largest number");
    }

    #[test]
    fn what_is_no_price_is_refused_with_an_example() {
        for text in
            ["m", "m=1", "=1/2", "m=1/", "m=-1/2", "m=1e3/2", "m=1.1234567/2", "a*b=1/2", "m=99999999999999999999/1"]
        {
            let error = Prices::parse(text).expect_err(text).to_string();
            assert!(error.contains(text) && error.contains("gpt-4o=2.50/10"), "{error}");
        }
        assert!(Prices::parse(" , ").expect("nothing").is_empty());
    }
}
