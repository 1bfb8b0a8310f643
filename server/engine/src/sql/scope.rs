//! What names mean at one place of a query.
//!
//! An identifier matches exactly, else as the one case-insensitive match.

use datafusion::sql::sqlparser::ast::{Expr, Ident};

use super::error::{Code, Error, nearest};

/// The columns that a window adds.
pub(super) const WINDOW_COLUMNS: [&str; 3] = ["window_start", "window_end", "window_time"];

/// How far events have come at a place of the query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Progress {
    /// Rows are events.
    Events,
    /// Rows are events with their window.
    Windowed,
    /// Rows are features.
    Features,
}

/// What FROM offers: the columns of its relations.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    /// The relations in the order of FROM.
    pub relations: Vec<Relation>,
    /// How far their rows have come.
    pub progress: Progress,
    /// Whether FROM itself is a window: the last relation has its columns.
    pub is_window: bool,
}

/// A relation after FROM: what it is called and the columns it has.
#[derive(Debug, Clone)]
pub(super) struct Relation {
    /// The name that qualifies its columns; columns that a window adds to a join have none.
    pub name: Option<String>,
    /// Its columns in order.
    pub columns: Vec<String>,
}

/// One column of a scope.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// Its relation.
    pub relation: Option<String>,
    /// Its name, as the schema has it.
    pub column: String,
}

/// A name of the select list with what it stands for, its own names resolved.
#[derive(Debug, Clone)]
pub(super) struct Alias {
    pub name: String,
    pub expr: Expr,
    /// The kinds of function that it holds.
    pub holds: Holds,
    /// How many parts it has.
    pub parts: usize,
}

/// Which functions over several rows an expression holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Holds {
    /// An aggregate of a group.
    pub aggregate: bool,
    /// An aggregate with OVER.
    pub over: bool,
}

impl Holds {
    /// Either of them.
    pub fn any(self) -> bool {
        self.aggregate || self.over
    }
}

impl std::ops::BitOrAssign for Holds {
    fn bitor_assign(&mut self, other: Self) {
        self.aggregate |= other.aggregate;
        self.over |= other.over;
    }
}

/// The select list so far.
pub(super) type Aliases = Vec<Alias>;

impl Relation {
    /// Refuses columns that differ only in case: no rule could tell them apart later.
    pub fn new(name: &str, columns: Vec<String>) -> Result<Self, Error> {
        for (i, column) in columns.iter().enumerate() {
            if let Some(other) = columns.iter().take(i).find(|c| c.eq_ignore_ascii_case(column)) {
                return Err(Error::new(
                    Code::AmbiguousColumn,
                    column.clone(),
                    format!("the columns {other:?} and {column:?} of {name:?} differ at most in case"),
                )
                .hint("rename one of them in a CTE"));
            }
        }
        Ok(Self { name: Some(name.to_owned()), columns })
    }

    fn is_called(&self, name: &str) -> bool {
        self.name.as_ref().is_some_and(|own| own.eq_ignore_ascii_case(name))
    }

    fn place(&self, column: &str) -> Place {
        Place { relation: self.name.clone(), column: column.to_owned() }
    }
}

impl Place {
    /// The column as an expression that nothing later reads differently: qualified and quoted.
    pub fn expr(&self) -> Expr {
        match &self.relation {
            Some(relation) => Expr::CompoundIdentifier(vec![quoted(relation), quoted(&self.column)]),
            None => Expr::Identifier(quoted(&self.column)),
        }
    }
}

impl Scope {
    /// One relation.
    pub fn of(relation: Relation, progress: Progress) -> Self {
        Self { relations: vec![relation], progress, is_window: false }
    }

    /// What a bare name means, if anything; refuses a name that several relations have.
    pub fn column(&self, ident: &Ident) -> Result<Option<Place>, Error> {
        let exact = |column: &String| *column == ident.value;
        let mut places: Vec<Place> = self.places(exact).collect();
        if places.is_empty() {
            places = self.places(|column| column.eq_ignore_ascii_case(&ident.value)).collect();
        }
        match places.as_slice() {
            [] => Ok(None),
            [one] => Ok(Some(one.clone())),
            several => {
                let written: Vec<String> = several.iter().map(ToString::to_string).collect();
                Err(Error::new(
                    Code::AmbiguousColumn,
                    &ident.value,
                    format!("{:?} could be each of {}", ident.value, written.join(", ")),
                )
                .hint("write the relation in front of the column"))
            }
        }
    }

