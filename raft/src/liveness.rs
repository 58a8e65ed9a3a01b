//! Store liveness: which store supports which, until when (R10).
//!
//! A store asks every other one, ten times a second, to support it for an epoch until a time of the hybrid
//! clock. Whoever supports it promises that no replica of its store campaigns, or votes for another store,
//! against a leader on the supported one that it has followed in that epoch; so a leader that is followed
//! and supported by a quorum knows that there is no other until the earliest of those times
//! ([`crate::fortify`]). A promise is durable before it is made ([`crate::support_file`]): one that lasts a few
//! heartbeats longer, so that most need no write. It is withdrawn only
//! when the supporter's hybrid clock is past its end and, by the monotonic clock, its whole duration has gone
//! since it was made or since the supporter's restart. A withdrawn epoch is never supported again: the store
//! has to begin the next one with that supporter, and gets no promise for it while an earlier one is in force:
//! it may still lead by that. A promise is prolonged only while the store shows that it hears of promises:
//! one that can speak and not hear could neither lead nor be replaced.
//!
//! After "Leader leases" of CockroachDB (SIGMOD 2026). [`Terms`] is a step function; its task is in
//! [`crate::cluster`].

use std::collections::BTreeMap;
use std::time::Duration;

use cairn_kv::hlc::Hlc;
use cairn_kv::seam::{Clock, NodeId};
use cairn_kv::{Error, Result, Timestamp};
use prost::Message as _;

/// Newest format of liveness messages and of the support file's content.
const FORMAT: u32 = 1;

/// A promise is kept durable for so many heartbeats longer than it is made: after a restart the store is bound by
/// what it may have promised.
const KEPT_AHEAD: u32 = 4;

/// How long a measurement of an offset counts.
const OFFSET_COUNTS: Duration = Duration::from_secs(5);

/// What stores say to one another about liveness: a request, an answer, or both.
#[derive(Clone, Copy, PartialEq, ::prost::Message)]
pub struct LivenessMessage {
    /// [`FORMAT`] of the sender.
    #[prost(uint32, tag = "1")]
    pub format: u32,
    /// The life of the sender's store.
    #[prost(uint64, tag = "2")]
    pub incarnation: u64,
    /// Support me.
    #[prost(message, optional, tag = "3")]
    pub ask: Option<Support>,
    /// I support you.
    #[prost(message, optional, tag = "4")]
    pub give: Option<Support>,
    /// The sender's wall clock, microseconds.
    #[prost(uint64, tag = "5")]
    pub wall_micros: u64,
    /// Monotonic nanoseconds of the sender of the request.
    #[prost(uint64, tag = "6")]
    pub asked_nanos: u64,
    /// Until when the sender of the request knows to be supported, in the epoch it asks for; zero: not.
    #[prost(uint64, tag = "7")]
    pub heard_until: u64,
    /// What the request had as `asked_nanos` that this answers.
    #[prost(uint64, tag = "8")]
    pub answered_nanos: u64,
}

/// Support of a store for an epoch.
#[derive(Clone, Copy, PartialEq, Eq, ::prost::Message)]
pub struct Support {
    /// The supported store's epoch.
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
    /// Until when; zero: not, and not for any lower epoch.
    #[prost(uint64, tag = "2")]
    pub until: u64,
}

/// Durations of store liveness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LivenessConfig {
    /// Between two requests.
    pub heartbeat: Duration,
    /// How long support lasts.
    pub support: Duration,
    /// How far clocks may be off from each other, microseconds.
    pub max_offset_micros: u64,
}

impl LivenessConfig {
    /// By how much a clock may be off before its node stops itself, microseconds (R11).
    pub fn tolerated_offset_micros(&self) -> u64 {
        self.max_offset_micros * 4 / 5
    }
}

impl Default for LivenessConfig {
    fn default() -> LivenessConfig {
        LivenessConfig {
            heartbeat: Duration::from_millis(100),
            support: Duration::from_millis(500),
            max_offset_micros: 100_000,
        }
    }
}

/// Support that this store gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Given {
    epoch: u64,
    /// Zero: withdrawn.
    until: Timestamp,
    /// Until when by what is kept of it: not earlier, once that is durable.
    kept: Timestamp,
    /// Until when as was said in this life; zero: nothing was.
    said: Timestamp,
    /// Monotonic time of the last promise, or of this store's start.
    promised_nanos: u64,
}

