//! A definition as SQL, in one of the ways in which it can be written.

use super::definition::{Bound, Definition, Shape, Window};
use super::dice::Dice;
use super::relation::{Writer, interval};
use super::value::Kind;

/// How a window is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `TUMBLE(events, DESCRIPTOR(ts), …)`
    Short,
    /// `TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), …))`
    Standard,
    /// `TUMBLE(DATA => TABLE events, …)`
    Named,
    /// `GROUP BY TUMBLE(ts, …)`
    Grouped,
}

/// The SQL, and in which form the window is.
pub fn write(definition: &Definition, dice: &mut Dice) -> (String, Option<Form>) {
    let mut writer = Writer { dice, ctes: Vec::new() };
    let (mut text, form) = match &definition.shape {
        Shape::Windowed(window, bounds) => {
            let (text, form) = windowed(definition, *window, bounds, &mut writer);
            (text, Some(form))
        }
        Shape::Rolling { .. } => (rolling(definition, &mut writer), None),
    };
    if let Some(outer) = &definition.outer {
        let names = names(definition);
        let list: Vec<String> = outer.columns.iter().map(|at| names[*at].clone()).collect();
        let filter = outer.filter.as_ref().map(|filter| format!(" WHERE {}", filter.sql(&names)));
        text = format!("SELECT {} FROM ({text}) AS g{}", list.join(", "), filter.unwrap_or_default());
    }
    if !writer.ctes.is_empty() {
        let ctes: Vec<String> =
            writer.ctes.iter().map(|(name, text)| format!("{name} AS ({text})")).collect();
        text = format!("WITH {} {text}", ctes.join(", "));
    }
    (text, form)
}

/// What the columns that come out are called.
pub fn names(definition: &Definition) -> Vec<String> {
    let (keys, aggregates) = (definition.keys.len(), definition.aggregates.len());
    let added = definition.kinds.len() - keys - aggregates - definition.computed.len();
    let of = |letter: &str, count: usize| (0..count).map(move |n| format!("{letter}{n}")).collect::<Vec<_>>();
    [of("k", keys), of("b", added), of("a", aggregates), of("c", definition.computed.len())].concat()
}

/// `expr AS name` of the key, of what the shape adds, of the aggregates and of what is computed.
fn list(definition: &Definition, added: Vec<String>, over: impl Fn(usize) -> String) -> String {
    let below = definition.relation.names();
    let names = names(definition);
    let keys = definition.keys.iter().map(|key| key.sql(&below));
    let aggregates = definition.aggregates.iter().enumerate();
    let aggregates = aggregates.map(|(at, aggregate)| aggregate.sql(&below, &over(at)));
    let computed = definition.computed.iter().map(|computed| computed.sql(&names));
    let all = keys.chain(added).chain(aggregates).chain(computed);
    all.zip(&names).map(|(sql, name)| format!("{sql} AS {name}")).collect::<Vec<_>>().join(", ")
}

