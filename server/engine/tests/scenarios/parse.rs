//! The text of a scenario file, as data.

use std::collections::BTreeMap;

/// What every scenario of a file starts from, and each may change.
#[derive(Debug, Clone, Default)]
pub struct Setting {
    /// Name and type of each column of the stream.
    pub columns: Vec<(String, String)>,
    /// The column of the event time.
    pub time: String,
    /// Watermark delay in microseconds.
    pub delay: i64,
    /// Allowed lateness in microseconds.
    pub lateness: i64,
    pub on_update: bool,
    pub partitions: u32,
    /// Keys that a close goes through in one epoch.
    pub max_rows: usize,
    pub sql: String,
    /// Key columns of an ingested group, in the place of SQL.
    pub ingest: Option<Vec<String>>,
    /// A group that the SQL looks up.
    pub lookup: Option<Lookup>,
}

/// A group that is looked up: `lookup name key ttl`, and its columns.
#[derive(Debug, Clone, Default)]
pub struct Lookup {
    pub name: String,
    pub key: Vec<String>,
    pub ttl: Option<i64>,
    pub columns: Vec<(String, String)>,
}

#[derive(Debug)]
pub struct Scenario {
    pub line: usize,
    pub title: String,
    pub setting: Setting,
    pub epochs: Vec<Epoch>,
}

/// One epoch and what is expected of it.
#[derive(Debug, Default)]
pub struct Epoch {
    pub line: usize,
    pub restart: bool,
    pub happenings: Vec<Happening>,
    pub expected: Vec<String>,
}

#[derive(Debug)]
pub enum Happening {
    /// Partition, cells.
    Event(u32, Vec<String>),
    Heartbeat(u32, i64),
    Idle(u32),
    Finish,
    /// A row of the group that is looked up: its columns, event time, since when it is there, and `delete`.
    Change(Vec<String>),
    /// The rows that are looked up are all there up to here.
    Known(i64),
    /// The wall clock of a live stream.
    Clock(i64),
}

#[derive(PartialEq)]
enum Block {
    None,
    Columns,
    Lookup,
    Sql,
    Epoch,
    Then,
}

pub fn file(text: &str) -> Result<Vec<Scenario>, String> {
    let mut common = Setting { partitions: 1, max_rows: usize::MAX, ..Setting::default() };
    let mut scenarios: Vec<Scenario> = Vec::new();
    let mut block = Block::None;
    let mut restart = false;
    for (number, full) in text.lines().enumerate() {
        let number = number + 1;
        let at = |problem: &str| format!("line {number}: {problem}: {full}");
        let line = full.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if full.starts_with(' ') {
            let setting = scenarios.last_mut().map_or(&mut common, |s| &mut s.setting);
            match block {
                Block::None => return Err(at("nothing to belong to")),
                Block::Columns => {
                    let (name, kind) = line.split_once(' ').ok_or_else(|| at("a name and a type"))?;
                    setting.columns.push((name.into(), kind.trim().into()));
                }
                Block::Lookup => {
                    let (name, kind) = line.split_once(' ').ok_or_else(|| at("a name and a type"))?;
                    let lookup = setting.lookup.get_or_insert_default();
                    lookup.columns.push((name.into(), kind.trim().into()));
                }
                Block::Sql => setting.sql = format!("{} {line}", setting.sql),
                Block::Epoch => {
                    let happening = happening(line).ok_or_else(|| at("not an event"))?;
                    last_epoch(&mut scenarios).ok_or_else(|| at("no epoch"))?.happenings.push(happening);
                }
                Block::Then => {
                    last_epoch(&mut scenarios).ok_or_else(|| at("no epoch"))?.expected.push(normal(line));
                }
            }
            continue;
        }
        block = Block::None;
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        if word == "scenario" {
            let (title, setting) = (rest.trim().into(), common.clone());
            scenarios.push(Scenario { line: number, title, setting, epochs: Vec::new() });
            continue;
        }
        let setting = scenarios.last_mut().map_or(&mut common, |s| &mut s.setting);
        match word {
            "columns" => {
                setting.columns.clear();
                block = Block::Columns;
            }
            "sql" => {
                setting.sql.clear();
                block = Block::Sql;
            }
            "lookup" => {
                let mut words = rest.split_whitespace().map(str::to_owned);
                let (name, key) = (words.next().unwrap_or_default(), words.next().into_iter().collect());
                let ttl =
                    words.next().map(|ttl| seconds(&ttl).ok_or_else(|| at("not seconds"))).transpose()?;
                setting.lookup = Some(Lookup { name, key, ttl, columns: Vec::new() });
                block = Block::Lookup;
            }
            "time" => setting.time = rest.into(),
            "delay" => setting.delay = seconds(rest).ok_or_else(|| at("not seconds"))?,
            "lateness" => setting.lateness = seconds(rest).ok_or_else(|| at("not seconds"))?,
            "emit" => setting.on_update = rest == "on_update",
            "partitions" => setting.partitions = rest.parse().map_err(|_| at("not a number"))?,
            "max_rows" => setting.max_rows = rest.parse().map_err(|_| at("not a number"))?,
            "ingest" => setting.ingest = Some(rest.split_whitespace().map(str::to_owned).collect()),
            "restart" => restart = true,
            "epoch" => {
                let scenario = scenarios.last_mut().ok_or_else(|| at("an epoch outside of a scenario"))?;
                scenario.epochs.push(Epoch { line: number, restart, ..Epoch::default() });
                restart = false;
                block = Block::Epoch;
            }
            "then" => block = Block::Then,
            _ => return Err(at("not understood")),
        }
    }
    Ok(scenarios)
}