/// Support that another store gives this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Got {
    /// The giver's life.
    pub incarnation: u64,
    /// This store's epoch that is supported.
    pub epoch: u64,
    /// Until when.
    pub until: Timestamp,
}

/// How far another store's wall clock is certainly off from this one's.
#[derive(Clone, Copy, Debug)]
struct Offset {
    micros: u64,
    measured_nanos: u64,
}

/// The time as a step function is told it.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Reading of the hybrid clock.
    pub hlc: Timestamp,
    /// The wall clock, microseconds.
    pub wall_micros: u64,
    /// Monotonic nanoseconds.
    pub nanos: u64,
}

impl Now {
    /// The present.
    pub fn read(hlc: &Hlc, clock: &dyn Clock) -> Now {
        Now { hlc: hlc.reading(), wall_micros: clock.wall_micros(), nanos: clock.monotonic_nanos() }
    }
}

/// On what terms a store stands with the others.
#[derive(Clone, Debug)]
pub struct Terms {
    config: LivenessConfig,
    incarnation: u64,
    /// The first epoch of this life.
    first_epoch: u64,
    /// Epochs with stores that have given up on earlier ones.
    epochs: BTreeMap<NodeId, u64>,
    given: BTreeMap<NodeId, Given>,
    got: BTreeMap<NodeId, Got>,
    offsets: BTreeMap<NodeId, Offset>,
    /// How often support began, by another life or for another epoch.
    begun: u64,
    started_nanos: u64,
    /// The latest end of what earlier lives have promised.
    promised_before: Timestamp,
}

/// What is kept of [`Terms`].
#[derive(Clone, PartialEq, ::prost::Message)]
struct Kept {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(uint64, tag = "2")]
    incarnation: u64,
    #[prost(uint64, tag = "3")]
    epoch: u64,
    #[prost(message, repeated, tag = "4")]
    given: Vec<KeptSupport>,
}

#[derive(Clone, Copy, PartialEq, ::prost::Message)]
struct KeptSupport {
    #[prost(uint64, tag = "1")]
    store: NodeId,
    #[prost(uint64, tag = "2")]
    epoch: u64,
    #[prost(uint64, tag = "3")]
    until: u64,
}

impl Terms {
    /// The terms of a life that begins now, after those in `kept`, if there were any. They must be kept
    /// before they are used: the incarnation and the epoch are new.
    pub fn begin(kept: Option<&[u8]>, config: LivenessConfig, now: Now) -> Result<Terms> {
        let kept = match kept {
            None => Kept::default(),
            Some(bytes) => Kept::decode(bytes)
                .map_err(|e| Error::Corruption(format!("support file: undecodable content: {e}")))?,
        };
        if kept.format > FORMAT {
            return Err(Error::NewerFormat { found: kept.format, supported: FORMAT });
        }
        let given: BTreeMap<NodeId, Given> = (kept.given.iter())
            .map(|g| {
                let until = Timestamp(g.until);
                (
                    g.store,
                    Given {
                        epoch: g.epoch,
                        until,
                        kept: until,
                        said: Timestamp::ZERO,
                        promised_nanos: now.nanos,
                    },
                )
            })
            .collect();
        Ok(Terms {
            config,
            incarnation: kept.incarnation + 1,
            first_epoch: kept.epoch + 1,
            epochs: BTreeMap::new(),
            promised_before: given.values().map(|g| g.until).max().unwrap_or_default(),
            given,
            got: BTreeMap::new(),
            offsets: BTreeMap::new(),
            begun: 0,
            started_nanos: now.nanos,
        })
    }

    /// What a restart needs. It stays the same until there is a promise that it does not cover.
    pub fn keep(&mut self) -> Vec<u8> {
        if self.given.values().any(|g| g.until > g.kept) {
            let ahead = (self.config.heartbeat * KEPT_AHEAD).as_micros() as u64;
            for g in self.given.values_mut().filter(|g| !g.until.is_zero()) {
                g.kept = g.until.add_micros(ahead);
            }
        }
        let given = (self.given.iter()).map(|(store, g)| KeptSupport {
            store: *store,
            epoch: g.epoch,
            until: g.kept.0,
        });
        let epoch = self.epochs.values().copied().max().unwrap_or(0).max(self.first_epoch);
        let kept = Kept { format: FORMAT, incarnation: self.incarnation, epoch, given: given.collect() };
        kept.encode_to_vec()
    }

