//! Features that are measured beside tumbling ones, in the same run.
//!
//! What an event costs depends on how many rows come out for it, so that number stands beside each rate.

use crate::clicks;
use crate::corpus::{self, Stream};

/// A feature over one of the feeds.
pub struct Workload {
    /// What it is called in the report.
    pub name: String,
    /// Its definition.
    pub sql: String,
    /// The workload that it is compared with: one before it.
    pub beside: Option<String>,
    /// The least share of that one's rate that is good enough.
    pub mark: Option<f64>,
    /// Threads that its pipeline computes on.
    pub threads: usize,
    /// Of the memory that the state of the workload beside it took at most, the share that this one has.
    pub memory: Option<f64>,
}

/// Streams, and the features over them.
pub struct Feed {
    /// What it is called, in names of topics.
    pub name: &'static str,
    /// Makes so many events of so many users: the streams, in the order in which a server is asked for them.
    pub streams: fn(usize, u64) -> Vec<Stream>,
    /// What is measured over them.
    pub workloads: Vec<Workload>,
}

/// Users of the feed with many keys.
const MANY: u64 = 10_000_000;

/// All feeds, or those workloads that have `only` in their name with those that they are compared with. What
/// workloads of one feed are compared with is in it, or in one before it.
pub fn feeds(only: Option<&str>) -> Vec<Feed> {
    let mut feeds = vec![ads(), joined(), many()];
    if let Some(only) = only {
        let mut wanted: Vec<String> = Vec::new();
        // What is compared comes after what it is compared with.
        for workload in feeds.iter().rev().flat_map(|feed| feed.workloads.iter().rev()) {
            if workload.name.contains(only) || wanted.contains(&workload.name) {
                wanted.push(workload.name.clone());
                wanted.extend(workload.beside.clone());
            }
        }
        feeds.iter_mut().for_each(|feed| feed.workloads.retain(|workload| wanted.contains(&workload.name)));
        feeds.retain(|feed| !feed.workloads.is_empty());
    }
    feeds
}

/// Windows by campaign and by user; sessions and rolling features by user.
fn ads() -> Feed {
    let mut workloads = Vec::new();
    for key in ["campaign_id", "user_id"] {
        let window = |name: &str, from: &str| Workload {
            name: format!("{name} by {key}"),
            sql: format!("SELECT {key}, {COUNTS} FROM {from} GROUP BY {key}, window_end"),
            beside: None,
            mark: None,
            threads: 1,
            memory: None,
        };
        let tumbling = window("TUMBLE 5 min", TUMBLE);
        let beside = tumbling.name.clone();
        let hop = |length: &str, from: &str| {
            window(&format!("HOP {length} / 1 min"), from).beside(&beside, Some(0.8))
        };
        workloads.push(tumbling);
        workloads.push(hop("1 h", "HOP(ads, DESCRIPTOR(timestamp), INTERVAL '1' MINUTE, INTERVAL '1' HOUR)"));
        workloads
            .push(hop("24 h", "HOP(ads, DESCRIPTOR(timestamp), INTERVAL '1' MINUTE, INTERVAL '24' HOURS)"));
        if key == "user_id" {
            for (gap, mark) in [(2, Some(0.6)), (5, None)] {
                let from = format!(
                    "SESSION(ads PARTITION BY user_id, DESCRIPTOR(timestamp), INTERVAL '{gap}' MINUTES)"
                );
                workloads.push(window(&format!("SESSION, {gap} min gap,"), &from).beside(&beside, mark));
            }
            let counts = COUNTS.replace(" AS ", " OVER w AS ");
            workloads.push(rolling("rolling 5 min by user_id", &counts).beside(&beside, Some(0.4)));
        }
    }
    let many_keys = |w: &&Workload| w.name.ends_with("by user_id") && !w.name.starts_with("HOP");
    let divided: Vec<Workload> = workloads.iter().filter(many_keys).map(|w| w.divided(2)).collect();
    workloads.extend(divided);
    let tumbling = Workload {
        name: "TUMBLE 5 min, four functions".into(),
        sql: format!("SELECT user_id, {FRAUD} FROM {TUMBLE} GROUP BY user_id, window_end"),
        beside: None,
        mark: None,
        threads: 1,
        memory: None,
    };
    let beside = tumbling.name.clone();
    workloads.push(tumbling);
    let functions = FRAUD.replace(" AS ", " OVER w AS ");
    workloads.push(rolling("rolling 5 min, four functions", &functions).beside(&beside, Some(0.4)));
    Feed { name: "ads", streams: |events, users| vec![corpus::ads(events, users)], workloads }
}

