//! One run: a cluster, its clients, its faults, and the verdict.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cairn_kv::seam::Runtime;
use cairn_kv::sim::SimRng;
use cairn_server::seams::TokioRuntime;
use tokio::time::{Instant, sleep};

use crate::workload::{self, Workload};

use super::clients::{Clients, Part};
use super::cluster::{Cluster, RECOVERY};
use super::connection::Connection;
use super::fault::{Incident, Kind, Plant};
use super::nemesis::Nemesis;
use super::probe::{self, Probe};
use super::timeline::{self, Timeline};

/// What is asked of a run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Nodes.
    pub nodes: usize,
    /// Faults, one after the other.
    pub faults: usize,
    /// Of these kinds.
    pub kinds: Vec<Kind>,
    /// What clients do; nothing but the probe where it is empty.
    pub workloads: Vec<Workload>,
    /// A bug planted in every node.
    pub plant: Option<Plant>,
    /// What is chosen follows from it; what the machine does with it does not.
    pub seed: u64,
    /// Between two writes of the probe through one node.
    pub probe_period: Duration,
    /// The longest gap allowed.
    pub longest_gap: Option<Duration>,
    /// Where stores, logs, timeline and picture go.
    pub out: PathBuf,
}

/// What a run showed.
pub struct Report {
    /// Each question, and what was found or what is wrong.
    pub verdicts: Vec<(String, Result<String, String>)>,
    /// Incidents and gaps, as a table.
    pub gaps: String,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_good(&self) -> bool {
        self.verdicts.iter().all(|(_, verdict)| verdict.is_ok())
    }

    /// As text.
    pub fn text(&self) -> String {
        let line = |(what, verdict): &(String, Result<String, String>)| match verdict {
            Ok(found) => format!("ok      {what}: {found}\n"),
            Err(wrong) => format!("FAILED  {what}: {wrong}\n"),
        };
        let verdicts: String = self.verdicts.iter().map(line).collect();
        format!("{}\n{verdicts}", self.gaps)
    }
}

/// Runs it. An error: there was no cluster to bring faults over, or nowhere to write.
pub async fn run(plan: &Plan) -> Result<Report, String> {
    fs::create_dir_all(&plan.out)
        .map_err(|error| format!("cannot create {}: {error}", plan.out.display()))?;
    let rng = SimRng::stream(plan.seed, "real");
    let runtime: Arc<dyn Runtime> = TokioRuntime::current();
    let timeline = Arc::new(Timeline::start());
    let mut cluster = Cluster::start(plan.nodes, &plan.out, plan.plant).await?;
    timeline.note("all nodes serve");
    let nodes: Vec<SocketAddr> = cluster.places().iter().map(|place| place.sql).collect();
    set_up(plan, nodes[0]).await?;
    timeline.note("tables are made");

    let parts: Vec<Part> = plan.workloads.iter().copied().map(Part::new).collect();
    let mut probe = Probe::start(&nodes, plan.probe_period, Arc::clone(&timeline));
    let clients = Clients::start(&parts, &nodes, &rng, &runtime, &timeline);
    let mut nemesis = Nemesis {
        cluster: &mut cluster,
        probe: &probe,
        timeline: Arc::clone(&timeline),
        rng: SimRng::new(rng.draw()),
        kinds: plan.kinds.clone(),
        only_leaseholder: plan.workloads.is_empty(),
    };
    let (incidents, recovered) = nemesis.bring(plan.faults).await;
    if let Err(why) = &recovered {
        timeline.note(&format!("the cluster has not recovered: {why}"));
    }
    let answers = probe.stop().await;
    clients.stop().await;
    timeline.note("clients have ended");

    let mut verdicts = vec![("recovery".into(), recovered.map(|()| format!("{} faults", incidents.len())))];
    match connect(&nodes).await {
        Ok(mut connection) => {
            let tally = probe.check(&mut connection).await;
            verdicts.push(("probe".into(), tally.map(|tally| format!("{tally:?}"))));
            for part in &parts {
                let checked = workload::check_one(part.workload, &mut connection, &part.recorder).await;
                verdicts.push((format!("{:?}", part.workload), checked.map(|()| part.told())));
            }
        }
        Err(why) => verdicts.push(("final reads".into(), Err(why))),
    }
    if let Some(longest) = plan.longest_gap {
        verdicts.push(("gaps".into(), judge(&incidents, &answers, longest)));
    }
    timeline.note("checked");
    let report = Report { verdicts, gaps: timeline::gaps(&incidents, &answers) };
    let picture = plan.out.join("timeline.svg");
    timeline::draw(&picture, &answers, &incidents, timeline.now())
        .map_err(|error| format!("cannot draw {}: {error}", picture.display()))?;
    for (name, text) in [("timeline.txt", timeline.text()), ("verdict.txt", report.text())] {
        let path = plan.out.join(name);
        fs::write(&path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    if report.is_good() {
        let stores: Vec<PathBuf> = cluster.places().into_iter().map(|place| place.store).collect();
        drop(cluster);
        for store in stores {
            fs::remove_dir_all(&store)
                .map_err(|error| format!("cannot remove {}: {error}", store.display()))?;
        }
    }
    Ok(report)
}

async fn set_up(plan: &Plan, node: SocketAddr) -> Result<(), String> {
    let mut connection = Connection::open(node).await?;
    let created = connection.run(probe::CREATE).await;
    created.map_err(|failure| format!("the probe's table: {failure}"))?;
    if plan.workloads.is_empty() {
        return Ok(());
    }
    workload::set_up(&mut connection).await.map_err(|failure| format!("the workloads' tables: {failure}"))
}

/// A connection to whichever node accepts one.
async fn connect(nodes: &[SocketAddr]) -> Result<Connection, String> {
    let deadline = Instant::now() + RECOVERY;
    let mut next = nodes.iter().cycle();
    loop {
        match Connection::open(*next.next().expect("a cluster has nodes")).await {
            Ok(connection) => return Ok(connection),
            Err(error) if Instant::now() > deadline => return Err(format!("no node accepts: {error}")),
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
}

fn judge(incidents: &[Incident], answers: &[Vec<Duration>], longest: Duration) -> Result<String, String> {
    let gaps = incidents.iter().filter_map(|incident| Some((incident.gap(answers)?, incident)));
    match gaps.max_by_key(|(gap, _)| *gap) {
        Some((gap, incident)) if gap > longest => Err(format!(
            "{} ms at {:.1} s ({}), more than {} ms",
            gap.as_millis(),
            incident.began.as_secs_f64(),
            incident.kind,
            longest.as_millis()
        )),
        Some((gap, _)) => Ok(format!("the longest is {} ms", gap.as_millis())),
        None => Ok("no faults".into()),
    }
}
