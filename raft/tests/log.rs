//! The log against a model: appends of several ranges, conflicting suffixes, truncation, rolling and
//! recycling, crashes in the middle of anything, flipped bits.

use std::collections::BTreeMap;

use cairn_kv::sim::{self, Stopped};
use cairn_kv::{Error, Timestamp};
use cairn_raft::log::{Log, Recovered};
use cairn_raft::record::RecordWriter;
use cairn_raft::segment::Identity;
use cairn_raft::{Faults, RangeId};
use proptest::prelude::*;
use raft::eraftpb::{Entry, HardState};
use raft::{GetEntriesContext, Storage};

const SEGMENT_BYTES: u64 = 48 << 10;
const IDENTITY: Identity = Identity { cluster: [7; 16], store: 3 };

/// What one range's log holds.
#[derive(Clone, Debug, Default, PartialEq)]
struct RangeModel {
    truncated: (u64, u64),
    entries: Vec<(u64, Vec<u8>)>,
    hard_state: (u64, u64, u64),
}

impl RangeModel {
    fn last(&self) -> u64 {
        self.truncated.0 + self.entries.len() as u64
    }

    fn term(&self, index: u64) -> u64 {
        match index.checked_sub(self.truncated.0 + 1) {
            None => self.truncated.1,
            Some(at) => self.entries[at as usize].0,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    ranges: BTreeMap<RangeId, RangeModel>,
    hlc_bound: u64,
}

/// One record.
#[derive(Clone, Debug)]
enum Change {
    /// Entries for a range, replacing `replaced` of its last ones under a higher term.
    Append { range: RangeId, replaced: u64, sizes: Vec<usize> },
    /// Entries for two ranges at once, with a hard state.
    Both { size: usize },
    /// Drops this share of a range's entries.
    Truncate { range: RangeId, percent: u64 },
    /// Only a higher bound.
    Bound,
}

#[derive(Clone, Debug)]
enum Step {
    Change(Change),
    /// Power fails, and the log is opened again.
    Crash,
    /// Power fails at this operation of the change.
    CrashDuring {
        operation: u32,
        change: Change,
    },
    /// A bit flips in the log's written part, at this share of it; always the last step.
    Flip {
        permille: u64,
        bit: u8,
    },
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => (1..3u64, 0..3u64, prop::collection::vec(0..9000usize, 1..4))
            .prop_map(|(range, replaced, sizes)| Change::Append { range, replaced, sizes }),
        1 => (0..60_000usize).prop_map(|size| Change::Both { size }),
        2 => (1..3u64, 0..=100u64).prop_map(|(range, percent)| Change::Truncate { range, percent }),
        1 => Just(Change::Bound),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => change().prop_map(Step::Change),
        1 => Just(Step::Crash),
        2 => (0..8u32, change()).prop_map(|(operation, change)| Step::CrashDuring { operation, change }),
    ];
    let flip = (0..1000u64, 0..8u8).prop_map(|(permille, bit)| Step::Flip { permille, bit });
    (prop::collection::vec(step, 1..40), prop::option::of(flip))
        .prop_map(|(steps, flip)| steps.into_iter().chain(flip).collect())
}

/// The model after `change`, and the record that says so.
fn record_of(model: &Model, change: &Change, fill: u8) -> (Model, RecordWriter) {
    let mut after = model.clone();
    let mut record = RecordWriter::default();
    record.clear();
    after.hlc_bound += 1;
    record.hlc_bound(Timestamp(after.hlc_bound));
    let mut append = |after: &mut Model, range: RangeId, replaced: u64, sizes: &[usize]| {
        let log = after.ranges.entry(range).or_default();
        let replaced = replaced.min(log.entries.len() as u64);
        let term = log.term(log.last()).max(1) + u64::from(replaced > 0);
        log.entries.truncate(log.entries.len() - replaced as usize);
        for &size in sizes {
            let (index, data) = (log.last() + 1, vec![fill; size]);
            record.entry(range, &Entry { index, term, data: data.clone(), ..Entry::default() });
            log.entries.push((term, data));
        }
        log.hard_state = (term, 1, log.truncated.0);
        record.hard_state(range, &HardState { term, vote: 1, commit: log.truncated.0 });
    };
    match change {
        Change::Append { range, replaced, sizes } => append(&mut after, *range, *replaced, sizes),
        Change::Both { size } => {
            append(&mut after, 1, 0, &[*size]);
            append(&mut after, 2, 0, &[100, 0]);
        }
        Change::Truncate { range, percent } => {
            let log = after.ranges.entry(*range).or_default();
            let index = log.truncated.0 + log.entries.len() as u64 * percent / 100;
            if index > log.truncated.0 {
                let term = log.term(index);
                record.truncation(*range, index, term);
                log.entries.drain(..(index - log.truncated.0) as usize);
                log.truncated = (index, term);
            }
        }
        Change::Bound => {}
    }
    (after, record)
}

fn checkpoint_of(model: &Model) -> RecordWriter {
    let mut record = RecordWriter::default();
    record.clear();
    for (range, log) in &model.ranges {
        let (term, vote, commit) = log.hard_state;
        record.hard_state(*range, &HardState { term, vote, commit });
        record.truncation(*range, log.truncated.0, log.truncated.1);
        record.last_entry(*range, log.last());
    }
    record.hlc_bound(Timestamp(model.hlc_bound));
    record
}

/// The log with, beside it, where each live entry of each range stands.
struct Driver {
    log: Log,
    segments: BTreeMap<RangeId, Vec<u64>>,
}

impl Driver {
    async fn create(env: &sim::Env) -> Driver {
        let mut checkpoint = checkpoint_of(&Model::default());
        let seams = env.seams();
        let log =
            Log::create(seams.disk, seams.rng, SEGMENT_BYTES, Faults::default(), IDENTITY, &mut checkpoint);
        Driver { log: log.await.expect("created"), segments: BTreeMap::new() }
    }

