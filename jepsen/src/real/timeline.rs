//! What was when: as text, and as a picture of what the probe was answered under which fault.

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use parking_lot::Mutex;
use plotters::prelude::*;
use tokio::time::Instant;

use super::fault::Incident;

/// Lines with the time since the run began. Each is printed as it comes.
pub struct Timeline {
    started: Instant,
    lines: Mutex<String>,
}

impl Timeline {
    /// Begins now.
    pub fn start() -> Timeline {
        Timeline { started: Instant::now(), lines: Mutex::default() }
    }

    /// Time since the beginning.
    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Adds a line.
    pub fn note(&self, what: &str) {
        let line = format!("{:10.3} s  {what}", self.now().as_secs_f64());
        println!("{line}");
        let mut lines = self.lines.lock();
        lines.push_str(&line);
        lines.push('\n');
    }

    /// All lines.
    pub fn text(&self) -> String {
        self.lines.lock().clone()
    }
}

/// Columns of the picture for each second, and the length of a bin of answers.
const PIXELS_A_SECOND: f64 = 24.0;
const BIN: Duration = Duration::from_millis(100);

/// Draws the writes acknowledged in every tenth of a second through each node, and the faults behind them.
pub fn draw(
    path: &Path,
    answers: &[Vec<Duration>],
    incidents: &[Incident],
    end: Duration,
) -> Result<(), Box<dyn Error>> {
    let bins = (end.as_millis() / BIN.as_millis()) as usize + 1;
    let counts: Vec<Vec<u32>> = answers.iter().map(|answers| count(answers, bins)).collect();
    let most = counts.iter().flatten().copied().max().unwrap_or(0).max(1);
    let width = (end.as_secs_f64() * PIXELS_A_SECOND).clamp(800.0, 30_000.0) as u32;
    let height = 60 + 150 * answers.len() as u32;
    let root = SVGBackend::new(path, (width, height)).into_drawing_area();
    root.fill(&WHITE)?;
    for ((index, counts), area) in counts.iter().enumerate().zip(root.split_evenly((answers.len(), 1))) {
        let mut chart = ChartBuilder::on(&area)
            .margin(8)
            .x_label_area_size(24)
            .y_label_area_size(40)
            .caption(
                format!("node {}: writes acknowledged in {} ms", index + 1, BIN.as_millis()),
                ("sans-serif", 12),
            )
            .build_cartesian_2d(0.0..end.as_secs_f64(), 0u32..most + most / 4 + 1)?;
        chart.configure_mesh().disable_mesh().x_labels(bins / 20 + 2).y_labels(4).draw()?;
        for incident in incidents {
            let (from, to) = (incident.began.as_secs_f64(), incident.healed.as_secs_f64());
            let is_victim = incident.victim.is_none_or(|victim| victim == index);
            let shade = if is_victim { RED.mix(0.25) } else { BLACK.mix(0.07) };
            let top = most + most / 4 + 1;
            chart.draw_series([Rectangle::new([(from, 0), (to, top)], shade.filled())])?;
            if is_victim {
                let label = incident.kind.to_string();
                chart.draw_series([Text::new(label, (from, top), ("sans-serif", 11))])?;
            }
        }
        let line = counts.iter().enumerate().map(|(bin, count)| (bin as f64 * BIN.as_secs_f64(), *count));
        chart.draw_series(LineSeries::new(line, &BLUE))?;
    }
    root.present()?;
    Ok(())
}

fn count(answers: &[Duration], bins: usize) -> Vec<u32> {
    let mut counts = vec![0; bins];
    for at in answers {
        if let Some(count) = counts.get_mut((at.as_millis() / BIN.as_millis()) as usize) {
            *count += 1;
        }
    }
    counts
}

/// One line for each incident, then median and longest gap of each kind of fault.
pub fn gaps(incidents: &[Incident], answers: &[Vec<Duration>]) -> String {
    let mut text = String::from("   at, s  fault      node   longest gap through the others, ms\n");
    for incident in incidents {
        let victim = incident.victim.map_or_else(|| "all".into(), |victim| (victim + 1).to_string());
        let gap = incident.gap(answers).map_or_else(|| "-".into(), |gap| gap.as_millis().to_string());
        let (at, kind) = (incident.began.as_secs_f64(), incident.kind.to_string());
        let role = if incident.had_lease { "*" } else { "" };
        let _ = writeln!(text, "{at:8.1}  {kind:9}  {victim:>3}{role:1}   {gap}");
    }
    text.push_str("(* it had the lease)\n\nfault      times   median gap, ms   longest gap, ms\n");
    let mut kinds: Vec<_> = incidents.iter().map(|incident| incident.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    for kind in kinds {
        let of_kind = incidents.iter().filter(|incident| incident.kind == kind);
        let mut gaps: Vec<u128> =
            of_kind.filter_map(|incident| incident.gap(answers)).map(|gap| gap.as_millis()).collect();
        gaps.sort_unstable();
        let (times, kind) = (gaps.len(), kind.to_string());
        if let (Some(median), Some(longest)) = (gaps.get(times / 2), gaps.last()) {
            let _ = writeln!(text, "{kind:9}  {times:5}   {median:14}   {longest:15}");
        }
    }
    text
}
