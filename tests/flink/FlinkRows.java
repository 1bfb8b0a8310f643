import java.io.BufferedWriter;
import java.math.BigDecimal;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.time.LocalDateTime;
import java.time.ZoneOffset;
import java.time.temporal.ChronoUnit;
import java.util.List;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.TableEnvironment;
import org.apache.flink.table.api.TableResult;
import org.apache.flink.types.Row;
import org.apache.flink.types.RowKind;
import org.apache.flink.util.CloseableIterator;

/**
 * Runs SQL on a Flink cluster in this process: of each folder given, the statements of tables.sql and the query of
 * query.sql. Its rows go to rows.jsonl, one array a line; timestamps as microseconds, decimals as text.
 */
public final class FlinkRows {
    public static void main(String[] folders) throws Exception {
        Configuration options = new Configuration();
        options.setString("execution.target", "local");
        options.setString("parallelism.default", "1");
        options.setString("taskmanager.memory.managed.size", "128m");
        options.setString("taskmanager.memory.network.min", "64m");
        options.setString("taskmanager.memory.network.max", "64m");
        options.setString("table.local-time-zone", "UTC");
        options.setString("rest.bind-port", "0-65535");
        for (String folder : folders) {
            run(Path.of(folder), options);
        }
    }

    private static void run(Path folder, Configuration options) throws Exception {
        EnvironmentSettings settings =
            EnvironmentSettings.newInstance().inStreamingMode().withConfiguration(options).build();
        TableEnvironment tables = TableEnvironment.create(settings);
        for (String statement : Files.readString(folder.resolve("tables.sql")).split(";\n")) {
            if (!statement.isBlank()) {
                tables.executeSql(statement);
            }
        }
        TableResult result = tables.executeSql(Files.readString(folder.resolve("query.sql")));
        List<String> names = result.getResolvedSchema().getColumnNames();
        try (CloseableIterator<Row> rows = result.collect();
            BufferedWriter out = Files.newBufferedWriter(folder.resolve("rows.jsonl"))) {
            out.write(array(names.toArray()));
            while (rows.hasNext()) {
                Row row = rows.next();
                if (row.getKind() != RowKind.INSERT) {
                    throw new IllegalStateException(folder + ": a row is taken back: " + row);
                }
                Object[] values = new Object[row.getArity()];
                for (int i = 0; i < values.length; i++) {
                    values[i] = row.getField(i);
                }
                out.write(array(values));
            }
        }
    }

    private static String array(Object[] values) {
        StringBuilder text = new StringBuilder("[");
        for (Object value : values) {
            text.append(text.length() > 1 ? "," : "").append(json(value));
        }
        return text.append("]\n").toString();
    }

    private static String json(Object value) {
        if (value instanceof LocalDateTime) {
            value = ((LocalDateTime) value).toInstant(ZoneOffset.UTC);
        }
        if (value instanceof Instant) {
            return Long.toString(ChronoUnit.MICROS.between(Instant.EPOCH, (Instant) value));
        }
        if (value == null || value instanceof Boolean || value instanceof Number && !(value instanceof BigDecimal)) {
            return String.valueOf(value);
        }
        String text = value instanceof BigDecimal ? ((BigDecimal) value).toPlainString() : value.toString();
        return '"' + text.replace("\\", "\\\\").replace("\"", "\\\"") + '"';
    }

    private FlinkRows() {}
}
