//! The offline store: outbox → Parquet + Delta, and reads of it.
