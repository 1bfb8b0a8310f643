//! Window calls: `TUMBLE(…)` and its like, from however they are written to one form with the
//! arguments in order.
//!
//! ```text
//! NAME(input, time column, (partition columns), (lengths of time))
//! ```

use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, TableAlias, TableFactor,
    TableFunctionArgs,
};

use super::error::{Code, Error};
use super::tokens::{AS_OF, PARTITION_BY};

/// The window functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Tumble,
    Hop,
    Cumulate,
    Session,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Tumble, Self::Hop, Self::Cumulate, Self::Session];

    /// The window function of a name, whatever its case.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(name))
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tumble => "TUMBLE",
            Self::Hop => "HOP",
            Self::Cumulate => "CUMULATE",
            Self::Session => "SESSION",
        }
    }

    /// Its lengths of time that must be given, in their order.
    pub fn lengths(self) -> &'static [&'static str] {
        match self {
            Self::Tumble => &["SIZE"],
            Self::Hop => &["SLIDE", "SIZE"],
            Self::Cumulate => &["STEP", "SIZE"],
            Self::Session => &["GAP"],
        }
    }

    /// Its arguments, by the names and in the order of Flink.
    fn arguments(self) -> Vec<&'static str> {
        let offset: &[&str] = if self == Self::Session { &[] } else { &["OFFSET"] };
        [&["DATA", "TIMECOL"], self.lengths(), offset].concat()
    }

    /// How it is called.
    pub fn example(self) -> &'static str {
        match self {
            Self::Tumble => "TUMBLE(stream, DESCRIPTOR(event time), INTERVAL '5' MINUTES)",
            Self::Hop => "HOP(stream, DESCRIPTOR(event time), INTERVAL '1' MINUTE, INTERVAL '5' MINUTES)",
            Self::Cumulate => "CUMULATE(stream, DESCRIPTOR(event time), INTERVAL '1' HOUR, INTERVAL '1' DAY)",
            Self::Session => {
                "SESSION(stream PARTITION BY key, DESCRIPTOR(event time), INTERVAL '30' MINUTES)"
            }
        }
    }

    /// The refusal of a call.
    pub fn bad(self, message: impl Into<String>) -> Error {
        Error::new(Code::BadWindow, self.name(), message).hint(self.example())
    }
}

/// A window call taken apart.
#[derive(Debug)]
pub(super) struct Call {
    pub kind: Kind,
    /// A name or a subquery.
    pub input: Expr,
    /// The column in `DESCRIPTOR(…)`.
    pub time: Expr,
    /// The columns after PARTITION BY.
    pub partition: Vec<Expr>,
    /// The lengths of time in their order; the offset, if there is one, is the last.
    pub lengths: Vec<Expr>,
}

