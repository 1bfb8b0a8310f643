//! Five-minute CTR from a real Kafka, beside consuming only and consuming + decoding the same topic
//! with the server's own reader and decoder; then other features beside tumbling ones, each on a server of its own.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use millpond::log::{Budget, Reader, Records};
use millpond_engine::avro::{Decoder, ReaderSchema, Resolution, Unit, parse_frame};
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use serde_json::json;

use crate::corpus::{self, Corpus, Stream};
use crate::embedded::{pipeline, rate, report_run};
use crate::flink;
use crate::report::Report;
use crate::server::{Limits, Server};
use crate::windows;
use crate::{Options, Result};

const PARTITIONS: u32 = 4;

/// A stream, and its topic.
struct Published {
    stream: Stream,
    topic: String,
}

/// What is known of a workload that was measured.
struct Known {
    /// Events a second.
    rate: f64,
    /// The most that its state took of the memory.
    state_bytes: u64,
}

pub async fn run(options: &Options, brokers: &str, report: &mut Report) -> Result<()> {
    let mut known: HashMap<String, Known> = HashMap::new();
    for feed in windows::feeds(options.only.as_deref()) {
        let published = |stream: Stream| {
            let topic = format!("bench-{}-{}-{}", std::process::id(), feed.name, stream.name);
            Published { stream, topic }
        };
        let streams = (feed.streams)(options.events, options.users);
        let streams: Vec<Published> = streams.into_iter().map(published).collect();
        let (server, ids) = serve(options, brokers, &streams, Limits::default()).await?;
        for (Published { stream, topic }, id) in streams.iter().zip(&ids) {
            fill(brokers, topic, &stream.corpus, *id)?;
        }
        match streams.as_slice() {
            [Published { stream, topic }] if feed.name == "ads" && options.only.is_none() => {
                ctr(options, brokers, topic, &stream.corpus, server, report).await?;
            }
            _ => drop(server),
        }
        let events: usize = streams.iter().map(|published| published.stream.corpus.len()).sum();
        let names: Vec<&str> = streams.iter().map(|published| published.stream.name).collect();
        for workload in &feed.workloads {
            let beside = workload.beside.as_ref().and_then(|beside| known.get(beside));
            let memory =
                workload.memory.zip(beside).map(|(share, of)| (of.state_bytes as f64 * share) as u64);
            let limits = Limits { threads: workload.threads, memory };
            let (server, as_before) = serve(options, brokers, &streams, limits).await?;
            if as_before != ids {
                return Err("the topics' records have other schema ids".into());
            }
            let group = json!({"name": "measured", "sql": workload.sql});
            let run = pipeline(&server, &group, &names).await?;
            let (name, rate) = (format!("kafka: {}", workload.name), events as f64 / run.seconds);
            match beside {
                None => report.value(&name, "events", rate, "1/s"),
                Some(beside) => report.ratio(&name, "events", rate, "1/s", beside.rate, workload.mark),
            }
            if memory.is_some() || workload.name.contains("keys") {
                report.value(&name, "state in memory, at most", run.state_bytes as f64 / 1e6, "MB");
            }
            known.insert(workload.name.clone(), Known { rate, state_bytes: run.state_bytes });
            report.value(&name, "rows out", run.rows as f64 / events as f64, "per event");
        }
    }
    Ok(())
}

