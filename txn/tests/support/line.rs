//! The way from a node without the lease to the one with it: requests are encoded and decoded, delayed,
//! lost, doubled, and their answers lost, as the seed says.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use cairn_kv::seam::{BoxFuture, Runtime};
use cairn_txn::Db;
use cairn_txn::wire::{CallError, NodeId, Remote};

use super::{Executor, Tasks};

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Carried out and answered.
    Answered,
    /// It cannot be sent, which is known.
    NotSent,
    /// The request is lost.
    Lost,
    /// It is carried out, and the answer lost.
    AnswerLost,
    /// It is carried out and answered, and once more later.
    Doubled,
    /// It is carried out later, and nobody waits for it.
    Late,
}

pub struct Line {
    executor: Arc<Executor>,
    servers: Mutex<BTreeMap<NodeId, Arc<Db>>>,
    /// Of a hundred calls so many meet with one of the bad fates.
    bad: AtomicU64,
    /// What becomes of the next calls.
    fates: Mutex<VecDeque<Fate>>,
    /// What becomes of all others, while set.
    always: Mutex<Option<Fate>>,
    /// Calls that were carried out.
    served: Arc<AtomicU64>,
}

impl Line {
    pub fn new(executor: Arc<Executor>) -> Arc<Line> {
        Arc::new(Line {
            executor,
            servers: Mutex::default(),
            bad: AtomicU64::new(0),
            fates: Mutex::default(),
            always: Mutex::default(),
            served: Arc::default(),
        })
    }

    /// `node` is `db` from now on.
    pub fn serve(&self, node: NodeId, db: Arc<Db>) {
        self.servers.lock().unwrap().insert(node, db);
    }

    /// The node with the lease.
    pub fn server(&self) -> Arc<Db> {
        Arc::clone(&self.servers.lock().unwrap()[&1])
    }

    pub fn set_bad(&self, percent: u64) {
        self.bad.store(percent, Ordering::SeqCst);
    }

    pub fn set_fates(&self, fates: &[Fate]) {
        self.fates.lock().unwrap().extend(fates);
    }

    pub fn set_always(&self, fate: Option<Fate>) {
        *self.always.lock().unwrap() = fate;
    }

    pub fn served(&self) -> u64 {
        self.served.load(Ordering::SeqCst)
    }

    fn fate(&self) -> Fate {
        if let Some(fate) = self.fates.lock().unwrap().pop_front() {
            return fate;
        }
        if let Some(fate) = *self.always.lock().unwrap() {
            return fate;
        }
        if self.executor.rng.below(100) >= self.bad.load(Ordering::SeqCst) {
            return Fate::Answered;
        }
        let bad = [Fate::NotSent, Fate::Lost, Fate::AnswerLost, Fate::Doubled, Fate::Late];
        bad[self.executor.rng.below(5) as usize]
    }

    /// Carries a request out, as a task of its own.
    fn carry_out(
        &self,
        node: NodeId,
        request: Bytes,
        after: Duration,
    ) -> tokio::sync::oneshot::Receiver<Bytes> {
        let (sender, answer) = tokio::sync::oneshot::channel();
        let (db, served) = (Arc::clone(&self.servers.lock().unwrap()[&node]), Arc::clone(&self.served));
        let runtime = Tasks(Arc::clone(&self.executor));
        let task = async move {
            if !after.is_zero() {
                runtime.sleep(after).await;
            }
            let answer = db.serve(request).await;
            served.fetch_add(1, Ordering::SeqCst);
            let _ = sender.send(answer);
        };
        Tasks(Arc::clone(&self.executor)).spawn("request", Box::pin(task));
        answer
    }

    async fn delay(&self) {
        for _ in 0..self.executor.rng.below(4) {
            Tasks(Arc::clone(&self.executor)).yield_now().await;
        }
    }

    fn some_time(&self) -> Duration {
        Duration::from_micros(self.executor.rng.below(3_000))
    }
}

impl Remote for Line {
    fn call(&self, node: NodeId, request: Bytes) -> BoxFuture<'_, Result<Bytes, CallError>> {
        Box::pin(async move {
            self.delay().await;
            let unknown = || CallError::Unknown("the line says so".into());
            match self.fate() {
                Fate::NotSent => return Err(CallError::NotSent("the line says so".into())),
                Fate::Lost => {
                    Tasks(Arc::clone(&self.executor)).sleep(self.some_time()).await;
                    return Err(unknown());
                }
                Fate::AnswerLost => {
                    let _ = self.carry_out(node, request, Duration::ZERO).await;
                    return Err(unknown());
                }
                Fate::Late => {
                    drop(self.carry_out(node, request, self.some_time()));
                    return Err(unknown());
                }
                Fate::Doubled => drop(self.carry_out(node, request.clone(), self.some_time())),
                Fate::Answered => {}
            }
            let answer = self.carry_out(node, request, Duration::ZERO).await.map_err(|_| unknown())?;
            self.delay().await;
            Ok(answer)
        })
    }
}
