"""The services that the other tests stand on answer."""


def test_kafka_takes_and_gives(kafka):
    from confluent_kafka import Consumer

    topic = kafka.topic("harness", 4)
    producer = kafka.producer()
    producer.produce(topic, b"value", b"key")
    assert producer.flush(30) == 0
    consumer = Consumer(
        {
            "bootstrap.servers": kafka.bootstrap,
            "group.id": "h",
            "auto.offset.reset": "earliest",
        }
    )
    consumer.subscribe([topic])
    message = consumer.poll(30)
    consumer.close()
    assert (message.key(), message.value()) == (b"key", b"value")


def test_the_registry_registers_and_refuses(apicurio):
    import httpx

    def post(fields):
        schema = f'{{"type":"record","name":"R","fields":[{fields}]}}'
        return httpx.post(f"{apicurio.url}/subjects/harness-value/versions", json={"schema": schema})

    first = post('{"name":"a","type":"long"}')
    assert first.status_code == 200
    assert post('{"name":"a","type":"string"}').status_code == 409
    assert post('{"name":"a","type":"long"}').json() == first.json()
