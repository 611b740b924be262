//! How often what goes wrong, and how one call goes wrong.

use std::time::Duration;

use lifecycle_core::error::ErrorKind;
use lifecycle_engine::decide::Action;

use super::chance::Chance;

/// How often things go wrong: in a thousand calls, steps or messages; or the mean time between two, in milliseconds.
///
/// Each seed draws its own, with some faults left out altogether, so that every fault is also seen without the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Faults {
    /// Calls that fail before anything is done.
    pub(super) fail: u32,
    /// Calls whose answer is lost after they took effect.
    pub(super) lose: u32,
    /// Calls that never arrive and are not answered.
    pub(super) swallow: u32,
    /// Calls that take effect after their caller gave up.
    pub(super) late: u32,
    /// Calls that are carried out twice.
    pub(super) twice: u32,
    /// Calls that are answered as done and were not.
    pub(super) lie: u32,
    /// Calls that take up to half a minute.
    pub(super) slow: u32,
    /// News that nobody hears.
    pub(super) deaf: u32,
    /// News that are heard twice.
    pub(super) echo: u32,
    /// Steps in or after which the controller is killed.
    pub(super) crash: u32,
    /// Commits that fail, or of which nobody knows.
    pub(super) commit: u32,
    /// Mean time between two meddlings by hand.
    pub(super) hands: Option<u64>,
    /// Mean time between two outages of a plugin.
    pub(super) outages: Option<u64>,
    /// Mean time between two jumps of the wall clock.
    pub(super) jumps: Option<u64>,
    /// Mean time between two reboots.
    pub(super) reboots: Option<u64>,
}

impl Faults {
    /// Nothing goes wrong.
    pub(super) const NONE: Self = Self {
        fail: 0,
        lose: 0,
        swallow: 0,
        late: 0,
        twice: 0,
        lie: 0,
        slow: 0,
        deaf: 0,
        echo: 0,
        crash: 0,
        commit: 0,
        hands: None,
        outages: None,
        jumps: None,
        reboots: None,
    };

    pub(super) fn draw(chance: &mut Chance) -> Self {
        let mut share = |most: u64| if chance.per_mille(600) { chance.below(most + 1) as u32 } else { 0 };
        let (fail, lose, swallow, late) = (share(120), share(80), share(30), share(40));
        let (twice, lie, slow, deaf, echo) = (share(60), share(30), share(60), share(500), share(200));
        let (crash, commit) = (share(25), share(20));
        let mut every = |low: u64, high: u64| chance.per_mille(600).then(|| chance.between(low, high));
        Self {
            fail,
            lose,
            swallow,
            late,
            twice,
            lie,
            slow,
            deaf,
            echo,
            crash,
            commit,
            hands: every(2_000, 20_000),
            outages: every(10_000, 90_000),
            jumps: every(20_000, 200_000),
            reboots: every(60_000, 900_000),
        }
    }
}

/// What becomes of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fate {
    /// Milliseconds until it takes effect.
    pub(super) reach: u64,
    /// Milliseconds from there until it is answered.
    pub(super) answer: u64,
    /// What goes wrong, if anything.
    pub(super) mishap: Option<Mishap>,
}

/// What goes wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mishap {
    /// It fails and nothing is done.
    Fail(ErrorKind),
    /// It takes effect, and the connection breaks before the answer.
    Break,
    /// It takes effect and is never answered.
    Mute,
    /// It never arrives.
    Swallow,
    /// It takes effect so many milliseconds after its caller gave up.
    Late(u64),
    /// It is carried out again before it is answered.
    Twice,
    /// It is answered as done and was not.
    Lie,
}

impl Fate {
    pub(super) fn draw(faults: &Faults, action: &Action, timeout: Duration, chance: &mut Chance) -> Self {
        let (low, high) = usual(action);
        let slow = chance.per_mille(faults.slow);
        let reach = if slow { chance.between(high, 30_000) } else { chance.between(low, high) };
        let answer = if slow { chance.between(0, 5_000) } else { chance.between(0, 3) };
        Self { reach, answer, mishap: Self::mishap(faults, action, timeout, chance) }
    }

    fn mishap(faults: &Faults, action: &Action, timeout: Duration, chance: &mut Chance) -> Option<Mishap> {
        let kinds = [
            ErrorKind::Failed,
            ErrorKind::Failed,
            ErrorKind::Exhausted,
            ErrorKind::Unreachable,
            ErrorKind::Interrupted,
            ErrorKind::Conflict,
        ];
        if chance.per_mille(faults.fail) {
            return chance.pick(&kinds).copied().map(Mishap::Fail);
        }
        if chance.per_mille(faults.lose) {
            return Some(if chance.coin() { Mishap::Break } else { Mishap::Mute });
        }
        if chance.per_mille(faults.swallow) {
            return Some(Mishap::Swallow);
        }
        if !action.is_mutating() {
            return None;
        }
        if chance.per_mille(faults.late) {
            let most = u64::try_from(timeout.as_millis()).unwrap_or(60_000).min(60_000);
            return Some(Mishap::Late(chance.between(1, most)));
        }
        if chance.per_mille(faults.twice) {
            return Some(Mishap::Twice);
        }
        chance.per_mille(faults.lie).then_some(Mishap::Lie)
    }
}

/// How long a call usually takes, in milliseconds.
fn usual(action: &Action) -> (u64, u64) {
    match action {
        Action::EnsureImage(_) => (5, 4_000),
        Action::CreateNode(_) | Action::DestroyNode(_) => (3, 60),
        Action::StartNode(_) | Action::RunCommands { .. } => (2, 40),
        Action::StopNode { .. } => (2, 400),
        Action::Connect(_)
        | Action::Disconnect(_)
        | Action::Release(_)
        | Action::Park { .. }
        | Action::RemoveLink { .. } => (1, 12),
        Action::ListNodes | Action::ObserveLinks(_) => (1, 15),
        Action::SetParams { .. }
        | Action::Redirect { .. }
        | Action::SetCarrier { .. }
        | Action::Verify(_)
        | Action::ObserveNode(_)
        | Action::ProbeReady { .. }
        | Action::ReadCapacity
        | Action::ReadUnderlay => (1, 5),
    }
}
