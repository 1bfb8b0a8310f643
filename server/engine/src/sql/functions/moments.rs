//! Variances, covariances, correlation and linear regression, vectorised over groups.
//!
//! One pass: means and sums of products of the distances from them, added by B. P. Welford's recurrence and
//! merged by that of T. F. Chan, G. H. Golub and R. J. LeVeque. Merged into nothing a state stays what it
//! is, bit for bit, so that it can be saved; DataFusion's does not.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::common::{Result, internal_err, plan_err};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};

use super::own::{Aggregate, Bound, each, taken};

/// Functions of the first two moments of one column, or of two: `(y, x)`, as SQL has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Moment {
    VarPop,
    Var,
    StddevPop,
    Stddev,
    CovarPop,
    CovarSamp,
    Corr,
    RegrSlope,
    RegrIntercept,
    RegrCount,
    RegrR2,
    RegrAvgx,
    RegrAvgy,
    RegrSxx,
    RegrSyy,
    RegrSxy,
}

impl Moment {
    /// All of them, each with its names.
    pub(super) const ALL: [(Self, &'static [&'static str]); 16] = [
        (Self::VarPop, &["var_pop", "var_population"]),
        (Self::Var, &["var", "var_samp", "var_sample"]),
        (Self::StddevPop, &["stddev_pop"]),
        (Self::Stddev, &["stddev", "stddev_samp"]),
        (Self::CovarPop, &["covar_pop"]),
        (Self::CovarSamp, &["covar_samp", "covar"]),
        (Self::Corr, &["corr"]),
        (Self::RegrSlope, &["regr_slope"]),
        (Self::RegrIntercept, &["regr_intercept"]),
        (Self::RegrCount, &["regr_count"]),
        (Self::RegrR2, &["regr_r2"]),
        (Self::RegrAvgx, &["regr_avgx"]),
        (Self::RegrAvgy, &["regr_avgy"]),
        (Self::RegrSxx, &["regr_sxx"]),
        (Self::RegrSyy, &["regr_syy"]),
        (Self::RegrSxy, &["regr_sxy"]),
    ];

    fn is_of_one(self) -> bool {
        matches!(self, Self::VarPop | Self::Var | Self::StddevPop | Self::Stddev)
    }

    /// The value, `None` where it is not defined.
    fn of(self, n: i64, sums: &Sums) -> Option<f64> {
        let (count, Sums { x, y, xx, yy, xy }) = (n as f64, *sums);
        let of = |least: i64, value: f64| (n >= least).then_some(value);
        let line = |value: f64| (n > 1 && xx != 0.0).then_some(value);
        let both = |value: f64| (n > 1 && xx != 0.0 && yy != 0.0).then_some(value);
        match self {
            Self::VarPop => of(1, xx / count),
            Self::Var => of(2, xx / (count - 1.0)),
            Self::StddevPop => of(1, (xx / count).sqrt()),
            Self::Stddev => of(2, (xx / (count - 1.0)).sqrt()),
            Self::CovarPop => of(1, xy / count),
            Self::CovarSamp => of(2, xy / (count - 1.0)),
            Self::Corr => both((xy / (xx.sqrt() * yy.sqrt())).clamp(-1.0, 1.0)),
            Self::RegrSlope => line(xy / xx),
            Self::RegrIntercept => line(y - xy / xx * x),
            Self::RegrCount => Some(count),
            Self::RegrR2 => both((xy / xx) * (xy / yy)),
            Self::RegrAvgx => of(1, x),
            Self::RegrAvgy => of(1, y),
            Self::RegrSxx => of(1, xx),
            Self::RegrSyy => of(1, yy),
            Self::RegrSxy => of(1, xy),
        }
    }
}

impl Aggregate for Moment {
    fn name(&self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(moment, _)| moment == self)
            .and_then(|(_, names)| names.first())
            .copied()
            .unwrap_or_default()
    }

    fn coerce(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let wanted = if self.is_of_one() { 1 } else { 2 };
        if arguments.len() != wanted {
            let plural = if wanted == 1 { "" } else { "s" };
            return plan_err!("{}() takes {wanted} argument{plural}", self.name());
        }
        if let Some(other) = arguments.iter().find(|t| !(t.is_numeric() || t.is_null())) {
            return plan_err!("{}() takes numbers, not {other}", self.name());
        }
        Ok(vec![DataType::Float64; wanted])
    }

    fn result(&self, _: &[DataType]) -> Result<DataType> {
        Ok(if *self == Self::RegrCount { DataType::Int64 } else { DataType::Float64 })
    }

    fn state(&self, _: &[DataType]) -> Result<Vec<DataType>> {
        let sums = if self.is_of_one() { 2 } else { 5 };
        let mut types = vec![DataType::Float64; 1 + sums];
        if let Some(count) = types.first_mut() {
            *count = DataType::Int64;
        }
        Ok(types)
    }

    fn groups(&self, _: &[DataType]) -> Result<Box<dyn GroupsAccumulator>> {
        if self.is_of_one() {
            return Ok(Box::new(Moments::<2>::new(*self)));
        }
        Ok(Box::new(Moments::<5>::new(*self)))
    }

    fn bound(&self) -> Bound {
        Bound::Fixed
    }
}

/// Means, and sums of products of the distances from them.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    x: f64,
    xx: f64,
    y: f64,
    yy: f64,
    xy: f64,
}

