//! approx_distinct(x): HyperLogLog of 4,096 registers, vectorised over groups, for every type.
//!
//! A register holds the longest run of zeros, plus one, among the hashes that fall to it, so merging is a
//! maximum: neither order nor cuts can be seen in the state. A group with few registers in use keeps those
//! alone. The estimate is that of O. Ertl, "New cardinality estimation algorithms for HyperLogLog sketches"
//! (2017), which needs no tables of corrections; its standard error is 1.04 / √4,096 = 1.6 %.
//!
//! Values are hashed by xxh3 in Arrow's row format, both of which are the same on every machine: a state may
//! move. All NaN are one value and −0.0 is 0.0.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder, BooleanArray, Int64Array};
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, SortField};
use datafusion::common::{Result, internal_err, plan_err};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use xxhash_rust::xxh3::xxh3_64;

use super::count_distinct::canonical;
use super::own::{Aggregate, Bound, each, plain, taken};

/// Bits of a hash that choose its register.
const PRECISION: u32 = 12;
/// Registers of a group.
const REGISTERS: usize = 1 << PRECISION;
/// The greatest that a register can hold: all other bits of a hash are zero.
const GREATEST: usize = 64 - PRECISION as usize + 1;
/// Registers in use up to which they are kept one by one.
const FEW: usize = 256;
/// Bytes of a register that is kept by itself: its number, then what it holds.
const ENTRY: usize = 3;

/// The estimate of how many distinct values there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ApproxDistinct;

impl Aggregate for ApproxDistinct {
    fn name(&self) -> &'static str {
        "approx_distinct"
    }

    fn coerce(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let [one] = arguments else { return plan_err!("approx_distinct() takes one argument") };
        let one = plain(one);
        if !RowConverter::supports_fields(&[SortField::new(one.clone())]) {
            return plan_err!("approx_distinct() cannot compare {one}");
        }
        Ok(vec![one])
    }

    fn result(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn state(&self, _: &[DataType]) -> Result<Vec<DataType>> {
        Ok(vec![DataType::Binary])
    }

    fn groups(&self, arguments: &[DataType]) -> Result<Box<dyn GroupsAccumulator>> {
        let [one] = arguments else { return internal_err!("approx_distinct() takes one argument") };
        Ok(Box::new(Sketches::new(one.clone())?))
    }

    fn bound(&self) -> Bound {
        Bound::Bytes(REGISTERS)
    }
}

/// The registers of one group.
enum Registers {
    /// Those in use, by their number: number << 8 | what it holds.
    Few(Vec<u32>),
    /// All of them.
    All(Box<[u8; REGISTERS]>),
}

impl Registers {
    fn new() -> Self {
        Self::Few(Vec::new())
    }

    /// Takes the hash of a value in.
    fn add(&mut self, hash: u64) {
        let number = (hash >> (64 - PRECISION)) as u32;
        let rest = hash << PRECISION;
        let run = (rest.leading_zeros().min(64 - PRECISION) + 1) as u8;
        self.raise(number, run);
    }

    /// Brings a register to at least `run`.
    fn raise(&mut self, number: u32, run: u8) {
        match self {
            Self::All(all) => {
                if let Some(register) = all.get_mut(number as usize) {
                    *register = (*register).max(run);
                }
            }
            Self::Few(few) => {
                let entry = number << 8 | u32::from(run);
                let place = few.partition_point(|known| known >> 8 < number);
                if let Some(known) = few.get_mut(place).filter(|known| **known >> 8 == number) {
                    *known = (*known).max(entry);
                } else if few.len() < FEW {
                    few.insert(place, entry);
                } else {
                    let mut all = Box::new([0; REGISTERS]);
                    for known in few.iter().chain([&entry]) {
                        if let Some(register) = all.get_mut((known >> 8) as usize) {
                            *register = *known as u8;
                        }
                    }
                    *self = Self::All(all);
                }
            }
        }
    }

    /// The saved form: all registers, or number (little-endian) and contents of each that is in use.
    fn save(&self, to: &mut Vec<u8>) {
        to.clear();
        match self {
            Self::All(all) => to.extend_from_slice(all.as_ref()),
            Self::Few(few) => {
                for entry in few {
                    to.extend_from_slice(&((entry >> 8) as u16).to_le_bytes());
                    to.push(*entry as u8);
                }
            }
        }
    }

    /// Merges a saved form.
    fn merge(&mut self, saved: &[u8]) {
        if saved.len() == REGISTERS {
            for (number, run) in (0..).zip(saved).filter(|(_, run)| **run > 0) {
                self.raise(number, *run);
            }
            return;
        }
        for entry in saved.chunks_exact(ENTRY) {
            if let [low, high, run] = entry {
                self.raise(u32::from(u16::from_le_bytes([*low, *high])), *run);
            }
        }
    }

    /// How many distinct values there were, about.
    fn estimate(&self) -> f64 {
        let mut counts = [0_u32; GREATEST + 1];
        let mut count = |run: u8| {
            if let Some(count) = counts.get_mut(usize::from(run).min(GREATEST)) {
                *count += 1;
            }
        };
        match self {
            Self::All(all) => {
                for run in all.iter() {
                    count(*run);
                }
            }
            Self::Few(few) => {
                for entry in few {
                    count(*entry as u8);
                }
                counts[0] = (REGISTERS - few.len()) as u32;
            }
        }
        let m = REGISTERS as f64;
        let [none, held @ .., full] = &counts;
        let mut z = m * tau(1.0 - f64::from(*full) / m);
        for count in held.iter().rev() {
            z = 0.5 * (z + f64::from(*count));
        }
        z += m * sigma(f64::from(*none) / m);
        m * m / (2.0 * std::f64::consts::LN_2 * z)
    }
}