impl Call {
    /// Takes a call apart, its arguments in their order or with their names.
    pub fn new(kind: Kind, args: Vec<FunctionArg>) -> Result<Self, Error> {
        let name = kind.name();
        let arguments = kind.arguments();
        let mut slots: Vec<Option<Expr>> = vec![None; arguments.len()];
        let mut partition = Vec::new();
        let mut position = 0;
        for arg in args {
            let (slot, expr) = match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => match columns_of(&expr, PARTITION_BY) {
                    Some(_) if kind != Kind::Session => {
                        return Err(kind.bad(format!("PARTITION BY inside {name} has no meaning: its windows are the same for every key")));
                    }
                    Some(columns) => {
                        partition = columns;
                        continue;
                    }
                    None => {
                        position += 1;
                        (position - 1, expr)
                    }
                },
                FunctionArg::Named { name, arg: FunctionArgExpr::Expr(expr), .. }
                | FunctionArg::ExprNamed {
                    name: Expr::Identifier(name),
                    arg: FunctionArgExpr::Expr(expr),
                    ..
                } => {
                    let slot = arguments.iter().position(|known| known.eq_ignore_ascii_case(&name.value));
                    let unknown = || {
                        kind.bad(format!(
                            "{} has no argument {name}; it has {}",
                            kind.name(),
                            arguments.join(", ")
                        ))
                    };
                    (slot.ok_or_else(unknown)?, expr)
                }
                other => return Err(kind.bad(format!("{name} cannot take the argument {other}"))),
            };
            match slots.get_mut(slot) {
                Some(free @ None) => *free = Some(expr),
                Some(Some(_)) => return Err(kind.bad(format!("{name} has the same argument twice"))),
                None => return Err(kind.bad(format!("{name} has too many arguments; {}", kind.takes()))),
            }
        }
        let mut slots = slots.into_iter();
        let (Some(Some(input)), Some(Some(time))) = (slots.next(), slots.next()) else {
            return Err(kind.bad(kind.takes()));
        };
        let given: Vec<Option<Expr>> = slots.collect();
        if given.iter().take(kind.lengths().len()).any(Option::is_none) {
            return Err(kind.bad(kind.takes()));
        }
        let lengths = given.into_iter().flatten().collect();
        Ok(Self { kind, input, time: descriptor(kind, &time)?, partition, lengths })
    }

    /// The call in its one form.
    pub fn into_relation(self, alias: Option<TableAlias>) -> TableFactor {
        let args = [self.input, self.time, Expr::Tuple(self.partition), Expr::Tuple(self.lengths)];
        let args = args.map(|expr| FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)));
        let args = Some(TableFunctionArgs { args: args.into(), settings: None });
        relation(Ident::new(self.kind.name()), args, alias)
    }

    /// Takes the one form apart again.
    pub fn of(factor: &TableFactor) -> Option<Self> {
        let TableFactor::Table { name, args: Some(args), .. } = factor else { return None };
        let exprs: Vec<&Expr> = args
            .args
            .iter()
            .filter_map(|arg| match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
                _ => None,
            })
            .collect();
        let [input, time, Expr::Tuple(partition), Expr::Tuple(lengths)] = exprs.as_slice() else {
            return None;
        };
        Some(Self {
            kind: Kind::of(&name.to_string())?,
            input: (*input).clone(),
            time: (*time).clone(),
            partition: partition.clone(),
            lengths: lengths.clone(),
        })
    }
}

impl Kind {
    fn takes(self) -> String {
        let arguments = self.arguments().join(", ");
        format!("{} takes {}", self.name(), arguments.replace("OFFSET", "and perhaps OFFSET"))
    }
}

/// Whether a call is what `FOR SYSTEM_TIME AS OF` became.
pub(super) fn is_as_of(name: &ObjectName) -> bool {
    name.to_string().eq_ignore_ascii_case(AS_OF)
}

/// The group and the time of `AS_OF(group, time)`.
pub(super) fn as_of(args: &[FunctionArg]) -> Option<(Ident, Expr)> {
    match args {
        [
            FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Identifier(group))),
            FunctionArg::Unnamed(FunctionArgExpr::Expr(
                time @ (Expr::Identifier(_) | Expr::CompoundIdentifier(_)),
            )),
        ] => Some((group.clone(), time.clone())),
        _ => None,
    }
}

/// A relation by its name, or a call with these arguments.
pub(super) fn relation(
    name: Ident,
    args: Option<TableFunctionArgs>,
    alias: Option<TableAlias>,
) -> TableFactor {
    TableFactor::Table {
        name: ObjectName::from(vec![name]),
        alias,
        args,
        with_hints: Vec::new(),
        version: None,
        with_ordinality: false,
        partitions: Vec::new(),
        json_path: None,
        sample: None,
        index_hints: Vec::new(),
    }
}

/// The column in `DESCRIPTOR(column)`.
fn descriptor(kind: Kind, expr: &Expr) -> Result<Expr, Error> {
    match columns_of(expr, "DESCRIPTOR").as_deref() {
        Some([column]) => Ok(column.clone()),
        _ => {
            let name = kind.name();
            let message =
                format!("the second argument of {name} is DESCRIPTOR(event time column), not {expr}");
            Err(Error::new(Code::BadWindow, "DESCRIPTOR", message).hint(kind.example()))
        }
    }
}

/// The columns in `function(column, …)`.
fn columns_of(expr: &Expr, function: &str) -> Option<Vec<Expr>> {
    let Expr::Function(call) = expr else { return None };
    if !call.name.to_string().eq_ignore_ascii_case(function) {
        return None;
    }
    let FunctionArguments::List(list) = &call.args else { return None };
    let column = |arg: &FunctionArg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(
            column @ (Expr::Identifier(_) | Expr::CompoundIdentifier(_)),
        )) => Some(column.clone()),
        _ => None,
    };
    list.args.iter().map(column).collect()
}