    /// The epoch for which `store` is asked.
    fn epoch(&self, store: NodeId) -> u64 {
        self.epochs.get(&store).copied().unwrap_or(self.first_epoch)
    }

    /// The number of this life of the store.
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// An answer to `store` that asks for its support, too.
    pub fn ask_too(&self, store: NodeId, answer: LivenessMessage, now: Now) -> LivenessMessage {
        let (give, answered_nanos) = (answer.give, answer.answered_nanos);
        LivenessMessage { give, answered_nanos, ..self.ask(store, now) }
    }

    /// A request to `store` for support.
    pub fn ask(&self, store: NodeId, now: Now) -> LivenessMessage {
        let until = now.hlc.add_micros(self.config.support.as_micros() as u64).0;
        let epoch = self.epoch(store);
        let heard = self.got(store).filter(|got| got.epoch == epoch);
        LivenessMessage {
            ask: Some(Support { epoch, until }),
            asked_nanos: now.nanos,
            heard_until: heard.map_or(0, |got| got.until.0),
            ..self.message(now)
        }
    }

    fn message(&self, now: Now) -> LivenessMessage {
        LivenessMessage {
            format: FORMAT,
            incarnation: self.incarnation,
            wall_micros: now.wall_micros,
            ..LivenessMessage::default()
        }
    }

    /// Takes in what `from` says. The answer may be sent only once what [`Terms::keep`] returns is durable.
    pub fn receive(&mut self, from: NodeId, message: &LivenessMessage, now: Now) -> Option<LivenessMessage> {
        if message.format > FORMAT {
            return None;
        }
        if message.answered_nanos != 0 {
            self.measure(from, message, now);
        }
        if let Some(give) = message.give {
            self.take(from, message.incarnation, give);
        }
        let ask = message.ask?;
        let answer = LivenessMessage { answered_nanos: message.asked_nanos, ..self.message(now) };
        if self.is_too_far_ahead(ask, now) {
            // No promise, but word of this store's clock: it has to find out that its own is wrong.
            return Some(answer);
        }
        let give = self.promise(from, ask, Timestamp(message.heard_until), now)?;
        Some(LivenessMessage { give: Some(give), ..answer })
    }

    /// Whether a request shows a clock that is further ahead than clocks may be: a promise would hold this store's votes
    /// for too long. What this one's hybrid clock shows may come from such a clock.
    fn is_too_far_ahead(&self, ask: Support, now: Now) -> bool {
        let most = self.config.support.as_micros() as u64 + self.config.max_offset_micros;
        ask.until > Timestamp::from_micros(now.wall_micros + most).0
    }

    /// The answer's sender looked at its wall clock at some time since the request: by what its clock is off
    /// whenever that was, it certainly is.
    fn measure(&mut self, from: NodeId, answer: &LivenessMessage, now: Now) {
        let Some(trip) = now.nanos.checked_sub(answer.answered_nanos) else { return };
        let (theirs, latest) = (answer.wall_micros, now.wall_micros);
        let earliest = latest.saturating_sub(trip / 1000);
        let micros = if theirs > latest { theirs - latest } else { earliest.saturating_sub(theirs) };
        self.offsets.insert(from, Offset { micros, measured_nanos: now.nanos });
    }

    /// By how much at least this store's wall clock is off from those of a majority of the `stores` that there
    /// are with it, as far as was measured lately, microseconds (R11).
    pub fn is_off_by(&self, stores: usize, now: Now) -> u64 {
        let lately = |offset: &&Offset| now.nanos < offset.measured_nanos + OFFSET_COUNTS.as_nanos() as u64;
        let mut off: Vec<u64> = self.offsets.values().filter(lately).map(|offset| offset.micros).collect();
        off.sort_unstable_by(|a, b| b.cmp(a));
        off.get(stores / 2).copied().unwrap_or(0)
    }

