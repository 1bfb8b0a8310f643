//! The embedded log: partitions in RocksDB.
