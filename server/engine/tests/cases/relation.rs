//! What a window or a frame goes over: streams, projections of them, unions and joins; printed as SQL.

use super::dice::Dice;
use super::expression::Expr;
use super::value::Kind;

/// A stream of the test.
pub struct Stream {
    pub name: &'static str,
    /// Name, type, and whether it is a BIGINT that is an INT.
    pub columns: [(&'static str, Kind, bool); 8],
    /// Position of the event time.
    pub time: usize,
}

/// All streams: the same kinds of columns, in other orders and under other names.
pub const STREAMS: [Stream; 3] = {
    use Kind::{Bool, Float, Int, Symbol, Text, Time};
    [
        Stream {
            name: "events",
            columns: [
                ("who", Text, false),
                ("team", Int, false),
                ("kind", Symbol, false),
                ("x", Int, false),
                ("p", Float, false),
                ("ok", Bool, false),
                ("note", Text, false),
                ("ts", Time, false),
            ],
            time: 7,
        },
        Stream {
            name: "clicks",
            columns: [
                ("happened", Time, false),
                ("visitor", Text, false),
                ("n", Int, true),
                ("price", Float, false),
                ("flag", Bool, false),
                ("page", Text, false),
                ("shop", Int, false),
                ("class", Symbol, false),
            ],
            time: 0,
        },
        Stream {
            name: "views",
            columns: [
                ("viewer", Text, false),
                ("seen", Time, false),
                ("region", Int, true),
                ("label", Text, false),
                ("depth", Int, false),
                ("own", Bool, false),
                ("sort_of", Symbol, false),
                ("score", Float, false),
            ],
            time: 1,
        },
    ]
};

#[derive(Debug, Clone)]
pub struct Column {
    pub name: String,
    pub kind: Kind,
}

#[derive(Debug, Clone)]
pub struct Relation {
    pub columns: Vec<Column>,
    /// Position of the event time.
    pub time: usize,
    /// How far the event time may be behind the watermark.
    pub hold: i64,
    pub node: Node,
}

#[derive(Debug, Clone)]
pub enum Node {
    Source { stream: usize, number: u16 },
    Select { input: Box<Relation>, filter: Option<Expr>, list: Vec<Expr> },
    Union(Vec<Relation>),
    Join(Box<Join>),
}

/// `right.t BETWEEN left.t + lower AND left.t + upper`; conditions and list are over the left columns, then the right
/// ones.
#[derive(Debug, Clone)]
pub struct Join {
    pub left: Relation,
    pub right: Relation,
    pub keeps_left: bool,
    pub on: (usize, usize),
    pub lower: i64,
    pub upper: i64,
    pub condition: Option<Expr>,
    pub filter: Option<Expr>,
    pub list: Vec<Expr>,
}

impl Join {
    /// How long a left row waits for partners after its time: as long as one may come that is on time.
    pub fn left_reach(&self) -> i64 {
        self.left.hold.max(self.right.hold + self.upper).max(0)
    }

    /// How long a right row is kept: as long as a left row is that may find it.
    pub fn right_reach(&self) -> i64 {
        self.right.hold.max(self.left_reach() - self.lower).max(0)
    }
}

impl Relation {
    pub fn names(&self) -> Vec<String> {
        self.columns.iter().map(|column| column.name.clone()).collect()
    }

    /// The columns of a kind.
    pub fn of_kind(&self, kind: Kind) -> Vec<usize> {
        (0..self.columns.len()).filter(|at| self.columns[*at].kind == kind).collect()
    }

    /// The stream of each source below, in the order of their numbers.
    pub fn sources(&self) -> Vec<usize> {
        match &self.node {
            Node::Source { stream, .. } => vec![*stream],
            Node::Select { input, .. } => input.sources(),
            Node::Union(inputs) => inputs.iter().flat_map(Self::sources).collect(),
            Node::Join(join) => [join.left.sources(), join.right.sources()].concat(),
        }
    }

    /// Whether its rows are made of several records.
    pub fn is_joined(&self) -> bool {
        match &self.node {
            Node::Source { .. } => false,
            Node::Select { input, .. } => input.is_joined(),
            Node::Union(inputs) => inputs.iter().any(Self::is_joined),
            Node::Join(_) => true,
        }
    }
}

/// Writes relations down, some as subqueries, some as CTEs.
pub struct Writer<'d> {
    pub dice: &'d mut Dice,
    pub ctes: Vec<(String, String)>,
}

impl Writer<'_> {
    /// As it stands in FROM; true: in parentheses.
    pub fn item(&mut self, relation: &Relation) -> (String, bool) {
        if let Node::Source { stream, .. } = relation.node {
            return (STREAMS[stream].name.into(), false);
        }
        let text = self.body(relation);
        if self.dice.chance(50) {
            return (format!("({text})"), true);
        }
        let name = format!("part_{}", self.ctes.len());
        self.ctes.push((name.clone(), text));
        (name, false)
    }

