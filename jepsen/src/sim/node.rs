//! The simulated node: the production crates over the simulator's seams.

use cairn_kv::sim::Machine;
use cairn_raft::StoreConfig;
use cairn_server::layers::Layers;
use cairn_txn::DbConfig;

use super::plan::Plant;

/// How large logs and memtables grow and how long history is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sizes {
    /// So small that segments roll, flushes happen and garbage is collected within a simulation.
    Small {
        /// Bytes of writes above which a transaction lays intents; none: as in production.
        buffer: Option<usize>,
    },
    /// Those of production.
    Production,
}

/// Opens a life of the node on its machine, as the binary does on its directory.
pub async fn open(machine: &Machine, sizes: Sizes, plant: Option<Plant>) -> Result<Layers, String> {
    let (mut store, mut db) = match sizes {
        Sizes::Small { buffer } => small(buffer),
        Sizes::Production => (StoreConfig::default(), DbConfig::default()),
    };
    if let Some(plant) = plant {
        plant_in(plant, &mut store, &mut db);
    }
    Layers::open(machine.env.seams(), machine.traced_engine(), store, db)
        .await
        .map_err(|error| error.to_string())
}

fn small(buffer: Option<usize>) -> (StoreConfig, DbConfig) {
    let store = StoreConfig {
        segment_bytes: 256 << 10,
        flush_log_bytes: 2 << 20,
        flush_keys: 2_000,
        hlc_lead_micros: 50_000,
        ..StoreConfig::default()
    };
    let production = DbConfig::default();
    let db = DbConfig {
        gc_ttl_micros: 1_000_000,
        tombstone_lag_micros: 100_000,
        marker_lag_micros: 500_000,
        max_buffer_bytes: buffer.unwrap_or(production.max_buffer_bytes),
        ..production
    };
    (store, db)
}

fn plant_in(plant: Plant, store: &mut StoreConfig, db: &mut DbConfig) {
    match plant {
        Plant::NoSync => store.faults.skip_sync = true,
        Plant::HlcBack => store.faults.hlc_back_after_restart = true,
        Plant::FilterAhead => store.faults.filter_ahead_of_threshold = true,
        Plant::TruncateEarly => store.faults.truncate_before_flush = true,
        Plant::TornTail => store.faults.accept_torn_tail = true,
        Plant::NoRefresh => db.faults.no_refresh = true,
        Plant::NoTimestampCache => db.faults.no_timestamp_cache = true,
        Plant::OneSnapshot => db.faults.one_snapshot = true,
        Plant::BlindBulk => db.faults.blind_bulk = true,
    }
}