/// The sum over k of 2^(k-1) x^(2^k), plus x; infinite where no register is in use.
fn sigma(mut x: f64) -> f64 {
    let (mut sum, mut weight) = (x, 1.0);
    if x >= 1.0 {
        return f64::INFINITY;
    }
    loop {
        x *= x;
        let before = sum;
        sum += x * weight;
        weight += weight;
        if sum <= before {
            return sum;
        }
    }
}

/// A third of 1 − x less the sum over k of 2^−k (1 − x^(2^−k))².
fn tau(mut x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return 0.0;
    }
    let (mut sum, mut weight) = (1.0 - x, 1.0);
    loop {
        x = x.sqrt();
        let before = sum;
        weight *= 0.5;
        sum -= (1.0 - x) * (1.0 - x) * weight;
        if sum >= before {
            return sum / 3.0;
        }
    }
}

/// The registers of every group.
struct Sketches {
    data_type: DataType,
    converter: RowConverter,
    groups: Vec<Registers>,
}

impl Sketches {
    fn new(data_type: DataType) -> Result<Self> {
        let converter = RowConverter::new(vec![SortField::new(data_type.clone())])?;
        Ok(Self { data_type, converter, groups: Vec::new() })
    }
}

impl GroupsAccumulator for Sketches {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total_groups: usize,
    ) -> Result<()> {
        let [values] = values else { return internal_err!("approx_distinct() takes one argument") };
        self.groups.resize_with(total_groups, Registers::new);
        let values = canonical(values)?;
        let nulls = values.logical_nulls();
        let rows = self.converter.convert_columns(&[values])?;
        for (row, (group, value)) in groups.iter().zip(rows.iter()).enumerate() {
            if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) || !taken(filter, row) {
                continue;
            }
            if let Some(registers) = self.groups.get_mut(*group) {
                registers.add(xxh3_64(value.data()));
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let groups = emit.take_needed(&mut self.groups);
        let estimates = groups.iter().map(|registers| registers.estimate().round() as i64);
        Ok(Arc::new(Int64Array::from_iter_values(estimates)))
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        let groups = emit.take_needed(&mut self.groups);
        let mut states = BinaryBuilder::with_capacity(groups.len(), groups.len() * ENTRY);
        let mut saved = Vec::new();
        for registers in &groups {
            registers.save(&mut saved);
            states.append_value(&saved);
        }
        Ok(vec![Arc::new(states.finish())])
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total_groups: usize) -> Result<()> {
        let [states] = states else { return internal_err!("approx_distinct() has one state") };
        self.groups.resize_with(total_groups, Registers::new);
        for (group, saved) in groups.iter().zip(states.as_binary::<i32>()) {
            if let (Some(registers), Some(saved)) = (self.groups.get_mut(*group), saved) {
                registers.merge(saved);
            }
        }
        Ok(())
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        each(Self::new(self.data_type.clone())?, values, filter)
    }

    fn size(&self) -> usize {
        let own = |registers: &Registers| match registers {
            Registers::Few(few) => few.capacity() * size_of::<u32>(),
            Registers::All(_) => REGISTERS,
        };
        self.groups.capacity() * size_of::<Registers>() + self.groups.iter().map(own).sum::<usize>()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::cast_precision_loss)]
mod tests {
    use super::*;

    /// The documented error, with room for four standard deviations, from one value to a million.
    #[test]
    fn estimates_are_as_near_as_the_page_says() {
        let mut registers = Registers::new();
        let mut marks = vec![1, 2, 5, 10, 100, 255, 256, 257, 1_000, 10_000, 100_000, 1_000_000].into_iter();
        let mut next = marks.next();
        assert_eq!(registers.estimate().round(), 0.0);
        for n in 1..=1_000_000_u64 {
            registers.add(xxh3_64(&n.to_be_bytes()));
            if next == Some(n) {
                next = marks.next();
                let wrong = (registers.estimate() - n as f64).abs() / n as f64;
                assert!(wrong < 4.0 * 0.01625, "{n} values are estimated {}", registers.estimate());
                assert!(n > 10 || wrong < 0.01, "{n} values are estimated {}", registers.estimate());
            }
        }
    }

    /// The form says how many registers are in use and nothing else, and the estimate is that of the values.
    #[test]
    fn neither_the_order_nor_the_form_can_be_seen() {
        for n in [3_u64, 256, 257, 300, 5_000] {
            let hashes: Vec<u64> = (0..n).map(|v| xxh3_64(&v.to_le_bytes())).collect();
            let saved = |registers: &Registers| {
                let mut bytes = Vec::new();
                registers.save(&mut bytes);
                bytes
            };
            let (mut forwards, mut merged) = (Registers::new(), Registers::new());
            for hash in &hashes {
                forwards.add(*hash);
            }
            for part in hashes.rchunks(97) {
                let mut registers = Registers::new();
                for hash in part {
                    registers.add(*hash);
                }
                merged.merge(&saved(&registers));
            }
            assert_eq!(saved(&forwards), saved(&merged));
            let mut again = Registers::new();
            again.merge(&saved(&forwards));
            assert_eq!(saved(&again), saved(&forwards));
            assert_eq!(again.estimate().to_bits(), merged.estimate().to_bits());
        }
    }
}
