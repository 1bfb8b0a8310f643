//! The column families, and how RocksDB keeps them.

use rocksdb::{BlockBasedOptions, Cache, DBCompressionType, DBRecoveryMode, LogLevel, MergeOperands};

use super::{Options, online};

/// One concern each; keys in [`super::keys`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Meta,
    Catalog,
    Schemas,
    Log,
    Producers,
    Positions,
    Journal,
    State,
    Online,
    Outbox,
    Quarantine,
    Late,
}

impl Family {
    pub const ALL: [Self; 12] = [
        Self::Meta,
        Self::Catalog,
        Self::Schemas,
        Self::Log,
        Self::Producers,
        Self::Positions,
        Self::Journal,
        Self::State,
        Self::Online,
        Self::Outbox,
        Self::Quarantine,
        Self::Late,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Catalog => "catalog",
            Self::Schemas => "schemas",
            Self::Log => "log",
            Self::Producers => "producers",
            Self::Positions => "positions",
            Self::Journal => "journal",
            Self::State => "state",
            Self::Online => "online",
            Self::Outbox => "outbox",
            Self::Quarantine => "quarantine",
            Self::Late => "late",
        }
    }

    /// How many bytes of a key say whose it is: below them, keys come in order.
    const fn prefix(self) -> usize {
        match self {
            Self::Log => 8,
            _ => 4,
        }
    }
}

/// How the database as a whole is kept.
pub(super) fn database_options() -> rocksdb::Options {
    let mut o = rocksdb::Options::default();
    o.create_if_missing(true);
    o.create_missing_column_families(true);
    // A torn record at the end of the last WAL is a write that was never acknowledged; a WAL that is
    // missing altogether is not.
    o.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    o.set_track_and_verify_wals_in_manifest(true);
    // A start after a kill reads as much again before anything is served.
    o.set_max_total_wal_size(128 << 20);
    o.set_max_background_jobs(2);
    o.set_max_open_files(1_000);
    o.set_bytes_per_sync(1 << 20);
    o.set_log_level(LogLevel::Warn);
    o.set_keep_log_file_num(4);
    o.set_max_log_file_size(8 << 20);
    o
}

/// How one family is kept.
pub(super) fn family_options(
    family: Family,
    options: &Options,
    cache: &Cache,
) -> Result<rocksdb::Options, rocksdb::Error> {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_block_size(8 << 10);
    table.set_format_version(6);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    // What comes sorted goes into the memtable beside what came before it, without a search from the top.
    let sorted = "memtable_insert_with_hint_prefix_extractor=rocksdb.FixedPrefix";
    let mut o = match family {
        Family::Online | Family::State | Family::Log => {
            rocksdb::Options::default().get_options_from_string(format!("{sorted}.{}", family.prefix()))?
        }
        _ => rocksdb::Options::default(),
    };
    o.set_compression_type(DBCompressionType::Lz4);
    // Small memtables: sorted writes into them cost half of what they cost into large ones.
    o.set_write_buffer_size(options.memtable);
    o.set_max_write_buffer_number(4);
    match family {
        Family::Online => {
            table.set_bloom_filter(10.0, false);
            table.set_data_block_index_type(rocksdb::DataBlockIndexType::BinaryAndHash);
            table.set_data_block_hash_ratio(0.75);
            o.set_merge_operator_associative("millpond.online.1", merge);
        }
        // Looked up by key, most of them in vain: for keys that are new. The filters of a large state do not
        // fit the cache as a whole.
        Family::State => {
            table.set_bloom_filter(10.0, false);
            table.set_index_type(rocksdb::BlockBasedIndexType::TwoLevelIndexSearch);
            table.set_partition_filters(true);
            table.set_metadata_block_size(4 << 10);
        }
        Family::Producers | Family::Positions | Family::Meta => table.set_bloom_filter(10.0, false),
        // Written once, read in order, deleted by range.
        Family::Log | Family::Outbox | Family::Journal => table.set_block_size(32 << 10),
        _ => {}
    }
    o.set_block_based_table_factory(&table);
    Ok(o)
}

fn merge(_key: &[u8], existing: Option<&[u8]>, operands: &MergeOperands) -> Option<Vec<u8>> {
    // `None` makes the read or compaction fail: what cannot be merged must not be lost in silence.
    online::merge(existing.into_iter().chain(operands.iter())).ok()
}