impl Sums {
    /// What is kept of them: x alone, or all.
    fn read<const N: usize>(kept: &[f64; N]) -> Self {
        match kept.as_slice() {
            [x, xx] => Self { x: *x, xx: *xx, ..Self::default() },
            [x, xx, y, yy, xy] => Self { x: *x, xx: *xx, y: *y, yy: *yy, xy: *xy },
            _ => Self::default(),
        }
    }

    fn write<const N: usize>(self, kept: &mut [f64; N]) {
        let all = [self.x, self.xx, self.y, self.yy, self.xy];
        for (kept, sum) in kept.iter_mut().zip(all) {
            *kept = sum;
        }
    }

    /// One more pair; `n` are there with it.
    fn add(&mut self, n: i64, x: f64, y: f64) {
        let n = n as f64;
        let (dx, dy) = (x - self.x, y - self.y);
        self.x += dx / n;
        self.y += dy / n;
        self.xx += dx * (x - self.x);
        self.yy += dy * (y - self.y);
        self.xy += dx * (y - self.y);
    }

    /// `m` others to the `n` that are there, both more than none.
    fn merge(&mut self, n: i64, other: &Self, m: i64) {
        let (n, m) = (n as f64, m as f64);
        let (dx, dy) = (other.x - self.x, other.y - self.y);
        let (share, weight) = (m / (n + m), n * m / (n + m));
        self.x += dx * share;
        self.y += dy * share;
        self.xx += other.xx + dx * dx * weight;
        self.yy += other.yy + dy * dy * weight;
        self.xy += other.xy + dx * dy * weight;
    }
}

/// The moments of every group: of x in two numbers, of two columns in five.
struct Moments<const N: usize> {
    moment: Moment,
    counts: Vec<i64>,
    sums: Vec<[f64; N]>,
}

impl<const N: usize> Moments<N> {
    fn new(moment: Moment) -> Self {
        Self { moment, counts: Vec::new(), sums: Vec::new() }
    }

    fn grow(&mut self, groups: usize) {
        self.counts.resize(groups, 0);
        self.sums.resize(groups, [0.0; N]);
    }

    /// Merges one group's saved moments into it.
    fn merge(&mut self, group: usize, m: i64, other: &[f64; N]) {
        let (Some(n), Some(kept)) = (self.counts.get_mut(group), self.sums.get_mut(group)) else { return };
        if *n == 0 {
            *kept = *other;
        } else if m > 0 {
            let mut sums = Sums::read(kept);
            sums.merge(*n, &Sums::read(other), m);
            sums.write(kept);
        }
        *n += m;
    }
}

impl<const N: usize> GroupsAccumulator for Moments<N> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total_groups: usize,
    ) -> Result<()> {
        let (x, y) = match values {
            [x] => (x.as_primitive::<Float64Type>(), None),
            [y, x] => (x.as_primitive::<Float64Type>(), Some(y.as_primitive::<Float64Type>())),
            _ => return internal_err!("{}() takes one argument or two", self.moment.name()),
        };
        self.grow(total_groups);
        let whole = x.null_count() == 0 && y.is_none_or(|y| y.null_count() == 0) && filter.is_none();
        let ys = y.map(|y| y.values().as_ref()).unwrap_or_default();
        for (row, (group, x_value)) in groups.iter().zip(x.values()).enumerate() {
            if !whole && (!taken(filter, row) || x.is_null(row) || y.is_some_and(|y| y.is_null(row))) {
                continue;
            }
            if let (Some(n), Some(kept)) = (self.counts.get_mut(*group), self.sums.get_mut(*group)) {
                *n += 1;
                let mut sums = Sums::read(kept);
                sums.add(*n, *x_value, ys.get(row).copied().unwrap_or(0.0));
                sums.write(kept);
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let (counts, sums) = (emit.take_needed(&mut self.counts), emit.take_needed(&mut self.sums));
        if self.moment == Moment::RegrCount {
            return Ok(Arc::new(Int64Array::from(counts)));
        }
        let values = counts.iter().zip(&sums).map(|(n, sums)| self.moment.of(*n, &Sums::read(sums)));
        Ok(Arc::new(values.collect::<Float64Array>()))
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        let (counts, sums) = (emit.take_needed(&mut self.counts), emit.take_needed(&mut self.sums));
        let mut columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(counts))];
        for place in 0..N {
            let column = sums.iter().map(|sums| sums.get(place).copied().unwrap_or_default());
            columns.push(Arc::new(Float64Array::from_iter_values(column)));
        }
        Ok(columns)
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total_groups: usize) -> Result<()> {
        let Some((counts, sums)) = states.split_first() else {
            return internal_err!("a state without columns");
        };
        let counts = counts.as_primitive::<Int64Type>().values();
        let sums: Vec<&[f64]> =
            sums.iter().map(|column| column.as_primitive::<Float64Type>().values().as_ref()).collect();
        self.grow(total_groups);
        for (row, (group, m)) in groups.iter().zip(counts.iter()).enumerate() {
            let mut other = [0.0; N];
            for (to, column) in other.iter_mut().zip(&sums) {
                *to = column.get(row).copied().unwrap_or_default();
            }
            self.merge(*group, *m, &other);
        }
        Ok(())
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        each(Self::new(self.moment), values, filter)
    }

    fn size(&self) -> usize {
        self.counts.capacity() * size_of::<i64>() + self.sums.capacity() * size_of::<[f64; N]>()
    }
}
