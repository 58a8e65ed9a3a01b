//! A client whose statements and answers are lines of the timeline.

use cairn_kv::sim::Trace;

use crate::client::{Answer, Client, Failure, Op};

/// Wraps a client.
pub struct Told<C> {
    inner: C,
    trace: Trace,
    id: u32,
}

impl<C> Told<C> {
    /// `id` is how the timeline calls the client.
    pub fn new(inner: C, trace: Trace, id: u32) -> Told<C> {
        Told { inner, trace, id }
    }

    /// The client.
    pub fn inner(&self) -> &C {
        &self.inner
    }

    fn tell<T: std::fmt::Debug>(&self, what: impl Fn() -> String, result: &Result<T, Failure>) {
        self.trace.note("client", || match result {
            Ok(answer) => format!("{} {} → {answer:?}", self.id, what()),
            Err(failure) => format!("{} {} → {failure}", self.id, what()),
        });
    }
}

impl<C: Client> Client for Told<C> {
    async fn create_tables(&mut self) -> Result<(), Failure> {
        self.inner.create_tables().await
    }

    async fn begin(&mut self) -> Result<(), Failure> {
        let result = self.inner.begin().await;
        self.tell(|| "begin".into(), &result);
        result
    }

    async fn begin_read_committed(&mut self) -> Result<(), Failure> {
        let result = self.inner.begin_read_committed().await;
        self.tell(|| "begin, read committed".into(), &result);
        result
    }

    async fn begin_as_of(&mut self, past: &str) -> Result<(), Failure> {
        let result = self.inner.begin_as_of(past).await;
        self.tell(|| format!("begin as of {past}"), &result);
        result
    }

    async fn past(&mut self) -> Result<String, Failure> {
        self.inner.past().await
    }

    async fn execute(&mut self, op: &Op) -> Result<Answer, Failure> {
        self.trace.note("client", || format!("{} {op:?} …", self.id));
        let result = self.inner.execute(op).await;
        self.tell(|| format!("{op:?}"), &result);
        result
    }

    async fn commit(&mut self) -> Result<(), Failure> {
        self.trace.note("client", || format!("{} commit …", self.id));
        let result = self.inner.commit().await;
        self.tell(|| "commit".into(), &result);
        result
    }

    async fn rollback(&mut self) {
        self.inner.rollback().await;
        self.trace.note("client", || format!("{} rolled back", self.id));
    }
}
