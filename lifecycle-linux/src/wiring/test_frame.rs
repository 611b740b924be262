//! Test frames between the ends of a link, each way.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lifecycle_core::plugin::network::ProbeResult;

use super::{Outcome, Place, Places};
use crate::netlink::Link;
use crate::probe::ProbeEnd;

/// How long a test frame may take. The first of a flow may be looked at by a daemon, which may be busy.
const PATIENCE: Duration = Duration::from_millis(500);

/// The same when the one before did not arrive: a switch that is not there must not hold up all the rest.
const PATIENCE_IN_DOUBT: Duration = Duration::from_millis(60);

/// Sends test frames.
#[derive(Debug, Default)]
pub struct TestFrames {
    /// The last one did not arrive.
    in_doubt: bool,
}

impl TestFrames {
    /// No frame was sent.
    pub fn skipped(reason: &str) -> ProbeResult {
        ProbeResult::Skipped { reason: reason.to_owned() }
    }

    /// Sends a frame each way, where both ends can carry one. One that is lost is noted among the problems.
    ///
    /// # Errors
    /// When no socket can be opened.
    pub fn exchange(
        &mut self,
        places: &Places,
        ends: [Option<(&Place, &Link)>; 2],
        problems: &mut Vec<String>,
    ) -> Outcome<ProbeResult> {
        let [Some((place_a, a)), Some((place_b, b))] = ends else { return Ok(Self::skipped("an end is missing")) };
        if ![a, b].iter().all(|link| link.admin_up && link.carrier) {
            return Ok(Self::skipped("an end is down or has no carrier"));
        }
        let (prober_a, prober_b) = (place_a.prober(places)?, place_b.prober(places)?);
        let end = |link: &Link| link.mac.map(|mac| ProbeEnd { index: link.index, mac });
        let (Some(end_a), Some(end_b)) = (end(a), end(b)) else {
            return Ok(Self::skipped("an end has no Ethernet address"));
        };
        let ways = [(prober_a, end_a, prober_b, end_b, &b.name), (prober_b, end_b, prober_a, end_a, &a.name)];
        for (from, from_end, to, to_end, name) in ways {
            let patience = if self.in_doubt { PATIENCE_IN_DOUBT } else { PATIENCE };
            match from.probe(from_end, to, to_end, nonce(), patience) {
                Ok(true) => self.in_doubt = false,
                Ok(false) => {
                    self.in_doubt = true;
                    let reason = format!("a test frame to {name} did not arrive");
                    problems.push(reason.clone());
                    return Ok(ProbeResult::Failed { reason });
                }
                // It went down in the meantime, say.
                Err(error) => return Ok(Self::skipped(&format!("no test frame could be sent: {error}"))),
            }
        }
        Ok(ProbeResult::Passed)
    }
}

/// A number that no other probe has at the moment.
fn nonce() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let time = SystemTime::now().duration_since(UNIX_EPOCH).map(|time| time.as_nanos() as u64).unwrap_or_default();
    time.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed))
}