    /// What `relation.column` means, if there is such a relation.
    pub fn column_of(&self, relation: &Ident, column: &Ident) -> Result<Option<Place>, Error> {
        let Some(relation) = self.relation(relation) else { return Ok(None) };
        match find(&column.value, relation.columns.iter().map(String::as_str))? {
            Some(column) => Ok(Some(relation.place(column))),
            None => Err(self.unknown(&column.value, &Aliases::new())),
        }
    }

    /// The relation of a name.
    pub fn relation(&self, name: &Ident) -> Option<&Relation> {
        let exact = self.relations.iter().find(|r| r.name.as_ref() == Some(&name.value));
        exact.or_else(|| self.relations.iter().find(|r| r.is_called(&name.value)))
    }

    /// All columns in order.
    pub fn all(&self) -> impl Iterator<Item = Place> {
        self.places(|_| true)
    }

    /// The columns of the window that FROM is, where it is one.
    pub fn window_columns(&self) -> impl Iterator<Item = Place> {
        let last = self.relations.last().filter(|_| self.is_window).into_iter();
        last.flat_map(|r| {
            r.columns.iter().filter(|c| WINDOW_COLUMNS.contains(&c.as_str())).map(|c| r.place(c))
        })
    }

    fn places(&self, wanted: impl Fn(&String) -> bool + Copy) -> impl Iterator<Item = Place> {
        self.relations
            .iter()
            .flat_map(move |r| r.columns.iter().filter(move |c| wanted(c)).map(|c| r.place(c)))
    }

    /// The relations by name, for messages.
    pub fn names(&self) -> String {
        let names: Vec<String> =
            self.relations.iter().flat_map(|r| &r.name).map(|n| format!("{n:?}")).collect();
        names.join(" and ")
    }

    /// The scope of a join: the relations of both sides.
    pub fn joined(mut self, right: Self) -> Result<Self, Error> {
        for relation in right.relations {
            if let Some(name) = &relation.name
                && self.relations.iter().any(|r| r.is_called(name))
            {
                return Err(Error::new(
                    Code::AmbiguousColumn,
                    name,
                    format!("two relations after FROM are called {name:?}"),
                )
                .hint(format!("give one of them another name: {name} AS other")));
            }
            self.relations.push(relation);
        }
        Ok(self)
    }

    /// The refusal of a name that means nothing here.
    pub fn unknown(&self, name: &str, aliases: &Aliases) -> Error {
        let columns = || self.relations.iter().flat_map(|r| &r.columns).map(String::as_str);
        let error =
            Error::new(Code::UnknownColumn, name, format!("there is no column {name:?} in {}", self.names()));
        match nearest(name, columns().chain(aliases.iter().map(|a| a.name.as_str()))) {
            Some(near) => error.hint(format!("did you mean {near:?}?")),
            None if WINDOW_COLUMNS.contains(&name.to_lowercase().as_str()) => error.hint(format!(
                "{name} is a column of FROM TUMBLE(stream, DESCRIPTOR(event time), INTERVAL '5' MINUTES)"
            )),
            None => error.hint(format!("its columns are {}", columns().collect::<Vec<_>>().join(", "))),
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.relation {
            Some(relation) => write!(f, "{relation}.{}", self.column),
            None => f.write_str(&self.column),
        }
    }
}

/// Exactly, else the one case-insensitive match, else nothing.
pub(super) fn find<'a>(
    name: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Result<Option<&'a str>, Error> {
    let mut loose = Vec::new();
    for candidate in candidates {
        if candidate == name {
            return Ok(Some(candidate));
        }
        if candidate.eq_ignore_ascii_case(name) {
            loose.push(candidate);
        }
    }
    match loose.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        several => Err(Error::new(
            Code::AmbiguousColumn,
            name,
            format!("{name:?} could be each of {}", several.join(", ")),
        )
        .hint("write the name exactly, in double quotes")),
    }
}

/// An identifier that is read exactly as it stands.
pub(super) fn quoted(name: &str) -> Ident {
    Ident::with_quote('"', name)
}
