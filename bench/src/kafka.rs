//! Five-minute CTR from a real Kafka, beside consuming only and consuming + decoding the same topic
//! with the server's own reader and decoder; then other windows beside tumbling ones, each on a server of its own.

use std::time::{Duration, Instant};

use millpond::log::{Budget, Reader, Records};
use millpond_engine::avro::{Decoder, ReaderSchema, Resolution, Unit, parse_frame};
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use serde_json::json;

use crate::corpus::{self, Corpus};
use crate::embedded::{pipeline, rate, report_run};
use crate::report::Report;
use crate::server::Server;
use crate::windows;
use crate::{Options, Result};

const PARTITIONS: u32 = 4;

pub async fn run(options: &Options, brokers: &str, corpus: &Corpus, report: &mut Report) -> Result<()> {
    let topic = format!("bench-{}", std::process::id());
    let (server, id) = serve(options, brokers, &topic).await?;
    fill(brokers, &topic, corpus, id)?;
    let kafka = millpond::config::Kafka { bootstrap_servers: Some(brokers.to_owned()), ..Default::default() };
    // Read once before it is measured: what comes after finds the topic in the page cache, too.
    consume(&kafka, &topic, corpus, |_| Ok(()))?;
    let consume = consume(&kafka, &topic, corpus, |_| Ok(()))?;
    report.value("kafka: consume only", "events", consume, "1/s");
    let text = corpus::schema().to_string();
    let reader = ReaderSchema::parse(&text, Some(("timestamp", None::<Unit>)))?;
    let columns = [0, 3, 4];
    let resolution = Resolution::compile(&text, &reader, &columns)?;
    let mut decoder = Decoder::new(&reader, &columns);
    let decoded = self::consume(&kafka, &topic, corpus, |records| {
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
    drop(server);
    for key in windows::KEYS {
        let mut tumbling = None;
        for window in windows::WORKLOADS {
            let (server, as_before) = serve(options, brokers, &topic).await?;
            if as_before != id {
                return Err("the topic's records have another schema id".into());
            }
            let run = pipeline(&server, &window.group(key), &["ads"]).await?;
            let (name, rate) =
                (format!("kafka: {} by {key}", window.name), corpus.len() as f64 / run.seconds);
            match tumbling {
                None => report.value(&name, "events", rate, "1/s"),
                Some(ceiling) => report.ratio(&name, "events", rate, "1/s", ceiling, window.mark),
            }
            tumbling = tumbling.or(Some(rate));
            report.value(&name, "rows out", run.rows as f64 / corpus.len() as f64, "per event");
        }
    }
    Ok(())
}

/// A server with nothing but the stream `ads` over the topic; the id of its schema.
async fn serve(options: &Options, brokers: &str, topic: &str) -> Result<(Server, u32)> {
    let server = Server::start(options, &["--kafka-bootstrap-servers", brokers]).await?;
    let mut spec = corpus::stream(Some(topic));
    spec["partitions"] = json!(PARTITIONS);
    let stream = server.post("/api/v1/streams", &spec).await?;
    let id = stream["schema_id"].as_u64().ok_or("no schema id")? as u32;
    Ok((server, id))
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