const TUMBLE: &str = "TUMBLE(ads, DESCRIPTOR(timestamp), INTERVAL '5' MINUTES)";

/// What a click-through rate is made of.
const COUNTS: &str = "COUNT(*) FILTER (WHERE event_type = 'impression') AS impressions, \
    COUNT(*) FILTER (WHERE event_type = 'click') AS clicks";

/// What fraud models read of the last minutes of a card: how many, how much, how many different, what share.
const FRAUD: &str = "COUNT(*) AS n, SUM(price) AS amount, COUNT(DISTINCT campaign_id) AS campaigns, \
    AVG(CASE WHEN event_type = 'click' THEN 1.0 ELSE 0.0 END) AS share";

fn rolling(name: &str, functions: &str) -> Workload {
    let sql = format!(
        "SELECT user_id, timestamp, {functions} FROM ads WINDOW w AS (PARTITION BY user_id ORDER BY timestamp \
         RANGE BETWEEN INTERVAL '5' MINUTES PRECEDING AND CURRENT ROW)"
    );
    Workload { name: name.into(), sql, beside: None, mark: None, threads: 1, memory: None }
}

/// Clicks within 15 seconds after their impression, under a tumbling window.
fn joined() -> Feed {
    let join = |name: &str, join: &str| Workload {
        name: format!("{name} + TUMBLE 5 min by campaign_id"),
        sql: format!(
            "SELECT campaign_id, COUNT(*) AS impressions, COUNT(click_id) AS clicks \
             FROM TUMBLE((SELECT i.campaign_id, i.ts, c.click_id FROM impressions i {join} clicks c \
             ON c.impr_id = i.impr_id AND c.ts BETWEEN i.ts AND i.ts + INTERVAL '15' SECOND), \
             DESCRIPTOR(ts), INTERVAL '5' MINUTES) GROUP BY campaign_id, window_end"
        ),
        beside: Some("TUMBLE 5 min by campaign_id".into()),
        mark: Some(0.4),
        threads: 1,
        memory: None,
    };
    let workloads = vec![join("interval JOIN", "JOIN"), join("interval LEFT JOIN", "LEFT JOIN")];
    Feed { name: "clicks", streams: |events, _| clicks::streams(events).into(), workloads }
}

/// The same events by more and more of the digits of their user.
fn many() -> Feed {
    let by = |digits: u32, keys: &str| Workload {
        name: format!("TUMBLE 5 min, {keys} keys"),
        sql: format!(
            "SELECT substr(user_id, {}) AS key, {COUNTS} FROM {TUMBLE} \
             GROUP BY substr(user_id, {}), window_end",
            11 - digits,
            11 - digits
        ),
        beside: None,
        mark: None,
        threads: 1,
        memory: None,
    };
    let few = by(4, "10K");
    let beside = few.name.clone();
    let most = by(7, "10M").beside(&beside, Some(0.5));
    let spilling = most.spilling(0.1);
    let workloads =
        vec![few, by(3, "1K").beside(&beside, None), by(6, "1M").beside(&beside, None), most, spilling];
    Feed { name: "many", streams: |events, _| vec![corpus::ads(events, MANY)], workloads }
}

impl Workload {
    fn beside(self, other: &str, mark: Option<f64>) -> Self {
        Self { beside: Some(other.into()), mark, ..self }
    }

    /// The same on several threads, beside itself on one.
    fn divided(&self, threads: usize) -> Self {
        Self {
            name: format!("{}, {threads} threads", self.name),
            sql: self.sql.clone(),
            beside: Some(self.name.clone()),
            mark: None,
            threads,
            memory: None,
        }
    }

    /// The same where most of the state lies in the store, beside itself all in memory.
    fn spilling(&self, share: f64) -> Self {
        Self {
            name: format!("{}, {share} of the state in memory", self.name),
            sql: self.sql.clone(),
            beside: Some(self.name.clone()),
            mark: None,
            threads: 1,
            memory: Some(share),
        }
    }
}
