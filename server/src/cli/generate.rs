//! Made-up values for any stream: one generator a column, chosen by its type or by `--column`.

use rand::Rng;
use rand::rngs::SmallRng;
use serde_json::{Value, json};

/// Makes the values of one column.
#[derive(Debug, Clone, PartialEq)]
pub enum Generator {
    /// The event's time.
    Time,
    /// `<stem>_<n>`, n below the count: keys.
    Pick(String, u64),
    /// One of the words.
    Choice(Vec<String>),
    /// 1 with the given probability, else 0; `inverted`: the other way round.
    Chance { probability: f64, inverted: bool },
    /// An integer from `from` up to and without `to`.
    Integer(i64, i64),
    /// A number from `from` up to `to`.
    Number(f64, f64),
    /// True with the given probability.
    Flag(f64),
    /// Always null.
    Null,
}

/// What the defaults know.
#[derive(Debug, Clone, Copy)]
pub struct Defaults {
    /// Number of users, and of any other key.
    pub keys: u64,
    /// Share of clicks.
    pub clicks: f64,
}

/// The generator that a column's name and type suggest; `symbols` are those of an enum.
pub fn suggest(
    name: &str,
    data_type: &str,
    symbols: &[String],
    nullable: bool,
    d: Defaults,
) -> Option<Generator> {
    let lower = name.to_lowercase();
    Some(match data_type {
        "string" if !symbols.is_empty() => Generator::Choice(symbols.to_vec()),
        "string" => Generator::Pick(stem(&lower).to_owned(), d.keys),
        "int" | "bigint" if lower.contains("click") => {
            Generator::Chance { probability: d.clicks, inverted: false }
        }
        "int" | "bigint" if lower.contains("impression") => {
            Generator::Chance { probability: d.clicks, inverted: true }
        }
        "int" | "bigint" => Generator::Integer(0, i64::try_from(d.keys).unwrap_or(i64::MAX)),
        "float" | "double" => Generator::Number(0.0, 100.0),
        "boolean" => Generator::Flag(0.5),
        "timestamp" | "timestamp_ntz" => Generator::Time,
        _ if nullable => Generator::Null,
        _ => return None,
    })
}

fn stem(name: &str) -> &str {
    name.strip_suffix("_id").unwrap_or(name)
}

/// Reads `--column name=generator`: `pick:100`, `choice:a,b`, `chance:0.05`, `integer:0,10`,
/// `number:0,1`, `flag:0.5`, `null`.
pub fn parse(text: &str) -> Result<(String, Generator), String> {
    let wrong = || {
        format!(
            "'{text}' is not COLUMN=GENERATOR; generators are pick:N, choice:A,B, chance:P, integer:FROM,TO, number:FROM,TO, flag:P, null"
        )
    };
    let (name, generator) = text.split_once('=').ok_or_else(wrong)?;
    let (kind, rest) = generator.split_once(':').unwrap_or((generator, ""));
    let numbers: Vec<f64> = rest.split(',').filter_map(|n| n.trim().parse().ok()).collect();
    let generator = match (kind, numbers.as_slice()) {
        ("pick", [n]) if *n >= 1.0 => Generator::Pick(stem(&name.to_lowercase()).to_owned(), *n as u64),
        ("choice", _) if !rest.is_empty() => Generator::Choice(rest.split(',').map(str::to_owned).collect()),
        ("chance", [p]) if (0.0..=1.0).contains(p) => Generator::Chance { probability: *p, inverted: false },
        ("integer", [from, to]) if from < to => Generator::Integer(*from as i64, *to as i64),
        ("number", [from, to]) if from < to => Generator::Number(*from, *to),
        ("flag", [p]) if (0.0..=1.0).contains(p) => Generator::Flag(*p),
        ("null", _) => Generator::Null,
        _ => return Err(wrong()),
    };
    Ok((name.to_owned(), generator))
}

impl Generator {
    /// The next value. `click` is drawn once an event, so that clicks and impressions exclude each other;
    /// `time` is in microseconds.
    pub fn next(&self, rng: &mut SmallRng, click: f64, time: i64) -> Value {
        match self {
            Self::Time => json!(time),
            Self::Pick(stem, count) => json!(format!("{stem}_{}", rng.random_range(0..*count))),
            Self::Choice(words) => {
                let at = rng.random_range(0..words.len().max(1));
                words.get(at).map_or(Value::Null, |w| json!(w))
            }
            Self::Chance { probability, inverted } => json!(i64::from((click < *probability) != *inverted)),
            Self::Integer(from, to) => json!(rng.random_range(*from..*to)),
            Self::Number(from, to) => json!(rng.random_range(*from..*to)),
            Self::Flag(probability) => json!(rng.random_bool(*probability)),
            Self::Null => Value::Null,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn clicks_and_impressions_exclude_each_other() {
        let defaults = Defaults { keys: 50, clicks: 0.3 };
        let clicks = suggest("clicks", "bigint", &[], false, defaults).unwrap();
        let impressions = suggest("impressions", "bigint", &[], false, defaults).unwrap();
        let mut rng = SmallRng::seed_from_u64(1);
        for draw in 0..100 {
            let click = f64::from(draw) / 100.0;
            let sum = clicks.next(&mut rng, click, 0).as_i64().unwrap()
                + impressions.next(&mut rng, click, 0).as_i64().unwrap();
            assert_eq!(sum, 1);
        }
    }

    #[test]
    fn generators_are_read_as_the_help_says() {
        assert_eq!(parse("item_id=pick:9").unwrap().1, Generator::Pick("item".into(), 9));
        assert_eq!(parse("c=choice:DE,FR").unwrap().1, Generator::Choice(vec!["DE".into(), "FR".into()]));
        for bad in ["x", "x=", "x=pick:0", "x=integer:3,1", "x=chance:2", "x=what:1"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