    fn promise(&mut self, to: NodeId, ask: Support, heard_until: Timestamp, now: Now) -> Option<Support> {
        let (mut until, mut kept, mut said) = (Timestamp(ask.until), Timestamp::ZERO, Timestamp(ask.until));
        let known = self.given.get(&to).copied();
        match known {
            Some(known) if ask.epoch < known.epoch => {
                // A late request for an epoch that is over, though not because of it the present one.
                let over = if known.until.is_zero() { known.epoch } else { known.epoch - 1 };
                return Some(Support { epoch: over, until: 0 });
            }
            Some(known) if ask.epoch == known.epoch && known.until.is_zero() => {
                return Some(Support { epoch: known.epoch, until: 0 });
            }
            Some(known) if ask.epoch == known.epoch => {
                if heard_until <= now.hlc {
                    // Told again, not prolonged. What an earlier life said is not known: what it kept is more.
                    let until = known.said.0.min(ask.until);
                    return (until != 0).then_some(Support { epoch: known.epoch, until });
                }
                // A promise does not get shorter.
                until = until.max(known.until);
                (kept, said) = (known.kept, said.max(known.said));
            }
            Some(known) if !known.until.is_zero() => return None,
            _ => {}
        }
        self.given.insert(to, Given { epoch: ask.epoch, until, kept, said, promised_nanos: now.nanos });
        Some(ask)
    }

    fn take(&mut self, from: NodeId, incarnation: u64, give: Support) {
        let epoch = self.epoch(from);
        if give.until == 0 {
            // It has given up on an epoch: the next one is needed.
            if give.epoch >= epoch {
                self.epochs.insert(from, give.epoch + 1);
            }
            return;
        }
        if give.epoch != epoch {
            return;
        }
        let got = Got { incarnation, epoch: give.epoch, until: Timestamp(give.until) };
        match self.got.get_mut(&from) {
            // Answers may overtake one another.
            Some(known) if (known.incarnation, known.epoch) == (got.incarnation, got.epoch) => {
                known.until = known.until.max(got.until);
            }
            Some(known) if (known.incarnation, known.epoch) > (got.incarnation, got.epoch) => {}
            _ => {
                self.begun += 1;
                self.got.insert(from, got);
            }
        }
    }

    /// Withdraws what has ended; whether anything has.
    pub fn withdraw(&mut self, now: Now) -> bool {
        let duration = self.config.support.as_nanos() as u64;
        let mut withdrawn = false;
        for (store, given) in self.given.iter_mut().filter(|(_, given)| !given.until.is_zero()) {
            if now.hlc > given.until && now.nanos >= given.promised_nanos + duration {
                tracing::info!(store, epoch = given.epoch, "a silent store is supported no more");
                (given.until, given.kept) = (Timestamp::ZERO, Timestamp::ZERO);
                withdrawn = true;
            }
        }
        withdrawn
    }

    /// How long until [`Terms::withdraw`] will find something that has ended, if nothing is prolonged.
    pub fn ends_in(&self, now: Now) -> Option<Duration> {
        let duration = self.config.support.as_nanos() as u64;
        let left = |given: &Given| {
            let by_clock = given.until.micros().saturating_sub(now.hlc.micros()) + 1;
            let since_promise = (given.promised_nanos + duration).saturating_sub(now.nanos);
            Duration::from_micros(by_clock).max(Duration::from_nanos(since_promise))
        };
        self.given.values().filter(|given| !given.until.is_zero()).map(left).min()
    }

    /// The epoch in which this store supports `store`, if it does.
    pub fn supports(&self, store: NodeId) -> Option<u64> {
        self.given.get(&store).filter(|given| !given.until.is_zero()).map(|given| given.epoch)
    }

    /// How often support for this store has begun, by whichever store and life of it.
    pub fn begun(&self) -> u64 {
        self.begun
    }

    /// What support `store` gives this one.
    pub fn got(&self, store: NodeId) -> Option<Got> {
        self.got.get(&store).copied()
    }

    /// Whether nothing that earlier lives have promised, to leaders that this one does not remember,
    /// forbids to campaign and vote.
    pub fn is_free(&self, now: Now) -> bool {
        let duration = self.config.support.as_nanos() as u64;
        self.is_free_by_what_was_kept(now) && now.nanos >= self.started_nanos + duration
    }

