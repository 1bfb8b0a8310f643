import java.lang.management.ManagementFactory;
import java.util.ArrayList;
import java.util.List;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.TableEnvironment;

/**
 * The bench's five-minute CTR on a Flink cluster in this process, one job for each number of events: from the same topic,
 * with the same writer's schema from the same registry, into a sink that keeps nothing. Prints for each job its events, its
 * seconds, and how long the process had run when it was over.
 */
public final class FlinkTumbling {
    public static void main(String[] args) throws Exception {
        String brokers = args[0], topic = args[1], registry = args[2], schema = args[3];
        int partitions = Integer.parseInt(args[4]);
        for (int job = 5; job < args.length; job++) {
            long events = Long.parseLong(args[job]);
            long started = System.nanoTime();
            run(source(brokers, topic, registry, schema, partitions, events));
            double seconds = (System.nanoTime() - started) / 1e9;
            double uptime = ManagementFactory.getRuntimeMXBean().getUptime() / 1e3;
            System.out.println("job " + events + " " + seconds + " " + uptime);
        }
    }

    private static void run(String source) throws Exception {
        Configuration options = new Configuration();
        options.setString("execution.target", "local");
        options.setString("parallelism.default", "2");
        options.setString("taskmanager.numberOfTaskSlots", "2");
        options.setString("taskmanager.memory.managed.size", "256m");
        options.setString("taskmanager.memory.network.min", "64m");
        options.setString("taskmanager.memory.network.max", "64m");
        options.setString("table.local-time-zone", "UTC");
        options.setString("rest.bind-port", "0-65535");
        EnvironmentSettings settings =
            EnvironmentSettings.newInstance().inStreamingMode().withConfiguration(options).build();
        TableEnvironment tables = TableEnvironment.create(settings);
        tables.executeSql(source);
        tables.executeSql(
            "CREATE TEMPORARY TABLE features (user_id STRING, impressions BIGINT, clicks BIGINT, ctr DOUBLE, "
                + "window_end TIMESTAMP(3)) WITH ('connector' = 'blackhole')");
        String impressions = "COUNT(*) FILTER (WHERE event_type = 'impression')";
        String clicks = "COUNT(*) FILTER (WHERE event_type = 'click')";
        tables.executeSql(
            "INSERT INTO features SELECT user_id, " + impressions + ", " + clicks + ", CAST(" + clicks
                + " AS DOUBLE) / NULLIF(" + impressions + ", 0), window_end "
                + "FROM TUMBLE(TABLE ads, DESCRIPTOR(`timestamp`), INTERVAL '5' MINUTES) "
                + "GROUP BY user_id, window_start, window_end").await();
    }

    private static String source(
            String brokers, String topic, String registry, String schema, int partitions, long events) {
        List<String> ends = new ArrayList<>();
        for (int partition = 0; partition < partitions; partition++) {
            ends.add("partition:" + partition + ",offset:" + events / partitions);
        }
        return "CREATE TEMPORARY TABLE ads (user_id STRING NOT NULL, item_id STRING NOT NULL, "
            + "campaign_id STRING NOT NULL, event_type STRING NOT NULL, `timestamp` TIMESTAMP(3) NOT NULL, "
            + "price DOUBLE NOT NULL, WATERMARK FOR `timestamp` AS `timestamp` - INTERVAL '5' SECOND) WITH ("
            + "'connector' = 'kafka', 'topic' = '" + topic + "', 'properties.bootstrap.servers' = '" + brokers + "', "
            + "'scan.startup.mode' = 'earliest-offset', 'scan.bounded.mode' = 'specific-offsets', "
            + "'scan.bounded.specific-offsets' = '" + String.join(";", ends) + "', "
            + "'value.format' = 'avro-confluent', 'value.avro-confluent.url' = '" + registry + "', "
            + "'value.avro-confluent.schema' = '" + schema + "')";
    }

    private FlinkTumbling() {}
}
