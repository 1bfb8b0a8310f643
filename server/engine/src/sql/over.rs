//! OVER: the windows of rolling aggregates, named ones written out, and which of them are supported.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Ident, NamedWindowDefinition, NamedWindowExpr, Select, VisitMut, VisitorMut, WindowFrame,
    WindowFrameBound, WindowFrameUnits, WindowSpec, WindowType,
};

use super::error::{Code, Error, nearest};

/// What a hint shows for a rolling aggregate.
pub(super) const EXAMPLE: &str =
    "SUM(x) OVER (PARTITION BY key ORDER BY ts RANGE BETWEEN INTERVAL '5' MINUTES PRECEDING AND CURRENT ROW)";

/// How many windows may be defined by way of each other.
const CHAIN: usize = 16;

/// Writes the windows after WINDOW out where the select list and QUALIFY name them.
pub(super) fn write_out(select: &mut Select) -> Result<(), Error> {
    let named = std::mem::take(&mut select.named_window);
    let mut names = Names { named: &named };
    let visited = match select.projection.visit(&mut names) {
        ControlFlow::Continue(()) => select.qualify.visit(&mut names),
        stopped @ ControlFlow::Break(_) => stopped,
    };
    match visited {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

struct Names<'a> {
    named: &'a [NamedWindowDefinition],
}

impl Names<'_> {
    /// The window of a name.
    fn find(&self, name: &Ident, chain: usize) -> Result<WindowSpec, Error> {
        let known = || self.named.iter().map(|NamedWindowDefinition(known, _)| known.value.as_str());
        let found = self.named.iter().find(|NamedWindowDefinition(known, _)| {
            known.value == name.value || known.value.eq_ignore_ascii_case(&name.value)
        });
        match found {
            Some(NamedWindowDefinition(_, NamedWindowExpr::NamedWindow(other))) if chain < CHAIN => {
                self.find(other, chain + 1)
            }
            Some(NamedWindowDefinition(_, NamedWindowExpr::WindowSpec(spec))) if chain < CHAIN => {
                self.extend(spec.clone(), chain + 1)
            }
            Some(_) => Err(Error::unsupported("a window that is defined by itself", EXAMPLE)),
            None => {
                let message = format!("there is no window {:?} after WINDOW", name.value);
                let error = Error::new(Code::BadWindow, &name.value, message);
                Err(match nearest(&name.value, known()) {
                    Some(near) => error.hint(format!("did you mean {near:?}?")),
                    None => error.hint(EXAMPLE),
                })
            }
        }
    }

    /// A window with what the one that it begins with says.
    fn extend(&self, mut spec: WindowSpec, chain: usize) -> Result<WindowSpec, Error> {
        let Some(base) = spec.window_name.take() else { return Ok(spec) };
        let base = self.find(&base, chain)?;
        if spec.partition_by.is_empty() {
            spec.partition_by = base.partition_by;
        }
        if spec.order_by.is_empty() {
            spec.order_by = base.order_by;
        }
        spec.window_frame = spec.window_frame.or(base.window_frame);
        Ok(spec)
    }
}

impl VisitorMut for Names<'_> {
    type Break = Box<Error>;

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
        let Expr::Function(function) = expr else { return ControlFlow::Continue(()) };
        let spec = match function.over.take() {
            None => return ControlFlow::Continue(()),
            Some(WindowType::NamedWindow(name)) => self.find(&name, 0),
            Some(WindowType::WindowSpec(spec)) => self.extend(spec, 0),
        };
        match spec {
            Ok(spec) => {
                function.over = Some(WindowType::WindowSpec(spec));
                ControlFlow::Continue(())
            }
            Err(error) => ControlFlow::Break(Box::new(error)),
        }
    }
}

/// Refuses what is not a stretch of time before each row of a key.
pub(super) fn check(window: &WindowType) -> Result<(), Error> {
    let WindowType::WindowSpec(spec) = window else {
        return Err(Error::unsupported("a window's name here", EXAMPLE));
    };
    if spec.partition_by.is_empty() {
        return Err(Error::unsupported("OVER without PARTITION BY", EXAMPLE));
    }
    match spec.order_by.as_slice() {
        [one]
            if one.options.asc != Some(false)
                && one.options.nulls_first.is_none()
                && one.with_fill.is_none() => {}
        [_] => return Err(Error::unsupported("OVER with ORDER BY … DESC", EXAMPLE)),
        [] => return Err(Error::unsupported("OVER without ORDER BY", EXAMPLE)),
        _ => return Err(Error::unsupported("OVER with several columns after ORDER BY", EXAMPLE)),
    }
    let Some(WindowFrame { units, start_bound, end_bound }) = &spec.window_frame else {
        return Err(Error::unsupported("OVER without a frame", EXAMPLE));
    };
    match units {
        WindowFrameUnits::Range => {}
        WindowFrameUnits::Rows => return Err(Error::unsupported("OVER (… ROWS …)", EXAMPLE)),
        WindowFrameUnits::Groups => return Err(Error::unsupported("OVER (… GROUPS …)", EXAMPLE)),
    }
    match end_bound {
        None | Some(WindowFrameBound::CurrentRow) => {}
        Some(WindowFrameBound::Following(_)) => {
            return Err(Error::unsupported("a frame that ends in FOLLOWING", EXAMPLE));
        }
        Some(WindowFrameBound::Preceding(_)) => {
            return Err(Error::unsupported("a frame that ends in PRECEDING", EXAMPLE));
        }
    }
    match start_bound {
        WindowFrameBound::Preceding(Some(length)) if matches!(**length, Expr::Interval(_)) => Ok(()),
        WindowFrameBound::Preceding(Some(length)) => {
            Err(Error::new(Code::BadWindow, "OVER", format!("a frame begins an interval ago, not {length}"))
                .hint(EXAMPLE))
        }
        WindowFrameBound::Preceding(None) => Err(Error::unsupported("UNBOUNDED PRECEDING", EXAMPLE)),
        WindowFrameBound::CurrentRow => Err(Error::unsupported("a frame of the CURRENT ROW alone", EXAMPLE)),
        WindowFrameBound::Following(_) => {
            Err(Error::unsupported("a frame that begins in FOLLOWING", EXAMPLE))
        }
    }
}
