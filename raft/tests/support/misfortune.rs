//! Clients, and everything that can happen to them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use cairn_kv::Timestamp;
use cairn_kv::seam::{Clock, NodeId, Runtime};
use cairn_kv::sim::{Link, SimRng};
use cairn_raft::command::ReplicaRole;
use cairn_raft::store::FIRST_RANGE;
use parking_lot::Mutex;

use super::world::{MOST_OFF_MICROS, World};
use super::{content, read};

/// What clients know of a register's history: its writes in the order of their beginnings.
#[derive(Default)]
struct Register {
    /// The greatest value acknowledged.
    acknowledged: u32,
    /// The greatest value attempted.
    attempted: u32,
}

/// What happened in a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Run {
    /// Writes acknowledged.
    pub commits: u32,
    /// Changes of replicas completed.
    pub changes: u32,
    /// Snapshots that a leader saw to be needed.
    pub snapshots: u32,
}

/// Clients and a nemesis for some virtual seconds, and where `moves`, somebody who changes the range's replicas.
/// Says what is wrong.
pub fn misfortune(world: &World, moves: bool) -> Result<Run, String> {
    let seed = world.outside.seed;
    let nodes = world.ids.len();
    let rng = SimRng::stream(seed, "nemesis");
    let registers = RefCell::new(BTreeMap::<String, Register>::new());
    let (commits, changes, snapshots) = (Cell::new(0), Cell::new(0), Cell::new(0));
    // The highest timestamp at which a read was served, and under which lease.
    let served = Cell::new((0, Timestamp::ZERO));
    let outcome: Result<(), String> = world.run(async {
        for node in 0..nodes {
            world.start(node).await;
        }
        let end = world.now_ms() + 12_000;
        let client = |id: u32| {
            let (registers, commits) = (&registers, &commits);
            let rng = SimRng::stream(seed, &format!("client {id}"));
            async move {
                let mut value = 0;
                // In every other world hardly anything is written: its leader sleeps most of the time.
                let most = if seed.is_multiple_of(2) { 30 } else { 3_000 };
                while world.now_ms() < end {
                    world.sleep(rng.between(1, most)).await;
                    // To whoever has a lease, also one that may be over.
                    let node = rng.below(nodes as u64) as usize;
                    let leads = world.store(node).is_some_and(|store| store.lease(FIRST_RANGE).is_some());
                    if !leads {
                        continue;
                    }
                    value += 1;
                    let key = format!("client {id}");
                    registers.borrow_mut().entry(key.clone()).or_default().attempted = value;
                    if let Some(Ok(())) = world.put(node, &key, &value.to_string(), 3_000).await {
                        registers.borrow_mut().get_mut(&key).expect("there").acknowledged = value;
                        commits.set(commits.get() + 1);
                    }
                }
                Ok(())
            }
        };
        // Reads what must be there wherever a read may be served.
        let reader = async {
            while world.now_ms() < end {
                world.sleep(3).await;
                let serving = world.serving();
                if serving.len() > 1 {
                    return Err(format!("nodes {serving:?} serve at once"));
                }
                let Some(&node) = serving.first() else { continue };
                let store = world.store(node).expect("it serves");
                let lease = store.lease(FIRST_RANGE).expect("it serves");
                // As far in the future as another node's clock may be ahead, if there are others.
                let ahead = rng.below(MOST_OFF_MICROS);
                let is_alone = store.descriptor(FIRST_RANGE).is_none_or(|d| d.replicas.len() == 1);
                let at = match is_alone {
                    true => store.hlc().last(),
                    false => Timestamp::from_micros(store.hlc().reading().micros() + ahead),
                };
                let (sequence, highest) = served.get();
                if lease.sequence < sequence || lease.sequence > sequence && lease.start <= highest {
                    return Err(format!("{lease:?}, but {highest} was served under lease {sequence}"));
                }
                if store.serves(FIRST_RANGE, lease, at) {
                    served.set((lease.sequence, at.max(highest)));
                }
                for (key, register) in &*registers.borrow() {
                    let found = read(&**store.engine(), key).and_then(|v| v.parse().ok()).unwrap_or(0);
                    if found < register.acknowledged || found > register.attempted {
                        let Register { acknowledged, attempted } = register;
                        return Err(format!(
                            "{key} is {found} on {node}: {acknowledged} was acknowledged, {attempted} attempted"
                        ));
                    }
                }
            }
            Ok(())
        };
        let nemesis = async {
            while world.now_ms() < end - 3_000 {
                world.sleep(rng.between(5, 400)).await;
                let node = rng.below(nodes as u64) as usize;
                match rng.below(12) {
                    0 => world.crash(node),
                    1 => world.machines[node].env.crash_after_polls(rng.below(60)),
                    2 => world.machines[node].env.crash_after_operations(rng.below(20) as u32),
                    3 | 4 => {
                        let link = Link { cut: rng.one_in(2), lost_per_mille: rng.below(400), ..Link::default() };
                        world.network.set_link(world.ids[node], *rng.choose(&world.ids), link);
                    }
                    5 => {
                        let slow = Link { delay_nanos: (10_000, 400_000_000), ..Link::default() };
                        let repeating = Link { repeated_per_mille: 300, ..slow };
                        world.network.set_link(world.ids[node], *rng.choose(&world.ids), repeating);
                    }
                    6 => world.network.heal(),
                    7 => {
                        for &other in &world.ids {
                            let cut = Link { cut: true, ..Link::default() };
                            world.network.set_link(world.ids[node], other, cut);
                            world.network.set_link(other, world.ids[node], cut);
                        }
                    }
                    8 => {
                        // One sync in a hundred takes twenty times as long.
                        let (least, most) = *rng.choose(&[(20_000, 400_000), (1_000_000, 60_000_000)]);
                        world.machines[node].env.disk.set_sync_nanos(least, most);
                    }
                    9 | 10 => {
                        if let Some(store) = world.store(node) {
                            let to = *rng.choose(&world.ids);
                            let cede = async move {
                                // It leads or not.
                                let _ = store.cede(FIRST_RANGE, to).await;
                            };
                            world.machines[node].env.executor.runtime().spawn("cede", Box::pin(cede));
                        }
                    }
                    _ => {
                        // Within what clocks may be off, so none is ever more than that behind another.
                        let env = &world.machines[node].env;
                        let ahead = env.clock.wall_micros() - world.outside.clock.wall_micros();
                        env.clock.jump(rng.below(MOST_OFF_MICROS) as i64 - ahead as i64);
                    }
                }
                for node in 0..nodes {
                    if world.store(node).is_none() && rng.one_in(2) {
                        world.start(node).await;
                    }
                }
            }
            world.network.heal();
            for node in 0..nodes {
                world.machines[node].env.crash_after_polls(u64::from(u32::MAX));
                world.machines[node].env.crash_after_operations(u32::MAX);
                world.machines[node].env.disk.set_sync_nanos(20_000, 400_000);
                while world.store(node).is_none() {
                    world.start(node).await;
                }
            }
            Ok(())
        };
        let mover = async {
            let rng = SimRng::stream(seed, "mover");
            while moves && world.now_ms() < end - 3_000 {
                world.sleep(rng.between(20, 500)).await;
                let Some(&node) = world.serving().first() else { continue };
                let store = world.store(node).expect("it serves");
                let Some(descriptor) = store.descriptor(FIRST_RANGE) else { continue };
                let members: Vec<NodeId> = descriptor.replicas.iter().map(|r| r.store).collect();
                let done = Rc::new(Cell::new(false));
                let outcome = Arc::new(Mutex::new(None));
                let slot = Arc::clone(&outcome);
                let others: Vec<NodeId> = world.ids.iter().copied().filter(|id| !members.contains(id)).collect();
                let mut voters = members.clone();
                while voters.len() > 1 && (voters.len() > 3 || rng.one_in(6)) {
                    voters.remove(rng.below(voters.len() as u64) as usize);
                }
                let (kind, learner) = (rng.below(4), *rng.choose(&members));
                let to = others.first().map(|_| *rng.choose(&others));
                let change = async move {
                    let changed = match (kind, to) {
                        (0 | 1, Some(to)) => store.add_learner(FIRST_RANGE, to).await,
                        (2, _) => store.remove_replica(FIRST_RANGE, learner).await,
                        _ => store.change_voters(FIRST_RANGE, &voters).await,
                    };
                    if let Some(progress) = store.progress(FIRST_RANGE).await {
                        *slot.lock() = Some((changed.is_ok(), progress.iter().any(|p| p.needs_snapshot)));
                    } else {
                        *slot.lock() = Some((changed.is_ok(), false));
                    }
                };
                world.machines[node].env.executor.runtime().spawn("change", Box::pin(change));
                let until = world.now_ms() + 1_000;
                while world.now_ms() < until && !done.get() {
                    world.sleep(5).await;
                    if let Some((changed, needs_snapshot)) = outcome.lock().take() {
                        changes.set(changes.get() + u32::from(changed));
                        snapshots.set(snapshots.get() + u32::from(needs_snapshot));
                        done.set(true);
                    }
                }
            }
            Ok(())
        };
        let results = futures_util::join!(client(1), client(2), client(3), reader, nemesis, mover);
        let all = [results.0, results.1, results.2, results.3, results.4, results.5];
        all.into_iter().collect::<Result<Vec<()>, String>>()?;
        // Time for replicas that are none any more to find out.
        world.sleep(if moves { 12_000 } else { 3_000 }).await;
        for (node, id) in world.ids.iter().enumerate() {
            if let Some(why) = world.store(node).and_then(|store| store.failure()) {
                return Err(format!("store {id} has stopped: {why}"));
            }
        }
        if world.serving().len() != 1 {
            return Err(format!("{:?} serve in peace", world.serving()));
        }
        Ok(())
    });
    outcome.map_err(|what| format!("seed {seed}: {what}"))?;
    let serving = world.serving()[0];
    let descriptor = world.store(serving).and_then(|store| store.descriptor(FIRST_RANGE)).expect("it serves");
    if descriptor.replicas.iter().any(|r| !matches!(r.role(), ReplicaRole::Voter | ReplicaRole::Learner)) {
        return Err(format!("seed {seed}: a change of voters was not completed: {descriptor:?}"));
    }
    let expected = content(&world.machines[serving].engine);
    for (node, machine) in world.machines.iter().enumerate() {
        let found = content(&machine.engine);
        if descriptor.replicas.iter().any(|r| r.store == world.ids[node]) {
            if found != expected {
                return Err(format!("seed {seed}: the replica on {node} differs from that on {serving}"));
            }
        } else if !found.is_empty() {
            return Err(format!("seed {seed}: something is left of a replica on {node} that was removed"));
        }
    }
    Ok(Run { commits: commits.get(), changes: changes.get(), snapshots: snapshots.get() })
}