    fn body(&mut self, relation: &Relation) -> String {
        let names = relation.names();
        match &relation.node {
            Node::Source { stream, .. } => format!("SELECT * FROM {}", STREAMS[*stream].name),
            Node::Select { input, filter, list } => self.select(input, filter.as_ref(), list, &names),
            Node::Union(inputs) => {
                let parts: Vec<String> = inputs.iter().map(|input| self.body(input)).collect();
                parts.join(" UNION ALL ")
            }
            Node::Join(join) => self.join(join, &names),
        }
    }

    fn select(&mut self, input: &Relation, filter: Option<&Expr>, list: &[Expr], names: &[String]) -> String {
        let (item, is_nested) = self.item(input);
        let below = input.names();
        let alias = if is_nested { " AS t" } else { "" };
        let filter = filter.map(|filter| format!(" WHERE {}", filter.sql(&below)));
        format!("SELECT {} FROM {item}{alias}{}", listed(list, &below, names), filter.unwrap_or_default())
    }

    fn join(&mut self, join: &Join, names: &[String]) -> String {
        let ((left, _), (right, _)) = (self.item(&join.left), self.item(&join.right));
        let of = |side: &str, relation: &Relation| {
            relation.names().into_iter().map(|name| format!("{side}.{name}")).collect::<Vec<_>>()
        };
        let (l, r) = (of("l", &join.left), of("r", &join.right));
        let (lt, rt) = (&l[join.left.time], &r[join.right.time]);
        let (lower, upper) = (join.lower, join.upper);
        let bound = match self.dice.below(4) {
            0 => format!("{rt} >= {lt} + {} AND {rt} <= {lt} + {}", interval(lower), interval(upper)),
            1 => format!("{lt} BETWEEN {rt} - {} AND {rt} - {}", interval(upper), interval(lower)),
            2 => format!("{rt} > {lt} + {} AND {lt} + {} > {rt}", micros(lower - 1), micros(upper + 1)),
            _ => format!("{rt} BETWEEN {lt} + {} AND {lt} + {}", interval(lower), interval(upper)),
        };
        let both = [l.clone(), r.clone()].concat();
        let mut on = vec![format!("{} = {}", l[join.on.0], r[join.on.1]), bound];
        on.extend(join.condition.iter().map(|condition| condition.sql(&both)));
        let on = on.join(" AND ");
        let filter = join.filter.iter().map(|filter| filter.sql(&both));
        let list = listed(&join.list, &both, names);
        if !join.keeps_left && self.dice.chance(20) {
            let conditions: Vec<String> = std::iter::once(on).chain(filter).collect();
            return format!(
                "SELECT {list} FROM {left} AS l, {right} AS r WHERE {}",
                conditions.join(" AND ")
            );
        }
        let kinds = if join.keeps_left { ["LEFT JOIN", "LEFT OUTER JOIN"] } else { ["JOIN", "INNER JOIN"] };
        let kind = self.dice.pick(&kinds);
        let filter: String = filter.map(|filter| format!(" WHERE {filter}")).collect();
        format!("SELECT {list} FROM {left} AS l {kind} {right} AS r ON {on}{filter}")
    }
}

fn listed(list: &[Expr], below: &[String], names: &[String]) -> String {
    let items = list.iter().zip(names).map(|(expr, name)| match expr.sql(below) {
        same if same == *name => same,
        other => format!("{other} AS {name}"),
    });
    items.collect::<Vec<_>>().join(", ")
}

/// A length of time as SQL writes it.
pub fn interval(length: i64) -> String {
    let units =
        [(3_600_000_000, "HOURS"), (60_000_000, "MINUTES"), (1_000_000, "SECONDS"), (1_000, "MILLISECONDS")];
    match units.iter().find(|(unit, _)| length % unit == 0) {
        Some((unit, name)) => format!("INTERVAL '{}' {name}", length / unit),
        None => micros(length),
    }
}

fn micros(length: i64) -> String {
    format!("INTERVAL '{length}' MICROSECONDS")
}