/// Five-minute CTR beside consuming only and consuming + decoding, and beside Flink.
async fn ctr(
    options: &Options,
    brokers: &str,
    topic: &str,
    corpus: &Corpus,
    server: Server,
    report: &mut Report,
) -> Result<()> {
    let kafka = millpond::config::Kafka { bootstrap_servers: Some(brokers.to_owned()), ..Default::default() };
    // Read once before it is measured: what comes after finds the topic in the page cache, too.
    consume(&kafka, topic, corpus, |_| Ok(()))?;
    let consume = consume(&kafka, topic, corpus, |_| Ok(()))?;
    report.value("kafka: consume only", "events", consume, "1/s");
    let text = corpus::schema().to_string();
    let reader = ReaderSchema::parse(&text, Some(("timestamp", None::<Unit>)))?;
    let columns = [0, 3, 4];
    let resolution = Resolution::compile(&text, &reader, &columns)?;
    let mut decoder = Decoder::new(&reader, &columns);
    let decoded = self::consume(&kafka, topic, corpus, |records| {
        for record in &records.records {
            let (_, body) = parse_frame(records.value(record))?;
            decoder.push(&resolution, body)?;
        }
        decoder.finish();
        Ok(())
    })?;
    report.ratio("kafka: consume + decode", "events", decoded, "1/s", consume, None);
    let run = pipeline(&server, &json!({"name": "ctr", "sql": corpus::SQL}), &["ads"]).await?;
    report_run(&server, report, "kafka: 5-minute CTR", corpus, &run, (decoded, Some(1.0 / 3.0))).await?;
    report.value("memory", "resident, loaded from kafka", server.resident_mb()?, "MB");
    let Some(home) = &options.flink else {
        println!("no --flink: Apache Flink is left out");
        return Ok(());
    };
    let registry = format!("{}/schema-registry", server.url);
    let topic = flink::Topic {
        brokers,
        name: topic,
        registry: &registry,
        schema: &text,
        partitions: PARTITIONS,
        events: corpus.len(),
    };
    let flink = flink::run(home, &topic)?;
    report.value("kafka: 5-minute CTR on Flink", "events, cold", flink.cold, "1/s");
    report.value("kafka: 5-minute CTR on Flink", "events, warm slope", flink.slope, "1/s");
    let ours = corpus.len() as f64 / run.seconds;
    report.ratio("kafka: 5-minute CTR, beside Flink", "events", ours, "1/s", flink.slope, Some(3.0));
    Ok(())
}

/// A server with nothing but these streams; the ids of their schemas.
async fn serve(
    options: &Options,
    brokers: &str,
    published: &[Published],
    limits: Limits,
) -> Result<(Server, Vec<u32>)> {
    let server = Server::start_on(limits, options, &["--kafka-bootstrap-servers", brokers]).await?;
    let mut ids = Vec::new();
    for Published { stream, topic } in published {
        let mut spec = stream.spec(Some(topic));
        spec["partitions"] = json!(PARTITIONS);
        let stream = server.post("/api/v1/streams", &spec).await?;
        ids.push(stream["schema_id"].as_u64().ok_or("no schema id")? as u32);
    }
    Ok((server, ids))
}

fn fill(brokers: &str, topic: &str, corpus: &Corpus, id: u32) -> Result<()> {
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("linger.ms", "20")
        .set("batch.num.messages", "100000")
        .set("queue.buffering.max.messages", "1000000")
        .create()?;
    let mut frame = Vec::new();
    for i in 0..corpus.len() {
        frame.clear();
        frame.push(0);
        frame.extend_from_slice(&id.to_be_bytes());
        frame.extend_from_slice(corpus.body(i));
        let partition = (i % PARTITIONS as usize) as i32;
        loop {
            match producer.send(BaseRecord::<(), [u8]>::to(topic).payload(&frame).partition(partition)) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
    }
    producer.flush(Duration::from_secs(60))?;
    Ok(())
}

/// Reads the whole topic with the server's reader, partitions in turn as a pipeline does.
fn consume(
    kafka: &millpond::config::Kafka,
    topic: &str,
    corpus: &Corpus,
    mut each: impl FnMut(&Records) -> Result<()>,
) -> Result<f64> {
    let mut reader = millpond::log::kafka::KafkaReader::open(kafka, topic, "bench")?;
    for partition in 0..PARTITIONS {
        reader.seek(partition, 0)?;
    }
    let budget = Budget { records: 16_384, bytes: 8 << 20, wait: Duration::from_millis(50) };
    let mut records = Records::default();
    let (start, mut read) = (Instant::now(), 0);
    while read < corpus.len() {
        for partition in 0..PARTITIONS {
            records.clear();
            read += reader.poll(partition, budget, &mut records)?;
            each(&records)?;
        }
        if start.elapsed() > Duration::from_secs(300) {
            return Err(format!("only {read} events came out of the topic").into());
        }
    }
    Ok(rate(corpus, start))
}