    /// The first half of [`Terms::is_free`].
    pub fn is_free_by_what_was_kept(&self, now: Now) -> bool {
        now.hlc > self.promised_before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Now {
        Now { hlc: Timestamp::from_micros(ms * 1000), wall_micros: ms * 1000, nanos: ms * 1_000_000 }
    }

    fn begin(kept: Option<&[u8]>, ms: u64) -> Terms {
        Terms::begin(kept, LivenessConfig::default(), at(ms)).expect("decodes")
    }

    #[test]
    fn support_is_asked_for_given_extended_and_withdrawn_for_good() {
        let (mut a, mut b) = (begin(None, 0), begin(None, 0));
        let answer = b.receive(1, &a.ask(2, at(0)), at(1)).expect("an answer");
        assert_eq!(b.supports(1), Some(1));
        a.receive(2, &answer, at(2));
        assert_eq!(a.got(2), Some(Got { incarnation: 1, epoch: 1, until: Timestamp::from_micros(500_000) }));
        // Extended, then an old request arrives: it is answered, and the promise does not get shorter.
        let late = a.ask(2, at(50));
        b.receive(1, &a.ask(2, at(100)), at(101));
        let answer = b.receive(1, &late, at(102)).expect("an answer");
        assert_eq!(answer.give.map(|g| g.until), Some(Timestamp::from_micros(550_000).0));
        assert_eq!(b.ends_in(at(101)), Some(Duration::from_millis(501)));
        // The hybrid clock alone ends nothing, nor does the monotonic one.
        b.withdraw(Now { nanos: 601_000_000, ..at(10_000) });
        assert_eq!(b.supports(1), Some(1));
        b.withdraw(Now { nanos: 10_000_000_000, ..at(599) });
        assert_eq!(b.supports(1), Some(1));
        b.withdraw(at(603));
        assert_eq!(b.supports(1), None);
        // The epoch is over: the next one is supported.
        let answer = b.receive(1, &a.ask(2, at(700)), at(701)).expect("an answer");
        assert_eq!(answer.give, Some(Support { epoch: 1, until: 0 }));
        a.receive(2, &answer, at(702));
        let answer = b.receive(1, &a.ask(2, at(703)), at(704)).expect("an answer");
        a.receive(2, &answer, at(705));
        assert_eq!((b.supports(1), a.got(2).map(|g| g.epoch)), (Some(2), Some(2)));
    }

    #[test]
    fn an_answer_may_ask_too() {
        let (mut a, mut b) = (begin(None, 0), begin(None, 0));
        let answer = b.receive(1, &a.ask(2, at(10)), at(15)).expect("an answer");
        let back = a.receive(2, &b.ask_too(1, answer, at(15)), at(20)).expect("an answer");
        assert_eq!(b.receive(1, &back, at(25)), None);
        assert_eq!((a.supports(2), b.supports(1)), (Some(1), Some(1)));
        let until = |ms: u64| Some(Timestamp::from_micros(ms * 1_000));
        assert_eq!((a.got(2).map(|g| g.until), b.got(1).map(|g| g.until)), (until(510), until(515)));
        // Each has measured its own round trip.
        assert_eq!((a.offsets[&2].micros, b.offsets[&1].micros), (0, 0));
    }

    #[test]
    fn an_epoch_is_not_supported_while_a_promise_for_an_earlier_one_is_in_force() {
        let (mut a, mut b) = (begin(None, 0), begin(None, 0));
        b.receive(1, &a.ask(2, at(0)), at(1));
        let a = begin(Some(&a.keep()), 100);
        assert_eq!(b.receive(1, &a.ask(2, at(100)), at(101)), None);
        assert_eq!(b.supports(1), Some(1));
        b.withdraw(at(502));
        b.receive(1, &a.ask(2, at(510)), at(511)).expect("an answer");
        assert_eq!(b.supports(1), Some(2));
    }

    #[test]
    fn who_does_not_hear_is_not_supported_for_long() {
        let (mut a, mut b) = (begin(None, 0), begin(None, 0));
        let answer = b.receive(1, &a.ask(2, at(0)), at(1)).expect("an answer");
        a.receive(2, &answer, at(2));
        for ms in (100..2_000).step_by(100) {
            b.withdraw(at(ms));
            b.receive(1, &a.ask(2, at(ms)), at(ms));
            assert_eq!(b.supports(1).is_some(), ms <= 900, "at {ms}");
        }
    }

    #[test]
    fn a_late_request_for_an_earlier_epoch_leaves_the_present_one_alone() {
        let (mut a, mut b) = (begin(None, 0), begin(None, 0));
        let late = a.ask(2, at(0));
        b.receive(1, &late, at(1));
        b.withdraw(at(600));
        let answer = b.receive(1, &a.ask(2, at(610)), at(610)).expect("an answer");
        a.receive(2, &answer, at(611));
        let answer = b.receive(1, &a.ask(2, at(612)), at(612)).expect("an answer");
        a.receive(2, &answer, at(613));
        assert_eq!(a.epoch(2), 2);
        let answer = b.receive(1, &late, at(614)).expect("an answer");
        a.receive(2, &answer, at(615));
        assert_eq!((a.epoch(2), b.supports(1)), (2, Some(2)));
    }

    #[test]
    fn a_restart_honours_what_was_promised_and_begins_an_epoch() {
        let mut b = begin(None, 0);
        let a = begin(None, 0);
        b.receive(1, &a.ask(2, at(900)), at(901));
        let mut b = begin(Some(&b.keep()), 1000);
        assert_eq!((b.incarnation(), b.epoch(1), b.supports(1)), (2, 2, Some(1)));
        // It was kept until 1800. Past that, but not a whole duration after the restart; then also that.
        b.withdraw(Now { nanos: at(1450).nanos, ..at(1850) });
        assert!(b.supports(1).is_some() && !b.is_free(Now { nanos: at(1450).nanos, ..at(1850) }));
        b.withdraw(at(1800));
        assert!(b.supports(1).is_some() && !b.is_free(at(1800)));
        b.withdraw(at(1801));
        assert!(b.supports(1).is_none() && b.is_free(at(1801)));
        // Until then it repeats nothing that it does not know to have said.
        let mut again = begin(Some(&b.keep()), 2000);
        again.given.insert(1, Given { until: Timestamp::from_micros(2_400_000), ..again.given[&1] });
        assert_eq!(again.receive(1, &a.ask(2, at(2010)), at(2011)), None);
        // A wall clock that stepped back lets it wait.
        assert!(!b.is_free(Now { nanos: at(1900).nanos, ..at(1700) }));
    }

    #[test]
    fn what_is_kept_covers_each_promise_and_seldom_changes() {
        let (mut a, mut b) = (begin(None, 0), begin(None, 0));
        let (mut kept, mut writes) = (b.keep(), 0);
        for ms in (0..10_000).step_by(100) {
            let answer = b.receive(1, &a.ask(2, at(ms)), at(ms)).expect("an answer");
            let promised = Timestamp(answer.give.expect("support").until);
            a.receive(2, &answer, at(ms));
            let now = b.keep();
            writes += u32::from(now != kept);
            kept = now;
            assert!(begin(Some(&kept), ms).promised_before >= promised, "at {ms}");
        }
        assert_eq!(writes, 20);
    }

    #[test]
    fn a_clock_is_off_by_what_no_delay_explains() {
        let mut a = begin(None, 0);
        let off = |ms: u64, by: i64| {
            let now = at(ms);
            Now {
                wall_micros: now.wall_micros.checked_add_signed(by * 1000).expect("after the epoch"),
                ..now
            }
        };
        let mut answer = |from: NodeId, by: i64, delays: (u64, u64)| {
            let mut other = begin(None, 0);
            let answer = other.receive(1, &a.ask(2, at(1000)), off(1000 + delays.0, by)).expect("an answer");
            a.receive(from, &answer, at(1000 + delays.0 + delays.1));
            a.is_off_by(3, at(1100))
        };
        // One store alone proves nothing.
        assert_eq!(answer(2, 90, (0, 0)), 0);
        // A slow answer may hide an offset, never make one up.
        assert_eq!(answer(3, 90, (10, 50)), 40_000);
        assert_eq!(answer(3, -90, (10, 50)), 80_000);
        assert_eq!(answer(3, 0, (50, 50)), 0);
        assert_eq!(answer(3, -70, (0, 0)), 70_000);
        assert_eq!(a.is_off_by(3, at(6_500)), 0, "what was measured long ago does not count");
    }

    #[test]
    fn a_clock_too_far_ahead_gets_no_support_and_is_told() {
        let (mut a, mut b) = (begin(None, 0), begin(None, 0));
        let ahead = |ms: u64| Now { nanos: at(ms).nanos, ..at(ms + 101) };
        for store in [2, 3] {
            let answer = b.receive(1, &a.ask(store, ahead(1000)), at(1000)).expect("an answer");
            assert_eq!((answer.give, b.supports(1)), (None, None));
            a.receive(store, &answer, ahead(1001));
        }
        assert_eq!((a.got(2), a.is_off_by(3, ahead(1001))), (None, 101_000));
        let answer = b.receive(1, &a.ask(2, at(1099)), at(1000)).expect("an answer");
        assert!(answer.give.is_some());
    }
}
