"""A real Apache Kafka broker (KRaft, one node) from plain jars."""

from __future__ import annotations

from pathlib import Path

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from .process import Process, cache, free_port

VERSION = "4.3.1"
PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
log.dirs={folder}/logs
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
"""
LOG4J = """\
status = error
appender.out.type = Console
appender.out.name = OUT
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %p %m (%c)%n
rootLogger.level = warn
rootLogger.appenderRef.out.ref = OUT
"""
CLUSTER = "MkU3OEVBNTcwNTJENDM2Qk"  # any 22 characters of base64


class Kafka:
    """One broker on free ports."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.controller = free_port(), free_port()
        self.bootstrap = f"127.0.0.1:{self.port}"
        self.process: Process | None = None

    def start(self) -> Kafka:
        """Format the log folder, start, wait for the first answer."""
        jars = cache() / f"kafka-{VERSION}" / "jars" / "*"
        properties = self.folder / "server.properties"
        log4j = self.folder / "log4j2.properties"
        text = PROPERTIES.format(port=self.port, controller=self.controller, folder=self.folder)
        properties.write_text(text)
        log4j.write_text(LOG4J)
        java = ["java", f"-Dlog4j2.configurationFile=file:{log4j}", "-cp", str(jars)]
        format_log = self.folder / "format.log"
        storage = [
            "kafka.tools.StorageTool",
            "format",
            "-t",
            CLUSTER,
            "-c",
            str(properties),
        ]
        code = Process([*java, "-Xmx128m", "-XX:TieredStopAtLevel=1", *storage], format_log).popen.wait()
        assert code == 0, format_log.read_text()
        memory = ["-Xms512m", "-Xmx512m"]
        self.process = Process([*java, *memory, "kafka.Kafka", str(properties)], self.folder / "kafka.log")
        self.process.wait_until(self._answers, "Kafka")
        return self

    def _answers(self) -> bool:
        try:
            return bool(self.admin().list_topics(timeout=1).brokers)
        except Exception:
            return False

    def admin(self) -> AdminClient:
        """An admin client."""
        return AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})

    def topic(self, name: str, partitions: int) -> str:
        """Make a topic."""
        admin = self.admin()  # held: its futures die with it
        for made in admin.create_topics([NewTopic(name, partitions, 1)]).values():
            made.result(60)
        return name

    def producer(self, **options: object) -> Producer:
        """An idempotent producer."""
        return Producer({
            "bootstrap.servers": self.bootstrap,
            "enable.idempotence": True,
            "linger.ms": 5,
            "queue.buffering.max.messages": 2_000_000,
            **options,
        })  # fmt: skip

    def stop(self) -> None:
        """Stop the broker."""
        if self.process is not None:
            self.process.stop()