fn windowed(
    definition: &Definition,
    window: Window,
    bounds: &[Bound],
    writer: &mut Writer<'_>,
) -> (String, Form) {
    let relation = &definition.relation;
    let (item, is_nested) = writer.item(relation);
    let time = relation.columns[relation.time].name.clone();
    let simple: Vec<String> = definition
        .keys
        .iter()
        .filter_map(|key| match key {
            super::expression::Expr::Column(at) => Some(relation.columns[*at].name.clone()),
            _ => None,
        })
        .collect();
    let (lengths, offset) = match window {
        Window::Tumble { size, offset } => (vec![("SIZE", size)], offset),
        Window::Hop { slide, size, offset } => (vec![("SLIDE", slide), ("SIZE", size)], offset),
        Window::Cumulate { step, size, offset } => (vec![("STEP", step), ("SIZE", size)], offset),
        Window::Session { gap } => (vec![("GAP", gap)], 0),
    };
    let is_session = matches!(window, Window::Session { .. });
    let mut form = *writer.dice.pick(&[Form::Short, Form::Short, Form::Standard, Form::Named, Form::Grouped]);
    // A join has a window in GROUP BY only where it is not in a subquery, and CUMULATE has none.
    if form == Form::Grouped && (offset != 0 || matches!(window, Window::Cumulate { .. })) {
        form = Form::Short;
    }
    if form == Form::Named && is_nested {
        form = Form::Standard;
    }
    let name = window.name();
    let mut values: Vec<String> = lengths.iter().map(|(_, length)| interval(*length)).collect();
    if offset != 0 {
        values.push(interval(offset));
    }
    let by_key = is_session
        && matches!(form, Form::Short | Form::Standard)
        && !simple.is_empty()
        && simple.len() == definition.keys.len()
        && writer.dice.chance(50);
    let partition = if by_key { format!(" PARTITION BY {}", simple.join(", ")) } else { String::new() };
    let table = if is_nested || writer.dice.chance(50) { "" } else { "TABLE " };
    let from = match form {
        Form::Short => format!("{name}({item}{partition}, DESCRIPTOR({time}), {})", values.join(", ")),
        Form::Standard => {
            format!("TABLE({name}({table}{item}{partition}, DESCRIPTOR({time}), {}))", values.join(", "))
        }
        Form::Named => {
            let mut named = vec![format!("DATA => TABLE {item}"), format!("TIMECOL => DESCRIPTOR({time})")];
            named.extend(lengths.iter().map(|(name, length)| format!("{name} => {}", interval(*length))));
            if offset != 0 {
                named.push(format!("\"OFFSET\" => {}", interval(offset)));
            }
            let turn = writer.dice.below(named.len());
            named.rotate_left(turn);
            format!("{name}({})", named.join(", "))
        }
        Form::Grouped => item.clone() + if is_nested { " AS t" } else { "" },
    };
    let call = |what: &str| format!("{name}{what}({time}, {})", values.join(", "));
    let added = bounds.iter().map(|bound| match (form, bound) {
        (Form::Grouped, Bound::Start) => call("_START"),
        (Form::Grouped, Bound::End) => call("_END"),
        (Form::Grouped, Bound::Time) => call("_ROWTIME"),
        (_, bound) => bound.name().to_owned(),
    });
    let list = list(definition, added.collect(), |_| String::new());
    let below = relation.names();
    let filter = definition.within.as_ref().map(|filter| format!(" WHERE {}", filter.sql(&below)));
    let mut groups: Vec<String> = Vec::new();
    for (at, key) in definition.keys.iter().enumerate() {
        groups.push(if writer.dice.chance(50) { format!("k{at}") } else { key.sql(&below) });
    }
    if form == Form::Grouped {
        groups.push(call(""));
    } else {
        let mut by: Vec<Bound> = bounds.to_vec();
        let more = *writer.dice.pick(&[Bound::Start, Bound::End, Bound::Time]);
        if !by.contains(&more) && (by.is_empty() || writer.dice.chance(50)) {
            by.push(more);
        }
        groups.extend(by.iter().map(|bound| bound.name().to_owned()));
    }
    let having = definition.having.as_ref().map(|h| format!(" HAVING {}", h.sql(&names(definition))));
    let text = format!(
        "SELECT {list} FROM {from}{} GROUP BY {}{}",
        filter.unwrap_or_default(),
        groups.join(", "),
        having.unwrap_or_default()
    );
    (text, form)
}

fn rolling(definition: &Definition, writer: &mut Writer<'_>) -> String {
    let Shape::Rolling { frames, of, plain } = &definition.shape else { unreachable!() };
    let relation = &definition.relation;
    let (item, is_nested) = writer.item(relation);
    let below = relation.names();
    let keys: Vec<String> = definition.keys.iter().map(|key| key.sql(&below)).collect();
    let frame = |length: i64| {
        let (keys, time) = (keys.join(", "), &below[relation.time]);
        format!(
            "(PARTITION BY {keys} ORDER BY {time} RANGE BETWEEN {} PRECEDING AND CURRENT ROW)",
            interval(length)
        )
    };
    let is_named = writer.dice.chance(60);
    let over = |at: usize| {
        if is_named { format!(" OVER w{}", of[at]) } else { format!(" OVER {}", frame(frames[of[at]])) }
    };
    let added = plain.iter().map(|at| below[*at].clone()).collect();
    let list = list(definition, added, over);
    let filter = definition.within.as_ref().map(|filter| format!(" WHERE {}", filter.sql(&below)));
    let windows: Vec<String> =
        frames.iter().enumerate().map(|(n, length)| format!("w{n} AS {}", frame(*length))).collect();
    let window = if is_named { format!(" WINDOW {}", windows.join(", ")) } else { String::new() };
    let qualify = definition.having.as_ref().map(|h| format!(" QUALIFY {}", h.sql(&names(definition))));
    let alias = if is_nested { " AS t" } else { "" };
    format!(
        "SELECT {list} FROM {item}{alias}{}{window}{}",
        filter.unwrap_or_default(),
        qualify.unwrap_or_default()
    )
}

/// Whether SQL can say `PARTITION BY` or `GROUP BY` of a column of this type.
pub fn is_key(kind: Kind) -> bool {
    matches!(kind, Kind::Int | Kind::Text | Kind::Symbol | Kind::Bool)
}