fn last_epoch(scenarios: &mut [Scenario]) -> Option<&mut Epoch> {
    scenarios.last_mut()?.epochs.last_mut()
}

fn happening(line: &str) -> Option<Happening> {
    if line == "finish" {
        return Some(Happening::Finish);
    }
    if let Some(clock) = line.strip_prefix("clock ") {
        return Some(Happening::Clock(instant(clock)?));
    }
    if let Some(known) = line.strip_prefix("known ") {
        return Some(Happening::Known(instant(known)?));
    }
    let cells = |rest: &str| rest.split('|').map(|c| c.trim().to_owned()).collect::<Vec<_>>();
    if let Some(change) = line.strip_prefix("row |") {
        return Some(Happening::Change(cells(change)));
    }
    let (partition, rest) = line.strip_prefix('p')?.split_once(' ')?;
    let (partition, rest) = (partition.parse().ok()?, rest.trim());
    if rest == "idle" {
        return Some(Happening::Idle(partition));
    }
    if let Some(heartbeat) = rest.strip_prefix("heartbeat ") {
        return Some(Happening::Heartbeat(partition, instant(heartbeat)?));
    }
    Some(Happening::Event(partition, cells(rest.strip_prefix('|')?)))
}

/// Cells without the blanks around them.
pub fn normal(line: &str) -> String {
    let cells: Vec<String> =
        line.split('|').map(|c| c.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    cells.join(" | ")
}

/// `12:00:03.5` is a time of 1 May 2025; with a date in front it is of that day.
pub fn instant(text: &str) -> Option<i64> {
    let text = text.trim();
    let full = if text.contains(' ') { text.to_owned() } else { format!("2025-05-01 {text}") };
    let time = chrono::NaiveDateTime::parse_from_str(&full, "%Y-%m-%d %H:%M:%S%.f").ok()?;
    Some(time.and_utc().timestamp_micros())
}

/// As [`instant`] reads it.
pub fn written(instant: i64) -> String {
    let time = chrono::DateTime::from_timestamp_micros(instant).unwrap().naive_utc();
    let text = time.format("%Y-%m-%d %H:%M:%S%.f").to_string();
    text.strip_prefix("2025-05-01 ").map_or(text.clone(), str::to_owned)
}

fn seconds(text: &str) -> Option<i64> {
    text.trim().strip_suffix('s')?.parse::<i64>().ok().map(|s| s * 1_000_000)
}

/// What a setting calls its types.
pub fn types() -> BTreeMap<&'static str, arrow::datatypes::DataType> {
    use arrow::datatypes::{DataType, TimeUnit};
    let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    BTreeMap::from([
        ("string", DataType::Utf8),
        ("enum", dictionary),
        ("int", DataType::Int32),
        ("long", DataType::Int64),
        ("double", DataType::Float64),
        ("boolean", DataType::Boolean),
        ("decimal", DataType::Decimal128(10, 2)),
        ("date", DataType::Date32),
        ("timestamp", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
    ])
}