    /// Half of the seeds keep no payload in memory: entries are read back from their segments.
    async fn recover(env: &sim::Env) -> Result<(Driver, Recovered), Error> {
        let seams = env.seams();
        let applied = if env.seed.is_multiple_of(2) { 0 } else { u64::MAX };
        let found =
            Log::recover(seams.disk, seams.rng, SEGMENT_BYTES, Faults::default(), &move |_| applied).await?;
        let (log, recovered) = found.expect("a log was created");
        // The ranges only tell their oldest segment: the least that must be kept.
        let segments = recovered
            .ranges
            .iter()
            .map(|(range, log)| {
                let count = log.last() - log.truncated().0;
                (*range, vec![log.oldest_segment().unwrap_or(0); count as usize])
            })
            .collect();
        Ok((Driver { log, segments }, recovered))
    }

    async fn append(
        &mut self,
        before: &Model,
        after: &Model,
        record: &mut RecordWriter,
    ) -> Result<(), Error> {
        let padded = record.padded_len();
        if !self.log.fits(padded) {
            self.log.roll(&mut checkpoint_of(before), padded).await?;
        }
        let segment = self.log.position().segment;
        self.log.append(record).await?;
        for (range, log) in &after.ranges {
            let places = self.segments.entry(*range).or_default();
            let old = before.ranges.get(range).cloned().unwrap_or_default();
            let dropped = (log.truncated.0 - old.truncated.0) as usize;
            places.drain(..dropped.min(places.len()));
            let kept = log
                .entries
                .iter()
                .zip(old.entries.iter().skip(dropped))
                .take_while(|(new, old)| new == old)
                .count();
            places.truncate(kept);
            places.resize(log.entries.len(), segment);
        }
        let oldest = self.segments.values().filter_map(|places| places.iter().min()).min();
        self.log.release(oldest.copied().unwrap_or(u64::MAX)).await
    }
}

fn as_model(recovered: &Recovered) -> Model {
    let ranges = recovered.ranges.iter().map(|(range, log)| {
        let (truncated, state) = (log.truncated(), log.hard_state());
        let (low, high) = (truncated.0 + 1, log.last() + 1);
        let entries = match low < high {
            true => log.entries(low, high, None, GetEntriesContext::empty(true)).expect("readable"),
            false => Vec::new(),
        };
        let entries = entries.into_iter().map(|e| (e.term, e.data)).collect();
        let hard_state = (state.term, state.vote, state.commit);
        (*range, RangeModel { truncated, entries, hard_state })
    });
    Model { ranges: ranges.collect(), hlc_bound: recovered.hlc_bound.0 }
}

/// Ranges that no record mentioned are not recovered.
fn without_empty(mut model: Model) -> Model {
    model.ranges.retain(|_, log| *log != RangeModel::default());
    model
}

fn run(seed: u64, steps: &[Step]) -> Result<(), TestCaseError> {
    let env = sim::Env::new(seed);
    let mut driver = env.block_on(Driver::create(&env));
    let mut model = Model::default();
    let mut before_last = model.clone();
    for (number, step) in steps.iter().enumerate() {
        match step {
            Step::Change(change) => {
                let (after, mut record) = record_of(&model, change, number as u8);
                env.block_on(driver.append(&model, &after, &mut record)).expect("appended");
                before_last = std::mem::replace(&mut model, after);
            }
            Step::Crash | Step::CrashDuring { .. } => {
                let mut possible = vec![model.clone()];
                if let Step::CrashDuring { operation, change } = step {
                    let (after, mut record) = record_of(&model, change, number as u8);
                    env.crash_after_operations(*operation);
                    match env.run(driver.append(&model, &after, &mut record)) {
                        // The power failed in its last poll: then its answer did not come out.
                        Ok(_) if !env.executor.is_powered() => {
                            env.crash();
                            possible.push(after);
                        }
                        Ok(done) => {
                            done.expect("appended");
                            env.crash();
                            before_last = std::mem::replace(&mut model, after.clone());
                            possible = vec![after];
                        }
                        Err(Stopped::Crashed) => possible.push(after),
                        Err(stopped) => panic!("{stopped:?}"),
                    }
                } else {
                    env.crash();
                }
                let (recovered_driver, recovered) =
                    env.block_on(Driver::recover(&env)).map_err(|e| TestCaseError::fail(e.to_string()))?;
                driver = recovered_driver;
                let found = as_model(&recovered);
                let known =
                    possible.iter().find(|p| without_empty((*p).clone()) == without_empty(found.clone()));
                prop_assert!(known.is_some(), "recovered {found:?}\nof {possible:?}");
                // A recovery that finds what is there puts no record behind the last one.
                if without_empty(found.clone()) != without_empty(model.clone()) {
                    before_last = std::mem::replace(&mut model, found);
                }
            }
            Step::Flip { permille, bit } => {
                env.crash();
                let files: Vec<_> =
                    env.disk.contents().into_iter().filter(|(name, _)| !name.contains("spare")).collect();
                let total: u64 = files.iter().map(|(_, bytes)| bytes.len() as u64).sum();
                let mut at = total * permille / 1000;
                let (name, _) = files
                    .iter()
                    .find(|(_, bytes)| {
                        let here = at < bytes.len() as u64;
                        if !here {
                            at -= bytes.len() as u64;
                        }
                        here
                    })
                    .expect("within the files");
                env.disk.flip_bit(name, at, *bit).expect("flipped");
                match env.block_on(Driver::recover(&env)) {
                    // In bytes that mean nothing, or in the last record, which then looks torn.
                    Ok((_, recovered)) => {
                        let found = without_empty(as_model(&recovered));
                        let known =
                            [&model, &before_last].into_iter().any(|m| without_empty(m.clone()) == found);
                        prop_assert!(known, "a flipped bit went unnoticed: {found:?}\nof {model:?}");
                    }
                    Err(Error::Corruption(what)) => {
                        prop_assert!(
                            what.contains("log file log-") || what.contains("are missing"),
                            "{what}"
                        );
                    }
                    // The format's own bytes have their own checksum; nothing else may come of it.
                    Err(other) => prop_assert!(false, "{other}"),
                }
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn recovery_finds_what_was_synced(seed in any::<u64>(), steps in steps()) {
        run(seed, &steps)?;
    }
}

/// A range that was truncated and never had an entry is not recovered; the last record still is the last one.
#[test]
fn a_flipped_bit_behind_a_restart_costs_the_last_record_only() {
    let steps = [
        Step::Change(Change::Truncate { range: 1, percent: 0 }),
        Step::Change(Change::Append { range: 2, replaced: 0, sizes: vec![4210, 3551] }),
        Step::Crash,
        Step::Flip { permille: 250, bit: 0 },
    ];
    run(0, &steps).unwrap();
}
